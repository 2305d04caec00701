"""How far poems repeat themselves, one another, and a corpus."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from .answers import words_of
from .figures import Estimate
from .records import Poem

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_WORDS = 8000
FEWEST = 400
"""Words that a set of poems must have for its diversity to say anything."""
_HALVES = 200
_GRAM = 5  # words in a row that chance seldom gives twice
_LONG = 6

Measure = Callable[[Sequence[Sequence[str]]], float]
Briefs = Sequence[Sequence[Sequence[str]]]
"""The words of the poems that answer each brief; a poem of a corpus stands alone."""


def distinct_pairs(poems: Sequence[Sequence[str]]) -> float:
    """Distinct-2 (Li et al., NAACL 2016): different word pairs in all word pairs."""
    pairs = [pair for words in poems for pair in pairwise(words)]
    return len(set(pairs)) / max(1, len(pairs))


def compression(poems: Sequence[Sequence[str]]) -> float:
    """How many times smaller zlib makes the text (Shaib et al. 2024): more repeats, more times."""
    raw = "\n".join(" ".join(words) for words in poems).encode()
    return len(raw) / len(zlib.compress(raw, 9))


def repeats(poems: Sequence[Sequence[str]]) -> float:
    """Share of the six-word runs of poems that stand in another of them too."""
    runs = [set(_runs(words, _LONG)) for words in poems]
    owners: dict[tuple[str, ...], int] = {}
    for own in runs:
        for run in own:
            owners[run] = owners.get(run, 0) + 1
    return sum(n for n in owners.values() if n > 1) / max(1, sum(owners.values()))


MEASURES: dict[str, Measure] = {
    "distinct-2": distinct_pairs,
    "compression ratio": compression,
    "cross-poem repeats": repeats,
}


def size_of(poems: Briefs) -> float:
    """Words of a set of which one poem is taken for each brief."""
    return sum(fmean(map(len, same)) for same in poems)


def length_for(sets: Sequence[Briefs]) -> int:
    """Words to which sets of poems are cut to be compared.

    Half of the smallest set of `FEWEST` words or more, at most 8,000; 0 where none is as large.
    """
    sizes = [size for poems in sets if (size := size_of(poems)) >= FEWEST]
    return min([MOST_WORDS, *(int(size / 2) for size in sizes)]) if sizes else 0


def at_length(poems: Briefs, measure: Measure, words: int, *, seed: int) -> Estimate:
    """A measure of poems drawn up to so many words, with its interval.

    Such measures fall or rise with length (Deshpande et al. 2025), so sets are compared at one.
    Resampling with replacement would count each poem that is drawn twice as a repeat, so random
    half-samples without replacement are drawn (McCarthy 1969), of each brief one poem, since those
    that answer one are alike and a set with more of them is no duller; where `words` is half of it,
    their spread is that of the whole set. There is no interval where they are all alike.
    """
    rng = random.Random(seed)
    found = []
    for _ in range(_HALVES):
        drawn, left = [], words
        for same in rng.sample(poems, len(poems)):
            drawn.append(rng.choice(same)[:left])
            left -= len(drawn[-1])
            if left <= 0:
                break
        found.append(measure(drawn))
    found.sort()
    cut = round(0.025 * _HALVES)
    low, high = found[cut], found[-1 - cut]
    return (fmean(found), low, high) if low < high else (fmean(found), None, None)


def _runs(words: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[n : n + size]) for n in range(len(words) - size + 1))


class Recall(NamedTuple):
    """What a text has in common with a corpus.

    Attributes:
        grams: Five-word runs of the text, `known` those of them that the corpus has.
        longest: Words of the longest run that stands in one poem of the corpus.
        where: That poem, and `words` the run; None where no five words are shared.
    """

    grams: int
    known: int
    longest: int
    where: Poem | None
    words: str


class Memory:
    """An index of a corpus, to find what of a text stands in it word for word.

    Words are compared without case and punctuation, across line ends. The index is one array of
    word numbers and the sorted hashes of all five-word runs: about 16 bytes a word.

    Args:
        poems: The corpus.
    """

    def __init__(self, poems: Sequence[Poem]) -> None:
        import numpy as np

        self.poems = poems
        self._number: dict[str, int] = {}
        flat: list[int] = []
        starts = []
        for poem in poems:
            starts.append(len(flat))
            # `setdefault` gives a new word the next number; 0 parts the poems.
            flat += [self._number.setdefault(w, len(self._number) + 1) for w in words_of(poem.text)]
            flat.append(0)
        self._words = np.asarray(flat, dtype=np.int64)
        self._starts = np.asarray(starts, dtype=np.int64)
        hashes = _hashes(self._words)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def recall(self, text: str) -> Recall:
        """What of a text stands in the corpus."""
        import numpy as np

        said = words_of(text)
        numbers = np.asarray([self._number.get(w, -1) for w in said], dtype=np.int64)
        hashes = _hashes(numbers)
        first = np.searchsorted(self._hashes, hashes, side="left")
        last = np.searchsorted(self._hashes, hashes, side="right")
        known, best = 0, (0, 0, 0)
        for n, (a, b) in enumerate(zip(first, last, strict=True)):
            runs = [(self._run(numbers, n, int(p)), n, int(p)) for p in self._order[a:b][:200]]
            longest = max(runs, default=(0, 0, 0))
            known += longest[0] >= _GRAM
            best = max(best, longest, key=lambda run: run[0])
        length, n, place = best
        if length < _GRAM:
            return Recall(len(hashes), 0, 0, None, "")
        poem = self.poems[int(np.searchsorted(self._starts, place, side="right")) - 1]
        return Recall(len(hashes), known, length, poem, " ".join(said[n : n + length]))

    def _run(self, numbers: NDArray[Any], here: int, there: int) -> int:
        """Words that the text from `here` on and the corpus from `there` on share."""
        length = 0
        while (
            here + length < len(numbers)
            and there + length < len(self._words)
            and numbers[here + length] == self._words[there + length] != 0
        ):
            length += 1
        return length


def _hashes(numbers: NDArray[Any]) -> NDArray[Any]:
    """A hash of each five numbers in a row; runs over the end of a poem match no text."""
    import numpy as np

    count = max(0, len(numbers) - _GRAM + 1)
    found = np.zeros(count, dtype=np.uint64)
    for n in range(_GRAM):
        part = numbers[n : n + count].astype(np.uint64)
        found = (found ^ (part + np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xD6E8FEB86659FD93)
        found ^= found >> np.uint64(32)
    return found
