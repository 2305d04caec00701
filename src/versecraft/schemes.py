"""Rhyme schemes: heard in a poem, and held against the scheme that a form asks for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from .forms import laid_out, partners
from .sounds import end_word, graded, stanzas_of

_WINDOW = 4  # lines back in which a rhyme is heard
_NEAR = 3  # lines back in which a half rhyme is
_ECHOED = 1 / 3  # of the lines may end in the word that they answer; sonnets have up to 4 of 14
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def scheme(stanza: str) -> str:
    """The rhyme scheme of a stanza, such as "ABAB"; of several, in groups: "ABAB CDCD".

    Each line takes the letter of the nearest line, up to four lines back, whose last word it
    rhymes with by sound, else of one that it rhymes with to the eye; else a new letter. Half
    rhymes count only between lines that rhyme with no other, in a poem of which half the lines
    rhyme. Beyond Z come small letters, and beyond z the letters begin anew.

    Raises:
        MissingExtra: The extra `prosody` is not installed.
    """
    stanzas = stanzas_of(stanza)
    letters = iter(heard([end_word(line) for part in stanzas for line in part]))
    return " ".join("".join(next(letters) for _ in part) for part in stanzas)


def heard(words: Sequence[str]) -> list[str]:
    """A letter for each last word, the same where they rhyme."""
    found: list[int] = []
    new = 0
    for n, word in enumerate(words):
        grades = [(m, graded(word, words[m])) for m in range(n - 1, max(-1, n - 1 - _WINDOW), -1)]
        match = next((m for m, grade in grades if grade == "perfect"), None)
        if match is None:
            match = next((m for m, grade in grades if grade == "eye"), None)
        found.append(new if match is None else found[match])
        new += match is None
    _pair_the_lonely(words, found)
    order = {number: n for n, number in enumerate(dict.fromkeys(found))}
    found = [order[number] for number in found]
    return [_LETTERS[number % len(_LETTERS)] for number in found]


def _pair_the_lonely(words: Sequence[str], found: list[int]) -> None:
    """Joins half rhymes of lines that rhyme with none, where at least half of the lines rhyme."""
    times = Counter(found)
    lonely = {n for n, number in enumerate(found) if times[number] == 1}
    if 2 * len(lonely) > len(found):
        return
    for n in sorted(lonely):
        for m in range(n - 1, max(-1, n - 1 - _NEAR), -1):
            if {n, m} <= lonely and graded(words[n], words[m]) == "slant":
                found[n] = found[m]
                lonely -= {n, m}
                break


def grouped(letters: Sequence[str], schemes: Sequence[str]) -> str:
    """Letters in groups as a scheme has them."""
    sizes = [len(re.findall(r"[A-Za-z]", part)) for part in schemes[0].split()] or [4]
    out: list[str] = []
    at = 0
    while at < len(letters):
        size = sizes[len(out) % len(sizes)] or 4
        out.append("".join(letters[at : at + size]))
        at += size
    return " ".join(out)


def unmet(
    words: Sequence[str], scheme: str, carried: bool = False, returning: bool = False
) -> tuple[int, int, tuple[int, ...]]:
    """Lines that a scheme wants to rhyme, how many of them do not, and which.

    Where more than a third of them meet nothing but the same word again, that is no rhyme; but in
    forms in which lines return, and in schemes with refrains (A1), it is.
    """
    if scheme == "AA":
        alone = unpaired(words)
        return len(words), len(alone), alone
    want = partners(laid_out(scheme, len(words), carried))

    def missed(echoes: bool) -> tuple[int, ...]:
        return tuple(
            n + 1
            for n, others in want.items()
            if not any(_answers(words[n], words[other], echoes) for other in others)
        )

    returning = returning or any(letter.isdigit() for letter in scheme)
    found = missed(True) if returning else _lenient(missed(False), missed(True), len(want))
    return len(want), len(found), found


def _answers(word: str, other: str, echoes: bool) -> bool:
    """Whether a word rhymes with another; with itself only where echoes count."""
    return (echoes or word != other) and graded(word, other) != "none"


def _lenient(missed: tuple[int, ...], without: tuple[int, ...], lines: int) -> tuple[int, ...]:
    """The lines that miss their rhyme; without those that echo a word, where they are few."""
    return without if len(missed) - len(without) <= _ECHOED * lines else missed


def rhymed_lines(words: Sequence[str]) -> list[int]:
    """Lines that rhyme by sound or to the eye with another word up to four lines away."""
    found = set()
    for n, word in enumerate(words):
        for m in range(max(0, n - 4), n):
            if word != words[m] and graded(word, words[m]) in ("perfect", "eye"):
                found |= {n + 1, m + 1}
    return sorted(found)


def paired_share(words: Sequence[str]) -> float:
    """Share of lines that stand in couplets."""
    return 1 - len(unpaired(words)) / max(len(words), 1)


def unpaired(words: Sequence[str]) -> tuple[int, ...]:
    """Lines (from 1) outside couplets, taken one after another; a third rhyme may follow."""
    return _lenient(_alone(words, False), _alone(words, True), len(words))


def _alone(words: Sequence[str], echoes: bool) -> tuple[int, ...]:
    alone, n = [], 0
    while n < len(words):
        if n + 1 < len(words) and _answers(words[n], words[n + 1], echoes):
            n += 2
        else:
            third = n > 1 and n not in alone and _answers(words[n - 1], words[n], echoes)
            alone += [] if third else [n + 1]
            n += 1
    return tuple(alone)


def missing_from(
    scheme: str, words: Sequence[str], carried: bool = False, returning: bool = False
) -> float:
    """Share of the rhymes of a scheme that are not there."""
    wanted, missed, _ = unmet(words, scheme, carried, returning)
    return missed / wanted if wanted else 1.0
