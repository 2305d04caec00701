"""What a poem's form is, and whether it keeps a contract: lines, stanzas, rhyme, refrain, metre.

Rhyme is graded as in `sounds`, metre estimated as in `meters`; what each form promises stands in
`forms`. Counting lines, stanzas and refrains needs no extra, all else needs `prosody`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, get_args

from .answers import Form, words_of
from .errors import UnknownName
from .forms import CONTRACTS, Contract, FormName, laid_out, partners
from .meters import Meter, meter
from .records import Record, Shown
from .sounds import Grade, end_word, pronounced, rhyme, stanzas_of, syllables

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "Clause", "FormReport", "Grade", "Meter", "check", "detect_form", "end_word", "form_of", "meter",
    "rhyme", "scheme", "syllables",
]  # fmt: skip

_WINDOW = 4  # lines back in which a rhyme is heard
_NEAR = 3  # lines back in which a half rhyme is
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# Shares of what a clause asks that must be found. Real poems have half rhymes, rhymes of another
# time and lines that vary: the figures are calibrated on poems whose form is known (docs).
_RHYMED = 0.7  # of the lines that are to rhyme
_UNRHYMED = 0.6  # more lines that rhyme than this break a promise not to rhyme
_STRAY = 0.4  # so many lines of an unrhymed poem rhyme by chance
_CHAINED = 0.25  # of the rhymes of a terza rima may be missing: a third is where nothing is chained
_IN_SONNETS = 0.6  # of fourteen lines rhyme
_SAME = 0.75  # of the lines of a refrain, and of the words of such a line
_STANZAS = 0.8  # of the stanzas
_PROSE = 90  # characters; where half of the lines are longer, they are paragraphs
_HEARD = 0.5  # of the last words must be known to the dictionary

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


def scheme(stanza: str) -> str:
    """The rhyme scheme of a stanza, such as "ABAB"; of several, in groups: "ABAB CDCD".

    Each line takes the letter of the nearest line, up to nine lines back, whose last word it
    rhymes with by sound, else of one that it rhymes with to the eye; else a new letter. Beyond Z
    come small letters, and beyond z the letters begin anew.

    Raises:
        MissingExtra: The extra `prosody` is not installed.
    """
    stanzas = stanzas_of(stanza)
    letters = iter(_heard([end_word(line) for part in stanzas for line in part]))
    return " ".join("".join(next(letters) for _ in part) for part in stanzas)


def _heard(words: Sequence[str]) -> list[str]:
    found: list[int] = []
    new = 0
    for n, word in enumerate(words):
        back = range(n - 1, max(-1, n - 1 - _WINDOW), -1)
        grades = {m: rhyme(word, words[m]) for m in back}
        match = next((m for grade in ("perfect", "eye") for m in back if grades[m] == grade), None)
        found.append(new if match is None else found[match])
        new += match is None
    _pair_the_lonely(words, found)
    order = {number: n for n, number in enumerate(dict.fromkeys(found))}
    found = [order[number] for number in found]
    return [_LETTERS[number % len(_LETTERS)] for number in found]


def _pair_the_lonely(words: Sequence[str], found: list[int]) -> None:
    """Joins half rhymes of lines that rhyme with none, where at least half of the lines rhyme."""
    lonely = [n for n, number in enumerate(found) if found.count(number) == 1]
    if 2 * len(lonely) > len(found):
        return
    for n in lonely:
        near = (m for m in lonely if m < n <= m + _NEAR and found.count(found[m]) == 1)
        for m in sorted(near, reverse=True):
            if rhyme(words[n], words[m]) == "slant":
                found[n] = found[m]
                break


def check(text: str, form: FormName | Form) -> FormReport:
    """Which clauses of a form a poem keeps.

    Args:
        text: The poem.
        form: The name of a form; or a brief's `Form`, whose own lines, scheme and metre are then
            asked, with the stanzas and refrains of its name.

    Returns:
        The clauses, each with what was asked and found. Some deviation is allowed where good
        poems deviate: a scheme holds when 70 % of its rhymes are there (slant ones too), a refrain
        when 75 % of its lines return with three words in four.

    Raises:
        UnknownName: There is no such form.
        MissingExtra: The form has rhyme or metre, and the extra `prosody` is not installed.
    """
    name = form.name if isinstance(form, Form) else form
    if name not in CONTRACTS:
        raise UnknownName("form", name, get_args(FormName))
    asked = CONTRACTS[name]
    if isinstance(form, Form):
        schemes = () if name in ("free-verse", "prose-poem") else (form.scheme,)
        schemes = (form.scheme,) if form.scheme != "none" else schemes
    else:
        schemes = asked.schemes
    stanzas = stanzas_of(text)
    lines = [line for stanza in stanzas for line in stanza]
    clauses: list[Clause | None] = [
        _lines(form, asked, len(stanzas if name == "prose-poem" else lines)),
        _stanzas(asked, [len(stanza) for stanza in stanzas]),
        _scheme(schemes, asked, lines),
        _refrain(asked, lines),
        _end_words(asked, lines),
        _meter(form, asked, text),
        _syllables(asked, lines),
    ]
    return FormReport(form=name, clauses=tuple(c for c in clauses if c))


def _lines(form: FormName | Form, asked: Contract, count: int) -> Clause | None:
    if isinstance(form, Form):
        counts: range = range(form.lines[0], form.lines[1] + 1)
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
    heard = _grouped(_heard(words), schemes)
    holds: bool | None = None
    if schemes[0] == "none":
        rhymed = _rhymed_lines(words)
        share = len(rhymed) / len(words)
        found = f"{len(rhymed)} of {len(words)} lines rhyme"
        holds, amiss = share <= _UNRHYMED, tuple(rhymed)
    else:
        wanted, missed, amiss = min(
            (_unmet(words, s, asked.carried) for s in schemes), key=lambda u: u[1] / max(u[0], 1)
        )
        found = f"{heard}; {wanted - missed} of {wanted} lines rhyme as asked"
        holds = missed <= (1 - _RHYMED) * wanted
    if sum(map(bool, map(pronounced, filter(None, words)))) < _HEARD * len(words):
        holds = None
    choice = " or ".join(schemes[:4]) + (" …" if len(schemes) > 4 else "")
    return Clause(
        name="scheme",
        asked="unrhymed" if schemes[0] == "none" else choice,
        found=found,
        holds=holds,
        lines=amiss,
    )


def _grouped(letters: Sequence[str], schemes: Sequence[str]) -> str:
    """Letters in groups as a scheme has them."""
    sizes = [len(re.findall(r"[A-Za-z]", part)) for part in schemes[0].split()]
    out, at = [], 0
    while at < len(letters):
        size = sizes[len(out) % len(sizes)] or 4
        out.append("".join(letters[at : at + size]))
        at += size
    return " ".join(out)


def _unmet(words: Sequence[str], scheme: str, carried: bool) -> tuple[int, int, tuple[int, ...]]:
    """Lines that a scheme wants to rhyme, how many of them do not, and which."""
    if scheme == "AA":
        alone = _unpaired(words)
        return len(words), len(alone), alone
    want = partners(laid_out(scheme, len(words), carried))
    missed = tuple(
        n + 1
        for n, others in want.items()
        if all(rhyme(words[n], words[other]) == "none" for other in others)
    )
    return len(want), len(missed), missed


def _rhymed_lines(words: Sequence[str]) -> list[int]:
    """Lines that rhyme by sound or to the eye with another word up to four lines away."""
    found = set()
    for n, word in enumerate(words):
        for m in range(max(0, n - 4), n):
            if word != words[m] and rhyme(word, words[m]) in ("perfect", "eye"):
                found |= {n + 1, m + 1}
    return sorted(found)


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
    """Whether a line is another one again, give or take some words."""
    ratio = SequenceMatcher(None, words_of(a), words_of(b), autojunk=False).ratio()
    return ratio >= _SAME or words_of(a)[-3:] == words_of(b)[-3:]


def _opens(first: str, line: str) -> bool:
    words = words_of(line)
    return 0 < len(words) and words_of(first)[: len(words)] == words


def _end_words(asked: Contract, lines: Sequence[str]) -> Clause | None:
    size = len(asked.end_words)
    if not size or len(lines) < 2 * size:
        return None
    words = [end_word(line) for line in lines[: size * size]]
    wanted, missed = 0, []
    for start in range(size, len(words) - size + 1, size):
        for n, place in enumerate(asked.end_words):
            wanted += 1
            if not _one_word(words[start - size + place - 1], words[start + n]):
                missed.append(start + n + 1)
    return Clause(
        name="end words",
        asked=f"the last words of a stanza return in the order {asked.end_words}",
        found=f"{wanted - len(missed)} of {wanted} return",
        holds=len(missed) <= (1 - _SAME) * wanted,
        lines=tuple(missed),
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
        holds=not long,
        lines=tuple(n * by + 1 for n in long),
    )


def detect_form(text: str) -> FormName | None:
    """The form of a poem; None where it has none of those that are known, or nobody can tell.

    Raises:
        MissingExtra: The extra `prosody` is not installed.
    """
    stanzas = stanzas_of(text)
    if len(stanzas) > 1 and len(stanzas[0]) == 1 < len(stanzas[1]):
        stanzas = stanzas[1:]  # a title or an epigraph
    lines = [line for stanza in stanzas for line in stanza]
    if not lines:
        return None
    if median(map(len, lines)) > _PROSE:
        return "prose-poem"
    words = [end_word(line) for line in lines]
    sizes = [len(stanza) for stanza in stanzas]
    return (
        _repeating(lines)
        or _of_few_lines(lines, words, sizes)
        or _of_groups(text, words, sizes)
        or _of_pairs(words, sizes)
        or _unrhymed(text, words)
    )


def _repeating(lines: Sequence[str]) -> FormName | None:
    """A form that is known by what returns in it."""
    for name in ("villanelle", "sestina", "triolet", "rondeau", "pantoum"):
        asked = CONTRACTS[name]
        low, high = asked.lines or (8, 200)
        if low <= len(lines) <= high:
            returns = _refrain(asked, lines) or _end_words(asked, lines)
            if returns and returns.holds:
                return name
    return None


def _of_few_lines(
    lines: Sequence[str], words: Sequence[str], sizes: Sequence[int]
) -> FormName | None:
    if len(lines) == 14:
        shares = {name: _missing(name, words) for name in _SONNETS}
        best = min(shares, key=shares.__getitem__)
        letters = _heard(words)
        rhymed = sum(letters.count(letter) > 1 for letter in letters) / 14
        if rhymed >= _IN_SONNETS and shares[best] <= 1 - _paired(words):
            return best
    if sizes == [5] and _missing("limerick", words) <= 1 - _RHYMED:
        first, second, *short, last = map(syllables, lines)
        return "limerick" if min(first, second, last) > max(short) else None
    if set(sizes) == {3}:
        counts = [syllables(line) for line in lines]
        most = (CONTRACTS["haiku"].syllables or 0) + 1
        if all(sum(counts[n : n + 3]) <= most for n in range(0, len(counts), 3)):
            return "haiku"
    return None


_SONNETS: tuple[FormName, ...] = ("shakespearean-sonnet", "petrarchan-sonnet")


def _missing(name: FormName, words: Sequence[str]) -> float:
    """Share of the rhymes of a form that are not there, by its best scheme."""
    asked = CONTRACTS[name]
    return min(_missing_from(scheme, words, asked.carried) for scheme in asked.schemes)


def _missing_from(scheme: str, words: Sequence[str], carried: bool = False) -> float:
    wanted, missed, _ = _unmet(words, scheme, carried)
    return missed / wanted if wanted else 1.0


def _of_groups(text: str, words: Sequence[str], sizes: Sequence[int]) -> FormName | None:
    threes = len(sizes) == 1 or (set(sizes[:-1]) == {3} and sizes[-1] <= 4)
    unchained = _CHAINED if len(sizes) > 1 else _CHAINED / 2
    if threes and len(words) > 6 and _missing("terza-rima", words) < unchained:
        return "terza-rima"
    if any(size % 4 for size in sizes):
        return None
    best = min(_QUATRAINS, key=lambda scheme: _missing_from(scheme, words))
    if _missing_from(best, words) > 1 - _RHYMED:
        best = "ABCB"
    if _missing_from(best, words) > 1 - _RHYMED:
        return None
    found = meter(text)
    if found and found.foot == "iambic" and found.pattern == (4, 3) and best in ("ABAB", "ABCB"):
        return "common-metre" if best == "ABAB" else "ballad-stanza"
    return "couplets" if best == "AABB" else "quatrains"


_QUATRAINS = ("ABAB", "AABB", "ABBA")


def _of_pairs(words: Sequence[str], sizes: Sequence[int]) -> Literal["couplets"] | None:
    odd = len(sizes) > 1 and len(set(sizes)) == 1 and sizes[0] % 2
    return "couplets" if not odd and _paired(words) >= _RHYMED else None


def _paired(words: Sequence[str]) -> float:
    """Share of lines that stand in couplets."""
    return 1 - len(_unpaired(words)) / max(len(words), 1)


def _unpaired(words: Sequence[str]) -> tuple[int, ...]:
    """Lines (from 1) outside couplets, taken one after another; a third rhyme may follow."""
    alone, n = [], 0
    while n < len(words):
        if n + 1 < len(words) and rhyme(words[n], words[n + 1]) != "none":
            n += 2
        else:
            third = n > 1 and n not in alone and rhyme(words[n - 1], words[n]) != "none"
            alone += [] if third else [n + 1]
            n += 1
    return tuple(alone)


def _unrhymed(text: str, words: Sequence[str]) -> FormName | None:
    if len(_rhymed_lines(words)) > _STRAY * len(words):
        return None
    found = meter(text)
    return "blank-verse" if found and (found.foot, found.feet) == ("iambic", 5) else "free-verse"


def form_of(text: str) -> Form:
    """A contract that a poem keeps, for a brief that it could answer.

    The name is that of `detect_form`, "free-verse" where there is none; lines, scheme and metre
    are the poem's own. A scheme longer than a brief may hold (40 characters) is left out.

    Raises:
        MissingExtra: The extra `prosody` is not installed.
    """
    name = detect_form(text) or "free-verse"
    stanzas = stanzas_of(text)
    lines = [line for stanza in stanzas for line in stanza]
    count = len(stanzas if name == "prose-poem" else lines)
    found = None if name in ("prose-poem", "haiku") else meter(text)
    form = Form(
        name=name,
        lines=(count, count),
        scheme=_own_scheme(name, stanzas),
        meter=found.foot if found else "none",
        feet=found.feet if found else 0,
    )
    kept = not check(text, form).broken
    return form if kept else form.model_copy(update={"name": "free-verse", "scheme": "none"})


def _own_scheme(name: FormName, stanzas: Sequence[Sequence[str]]) -> str:
    """The scheme that a poem keeps: its form's, else that of all its stanzas, else its own."""
    asked = CONTRACTS[name]
    words = [end_word(line) for stanza in stanzas for line in stanza]
    if name in ("free-verse", "prose-poem") and len(_rhymed_lines(words)) <= _STRAY * len(words):
        return "none"
    first = " ".join(scheme("\n".join(stanzas[0])).split()) if stanzas else ""
    own = scheme("\n\n".join("\n".join(stanza) for stanza in stanzas))
    like = {len(stanza) for stanza in stanzas} == {len(first)}
    for candidate in (*asked.schemes, *([first] if like else []), own):
        if candidate == "none":
            return candidate
        letters = re.findall(r"[A-Z]", candidate)
        if len(candidate) <= 40 and len(set(letters)) < len(letters) and candidate == candidate.upper():
            if _missing_from(candidate, words, asked.carried) <= 1 - _RHYMED:
                return candidate
    return "none"
