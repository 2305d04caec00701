"""What a poem's form is, and whether it keeps a contract: lines, stanzas, rhyme, refrain, metre.

Rhyme is graded as in `sounds`, metre estimated as in `meters`, schemes are heard as in `schemes`;
what each form promises stands in `forms`, how a promise is measured in `clauses`. Counting lines,
stanzas and refrains needs no extra, all else needs `prosody`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median
from typing import Literal

from .answers import Form
from .clauses import CHAINED, RHYMED, Clause, FormReport, can_be_heard, check, returns
from .forms import CONTRACTS, FormName
from .meters import Meter, meter
from .schemes import heard, missing_from, paired_share, rhymed_lines, scheme
from .sounds import Grade, end_word, rhyme, stanzas_of, syllables

__all__ = [
    "Clause", "FormReport", "Grade", "Meter", "check", "detect_form", "end_word", "form_of",
    "meter", "rhyme", "scheme", "syllables",
]  # fmt: skip

# Shares by which a form is known, calibrated on poems whose form is known (docs).
_STRAY = 0.4  # so many lines of an unrhymed poem rhyme by chance
_IN_SONNETS = 0.6  # of fourteen lines rhyme
_SCHEME = 40  # characters; as long as a brief's may be
_PROSE = 90  # characters; where half of the lines are longer, they are paragraphs


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
            found = returns(asked, lines)
            if found and found.holds:
                return name
    return None


def _of_few_lines(
    lines: Sequence[str], words: Sequence[str], sizes: Sequence[int]
) -> FormName | None:
    if len(lines) == 14:
        shares = {name: _missing(name, words) for name in _SONNETS}
        best = min(shares, key=shares.__getitem__)
        letters = heard(words)
        rhymed = sum(letters.count(letter) > 1 for letter in letters) / len(letters)
        if rhymed >= _IN_SONNETS and shares[best] <= 1 - paired_share(words):
            return best
    if sizes == [5] and _missing("limerick", words) <= 1 - RHYMED:
        first, second, *short, last = map(syllables, lines)
        return "limerick" if min(first, second, last) > max(short) else None
    if set(sizes) == {3} and can_be_heard(lines):
        counts = [syllables(line) for line in lines]
        most = (CONTRACTS["haiku"].syllables or 0) + 1
        if all(sum(counts[n : n + 3]) <= most for n in range(0, len(counts), 3)):
            return "haiku"
    return None


_SONNETS: tuple[FormName, ...] = ("shakespearean-sonnet", "petrarchan-sonnet")


def _missing(name: FormName, words: Sequence[str]) -> float:
    """Share of the rhymes of a form that are not there, by its best scheme."""
    asked = CONTRACTS[name]
    return min(
        missing_from(scheme, words, asked.carried, asked.returning) for scheme in asked.schemes
    )


def _of_groups(text: str, words: Sequence[str], sizes: Sequence[int]) -> FormName | None:
    threes = len(sizes) == 1 or (set(sizes[:-1]) == {3} and sizes[-1] <= 4)
    allowed = 1 - CHAINED if len(sizes) > 1 else (1 - CHAINED) / 2
    if threes and len(words) > 6 and _missing("terza-rima", words) <= allowed:
        return "terza-rima"
    if any(size % 4 for size in sizes):
        return None
    best = min(_QUATRAINS, key=lambda scheme: missing_from(scheme, words))
    if missing_from(best, words) > 1 - RHYMED:
        best = "ABCB"
    if missing_from(best, words) > 1 - RHYMED:
        return None
    found = meter(text)
    if found and found.foot == "iambic" and found.pattern == (4, 3) and best in ("ABAB", "ABCB"):
        return "common-metre" if best == "ABAB" else "ballad-stanza"
    return "couplets" if best == "AABB" else "quatrains"


_QUATRAINS = ("ABAB", "AABB", "ABBA")


def _of_pairs(words: Sequence[str], sizes: Sequence[int]) -> Literal["couplets"] | None:
    odd = len(sizes) > 1 and len(set(sizes)) == 1 and sizes[0] % 2
    return "couplets" if not odd and paired_share(words) >= RHYMED else None


def _unrhymed(text: str, words: Sequence[str]) -> FormName | None:
    if len(rhymed_lines(words)) > _STRAY * len(words):
        return None
    found = meter(text)
    return "blank-verse" if found and (found.foot, found.feet) == ("iambic", 5) else "free-verse"


def form_of(text: str) -> Form:
    """A contract that a poem keeps, for a brief that it could answer.

    The name is that of `detect_form`, "free-verse" where there is none; lines, scheme and metre
    are the poem's own. Rhymes that fit no scheme of 40 characters, the most that a brief may
    hold, cannot be promised: the contract then says "none", and `check` finds it broken.

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
    if name in ("free-verse", "prose-poem") and len(rhymed_lines(words)) <= _STRAY * len(words):
        return "none"
    first = scheme("\n".join(stanzas[0])) if stanzas else ""
    own = scheme("\n\n".join("\n".join(stanza) for stanza in stanzas))
    like = {len(stanza) for stanza in stanzas} == {len(first)}
    for candidate in (*asked.schemes, *([first] if like else []), own):
        if candidate == "none":
            return candidate
        letters = re.findall(r"[A-Z]", candidate)
        rhymes = candidate.isupper() and len(set(letters)) < len(letters)
        missing = missing_from(candidate, words, asked.carried, asked.returning)
        if rhymes and len(candidate) <= _SCHEME and missing <= 1 - RHYMED:
            return candidate
    return "none"
