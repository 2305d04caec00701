"""The line-in-context classifier: how sure trained weights are that a line is foreign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from .lines import Line, describe, facts, sketch, stem, triggers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[Any]


class Read(NamedTuple):
    """What the words of some lines say, before any weight but those of the vectors.

    Attributes:
        words: The sums of the `facts` of the words of each line.
        vectors: What the words of each line mean, a unit vector a line.
        grams: For each scorer by words, the digests of the runs and the line of each.
        masks: The turns of phrase that the words of each line allow.
    """

    words: Matrix
    vectors: Matrix
    grams: tuple[tuple[Matrix, Matrix], ...]
    masks: list[int]


@dataclass(frozen=True)
class Weights:
    """What `bench/kinds/train.py` learns, as plain arrays.

    Attributes:
        grams: For each scorer by words (words with their stems; sketches): the digests of its
            runs of one to four in order, and their weights, positive for talk about texts.
        biases: Score of a line without a known run, for each scorer.
        pieces: Rows of `vectors` by word piece; a piece inside a word begins with `##`.
        vectors: What a word piece means.
        semantic: Weights of a line's vector, and of its distance from the others; then the bias.
        trees: Boosted trees for a line.
        text_trees: Boosted trees for a text, by what the others say of its lines.
    """

    grams: tuple[tuple[Matrix, Matrix], ...]
    biases: tuple[float, ...]
    pieces: Mapping[str, int]
    vectors: Matrix
    semantic: Matrix
    trees: Trees | None = None
    text_trees: Trees | None = None
    seen: list[Seen] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seen", [Seen(self.vectors.shape[1])])

    def read(self, lines: Sequence[Line]) -> Read:
        """What the words of each line say."""
        import numpy as np

        at: list[int] = []
        begins: list[int] = []
        firsts: list[int] = []
        seen = self.seen[0]
        if len(seen.rows) > _MOST:
            seen = self.seen[0] = Seen(self.vectors.shape[1])
        row = seen.row
        for line in lines:
            begins.append(len(at))
            at.append(0)
            at += [row(token, self) for token in line.tokens[:200]]
            at.append(1)
            firsts.append(row(line.words[0], self) if line.words else 0)
        ids = np.array(at)
        sums = np.add.reduceat(seen.table[ids], begins, axis=0)
        width = self.vectors.shape[1]
        words, vectors = sums[:, :-width], sums[:, -width:]
        of = np.repeat(np.arange(len(lines)), np.diff(begins, append=len(at)))
        digests = seen.digests[ids]
        bits = seen.bits
        masks = np.bitwise_or.reduceat(bits[ids, 0], begins) | bits[firsts, 1]
        return Read(
            words,
            vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-6),
            (_runs(digests[:, 0], of, 3, digests[:, 1]), _runs(digests[:, 2], of, 4)),
            masks.tolist(),
        )

    def spoken(self, read: Read) -> Matrix:
        """How each line sounds by its words alone, for each scorer."""
        import numpy as np

        n = len(read.masks)
        scores = []
        for (keys, weights), bias, (runs, of) in zip(
            self.grams, self.biases, read.grams, strict=True
        ):
            at = np.minimum(np.searchsorted(keys, runs), max(len(keys) - 1, 0))
            found = np.where(keys[at] == runs, weights[at], 0.0) if len(keys) else 0.0 * runs
            total = np.bincount(of, found, n) / np.sqrt(np.bincount(of, minlength=n))
            scores.append(bias + total)
        return np.array(scores, np.float32).T

    def heard(self, vectors: Matrix) -> Matrix:
        """How each line sounds by what its words mean, alone and beside the others."""
        scores: Matrix = self.beside(vectors) @ self.semantic[:-1] + self.semantic[-1]
        return scores

    def beside(self, vectors: Matrix) -> Matrix:
        """The vectors with how each differs from the mean of the others."""
        import numpy as np

        n = len(vectors)
        rest = (vectors.sum(0) - vectors) / max(n - 1, 1)
        return np.hstack([vectors, vectors - rest])

    def features(self, lines: list[Line]) -> Matrix:
        """The rows that the trees decide on."""
        import numpy as np

        read = self.read(lines)
        scores = np.column_stack([self.spoken(read), self.heard(read.vectors)])
        return describe(lines, read.words, read.vectors, scores, read.masks)

    def odds(self, lines: list[Line]) -> tuple[Matrix, float]:
        """For each line the log-odds that it is not poem, and those that any line is not."""
        rows = self.features(lines)
        odds = grown(rows, self.trees)
        return odds, float(grown(summed(rows, odds), self.text_trees)[0])


def summed(rows: Matrix, odds: Matrix) -> Matrix:
    """The one row that the trees for a text decide on, from the rows and odds of its lines."""
    import numpy as np

    order = np.argsort(-odds)
    top = order[0]
    n = len(odds)
    chances = 1 / (1 + np.exp(-odds))
    high = odds[order[:3]]
    best = [*high, *[high[-1]] * (3 - len(high))]
    near = [odds[top - 1] if top else -9.0, odds[top + 1] if top + 1 < n else -9.0]
    ends = [odds[0], odds[-1], odds[min(1, n - 1)], odds[max(n - 2, 0)]]
    overall = [
        odds.mean(), np.median(odds), odds.std(), n, (odds > 0).mean(), (odds > -2).sum(),
        (odds > -2).mean(), np.log1p(-np.minimum(chances, 0.9999)).sum(),
    ]  # fmt: skip
    return np.concatenate([best, near, ends, overall, rows[top], rows.mean(0)]).astype(np.float32)[
        None
    ]


_MOST = 200_000  # tokens, then all are forgotten
_PRIMES = (
    0x9E3779B97F4A7C15,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0xD6E8FEB86659FD93,
)


def _runs(digests: Matrix, of: Matrix, longest: int, alone: Matrix | None = None) -> Any:
    """The digests of all runs of tokens, and the line of each; `alone` adds single ones."""
    import numpy as np

    primes = np.array(_PRIMES, np.uint64)
    keys = [digests * primes[0]]
    lines = [of]
    if alone is not None:
        known = alone != 0
        keys.append(alone[known] * primes[3])
        lines.append(of[known])
    for length in range(2, longest + 1):
        within = of[length - 1 :] == of[: len(of) - length + 1]
        total = digests[: len(of) - length + 1] * primes[0]
        for k in range(1, length):
            total = total * primes[2] + digests[k : len(of) - length + 1 + k] * primes[k]
        keys.append(total[within])
        lines.append(of[: len(of) - length + 1][within])
    return (np.concatenate(keys) >> np.uint64(32)).astype(np.uint32), np.concatenate(lines)


class Seen:
    """What is known of each token, worked out once: its facts and vector, digests and turns."""

    def __init__(self, width: int) -> None:
        import numpy as np

        # A line begins with the token of row 0 and ends with that of row 1.
        self.rows: dict[str, int] = {"\n": 0, "\r": 1}
        self.table: Matrix = np.zeros((4096, len(facts("")) + width), np.float32)
        self.digests: Matrix = np.zeros((4096, 3), np.uint64)
        self.digests[:2] = [[1, 0, 1], [2, 0, 2]]
        self.bits: Matrix = np.zeros((4096, 2), np.int64)
        self.lock = Lock()

    def row(self, token: str, weights: Weights) -> int:
        """Where a token stands in the tables."""
        found = self.rows.get(token)
        return self._add(token, weights) if found is None else found

    def _add(self, token: str, weights: Weights) -> int:
        import numpy as np

        with self.lock:
            if token in self.rows:
                return self.rows[token]
            n = len(self.rows)
            if n == len(self.table):
                self.table, self.digests, self.bits = (
                    np.concatenate([x, np.zeros_like(x)])
                    for x in (self.table, self.digests, self.bits)
                )
            if token[0].isalpha():
                pieces = spelt(token.replace("'", ""), weights.pieces)
                vectors = weights.vectors
                vector = vectors[pieces].sum(0) if pieces else np.zeros(vectors.shape[1])
                self.table[n] = np.append(facts(token), vector)
                self.bits[n] = triggers(token)
            plain = "0" if token.isdigit() else token
            stems = _digest(stem(token)) if token[0].isalpha() else 0
            self.digests[n] = (_digest(plain), stems, _digest(sketch(plain)))
            self.rows[token] = n
            return n


def _digest(token: str) -> int:
    return crc32(token.encode("utf-8", "replace")) + 3


def spelt(word: str, pieces: Mapping[str, int]) -> list[int]:
    """The word pieces of a word, longest first; nothing for one that cannot be spelt."""
    word = word[:40]
    rows, begin = [], 0
    while begin < len(word):
        for end in range(len(word), begin, -1):
            row = pieces.get(("##" if begin else "") + word[begin:end])
            if row is not None:
                rows.append(row)
                begin = end
                break
        else:
            return rows
    return rows


_FIRST = 32  # trees after which most lines are known to be verse
_VERSE = -4.0  # log-odds below which no further tree is asked


class Trees(NamedTuple):
    """Boosted trees, all nodes in a row: from a node to its two children by one feature.

    A leaf leads to itself.
    """

    root: Matrix
    feature: Matrix
    threshold: Matrix
    children: Matrix
    inner: Matrix
    value: Matrix
    depth: int
    base: float


def grown(rows: Matrix, trees: Trees | None) -> Matrix:
    """The log-odds that boosted trees give each row.

    A row of which the first trees are sure that it is verse is not shown to the others.
    """
    import numpy as np

    if trees is None:
        return np.zeros(len(rows))
    odds = trees.base + _sum(rows, trees, trees.root[:_FIRST])
    open_ = np.flatnonzero(odds > _VERSE)
    if len(open_) and len(trees.root) > _FIRST:
        odds[open_] += _sum(rows[open_], trees, trees.root[_FIRST:])
    return odds


def _sum(rows: Matrix, trees: Trees, roots: Matrix) -> Matrix:
    import numpy as np

    node = np.tile(roots, len(rows))
    base = np.repeat(np.arange(len(rows)) * rows.shape[1], len(roots))
    flat = rows.ravel()
    moving: Any = slice(None)  # what has not yet come to a leaf
    here, at = node, base
    for level in range(trees.depth):
        right = flat.take(at + trees.feature.take(here)) > trees.threshold.take(here)
        here = trees.children.take(2 * here + right)
        node[moving] = here
        if level > 2:
            inner = np.flatnonzero(trees.inner.take(here))
            if not len(inner):
                break
            moving = inner if level == 3 else moving[inner]
            here, at = here[inner], at[inner]
    total: Matrix = trees.value.take(node).reshape(len(rows), -1).sum(1)
    return total


@cache
def weights() -> Weights:
    """The weights that ship."""
    return unpacked(shipped("kinds.npz"))


def shipped(name: str) -> dict[str, Matrix]:
    """The arrays of a file that comes with the package."""
    import numpy as np

    path = resources.files("versecraft").joinpath("data", name)
    with resources.as_file(path) as file, np.load(file, allow_pickle=False) as stored:
        return {array: stored[array] for array in stored.files}


def unpacked(stored: Mapping[str, Matrix]) -> Weights:
    """Weights from the arrays of `kinds.npz`."""
    import numpy as np

    pieces = bytes(stored["pieces"]).decode().split("\n")
    scale = stored["scale"].astype(np.float32)
    return Weights(
        grams=tuple(
            (stored[f"{name}_keys"], stored[f"{name}_weights"].astype(np.float64))
            for name in ("word", "sketch")
        ),
        biases=tuple(stored["biases"].tolist()),
        pieces={piece: n for n, piece in enumerate(pieces)},
        vectors=stored["vectors"].astype(np.float32) * scale,
        semantic=stored["semantic"].astype(np.float32),
        trees=_planted(stored, "line"),
        text_trees=_planted(stored, "text"),
    )


def _planted(stored: Mapping[str, Matrix], name: str) -> Trees:
    """Trees from rectangles, a row a tree."""
    import numpy as np

    count, width = stored[f"{name}_feature"].shape
    root = np.arange(count) * width
    children = [
        (stored[f"{name}_{side}"].astype(np.intp) + root[:, None]).ravel()
        for side in ("left", "right")
    ]
    return Trees(
        root,
        stored[f"{name}_feature"].astype(np.intp).ravel(),
        stored[f"{name}_threshold"].ravel(),
        np.column_stack(children).ravel(),
        children[0] != np.arange(count * width),
        stored[f"{name}_value"].astype(np.float32).ravel(),
        int(stored[f"{name}_depth"]),
        float(stored[f"{name}_base"]),
    )
