"""Whether an exported GGUF says what the checkpoint says: same prompts, answers and likelihoods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bases import load_base
from .errors import BadInput, MissingExtra
from .records import Example, Record, Shown
from .trainers import Checkpoint

if TYPE_CHECKING:
    import numpy as np
    from rich.console import RenderableType

    Array = np.ndarray[Any, Any]

__all__ = ["Difference", "Parity", "check_parity"]


class Difference(Record):
    """Where a greedy answer of the GGUF leaves that of the checkpoint.

    Attributes:
        prompt: Number of the example, from 0.
        token: Number of the first token that differs, from 0.
        expected: What the checkpoint would have written there.
        got: What the GGUF wrote.
        gap: How much likelier the checkpoint holds its own token, in nats. Near 0 is a tie that
            rounding may decide.
    """

    prompt: int
    token: int
    expected: str
    got: str
    gap: float


class Parity(Shown, Record):
    """A GGUF beside the checkpoint that it was exported from. Made by `check_parity`.

    Attributes:
        prompts: How many examples were looked at.
        other_tokens: Numbers of the prompts whose token ids differ. Must be empty: otherwise the
            template or the tokenizer is not the one of training.
        differences: Greedy answers that differ, and where.
        perplexity: Of the examples' answers under the GGUF.
        expected_perplexity: The same under the checkpoint, in float32.
    """

    gguf: Path
    prompts: int
    other_tokens: tuple[int, ...]
    differences: tuple[Difference, ...]
    perplexity: float
    expected_perplexity: float

    @property
    def drift(self) -> float:
        """How far the perplexity moved, as a share: 0.01 is 1 % worse than the checkpoint."""
        return self.perplexity / self.expected_perplexity - 1

    def report(self) -> dict[str, Any]:
        """The comparison as figures."""
        return {
            "gguf": self.gguf.name,
            "prompts": self.prompts,
            "same_tokens": self.prompts - len(self.other_tokens),
            "same_answers": self.prompts - len(self.differences),
            "largest_gap": max((d.gap for d in self.differences), default=0.0),
            "perplexity": self.perplexity,
            "expected_perplexity": self.expected_perplexity,
            "drift": self.drift,
        }

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table

        facts = self.report()
        table = Table("what", "figure", title=f"Parity of {facts['gguf']}", title_justify="left")
        table.add_row("prompts with the same tokens", f"{facts['same_tokens']} of {self.prompts}")
        table.add_row("same greedy answers", f"{facts['same_answers']} of {self.prompts}")
        table.add_row("perplexity", f"{self.perplexity:.3f}")
        table.add_row("of the checkpoint", f"{self.expected_perplexity:.3f} ({self.drift:+.2%})")
        lines = [
            f"Prompt {d.prompt} differs at token {d.token}: {d.got!r} for {d.expected!r}, "
            f"{d.gap:.3f} nats apart."
            for d in self.differences
        ]
        return Group(table, *lines)


def check_parity(
    checkpoint: Checkpoint,
    gguf: Path | str,
    examples: Iterable[Example],
    *,
    tokens: int = 32,
    threads: int | None = None,
) -> Parity:
    """Runs a GGUF beside the checkpoint it came from, on the same examples.

    Prompts are rendered by each side's own chat template and compared as token ids. The GGUF then
    answers greedily; of each answer it is asked whether the checkpoint, in float32, would have
    written the same tokens. Both say how likely they hold the examples' own answers.

    Args:
        checkpoint: What was exported.
        gguf: The file that `export` wrote from it.
        examples: Rows to prompt with, such as twenty of `Split.valid`.
        tokens: Length of the greedy answers; fewer where the model ends its turn.
        threads: For llama.cpp; by default its own choice.

    Raises:
        BadInput: There are no examples, or a model cannot be loaded.
        MissingExtra: The extra `train` or `local` is not installed.
    """
    rows = [tuple(m.model_dump() for m in e.messages) for e in examples]
    if not rows:
        raise BadInput("There are no examples to compare on. Pass some, such as data.valid[:20].")
    model, tokenizer = _trained(checkpoint)
    prompts = [
        tokenizer.apply_chat_template(row[:-1], add_generation_prompt=True, return_dict=False)
        for row in rows
    ]
    targets = [tokenizer.encode(row[-1]["content"], add_special_tokens=False) for row in rows]
    longest = max(len(p) + max(len(t), tokens) for p, t in zip(prompts, targets, strict=True))
    llama = _Llama(Path(gguf), longest + 1, threads)
    try:
        other = tuple(n for n, row in enumerate(rows) if llama.prompt(row[:-1]) != prompts[n])
        differences: list[Difference] = []
        got = expected = 0.0
        for n, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
            got += llama.surprise(prompt, target)
            answer = llama.greedy(prompt, tokens)
            logs = _log_probabilities(model, prompt, target)
            expected -= sum(float(logs[i, token]) for i, token in enumerate(target))
            logs = _log_probabilities(model, prompt, answer)
            for i, token in enumerate(answer):
                if (best := int(logs[i].argmax())) != token:
                    differences.append(
                        Difference(
                            prompt=n,
                            token=i,
                            expected=tokenizer.decode([best]),
                            got=tokenizer.decode([token]),
                            gap=float(logs[i, best] - logs[i, token]),
                        )
                    )
                    break
    finally:
        llama.close()
    count = sum(map(len, targets))
    return Parity(
        gguf=Path(gguf),
        prompts=len(rows),
        other_tokens=other,
        differences=tuple(differences),
        perplexity=math.exp(got / count),
        expected_perplexity=math.exp(expected / count),
    )


def _trained(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """The checkpoint in float32, and the tokenizer it was trained with."""
    if not (checkpoint.path / "adapter_config.json").is_file():
        model, tokenizer = load_base(checkpoint.path, dtype="float32")
        return model.eval(), tokenizer
    model, tokenizer = load_base(checkpoint.base, dtype="float32")
    from peft import PeftModel

    template = checkpoint.path / "chat_template.jinja"
    if template.is_file():
        tokenizer.chat_template = template.read_text("utf-8")
    return PeftModel.from_pretrained(model, checkpoint.path).eval(), tokenizer


def _log_probabilities(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> Any:
    """Log-probabilities of every token at each place of an answer, given what stands before."""
    import torch

    with torch.no_grad():
        ids = torch.tensor([[*prompt, *answer]], device=model.device)
        logits = model(ids, logits_to_keep=len(answer) + 1).logits[0, :-1]
        return torch.log_softmax(logits.float(), dim=-1).cpu()


class _Llama:
    """The GGUF in llama.cpp, asked for its raw likelihoods."""

    def __init__(self, gguf: Path, context: int, threads: int | None) -> None:
        try:
            from llama_cpp import Llama
            from llama_cpp.llama_chat_format import Jinja2ChatFormatter
        except ImportError as error:
            raise MissingExtra("Running a GGUF", "local") from error
        if not gguf.is_file():
            raise BadInput(f"There is no file {gguf}. Export it first.")
        self.llama: Any = Llama(
            str(gguf), n_ctx=context, logits_all=True, n_threads=threads, verbose=False
        )
        name = self.llama.detokenize
        self.formatter = Jinja2ChatFormatter(
            self.llama.metadata["tokenizer.chat_template"],
            eos_token=name([self.llama.token_eos()], special=True).decode(),
            bos_token=name([self.llama.token_bos()], special=True).decode(),
        )

    def close(self) -> None:
        self.llama.close()

    def prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """The token ids of a prompt, by the template inside the file."""
        chat: list[Any] = list(messages)
        text = self.formatter(messages=chat).prompt
        ids: list[int] = self.llama.tokenize(text.encode(), add_bos=False, special=True)
        return ids

    def surprise(self, prompt: Sequence[int], answer: Sequence[int]) -> float:
        """The negative log-likelihood of an answer, in nats."""
        import numpy as np

        self.llama.reset()
        self.llama.eval([*prompt, *answer])
        first = len(prompt) - 1
        logits = self.llama.scores[first : first + len(answer)].astype(np.float64)
        peak = logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(logits - peak).sum(axis=1)) + peak[:, 0]
        return float((total - logits[np.arange(len(answer)), list(answer)]).sum())

    def greedy(self, prompt: Sequence[int], tokens: int) -> list[int]:
        """The likeliest tokens, one after another, up to the end of the turn."""
        # The prompt has just been read: all after it is forgotten, but for its last token, which is
        # read again to have its logits.
        self.llama.n_tokens = len(prompt) - 1
        self.llama.eval(prompt[-1:])
        answer: list[int] = []
        while len(answer) < tokens:
            answer.append(int(self.llama.scores[self.llama.n_tokens - 1].argmax()))
            if answer[-1] == self.llama.token_eos():
                break
            self.llama.eval(answer[-1:])
        return answer
