"""The x-ray: what of each row is trained on, and what must never be, before training begins."""

from __future__ import annotations

import html as markup
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .bases import gguf_of, load_tokenizer, template_of
from .errors import BackendError, BadInput
from .records import Dropped, Example, Record, Shown, digest
from .tokenising import (
    MASKED,
    Labelled,
    chat_of,
    common,
    encode,
    end_of_turn,
    marks_of,
    other_token,
    too_long,
)
from .tokenising import tokenise as as_trained
from .training_data import Split, answer_of
from .weights import Model

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Failure", "Sample", "XRay", "xray"]

Fault = Literal[
    "prompt_in_loss",
    "response_cut",
    "end_not_trained",
    "pad_is_eos",
    "chat_token",
    "truncated",
    "template_differs",
    "tokens_differ",
]

_REMEDIES: Mapping[str, str] = {
    "prompt_in_loss": "Mask all that stands before the answer, or give a base whose chat template "
    "sets the answer apart.",
    "response_cut": "Leave over-long rows out, or raise max_length; never cut one.",
    "end_not_trained": "Let the token that ends the turn carry loss, or the model never stops.",
    "pad_is_eos": "Set the tokenizer's pad_token to another token of its vocabulary.",
    "chat_token": "Take the row out; build_dataset does so.",
    "truncated": "Take the row out and ask for the answer again; build_dataset does the first.",
    "template_differs": "Train on the base whose template the GGUF holds, or export it again.",
    "tokens_differ": "Give the Hugging Face model that the GGUF was made from as the base, whose "
    "tokenizer is its own, or another GGUF; served, the model would read what it never learned.",
}


class Failure(Record):
    """Why training must not begin.

    Attributes:
        row: Which row: side, number from 1, task and item. Empty where it is no row's fault.
        detail: What was found.
        remedy: What to do.
    """

    fault: Fault
    row: str
    detail: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.row}: " if self.row else ""
        return f"{self.fault}: {where}{self.detail}. {self.remedy}"


_FEW = 5  # rows whose tokens are compared with llama.cpp's

State = Literal["trained", "masked", "dropped"]


class Sample(Record):
    """A row as it goes into training.

    Attributes:
        parts: Runs of tokens with one fate: their text, their fate and how many they are.
            `dropped` are those of a row that is left out, and those that were cut off.
    """

    row: str
    parts: tuple[tuple[str, State, int], ...]


