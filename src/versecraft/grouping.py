"""Which training rows belong on one side of a split, and which side is held out."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from .answers import plain
from .duplicates import near_duplicates
from .records import Example, digest
from .training_data import answer_of, turn_of

Cell = tuple[str, str]
"""A task, and the quality of the poem in it (`none` where there is no poem)."""

_POEM = re.compile(r"^<(poem|poem_a|poem_b|draft)>\n(.*?)\n</\1>$", re.MULTILINE | re.DOTALL)
_ALIKE = 0.5  # poems of which half is common stay on one side


def cell_of(example: Example) -> Cell:
    """The cell of a row: what is stratified."""
    return example.task, example.quality or "none"


def poem_texts(examples: Iterable[Example]) -> dict[str, str]:
    """The poems that stand in the rows, by id: in the user's turn, or as a poet's answer."""
    texts: dict[str, str] = {}
    for row in examples:
        if not all(poem in texts for poem in row.poem_ids):
            found = [match[2] for match in _POEM.finditer(turn_of(row))]
            if len(found) == len(row.poem_ids):
                texts.update(zip(row.poem_ids, map(_unnumbered, found), strict=True))
        if row.role == "poet":
            texts.setdefault(_verse_id(row), answer_of(row))
    return texts


def grouped(examples: Sequence[Example], texts: Mapping[str, str], seed: int) -> list[list[int]]:
    """Places of rows that share a poem, a near copy of one, a request or a brief, by group.

    Args:
        examples: Rows of one role.
        texts: The poems in them, by id.
        seed: Decides the order of the groups.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes: dict[str, int] = {}
    poems = list(texts)
    alike = near_duplicates([texts[poem] for poem in poems], jaccard=_ALIKE)
    near = [(poems[pair.first], poems[pair.second]) for pair in alike]
    ties = [_ties(row) for row in examples]
    for name in chain(chain.from_iterable(ties), chain.from_iterable(near)):
        nodes.setdefault(name, len(nodes))
    ends = [(nodes[row[0]], nodes[name]) for row in ties for name in row[1:]]
    ends += [(nodes[one], nodes[other]) for one, other in near]
    one, other = np.array(ends, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(ends), np.int8), (one, other)), shape=(len(nodes),) * 2)
    label = connected_components(graph, directed=False)[1].tolist()
    groups: dict[int, list[int]] = defaultdict(list)
    for place, names in enumerate(ties):
        groups[label[nodes[names[0]]]].append(place)
    name_of: dict[int, str] = {}
    for name, node in nodes.items():
        name_of[label[node]] = min(name, name_of.get(label[node], name))
    return [groups[g] for g in sorted(groups, key=lambda g: digest(str(seed), name_of[g]))]


def held_out(
    examples: Sequence[Example], groups: Sequence[Sequence[int]], share: float
) -> set[int]:
    """Places of the rows to hold out, in whole groups: each cell as near its share as they allow.

    A group is taken while that brings the counts of its cells nearer to their targets (iterative
    stratification after Sechidis et al. 2011, the rarest cell first), never the last of a cell.
    """
    if share == 0:
        return set()
    cells = [Counter(cell_of(examples[n]) for n in group) for group in groups]
    total: Counter[Cell] = Counter()
    where: dict[Cell, list[int]] = defaultdict(list)
    for n, counts in enumerate(cells):
        total.update(counts)
        for cell in counts:
            where[cell].append(n)
    have: Counter[Cell] = Counter()
    taken: set[int] = set()

    def gain(n: int) -> float:
        return sum(
            abs(have[c] - share * total[c]) - abs(have[c] + k - share * total[c])
            for c, k in cells[n].items()
        )

    def take(n: int) -> bool:
        if n in taken or any(have[c] + k >= total[c] for c, k in cells[n].items()):
            return False
        taken.add(n)
        have.update(cells[n])
        return True

    rarest = sorted(where, key=lambda cell: (len(where[cell]), cell))
    for cell in rarest:
        for n in where[cell]:
            if have[cell] < share * total[cell] and gain(n) > 0:
                take(n)
    for cell in rarest:  # a cell too small for its share has one group held out all the same
        if not have[cell]:
            any(take(n) for n in sorted(where[cell], key=lambda n: len(groups[n])))
    missing = share * total.total() - have.total()
    for n in sorted(set(range(len(groups))) - taken, key=gain, reverse=True):
        size = len(groups[n])
        if abs(missing - size) < missing and take(n):
            missing -= size
    return {place for n in taken for place in groups[n]}


def _ties(row: Example) -> tuple[str, ...]:
    """Names of what a row may share with another: its poems, else its item and turn."""
    if row.role == "poet":
        return (f"item {row.item_id}", _verse_id(row), *row.poem_ids)
    return row.poem_ids or (f"item {row.item_id}", f"turn {plain(turn_of(row))}")


def _verse_id(row: Example) -> str:
    """The id that a poet's answer has as a poem, so that a later draft is known for it."""
    return digest(plain(answer_of(row)))


def _unnumbered(verse: str) -> str:
    """Verse without the numbers that a turn puts before its lines; other text as it is."""
    lines: list[str] = []
    number = 0
    for line in verse.split("\n"):
        if line:
            number += 1
            start = f"{number:>3}  "
            if not line.startswith(start):
                return verse
            line = line.removeprefix(start)
        lines.append(line)
    return "\n".join(lines)
