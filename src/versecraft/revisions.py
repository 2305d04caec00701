"""What a revision changed: drafts line by line, of what was asked, and what was lost."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from .answers import Critique, Form, RevisionBrief, locate, says, words_of
from .errors import MissingExtra
from .prosody import Clause, check
from .records import Record, digest

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "Changes",
    "Diff",
    "Reason",
    "Version",
    "breaches",
    "changes",
    "lines_of",
    "said_of",
]


class Changes(Record):
    """What a revision did to the lines of the draft before it. Blank lines are not counted.

    Attributes:
        lines: Lines of the earlier draft.
        named: Those of them, from 1, that a critique or revision brief wanted changed.
        changed: Those of them that do not stand in the later draft.
        lost: What held before and holds no more: clauses of the form, words that were to be kept.
    """

    lines: int
    named: tuple[int, ...]
    changed: tuple[int, ...]
    lost: tuple[str, ...] = ()

    @property
    def targeted(self) -> float | None:
        """Share of the named lines that changed; None where none was named."""
        return _share(self.named, self.changed)

    @property
    def collateral(self) -> float | None:
        """Share of the other lines that changed; None where there are no others."""
        others = set(range(1, self.lines + 1)) - set(self.named)
        return _share(others, self.changed)

    @property
    def regression(self) -> int:
        """How much held before and holds no more."""
        return len(self.lost)


def _share(some: Iterable[int], changed: Iterable[int]) -> float | None:
    some = set(some)
    return len(some & set(changed)) / len(some) if some else None


def breaches(text: str, form: Form) -> tuple[Clause, ...] | None:
    """The clauses of a form that a text breaks; None where what measures them is not installed."""
    try:
        return check(text, form).broken
    except MissingExtra:
        return None


def said_of(clause: Clause) -> str:
    """A broken clause in a line."""
    return f"{clause.name}: asked {clause.asked}, found {clause.found}"


def changes(
    before: str, after: str, *asked: Critique | RevisionBrief, form: Form | None = None
) -> Changes:
    """What a revision changed, of what it was asked to change, and what it lost.

    Lines are aligned, so that a line that is put in changes none of the others. A line counts as
    changed when its words do, not for a comma or a blank.

    Args:
        before: The earlier draft.
        after: The later one.
        asked: The critique, of which the issues that must be fixed count, the revision brief, or
            both.
        form: The form to hold both against; that of the revision brief if None.
    """
    one, other = _keys(before), _keys(after)
    kept = {
        i for i, j in align(one, other) if i is not None and j is not None and one[i] == other[j]
    }
    numbers = dict(_numbered(one))
    revised = [a for a in asked if isinstance(a, RevisionBrief)]
    form = form or (revised[-1].form if revised else None)
    lost = [
        f"“{loc.quote}”"
        for brief in revised
        for loc in brief.keep
        if says(before, loc.quote) and not says(after, loc.quote)
    ]
    return Changes(
        lines=len(numbers),
        named=tuple(
            sorted({n for a in asked for place in _wanted(a) for n in lines_of(place, before)})
        ),
        changed=tuple(number for i, number in numbers.items() if i not in kept),
        lost=tuple(lost + (_no_longer(before, after, form) if form else [])),
    )


def _wanted(asked: Critique | RevisionBrief) -> Iterator[str]:
    """The words at the places that are to change."""
    if isinstance(asked, RevisionBrief):
        yield from (change.location.quote for change in asked.change)
    else:
        yield from (i.location.quote for i in asked.issues if i.severity == "must_fix")


def _no_longer(before: str, after: str, form: Form) -> list[str]:
    """The clauses of a form that held and hold no more, in words."""
    try:
        held = {clause.name for clause in check(before, form).clauses if clause.holds}
        return [said_of(clause) for clause in check(after, form).broken if clause.name in held]
    except MissingExtra:
        return []


def lines_of(quote: str, text: str) -> tuple[int, ...]:
    """The lines of a text that a quotation stands on, one or two; none where it is not there."""
    first = locate(quote, text)
    if first is None:
        return ()
    line = [line for line in text.split("\n") if line.strip()][first - 1]
    return (first,) if locate(quote, line) else (first, first + 1)


def _keys(text: str) -> list[str]:
    """What each line is known by: its words; what there is where it has none."""
    return [" ".join(words_of(line)) or line.strip() for line in text.split("\n")]


def _numbered(lines: list[str]) -> Iterator[tuple[int, int]]:
    """Place and number of each line that is not blank."""
    written = (i for i, line in enumerate(lines) if line.strip())
    yield from ((i, number) for number, i in enumerate(written, start=1))


def align(before: list[str], after: list[str]) -> list[tuple[int | None, int | None]]:
    """Places of lines that belong together; None where one side has no such line.

    What two drafts share at their beginnings and ends is taken first: among lines that return, such
    as a refrain, the longest match that `difflib` looks for may be the wrong one.
    """
    most = min(len(before), len(after))
    head = next((n for n in range(most) if before[n] != after[n]), most)
    tail = next((n for n in range(most - head) if before[-1 - n] != after[-1 - n]), most - head)
    ends = len(before) - tail, len(after) - tail
    pairs: list[tuple[int | None, int | None]] = [(n, n) for n in range(head)]
    matcher = SequenceMatcher(
        lambda line: not line, before[head : ends[0]], after[head : ends[1]], autojunk=False
    )
    for _, a, b, c, d in matcher.get_opcodes():
        pairs += zip_longest(range(head + a, head + b), range(head + c, head + d))
    return pairs + list(zip(range(ends[0], len(before)), range(ends[1], len(after)), strict=True))


class Reason(NamedTuple):
    """Something that was asked of a draft, and the lines that it is about."""

    lines: tuple[int, ...]
    text: str


class Version(NamedTuple):
    """A draft, and what was asked of it."""

    text: str
    reasons: Sequence[Reason] = ()


class Row(NamedTuple):
    """A line of one draft beside the line of the next that it became.

    Attributes:
        mark: " " the same, "," the same words, "~" changed, "-" gone, "+" new, "!" the same words,
            and so are all lines that were named with it.
        asked: Numbers, from 1, of the reasons that are about the earlier line.
    """

    mark: str
    before: str
    after: str
    asked: tuple[int, ...]


class Diff:
    """Drafts side by side, each beside the one that it revises, with changed lines marked.

    A changed line bears the numbers of what asked for the change; the list stands below. Verse is
    kept as it is, with its indentation and blank lines.

    Attributes:
        pairs: For each revision its rows and what was asked.
    """

    def __init__(self, versions: Sequence[Version]) -> None:
        self.versions = tuple(versions)
        self.pairs = [
            (list(_rows(one, other.text)), one.reasons)
            for one, other in zip(self.versions, self.versions[1:], strict=False)
        ]

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts: list[RenderableType] = []
        for number, (rows, asked) in enumerate(self.pairs, start=1):
            table = Table(title=f"Draft {number} and draft {number + 1}", title_justify="left")
            table.add_column("")
            table.add_column(f"draft {number}", ratio=1)
            table.add_column(f"draft {number + 1}", ratio=1)
            table.add_column("asked")
            for row in rows:
                style = _STYLES[row.mark]
                cells = [row.mark, row.before, row.after, ", ".join(map(str, row.asked))]
                table.add_row(*(Text(cell, style=style) for cell in cells))
            parts.append(table)
            parts += [Text(f"{n}. {reason.text}") for n, reason in enumerate(asked, start=1)]
        return Group(*(parts or [Text("There is one draft or none; nothing to compare.")]))

    def html(self) -> str:
        """A fragment of HTML: a table for each revision. It needs no style sheet and no script."""
        said = "".join(
            self._table(number, rows, asked)
            for number, (rows, asked) in enumerate(self.pairs, start=1)
        )
        return f'<div class="versecraft-diff">{said}</div>'

    def _repr_html_(self) -> str:
        return self.html()

    def _table(self, number: int, rows: list[Row], asked: Sequence[Reason]) -> str:
        # An id of its own, so that two sessions on one page do not share their links.
        name = f"d{digest(*(version.text for version in self.versions))}-{number}"
        verse = "white-space:pre-wrap;vertical-align:top;padding:0 .8em;font-family:Georgia,serif"
        lines = []
        for row in rows:
            colour = f";color:#222;background:{_COLOURS[row.mark]}" if row.mark in _COLOURS else ""
            links = " ".join(f'<a href="#{name}-{n}">{n}</a>' for n in row.asked)
            lines.append(
                f'<tr><td title="{_MEANINGS[row.mark]}">{row.mark.strip()}</td>'
                f'<td style="{verse}{colour}">{html.escape(row.before) or "&nbsp;"}</td>'
                f'<td style="{verse}{colour}">{html.escape(row.after) or "&nbsp;"}</td>'
                f"<td>{links}</td></tr>"
            )
        reasons = "".join(
            f'<li id="{name}-{n}">{html.escape(reason.text)}</li>'
            for n, reason in enumerate(asked, start=1)
        )
        return (
            f'<table style="border-collapse:collapse;text-align:left"><thead><tr><th></th>'
            f"<th>Draft {number}</th><th>Draft {number + 1}</th><th>asked</th></tr></thead>"
            f"<tbody>{''.join(lines)}</tbody></table><ol>{reasons}</ol>"
        )


_STYLES = {" ": "", ",": "dim", "~": "yellow", "-": "red", "+": "green", "!": "bold magenta"}
_COLOURS = {"~": "#fff3c4", "-": "#ffd9d6", "+": "#d9f2dc", "!": "#ead9ff"}
_MEANINGS = {
    " ": "the same",
    ",": "the same words",
    "~": "changed",
    "-": "gone",
    "+": "new",
    "!": "the same, although it was to change",
}


def _rows(one: Version, after: str) -> Iterator[Row]:
    before, later = one.text.split("\n"), after.split("\n")
    numbers = dict(_numbered(before))
    keys, new_keys = _keys(one.text), _keys(after)
    pairs = align(keys, new_keys)
    kept = {
        numbers.get(i)
        for i, j in pairs
        if i is not None and j is not None and keys[i] == new_keys[j]
    }
    idle = {n for reason in one.reasons if kept.issuperset(reason.lines) for n in reason.lines}
    for i, j in pairs:
        old, new = "" if i is None else before[i], "" if j is None else later[j]
        number = None if i is None else numbers.get(i)
        asked = tuple(n for n, r in enumerate(one.reasons, start=1) if number in r.lines)
        if i is not None and j is not None and keys[i] == new_keys[j]:
            mark = "!" if number in idle else " " if old == new else ","
        elif not new.strip():
            mark = "-" if old.strip() else " "
        else:
            mark = "~" if old.strip() else "+"
        yield Row(mark, old, new, asked)
