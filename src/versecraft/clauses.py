"""The clauses of a form, each measured on a poem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Literal, get_args

from .answers import Form, words_of
from .errors import UnknownName
from .forms import CONTRACTS, Contract, FormName
from .meters import Meter, meter
from .records import Record, Shown
from .schemes import grouped, heard, rhymed_lines, unmet
from .sounds import end_word, pronounced, stanzas_of, syllables, words_in

if TYPE_CHECKING:
    from rich.console import RenderableType

# Shares of what a clause asks that must be found. Good poems have half rhymes, rhymes of another
# time and lines that vary: the figures are calibrated on poems whose form is known (docs).
RHYMED = 0.75  # of the lines that are to rhyme
CHAINED = 0.8  # of them where rhymes run on: two in three is what a poem of threes has unchained
_UNRHYMED = 0.6  # more lines that rhyme than this break a promise not to rhyme
_SAME = 0.75  # of the lines of a refrain, and of the words of such a line
_STANZAS = 0.8  # of the stanzas
_KNOWN = 0.5  # of the words that are listened to must be known to the dictionary


ClauseName = Literal["lines", "stanzas", "scheme", "refrain", "end words", "meter", "syllables"]


class Clause(Record):
    """One promise of a form, and what was found of it.

    Attributes:
        name: What it is about.
        asked: The promise.
        found: The evidence.
        holds: Whether it is kept; None where nobody can tell.
        lines: Lines (from 1, blank ones not counted) at which something is amiss, also where the
            clause as a whole holds.
    """

    name: ClauseName
    asked: str
    found: str
    holds: bool | None
    lines: tuple[int, ...] = ()


class FormReport(Record, Shown):
    """Which clauses of a form a poem keeps."""

    form: FormName
    clauses: tuple[Clause, ...]

    @property
    def broken(self) -> tuple[Clause, ...]:
        """The clauses that do not hold."""
        return tuple(clause for clause in self.clauses if clause.holds is False)

    def report(self) -> dict[str, Any]:
        """The form, and for each clause whether it holds."""
        return {"form": self.form} | {c.name: c.holds for c in self.clauses}

    def __rich__(self) -> RenderableType:
        from rich.table import Table

        table = Table(title=self.form.replace("-", " "), title_justify="left")
        for name in ("clause", "asked", "found", "holds", "lines"):
            table.add_column(name)
        for c in self.clauses:
            holds = {True: "yes", False: "no", None: "cannot tell"}[c.holds]
            places = ", ".join(map(str, c.lines[:8])) + (" …" if len(c.lines) > 8 else "")
            table.add_row(c.name, c.asked, c.found, holds, places)
        return table


def check(text: str, form: FormName | Form) -> FormReport:
    """Which clauses of a form a poem keeps.

    Args:
        text: The poem.
        form: The name of a form; or a brief's `Form`, whose own lines, scheme and metre are then
            asked, with the stanzas and refrains of its name.

    Returns:
        The clauses, each with what was asked and found. Some deviation is allowed where good
        poems deviate: a scheme holds when 75 % of its rhymes are there (slant ones too), a refrain
        when 75 % of its lines return with three words in four.

    Raises:
        UnknownName: There is no such form.
        MissingExtra: The form has rhyme or metre, and the extra `prosody` is not installed.
    """
    name = form.name if isinstance(form, Form) else form
    if name not in CONTRACTS:
        raise UnknownName("form", name, get_args(FormName))
    asked = CONTRACTS[name]
    schemes = asked.schemes
    if isinstance(form, Form):
        free = form.scheme == "none" and name == "prose-poem"
        schemes = () if free else (form.scheme,)
    stanzas = stanzas_of(text)
    lines = [line for stanza in stanzas for line in stanza]
    clauses: list[Clause | None] = [
        _lines(form, asked, len(stanzas if name == "prose-poem" else lines)),
        _stanzas(asked, [len(stanza) for stanza in stanzas]),
        _scheme(schemes, asked, lines),
        returns(asked, lines),
        _meter(form, asked, text),
        _syllables(asked, lines),
    ]
    return FormReport(form=name, clauses=tuple(c for c in clauses if c))


def _lines(form: FormName | Form, asked: Contract, count: int) -> Clause | None:
    if isinstance(form, Form):
        low, high = form.lines[:2]
        counts = range(low, max(low, high) + 1)
    elif asked.lines:
        counts = range(asked.lines[0], asked.lines[1] + 1, asked.by or 1)
    else:
        return None
    words = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    if counts.step > 1:
        words = f"a multiple of {counts.step}"
    return Clause(name="lines", asked=words, found=str(count), holds=count in counts)


def _stanzas(asked: Contract, sizes: Sequence[int]) -> Clause | None:
    if not (asked.by or asked.stanzas) or not sizes:
        return None
    found = ", ".join(map(str, sizes[:12])) + (" …" if len(sizes) > 12 else "")
    if asked.stanzas:
        want = ", ".join(map(str, asked.stanzas))
        whole = len(sizes) == 1 and sizes[0] == sum(asked.stanzas)
        holds = whole or tuple(sizes) == asked.stanzas
        return Clause(name="stanzas", asked=want, found=found, holds=holds)
    by = asked.by or 1
    fits = [size % by == 0 for size in sizes]
    if asked.closing:
        fits[-1] = fits[-1] or sizes[-1] % by in asked.closing
    ends = [sum(sizes[:n]) for n in range(1, len(sizes) + 1)]
    return Clause(
        name="stanzas",
        asked=f"lines by {by}s",
        found=found,
        holds=sum(fits) >= _STANZAS * len(fits),
        lines=tuple(end for end, fit in zip(ends, fits, strict=True) if not fit),
    )


def _scheme(schemes: Sequence[str], asked: Contract, lines: Sequence[str]) -> Clause | None:
    if not schemes or not lines:
        return None
    words = [end_word(line) for line in lines]
    holds: bool | None
    if schemes[0] == "none":
        rhymed = rhymed_lines(words)
        share = len(rhymed) / len(words)
        found = f"{len(rhymed)} of {len(words)} lines rhyme"
        holds, amiss = share <= _UNRHYMED, tuple(rhymed)
    else:
        wanted, missed, amiss = min(
            (unmet(words, s, asked.carried, asked.returning) for s in schemes),
            key=lambda u: u[1] / max(u[0], 1),
        )
        found = (
            f"{grouped(heard(words), schemes)}; {wanted - missed} of {wanted} lines rhyme as asked"
        )
        holds = missed <= (1 - (CHAINED if asked.carried else RHYMED)) * wanted
    if sum(map(bool, map(pronounced, filter(None, words)))) < _KNOWN * len(words):
        holds = None
    choice = " or ".join(schemes[:4]) + (" …" if len(schemes) > 4 else "")
    return Clause(
        name="scheme",
        asked="unrhymed" if schemes[0] == "none" else choice,
        found=found,
        holds=holds,
        lines=amiss,
    )


def returns(asked: Contract, lines: Sequence[str]) -> Clause | None:
    """The clause about lines, or last words, that return; None where a form has none."""
    return _end_words(asked, lines) if asked.end_words else _refrain(asked, lines)


def _refrain(asked: Contract, lines: Sequence[str]) -> Clause | None:
    wanted = list(_returns(asked, len(lines)))
    if not wanted:
        return None
    missed = tuple(sorted({n for first, n in wanted if not _same(lines[first - 1], lines[n - 1])}))
    if asked.opening:
        missed = tuple(n for n in asked.opening if not _opens(lines[0], lines[n - 1]))
        words = f"lines {_listed(asked.opening)} repeat the opening"
    elif asked.repeats:
        moves = ", ".join(f"{a} as {b}" for a, b in asked.repeats)
        words = f"lines return in the next stanza: {moves}"
    else:
        words = "; ".join(f"lines {_listed(group)} are one" for group in asked.refrains)
    kept = len(wanted) - len(missed)
    return Clause(
        name="refrain",
        asked=words,
        found=f"{kept} of {len(wanted)} returns",
        holds=kept >= _SAME * len(wanted),
        lines=missed,
    )


def _returns(asked: Contract, count: int) -> Iterator[tuple[int, int]]:
    """Pairs of lines (from 1) of which the second repeats the first."""
    for group in asked.refrains:
        yield from ((group[0], n) for n in group[1:] if n <= count)
    for n in asked.opening:
        if asked.lines and count == asked.lines[1]:
            yield 1, n
    by = asked.by or 1
    for start in range(0, count - by, by):
        for a, b in asked.repeats:
            if start + by + b <= count:
                yield start + a, start + by + b


def _listed(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _same(a: str, b: str) -> bool:
    """Whether a line is another one again, give or take some words; the last one must return."""
    ours, theirs = words_of(a), words_of(b)
    if ours[-1:] != theirs[-1:]:
        return False
    ratio = SequenceMatcher(None, ours, theirs, autojunk=False).ratio()
    return ratio >= _SAME or ours[-3:] == theirs[-3:]


def _opens(first: str, line: str) -> bool:
    words = words_of(line)
    return bool(words) and words_of(first)[: len(words)] == words


def _end_words(asked: Contract, lines: Sequence[str]) -> Clause | None:
    size = len(asked.end_words)
    if not size or len(lines) < 2 * size:
        return None
    words = [end_word(line) for line in lines[: size * size]]
    wanted, returned, amiss = 0, 0, []
    for start in range(size, len(words) - size + 1, size):
        before = words[start - size : start]
        for n, place in enumerate(asked.end_words):
            wanted += 1
            returned += any(_one_word(word, words[start + n]) for word in before)
            if not _one_word(before[place - 1], words[start + n]):
                amiss.append(start + n + 1)
    return Clause(
        name="end words",
        asked=f"last words return in the order {' '.join(map(str, asked.end_words))}",
        found=f"{returned} of {wanted} return, {wanted - len(amiss)} in that order",
        holds=returned >= _SAME * wanted,
        lines=tuple(amiss),
    )


def _one_word(a: str, b: str) -> bool:
    """Whether two words are one, give or take its ending (and a homophone's spelling)."""
    return a == b or (len(a) > 3 and a[:4] == b[:4])


def _meter(form: FormName | Form, asked: Contract, text: str) -> Clause | None:
    foot = form.meter if isinstance(form, Form) else asked.meter
    feet = (form.feet,) if isinstance(form, Form) else asked.feet
    if foot in ("none", "mixed"):
        return None
    found = meter(text)
    return Clause(
        name="meter",
        asked=f"{foot}, {' or '.join(map(str, feet))} feet",
        found="no metre that is sure" if found is None else described(found),
        holds=None if found is None else found.foot == foot and found.feet in feet,
    )


def described(found: Meter) -> str:
    """A metre in words: "iambic, 4 and 3 feet in turn, 94 % of lines"."""
    feet = " and ".join(map(str, found.pattern))
    turn = " in turn" if len(found.pattern) > 1 else ""
    return f"{found.foot}, {feet} feet{turn}, {found.agreement:.0%} of lines"


def can_be_heard(lines: Sequence[str]) -> bool:
    """Whether at least half of the words of a poem are known, and there is one."""
    known = sum(bool(pronounced(word)) for line in lines for word in words_in(line))
    return known > 0 and known >= _KNOWN * len(words_of("\n".join(lines)))


def _syllables(asked: Contract, lines: Sequence[str]) -> Clause | None:
    if not asked.syllables or not lines:
        return None
    by = asked.by or 1
    counts = [syllables(line) for line in lines]
    groups = [counts[n : n + by] for n in range(0, len(counts), by)]
    long = [n for n, group in enumerate(groups) if sum(group) > asked.syllables]
    return Clause(
        name="syllables",
        asked=f"at most {asked.syllables} in {by} lines",
        found="; ".join("-".join(map(str, group)) for group in groups[:6]),
        holds=not long if can_be_heard(lines) else None,
        lines=tuple(n * by + 1 for n in long),
    )
