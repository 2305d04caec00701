"""Whether an exported GGUF says what the checkpoint says: same prompts, answers and likelihoods."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .bases import load_base
from .errors import BadInput, MissingExtra
from .records import Example, Record, Shown
from .tokenising import chat_of, encode
from .trainers import Checkpoint
from .weights import Model

if TYPE_CHECKING:
    from rich.console import RenderableType

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
        BackendError: llama.cpp cannot load the GGUF.
        BadInput: There are no examples, or the checkpoint cannot be loaded.
        MissingExtra: The extra `train` or `local` is not installed.
    """
    examples = list(examples)
    if not examples:
        raise BadInput("There are no examples to compare on. Pass some, such as data.valid[:20].")
    rows = [[m.model_dump() for m in e.messages] for e in examples]
    # One after the other: two libraries that both keep threads spinning slow each other down.
    readings = _read(Path(gguf), rows, tokens, threads)
    model, tokenizer = _trained(checkpoint)
    other: list[int] = []
    differences: list[Difference] = []
    expected = 0.0
    for n, (example, reading) in enumerate(zip(examples, readings, strict=True)):
        chat = chat_of(example, tokenizer)
        prompt = encode(chat.prompt, chat, tokenizer)
        if prompt != reading.prompt:
            other.append(n)
        of_target, logs = _log_probabilities(model, prompt, reading.target, reading.answer)
        expected -= sum(float(of_target[i, token]) for i, token in enumerate(reading.target))
        for i, token in enumerate(reading.answer):
            if (best := int(logs[i].argmax())) != token:
                gap = float(logs[i, best] - logs[i, token])
                ours, theirs = tokenizer.decode([best]), tokenizer.decode([token])
                differences.append(
                    Difference(prompt=n, token=i, expected=ours, got=theirs, gap=gap)
                )
                break
    count = sum(len(reading.target) for reading in readings)
    return Parity(
        gguf=Path(gguf),
        prompts=len(rows),
        other_tokens=tuple(other),
        differences=tuple(differences),
        perplexity=math.exp(sum(reading.surprise for reading in readings) / count),
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
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # peft's own
        return PeftModel.from_pretrained(model, checkpoint.path).eval(), tokenizer


def _log_probabilities(model: Any, prompt: Sequence[int], *answers: Sequence[int]) -> list[Any]:
    """Log-probabilities of every token at each place of each answer to a prompt."""
    import torch

    found = []
    with torch.no_grad():
        read = model(torch.tensor([prompt], device=model.device), logits_to_keep=1)
        for answer in answers:
            ids = torch.tensor([answer], device=model.device)
            rest = model(ids, past_key_values=deepcopy(read.past_key_values))
            logits = torch.cat([read.logits[0], rest.logits[0, :-1]])
            found.append(torch.log_softmax(logits.float(), dim=-1).cpu())
    return found


class _Reading(NamedTuple):
    """What the GGUF makes of an example: token ids, and the target's surprise in nats."""

    prompt: list[int]
    target: list[int]
    surprise: float
    answer: list[int]


def _read(
    gguf: Path, rows: Sequence[list[dict[str, str]]], tokens: int, threads: int | None
) -> list[_Reading]:
    try:
        from llama_cpp import Llama
    except ImportError as error:
        raise MissingExtra("Running a GGUF", "local") from error
    if not gguf.is_file():
        raise BadInput(f"There is no file {gguf}. Export it first.")
    words = Model(gguf, 0, vocab_only=True)
    try:
        pairs = [
            (words.prompt(row[:-1]), words.tokens(row[-1]["content"], control=False))
            for row in rows
        ]
    finally:
        words.close()
    longest = max(len(prompt) + max(len(target), tokens) for prompt, target in pairs)
    llama: Any = Llama(
        str(gguf), n_ctx=longest + 1, logits_all=True, n_threads=threads, verbose=False
    )
    try:
        return [
            _Reading(
                prompt, target, _surprise(llama, prompt, target), _greedy(llama, prompt, tokens)
            )
            for prompt, target in pairs
        ]
    finally:
        llama.close()


def _surprise(llama: Any, prompt: list[int], target: list[int]) -> float:
    """The negative log-likelihood of a target, in nats."""
    import numpy as np

    llama.reset()
    llama.eval([*prompt, *target])
    first = len(prompt) - 1
    logits = llama.scores[first : first + len(target)].astype(np.float64)
    peak = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - peak).sum(axis=1)) + peak[:, 0]
    return float((total - logits[np.arange(len(target)), target]).sum())


def _greedy(llama: Any, prompt: list[int], tokens: int) -> list[int]:
    """The likeliest tokens after a prompt that has just been read, to the end of the turn."""
    llama.n_tokens = len(prompt) - 1  # the last one is read again, to have its logits
    llama.eval(prompt[-1:])
    answer: list[int] = []
    while len(answer) < tokens:
        answer.append(int(llama.scores[llama.n_tokens - 1].argmax()))
        if answer[-1] == llama.token_eos():
            break
        llama.eval(answer[-1:])
    return answer
