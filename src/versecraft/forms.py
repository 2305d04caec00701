"""What each form promises, as data: lines, stanzas, rhyme, refrains, metre."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

FormName = Literal[
    "shakespearean-sonnet", "petrarchan-sonnet", "villanelle", "sestina", "haiku", "limerick",
    "ballad-stanza", "common-metre", "terza-rima", "rondeau", "triolet", "pantoum", "blank-verse",
    "couplets", "quatrains", "prose-poem", "free-verse",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a form promises; what it leaves open is absent.

    Attributes:
        guide: The contract in words, for a teacher's guide.
        beyond: What it promises beyond lines, rhyme and metre, in words.
        lines: Fewest and most lines.
        by: Lines come in groups of so many.
        closing: Lines that may be left over after the last group.
        stanzas: Lines of each stanza.
        schemes: Rhyme schemes, any of which will do; one of a single stanza comes again and again.
        carried: The second rhyme of a group is the first of the next (terza rima, pantoum).
        refrains: Lines (from 1) that are the same line.
        repeats: Lines of a group (from 1) that return in the next one, and where.
        opening: Lines that repeat the first words of the poem.
        end_words: Order in which the last words of a stanza return in the next one.
        rhymed: A brief for it must give a rhyme scheme.
        meter: The foot.
        feet: Feet in a line, in the longer where they alternate; any of these.
        syllables: Most syllables in a group of lines.
    """

    guide: str
    beyond: str | None = None
    lines: tuple[int, int] | None = None
    by: int | None = None
    closing: tuple[int, ...] = ()
    stanzas: tuple[int, ...] = ()
    schemes: tuple[str, ...] = ()
    carried: bool = False
    refrains: tuple[tuple[int, ...], ...] = ()
    repeats: tuple[tuple[int, int], ...] = ()
    opening: tuple[int, ...] = ()
    end_words: tuple[int, ...] = ()
    rhymed: bool = False
    meter: str = "none"
    feet: tuple[int, ...] = ()
    syllables: int | None = None

    @property
    def returning(self) -> bool:
        """Whether lines or last words return."""
        return bool(self.refrains or self.repeats or self.opening or self.end_words)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _read() -> dict[FormName, Contract]:
    file = resources.files("versecraft") / "data" / "forms.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: Contract(**{key: _frozen(value) for key, value in terms.items()})
        for name, terms in data.items()
    }


CONTRACTS: Mapping[FormName, Contract] = _read()
"""The contract of each form."""

FIXED_FORMS: Mapping[FormName, tuple[range, bool]] = {
    name: (range(c.lines[0], c.lines[1] + 1, c.by or 1), c.rhymed)
    for name, c in CONTRACTS.items()
    if c.lines
}
"""Forms whose name settles how many lines there may be (a haiku or a sequence), and a rhyme."""


def laid_out(scheme: str, lines: int, carried: bool = False) -> list[str]:
    """The letters of a scheme over so many lines; of a shorter scheme again, with new rhymes.

    Args:
        scheme: Such as "ABAB CDCD"; a figure after a letter marks a refrain (A1).
        lines: Lines of the poem.
        carried: The second rhyme of a group is the first of the next.

    Returns:
        A name for each line; lines that are to rhyme have the same one.
    """
    letters = [found[0] for found in re.findall(r"[A-Z]\d?", scheme.upper())]
    if not letters:
        return [f"{n}" for n in range(lines)]
    if len(letters) >= lines:
        return letters[:lines]
    out: list[str] = []
    group = 0
    while len(out) < lines:
        left = lines - len(out)
        now = letters[:1] * 2 if carried and left == 2 < len(letters) else letters[:left]
        # Of a carried group the second rhyme, B of group 3, is named as the first of the next: A4.
        out += [
            f"{letters[0]}{group + 1}" if carried and letter != letters[0] else f"{letter}{group}"
            for letter in now
        ]
        group += 1
    return out


def partners(letters: Sequence[str]) -> dict[int, list[int]]:
    """For each line that is to rhyme, the lines that it is to rhyme with, counted from 0."""
    places: dict[str, list[int]] = {}
    for n, letter in enumerate(letters):
        places.setdefault(letter, []).append(n)
    return {
        n: [m for m in places[x] if m != n] for n, x in enumerate(letters) if len(places[x]) > 1
    }
