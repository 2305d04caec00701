"""The metre of a poem: which foot, how many in a line, and how many of its lines agree.

An estimate, not a scansion: each line is laid against the four feet with the licences that verse
takes (a turned first foot, a syllable more or less at either end), and the foot that costs least
over the whole poem is its metre.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from .sounds import stanzas_of, stresses

Foot = Literal["iambic", "trochaic", "anapestic", "dactylic"]


class Meter(NamedTuple):
    """The metre of a poem.

    Attributes:
        foot: The foot.
        feet: Feet in a line; in the longer where they alternate.
        agreement: Share of lines that have the feet which their place in the pattern asks for.
        pattern: Feet of the lines in turn: (5,), or (4, 3) where they alternate.
    """

    foot: Foot
    feet: int
    agreement: float
    pattern: tuple[int, ...]


class _Feet(NamedTuple):
    """What may stand first, between and last in a line, with what it costs; w is weak, s strong."""

    first: dict[str, float]
    inside: dict[str, float]
    last: dict[str, float]


_FEET: dict[Foot, _Feet] = {
    "iambic": _Feet(
        {"ws": 0, "sw": 0.3, "wws": 0.6, "s": 0.6},
        {"ws": 0, "wws": 0.6, "sw": 0.9},
        {"ws": 0, "wsw": 0.1, "wws": 0.6, "wwsw": 0.7},
    ),
    "trochaic": _Feet(
        {"sw": 0, "wsw": 0.6},
        {"sw": 0, "sww": 0.6},
        {"sw": 0, "s": 0, "sww": 0.6},
    ),
    "anapestic": _Feet(
        {"wws": 0, "ws": 0.1, "s": 0.6},
        {"wws": 0, "ws": 0.5},
        {"wws": 0, "ws": 0.5, "wwsw": 0.1, "wsw": 0.6},
    ),
    "dactylic": _Feet(
        {"sww": 0, "wsww": 0.6},
        {"sww": 0, "sw": 0.5},
        {"sww": 0, "sw": 0.1, "s": 0.1},
    ),
}

# What it costs to hear a syllable (see `stresses`) as strong, and as weak.
_AS_STRONG = {"S": 0.0, "h": 0.1, "m": 0.0, "l": 0.3, "u": 0.6}
_AS_WEAK = {"S": 1.0, "h": 0.2, "m": 0.3, "l": 0.0, "u": 0.0}

_LONGEST = 18  # syllables; what is longer is prose, or verse that no foot explains
_LINES = 40  # of a poem are enough to tell
_PLAIN = 0.06  # cost for each syllable; what iambs explain so well nothing else explains better
_FEWEST = 4  # lines
_DEAREST = 0.115  # cost for each syllable; of metrical poems 19 in 20 cost less
_AGREED = 0.6  # share of lines


def meter(text: str) -> Meter | None:
    """The metre of a poem, or None where the evidence is not enough.

    Raises:
        MissingExtra: The extra `prosody` is not installed.
    """
    stanzas = list(_weighed(text))
    lines = [line for stanza in stanzas for line in stanza]
    if len(lines) < _FEWEST or max(map(len, lines)) > _LONGEST:
        return None
    costs: dict[Foot, float] = {"iambic": _cost(lines, "iambic")}
    if costs["iambic"] > _PLAIN:
        costs = {foot: _cost(lines, foot) for foot in _FEET}
    foot = min(costs, key=costs.__getitem__)
    pattern, agreement = _pattern([[fit(line, foot)[1] for line in s] for s in stanzas])
    if costs[foot] > _DEAREST or agreement < _AGREED:
        return None
    return Meter(foot, max(pattern), agreement, pattern)


def _weighed(text: str) -> Iterator[list[str]]:
    """The stanzas of a poem as weights of their lines, up to as many lines as are enough."""
    left = _LINES
    for stanza in stanzas_of(text):
        if left > 0:
            yield [w for line in stanza[:left] if (w := stresses(line))]
            left -= len(stanza)


def _cost(lines: Sequence[str], foot: Foot) -> float:
    """What a foot costs in a poem, for each syllable."""
    return sum(fit(line, foot)[0] for line in lines) / sum(map(len, lines))


def _pattern(stanzas: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], float]:
    """Feet of the lines in turn, and the share of lines that have them.

    Lines may alternate, or follow the pattern of a stanza that comes at least four times; the
    longer pattern must explain clearly more.
    """
    sizes = Counter(map(len, stanzas)).most_common(1)
    periods = [1, 2] + [size for size, n in sizes if n >= 4 and size > 2]
    best: tuple[tuple[int, ...], float] = ((0,), 0.0)
    for period in periods:
        places: list[Counter[int]] = [Counter() for _ in range(period)]
        for stanza in stanzas:
            for n, feet in enumerate(stanza):
                places[n % period][feet] += 1
        modes = [place.most_common(1) for place in places if place]
        share = sum(mode[0][1] for mode in modes) / sum(map(len, stanzas))
        if share > best[1] + (0.15 if best[1] else 0.0):
            best = tuple(mode[0][0] for mode in modes), share
    return best


@lru_cache(maxsize=1 << 16)
def fit(weights: str, foot: Foot) -> tuple[float, int]:
    """The least that a line costs in a foot, and how many feet that makes."""
    feet = _FEET[foot]
    size = len(weights)
    best: list[tuple[float, int]] = [(99.0, 0)] * (size + 1)
    for pattern, cost in feet.first.items():
        _lay(best, weights, 0, pattern, (cost, 0))
    for at in range(1, size):
        if best[at][0] < 99:
            table = feet.inside
            for pattern, cost in table.items():
                if at + len(pattern) < size:
                    _lay(best, weights, at, pattern, (best[at][0] + cost, best[at][1]))
            for pattern, cost in feet.last.items():
                if at + len(pattern) == size:
                    _lay(best, weights, at, pattern, (best[at][0] + cost, best[at][1]))
    return best[size]


def _lay(
    best: list[tuple[float, int]], weights: str, at: int, pattern: str, so_far: tuple[float, int]
) -> None:
    end = at + len(pattern)
    if end >= len(best):
        return
    cost = so_far[0]
    for beat, weight in zip(pattern, weights[at:end], strict=True):
        cost += (_AS_STRONG if beat == "s" else _AS_WEAK)[weight]
    if cost < best[end][0]:
        best[end] = (cost, so_far[1] + 1)