class XRay(Shown, Record):
    """What of the rows is trained on. Made by `xray`.

    Attributes:
        rows: How many rows are trained or evaluated on.
        trained: How many of their tokens carry loss.
        masked: How many do not.
        dropped: Rows longer than `max_length`, which are left out and never cut.
        histogram: Least tokens of a row, most tokens, how many rows; over-long ones included.
        template: Digest of the chat template.
        pad: The token that fills up a batch.
        compared: Whether some rows have the tokens in llama.cpp that they have in training.
    """

    base: str
    max_length: int
    rows: int
    trained: int
    masked: int
    dropped: tuple[Dropped, ...]
    failures: tuple[Failure, ...]
    histogram: tuple[tuple[int, int, int], ...]
    samples: tuple[Sample, ...]
    template: str
    pad: str | None
    compared: str

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against training."""
        return not self.failures

    def report(self) -> dict[str, Any]:
        """The figures, and how often each failure was found."""
        return {
            "ok": self.ok,
            "base": self.base,
            "rows": self.rows,
            "dropped": len(self.dropped),
            "max_length": self.max_length,
            "tokens": {"trained": self.trained, "masked": self.masked},
            "failures": dict(Counter(f.fault for f in self.failures)),
            "template": self.template,
            "pad": self.pad,
            "tokens_as_in_gguf": self.compared,
        }

    def html(self, path: Path | str) -> Path:
        """Writes a page that needs no other file, and returns its path."""
        path = Path(path)
        page = f"<!doctype html><meta charset=utf-8><title>x-ray of {markup.escape(self.base)}"
        path.write_text(f"{page}</title>\n{self._repr_html_()}\n", encoding="utf-8")
        return path

    def _repr_html_(self) -> str:
        lines = [f"<h3>{markup.escape(self._headline())}</h3><p>{markup.escape(self._figures())}"]
        lines += [f"<p class=bad>{markup.escape(line)}" for line in self._faults()]
        lines += [f"<pre>{markup.escape(line)}</pre>" for line in ["\n".join(self._bars())]]
        lines += ["<p>" + " ".join(f"<span class={s}>{s}</span>" for s in _STYLES)]
        for sample in self.samples:
            runs = (
                f'<span class={state} title="{n} tokens {state}">{markup.escape(text)}</span>'
                for text, state, n in sample.parts
            )
            lines.append(f"<h4>{markup.escape(sample.row)}</h4><pre>{''.join(runs)}</pre>")
        return f"<style>{_CSS}</style><div class=xray>{''.join(lines)}</div>"

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        lines = [Text(self._headline(), style="bold green" if self.ok else "bold red")]
        lines += [Text(self._figures())]
        lines += [Text(line, style="red") for line in self._faults()]
        lines += [Text(line) for line in self._bars()]
        lines += [Text.assemble(*((f" {s} ", style) for s, style in _STYLES.items()))]
        for sample in self.samples:
            lines.append(Text(f"\n{sample.row}", style="bold"))
            lines.append(Text.assemble(*((t, _STYLES[state]) for t, state, _ in sample.parts)))
        return Group(*lines)

    def _headline(self) -> str:
        count = len(self.failures)
        return f"x-ray of {self.base}: " + (
            "nothing speaks against training"
            if self.ok
            else f"{count:,} {'failure' if count == 1 else 'failures'}; training does not start"
        )

    def _figures(self) -> str:
        share = self.trained / max(self.trained + self.masked, 1)
        return (
            f"{self.rows:,} rows, {self.trained:,} tokens trained ({share:.0%}), {self.masked:,} "
            f"masked; {len(self.dropped):,} rows over {self.max_length:,} tokens left out; pads "
            f"with {self.pad}; template {self.template}; tokens as in the GGUF: {self.compared}."
        )

    def _faults(self) -> Iterator[str]:
        """The failures, three of a kind."""
        for fault, count in Counter(f.fault for f in self.failures).items():
            yield from [str(f) for f in self.failures if f.fault == fault][:3]
            if count > 3:
                yield f"{fault}: {count - 3:,} more"

    def _bars(self) -> Iterator[str]:
        most = max((n for *_, n in self.histogram), default=1)
        for low, high, n in self.histogram:
            note = "  left out" if low > self.max_length else ""
            yield f"{low:>6,}–{high:<6,} {n:>6,} {'█' * round(30 * n / most)}{note}"


_STYLES: Mapping[State, str] = {
    "trained": "black on green",
    "masked": "dim",
    "dropped": "strike white on red",
}
_CSS = (
    ".xray{font-family:sans-serif;max-width:60em;line-height:1.4}"
    ".xray pre{white-space:pre-wrap;font-family:monospace}"
    ".xray .trained{background:#b7e4c7;color:#000}.xray .masked{color:#777}"
    ".xray .dropped{background:#f5b7b1;color:#000;text-decoration:line-through}"
    ".xray .bad{color:#b00020}"
)


def xray(
    data: Split,
    *,
    base: Any = "embedded",
    gguf: Path | str | None = None,
    max_length: int = 2048,
    samples: int = 3,
    tokenise: Callable[[Example, Any], Labelled] | None = None,
) -> XRay:
    """Looks at every row as the trainers will see it, and finds what must not be trained on.

    Args:
        data: What is to be trained on; both its sides are looked at.
        base: The base model: `embedded`, a `.gguf` file, a folder, a hub id; or a tokenizer.
        gguf: A GGUF file that the trained model is to work like: its chat template must be the
            same, and where llama.cpp is installed the tokens of a few rows too. A base that is a
            GGUF is compared with itself.
        max_length: Most tokens of a row; a longer one is left out.
        samples: How many rows to show whole.
        tokenise: What makes ids and labels of an example and the tokenizer: None is what
            the trainers use; give that of another training script to look at it.

    Raises:
        BadInput: The base cannot be loaded, or there is no row.
        MissingExtra: transformers is not installed.
    """
    named = isinstance(base, (str, Path))
    tokenizer = load_tokenizer(base) if named else base
    base_gguf = Path(gguf) if gguf else gguf_of(base) if named else None
    rows = [
        (f"{side} row {n} ({row.task} {row.item_id})", row)
        for side, of in (("train", data.train), ("valid", data.valid))
        for n, row in enumerate(of, start=1)
    ]
    if not rows:
        raise BadInput("There is no row to look at. Build the data set first.")
    end, marks = end_of_turn(tokenizer), marks_of(tokenizer)
    other_template = [*_template_faults(base_gguf, tokenizer)]
    found = [("", fault) for fault in (*_pad_faults(tokenizer, end), *other_template)]
    compared = "not compared, for the templates differ" if other_template else "no GGUF"
    if base_gguf and not other_template:
        compared, other_tokens = _compare(base_gguf, rows, tokenizer)
        found += other_tokens
    seen: dict[str, tuple[Example, Labelled]] = {}
    for name, row in rows:
        seen[name] = row, (tokenise or as_trained)(row, tokenizer)
        faults = (*_text_faults(row, marks), *_label_faults(row, seen[name][1], tokenizer, end))
        found += [(name, fault) for fault in faults]
    lengths = {name: len(ids) for name, (_, (ids, _)) in seen.items()}
    kept = [name for name, n in lengths.items() if n <= max_length]
    labels = Counter(label == MASKED for name in kept for label in seen[name][1][1])
    first = dict.fromkeys(name for name, _ in found if name)
    first |= dict.fromkeys([name for name in lengths if name not in kept][:1])
    first |= dict.fromkeys({row.task: name for name, (row, _) in reversed(seen.items())}.values())
    first |= dict.fromkeys(lengths)
    return XRay(
        base=str(base) if named else tokenizer.name_or_path,
        max_length=max_length,
        rows=len(kept),
        trained=labels[False],
        masked=labels[True],
        dropped=tuple(
            too_long(seen[name][0], n, max_length) for name, n in lengths.items() if n > max_length
        ),
        failures=tuple(
            Failure(fault=fault, row=name, detail=detail, remedy=_REMEDIES[fault])
            for name, (fault, detail) in found
        ),
        histogram=tuple(_histogram(list(lengths.values()))),
        samples=tuple(
            Sample(row=name, parts=tuple(_parts(*seen[name], tokenizer, name not in kept)))
            for name in [*first][:samples]
        ),
        template=digest(tokenizer.chat_template),
        pad=tokenizer.pad_token,
        compared=compared,
    )


# What must not be. Each yields faults with what was found.


def _pad_faults(tokenizer: Any, end: int | None) -> Iterator[tuple[Fault, str]]:
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id, end):
        yield "pad_is_eos", f"The tokenizer pads with {tokenizer.pad_token!r}, which ends a turn"


def _template_faults(gguf: Path | None, tokenizer: Any) -> Iterator[tuple[Fault, str]]:
    if gguf is None:
        return
    theirs, ours = (template_of(gguf) or "").strip(), tokenizer.chat_template.strip()
    if theirs != ours:
        n = common(theirs, ours)
        yield (
            "template_differs",
            f"From character {n} on, the template of training reads {ours[n : n + 40]!r} and that "
            f"in {gguf.name} {theirs[n : n + 40]!r}",
        )


def _compare(
    gguf: Path, rows: Sequence[tuple[str, Example]], tokenizer: Any
) -> tuple[str, list[tuple[str, tuple[Fault, str]]]]:
    """What the report says of the rows' tokens in llama.cpp, and where a few rows differ."""
    few = rows[:: -(-len(rows) // _FEW)]
    try:
        served = Model(gguf, 0, vocab_only=True)
        try:
            found = [(name, other_token(row, tokenizer, served)) for name, row in few]
        finally:
            served.close()
    except ImportError:
        return "not compared, for the extra 'local' is not installed", []
    except BackendError as error:
        return f"not compared: {error}", []
    differ: list[tuple[str, tuple[Fault, str]]] = [
        (name, ("tokens_differ", f"{detail} in {gguf.name}")) for name, detail in found if detail
    ]
    return f"{len(few) - len(differ)} of {len(few)} rows", differ


def _text_faults(row: Example, marks: re.Pattern[str]) -> Iterator[tuple[Fault, str]]:
    for message in row.messages:
        if found := marks.search(message.content):
            yield "chat_token", f"{found[0]!r} stands in the {message.role} message"
        if "[truncated]" in message.content.lower():
            yield "truncated", f"'[truncated]' stands in the {message.role} message"


def _label_faults(
    row: Example, labelled: Labelled, tokenizer: Any, end: int | None
) -> Iterator[tuple[Fault, str]]:
    """Reads back what carries loss: the answer, the end of its turn, and nothing else."""
    ids, labels = labelled
    chat = chat_of(row, tokenizer)
    trained = [label for label in labels if label != MASKED]
    text, answer = (_close(t) for t in (tokenizer.decode(trained), answer_of(row)))
    head, found, tail = text.partition(answer) if answer else ("", "", "")
    prompt = encode(chat.prompt, chat, tokenizer)
    shared = common(ids, prompt)
    leaked = [label for label in labels[:shared] if label != MASKED]
    written, ending, _ = chat.answer.partition(tokenizer.decode([end]) if end is not None else "\0")
    whole = _close(chat.shown(written + ending))
    opening, _, closing = whole.partition(answer) if answer else ("", "", "")
    if not chat.apart:
        yield "prompt_in_loss", "The chat template does not set the answer apart from the prompt"
    elif leaked or (found and (head != opening or not closing.startswith(tail))):
        what = tokenizer.decode(leaked) if leaked else head if head != opening else tail
        yield "prompt_in_loss", f"{what[:60]!r} carries loss and is no part of the answer"
    if not answer:
        yield "response_cut", "The answer is empty"
    elif not found:
        got = next(n for n in range(len(answer), -1, -1) if answer[:n] in text)
        yield (
            "response_cut",
            f"{len(answer) - got:,} of the answer's {len(answer):,} letters are lost",
        )
    last = next((i for i in reversed(trained) if tokenizer.decode([i]).strip()), None)
    if end is None or last != end:
        name = "the token that ends a turn" if end is None else repr(tokenizer.decode([end]))
        yield "end_not_trained", f"{name} is not the last to carry loss"


def _close(text: str) -> str:
    """A text without its blanks, which some tokenizers do not give back."""
    return "".join(text.split())


# What is shown.


def _histogram(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    step = 32 * -(-max(lengths) // 320)
    counts = Counter((n - 1) // step for n in lengths)
    for n in range(min(counts), max(counts) + 1):
        yield n * step + 1, (n + 1) * step, counts[n]


def _parts(
    row: Example, labelled: Labelled, tokenizer: Any, left_out: bool
) -> Iterator[tuple[str, State, int]]:
    ids, labels = labelled
    whole, _ = as_trained(row, tokenizer)
    lost = whole[len(ids) :] if whole[: len(ids)] == ids else []
    states: list[State] = ["masked" if label == MASKED else "trained" for label in labels]
    states = ["dropped"] * len(ids) if left_out else states
    fates = zip([*ids, *lost], [*states, *(["dropped"] * len(lost))], strict=True)
    for state, run in groupby(fates, key=lambda fate: fate[1]):
        tokens = [i for i, _ in run]
        yield tokenizer.decode(tokens), state, len(tokens)
