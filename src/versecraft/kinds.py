"""What a text is: which lines of a supposed poem are not poem, and what says so."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from .classifier import weights
from .encoder import trained
from .lines import Line, lines_of
from .records import Kind as Kind
from .records import Record
from .rules import CHAT_TOKEN as CHAT_TOKEN
from .rules import certain, doubtful

if TYPE_CHECKING:
    from rich.console import RenderableType

FOREIGN = 0.91
"""How sure the classifier has to be of a text before it counts as no poem alone."""
KIN = 0.5
"""How sure of a line before it is marked in such a text; else the line most in doubt is."""
FAINT = 0.38
"""How sure of that line at the least."""
DOUBT = -0.5
"""Log-odds by the trees from which the transformer is asked: below, it could not outvote them."""
_TREES, _TRANSFORMER, _NEITHER = 0.6, 0.34, -0.2

CHAT_SETTINGS: Mapping[str, Any] = {
    "enable_thinking": False,
    "date_string": "26 Jul 2024",  # what the templates of Llama 3 write where nobody gives a date
}
"""What chat templates are given, in training and in serving: no thinking, and always one day."""


def undated(template: str) -> str:
    """A chat template that asks for today's date, with the date of `CHAT_SETTINGS` instead."""
    return re.sub(
        r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""",
        lambda asked: repr(datetime(2024, 7, 26).strftime(asked[2])),
        template,
    )


Layer = Literal["rules", "classifier", "judge"]


class LineReport(Record):
    """A line that is not poem, and which layer and rule said so.

    Attributes:
        number: From 1, blank lines counted.
        layer: `rules` are certain, the `classifier` has learnt, a `judge` is a model that was
            asked.
        rule: What was found; of the classifier, where the line stands (`before_poem`,
            `within_poem`, `after_poem`, `no_poem` where nothing is left).
        confidence: From 0 to 1.
    """

    number: int
    text: str
    layer: Layer
    rule: str
    confidence: float


class KindReport(Record):
    """What a text is, and the lines in it that are something else.

    It shows in a terminal (`rich.print`) and in a notebook with the foreign lines marked.

    Attributes:
        kind: None for a mixture, and where it cannot be told.
        clean: Whether it is a poem and nothing but a poem.
        confidence: How sure the verdict is, from 0 to 1.
        text: What was looked at.
    """

    kind: Kind | None
    clean: bool
    lines: tuple[LineReport, ...]
    confidence: float
    text: str = ""

    @property
    def _verdict(self) -> str:
        if self.clean:
            return f"poem, nothing else ({self.confidence:.0%} sure)"
        if not self.lines:
            return "empty"
        count = "1 line is" if len(self.lines) == 1 else f"{len(self.lines)} lines are"
        return f"{self.kind or 'not a poem alone'}: {count} not poem"

    def __rich__(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self._verdict, title_justify="left", box=None, show_header=False)
        table.add_column(justify="right", style="dim")
        table.add_column(overflow="fold")
        table.add_column(style="dim")
        foreign = {line.number: line for line in self.lines}
        for number, line in enumerate(self.text.split("\n"), start=1):
            found = foreign.get(number)
            style = "bold red" if found else ""
            said = f"{found.layer}: {found.rule} {found.confidence:.0%}" if found else ""
            table.add_row(str(number), Text(line, style=style), said)
        return table

    def _repr_html_(self) -> str:
        from html import escape

        foreign = {line.number: line for line in self.lines}
        rows = []
        for number, line in enumerate(self.text.split("\n"), start=1):
            shown = escape(line)
            said = ""
            if found := foreign.get(number):
                shown = f"<mark>{shown}</mark>"
                said = escape(f"{found.layer}: {found.rule} {found.confidence:.0%}")
            rows.append(
                f"<tr><td>{number}</td><td style='text-align:left;white-space:pre-wrap'>{shown}"
                f"</td><td style='opacity:.6'>{said}</td></tr>"
            )
        return f"<p>{escape(self._verdict)}</p><table>{''.join(rows)}</table>"


def classify(text: str, brief: str | None = None) -> KindReport:
    """Tells whether a text is a poem and nothing but a poem.

    Two layers look at each line. Rules find what is certain: chat tokens, fences, JSON, headings,
    labels, the phrases of an assistant, markup around a poem, seven words in a row taken from the
    brief. A classifier finds what differs from the lines around it or speaks of texts and tasks.

    Args:
        text: What a poet answered.
        brief: The brief as the poet read it, to find an echo of it. What it says to avoid, keep
            and change is passed over: keeping words of the draft is no echo.

    Returns:
        A report whose `clean` is true when no line is foreign and the text is not empty.
    """
    found = {f.number: (f.rule, f.confidence) for f in certain(text, brief)}
    layers: dict[int, Layer] = dict.fromkeys(found, "rules")
    lines = lines_of(text)
    refrains = _refrains(lines)
    sure, chances = _chances(lines)
    loudest = max(chances, default=0.0)
    chances = [0.0 if x.number in refrains else c for x, c in zip(lines, chances, strict=True)]
    highest = max(chances, default=0.0)
    bar = KIN if found else 2.0
    # Where a refrain is the loudest, the text was judged by it: another line has to be sure.
    if sure >= FOREIGN and highest >= (FAINT if highest == loudest else FOREIGN):
        bar = min(KIN, highest)
    learnt = {
        line.number: chance
        for line, chance in zip(lines, chances, strict=True)
        if chance >= bar and line.number not in found
    }
    verse = [n.number for n in lines if n.number not in found and n.number not in learnt]
    whole = text.split("\n")
    if len(learnt) == 1 and not found and verse[:1] < [*learnt] < verse[-1:]:
        learnt = {n: chance for n, chance in learnt.items() if not doubtful(whole[n - 1])}
    for number, chance in learnt.items():
        found[number] = (_place(number, verse), chance)
        layers[number] = "classifier"
    reports = tuple(
        LineReport(
            number=n, text=whole[n - 1], layer=layers[n], rule=found[n][0], confidence=found[n][1]
        )
        for n in sorted(found)
    )
    clean = bool(text.strip()) and not reports
    confidence = max(1 - sure, 1 - FOREIGN)
    if not clean:
        confidence = max((report.confidence for report in reports), default=1.0)
    kind = Kind.POEM if clean else _labelled(text, verse) if reports else None
    return KindReport(kind=kind, clean=clean, lines=reports, confidence=confidence, text=text)


def _chances(lines: list[Line]) -> tuple[float, list[float]]:
    """How sure it is that a text is no poem alone, and for each line that it is foreign.

    Trees look at every text; the transformer reads those that they do not take for verse.
    """
    import numpy as np

    if not lines:
        return 0.0, []
    odds, whole = weights().odds(lines)
    if whole > DOUBT:
        read, text = trained().odds(lines, odds)
        whole = _TREES * whole + _TRANSFORMER * text + _NEITHER
        odds = (odds + read) / 2
    return float(1 / (1 + np.exp(-whole))), (1 / (1 + np.exp(-odds))).tolist()


def _refrains(lines: list[Line]) -> set[int]:
    """The lines that repeat an earlier one by itself or with one or two others, as refrains do."""
    keys = [tuple(line.words) for line in lines]
    seen: set[tuple[str, ...]] = set()
    runs: list[list[int]] = [[]]
    for line, key in zip(lines, keys, strict=True):
        if key in seen:
            runs[-1].append(line.number)
        elif runs[-1]:
            runs.append([])
        seen.add(key)
    return {n for run in runs if len(run) < 4 or len(seen) == 1 for n in run}


def _place(number: int, verse: list[int]) -> str:
    """Where a foreign line stands among the lines that are poem."""
    if not verse:
        return "no_poem"
    if number < verse[0]:
        return "before_poem"
    return "after_poem" if number > verse[-1] else "within_poem"


_FIELDS: Mapping[Kind, frozenset[str]] = {
    Kind.COMPARISON: frozenset({"winner", "margin", "points"}),
    Kind.REVISION_BRIEF: frozenset({"angle", "keep", "change"}),
    Kind.BRIEF: frozenset({"angle", "avoid", "imagery"}),
    Kind.CRITIQUE: frozenset({"issues", "strengths"}),
    Kind.LESSON: frozenset({"claim", "explanation"}),
    Kind.AUTOPSY: frozenset({"items"}),
}
_LABEL = re.compile(r"(?m)^[^\w\n]*([A-Za-z][\w ]{2,20})\W*:")


def _labelled(text: str, verse: list[int]) -> Kind | None:
    """The kind of a text that is JSON with the fields of one, or is made of its labels."""
    try:
        value = json.loads(text) if len(text) < 100_000 else None
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        names = frozenset(value)
    elif verse:
        return None
    else:
        names = frozenset(name.strip().lower().replace(" ", "_") for name in _LABEL.findall(text))
    return next((kind for kind, fields in _FIELDS.items() if fields <= names), None)


_QUOTE_END = re.compile(r"(?<=[\w.,;:!?])[\"”'’](?!\w)")


def holds_verse(text: str) -> bool:
    """Whether an educator's prose holds a run of three or more lines of verse.

    A run is three short lines in a row, or three or more pieces set apart by ` / `.
    """
    if "\n" not in text and " / " not in text:
        return False
    run = 0
    for line in text.split("\n"):
        run = run + 1 if 0 < len(line.strip()) <= 80 else 0
        if run >= 3:
            return True
    # Within one quotation only: two separate quotes of two lines each are no run.
    return any(
        len(re.findall(r"[^\W\d]\W* / \W*[^\W\d]", part)) >= 2 for part in _QUOTE_END.split(text)
    )


def verse_in(value: Any, path: str = "answer") -> tuple[str, str] | None:
    """The first string of an educator's answer that holds verse, quotations left out.

    Args:
        value: The answer as JSON values: strings, mappings, sequences.
        path: What to call it.

    Returns:
        Where the string stands, such as "answer.issues[0].diagnosis", and the string; or None.
    """
    if isinstance(value, str):
        return (path, value) if not path.endswith("quote") and holds_verse(value) else None
    if isinstance(value, dict):
        parts = ((part, f"{path}.{key}") for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        parts = ((part, f"{path}[{n}]") for n, part in enumerate(value))
    else:
        return None
    return next((found for part, where in parts if (found := verse_in(part, where))), None)
