"""Worn phrases: lists of dead phrases and of machine verse, and where a text uses them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import pairwise

from .answers import words_of
from .records import Record, digest

_STAR = 3  # letters that a star stands for, at most
_Entry = tuple[tuple[str, ...], str]  # the words of a phrase, and the phrase as it is listed


class PhraseHit(Record):
    """A phrase of a list that stands in a text.

    Attributes:
        line: The line on which it begins, from 1; blank lines are not counted.
        text: The words as they stand in the text, `/` where a line ends.
        phrase: The entry of the list.
    """

    line: int
    text: str
    phrase: str


@dataclass(frozen=True)
class _List:
    """A list of phrases, by what their first words are; `met` remembers what was looked up."""

    name: str
    exact: dict[str, list[_Entry]] = field(default_factory=dict)
    begun: dict[str, list[_Entry]] = field(default_factory=dict)
    met: dict[str, list[_Entry]] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str) -> _List:
        file = resources.files("versecraft") / "data" / f"{name}.txt"
        text = file.read_text(encoding="utf-8")
        version = text.partition("\n")[0].split()[-1]
        found = cls(f"{name}/{version} ({digest(text)[:8]}…)")
        for line in text.splitlines():
            if line.strip() and not line.startswith("#"):
                parts = _parts(line)
                table = found.begun if parts[0].endswith("*") else found.exact
                table.setdefault(parts[0].rstrip("*"), []).append((parts, line.strip()))
        return found

    def beginning(self, word: str) -> list[_Entry]:
        """The entries whose first word this may be."""
        if word not in self.met:
            found = self.exact.get(word, [])
            for end in range(max(1, len(word) - _STAR), len(word) + 1):
                found = found + self.begun.get(word[:end], [])
            self.met[word] = found
        return self.met[word]


def _parts(phrase: str) -> tuple[str, ...]:
    """The words of an entry, with their stars."""
    return tuple(word.replace("0", "*") for word in words_of(phrase.replace("*", "0")))


def _is(word: str, part: str) -> bool:
    if part[-1] != "*":
        return word == part
    return word.startswith(part[:-1]) and len(word) < len(part) + _STAR


_CLICHES, _SLOP = _List.read("cliches"), _List.read("slop")

CLICHE_LIST: str = _CLICHES.name
"""Name, version and digest of the list of dead phrases."""

SLOP_LIST: str = _SLOP.name
"""Name, version and digest of the list of machine verse."""


def cliches(text: str) -> tuple[PhraseHit, ...]:
    """The dead phrases of a text, in order, also where they run over a line's end.

    The list is `data/cliches.txt`: phrases of amateur and machine verse, written for versecraft.
    Words must stand as they are listed; of two phrases in one place the longer counts.
    """
    return tuple(_hits(text, _CLICHES))


def slop(text: str) -> tuple[PhraseHit, ...]:
    """The words and turns of machine verse in a text, in order, also over a line's end.

    The list is `data/slop.txt`, written for versecraft. A star in it stands for up to three more
    letters; of two entries in one place the longer counts.
    """
    return tuple(_hits(text, _SLOP))


_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def _hits(text: str, known: _List) -> Iterator[PhraseHit]:
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'").lower()
    words: list[str] = []
    lines: list[int] = []
    for n, line in enumerate((line for line in text.split("\n") if line.strip()), start=1):
        found = _WORD.findall(line)
        words += found
        lines += [n] * len(found)
    after = 0
    for at, word in enumerate(words):
        begun = known.beginning(word)
        fits = begun and [entry for entry in begun if _stands(entry[0], words, at)]
        if fits and at >= after:
            parts, phrase = max(fits, key=lambda entry: len(entry[0]))
            after = at + len(parts)
            said = _shown(words[at:after], lines[at:after])
            yield PhraseHit(line=lines[at], text=said, phrase=phrase)


def _stands(parts: Sequence[str], words: Sequence[str], at: int) -> bool:
    """Whether the words of an entry stand from here on; the first is known to."""
    if at + len(parts) > len(words):
        return False
    for n in range(1, len(parts)):  # noqa: SIM110 (a generator for each word takes twice as long)
        if not _is(words[at + n], parts[n]):
            return False
    return True


def _shown(words: Sequence[str], lines: Sequence[int]) -> str:
    """Words in a row, with `/` where a line ends."""
    out = words[0]
    for word, (before, line) in zip(words[1:], pairwise(lines), strict=True):
        out += (" / " if line != before else " ") + word
    return out
