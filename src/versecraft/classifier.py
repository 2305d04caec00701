"""The line-in-context classifier: how sure trained weights are that a line is foreign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from .lines import Line, describe, facts, grams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[Any]


FOREIGN = 0.9
"""How sure the classifier has to be of a line before a text counts as no poem alone."""
KIN = 0.5
"""And of further lines in a text that holds a foreign one."""


@dataclass(frozen=True)
class Weights:
    """What `bench/kinds/train.py` learns, as plain arrays.

    Attributes:
        grams: Weight of a run of one to three words, positive for talk about texts.
        gram_bias: Score of a line without a known run.
        pieces: Rows of `vectors` by word piece; a piece inside a word begins with `##`.
        vectors: What a word piece means.
        semantic: Weights of a line's vector, and of its distance from the others; then the bias.
        trees: Boosted trees: `feature`, `threshold`, `left`, `right`, `value` by tree and node; a
            leaf leads to itself.
        base: Log-odds before the first tree.
    """

    grams: Mapping[str, float]
    gram_bias: float
    pieces: Mapping[str, int]
    vectors: Matrix
    semantic: Matrix
    trees: Mapping[str, Matrix]
    base: float

    def spoken(self, lines: Sequence[Line]) -> Matrix:
        """How each line sounds by its words alone."""
        import numpy as np

        weight = self.grams.get
        scores = []
        for line in lines:
            found = [weight(gram, 0.0) for gram in grams(line)]
            scores.append(self.gram_bias + sum(found) / len(found) ** 0.5)
        return np.array(scores, np.float32)

    def words(self, lines: Sequence[Line]) -> tuple[Matrix, Matrix]:
        """For each line the sums of its words' facts, and a unit vector of what they mean."""
        import numpy as np

        known = _SEEN
        width = self.vectors.shape[1]
        rows, begins = [_NOTHING(width)], []
        for line in lines:
            begins.append(len(rows))
            for word in line.words[:200]:
                row = known.get(word)
                if row is None:
                    row = known[word] = self._word(word)
                rows.append(row)
            rows.append(rows[0])  # so that no line is without a row
        if len(known) > 100_000:
            known.clear()
        sums = np.add.reduceat(np.array(rows, np.float32), begins, axis=0)
        facts, vectors = sums[:, :-width], sums[:, -width:]
        return facts, vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-6)

    def _word(self, word: str) -> Matrix:
        import numpy as np

        pieces = _split(word, self.pieces)
        vector = self.vectors[pieces].sum(0) if pieces else np.zeros(self.vectors.shape[1])
        return np.append(facts(word), vector).astype(np.float32)

    def heard(self, vectors: Matrix) -> Matrix:
        """How each line sounds by what its words mean, alone and beside the others."""
        return self.beside(vectors) @ self.semantic[:-1] + self.semantic[-1]

    def beside(self, vectors: Matrix) -> Matrix:
        """The vectors with how each differs from the mean of the others."""
        import numpy as np

        n = len(vectors)
        rest = (vectors.sum(0) - vectors) / max(n - 1, 1)
        return np.hstack([vectors, vectors - rest])

    def features(self, lines: list[Line]) -> Matrix:
        """The rows that the trees decide on."""
        import numpy as np

        words, vectors = self.words(lines)
        scores = np.column_stack([self.spoken(lines), self.heard(vectors)])
        return describe(lines, words, vectors, scores)

    def chances(self, lines: list[Line]) -> Matrix:
        """For each line how sure it is that it is not poem, from 0 to 1."""
        import numpy as np

        if not lines:
            return np.zeros(0, np.float32)
        return grown(self.features(lines), self.trees, self.base)


_SEEN: dict[str, Matrix] = {}  # what is known of a word, while one set of weights is in use


def _NOTHING(width: int) -> Matrix:
    import numpy as np

    return np.zeros(len(facts("")) + width, np.float32)


def _split(word: str, pieces: Mapping[str, int]) -> list[int]:
    """The word pieces of a word, longest first; nothing for one that cannot be spelt."""
    word = word.replace("'", "")[:40]
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


_FIRST = 48  # trees after which most lines are known to be verse
_VERSE = -3.5  # log-odds below which no further tree is asked


def grown(rows: Matrix, trees: Mapping[str, Matrix], base: float) -> Matrix:
    """The probability that boosted trees give each row.

    A row of which the first trees are sure that it is verse is not shown to the others.
    """
    import numpy as np

    odds = base + _sum(rows, trees, slice(0, _FIRST))
    open_ = np.flatnonzero(odds > _VERSE)
    if len(open_):
        odds[open_] += _sum(rows[open_], trees, slice(_FIRST, None))
    return 1 / (1 + np.exp(-odds))


def _sum(rows: Matrix, trees: Mapping[str, Matrix], part: slice) -> Matrix:
    import numpy as np

    feature, threshold, value = (trees[k][part] for k in ("feature", "threshold", "value"))
    left, right = trees["left"][part], trees["right"][part]
    count, width = feature.shape
    root = np.arange(count) * width
    node = np.broadcast_to(root, (len(rows), count))
    base = np.arange(len(rows))[:, None] * rows.shape[1]
    flat, feature, threshold = rows.ravel(), feature.ravel(), threshold.ravel()
    left, right = (left + root[:, None]).ravel(), (right + root[:, None]).ravel()
    for _ in range(int(trees["depth"])):
        goes_left = flat[base + feature[node]] <= threshold[node]
        node = np.where(goes_left, left[node], right[node])
    total: Matrix = value.ravel()[node].sum(1)
    return total


@cache
def weights() -> Weights:
    """The weights that ship."""
    import numpy as np

    path = resources.files("versecraft").joinpath("data", "kinds.npz")
    with resources.as_file(path) as file, np.load(file, allow_pickle=False) as stored:
        return unpacked({name: stored[name] for name in stored.files})


def unpacked(stored: Mapping[str, Matrix]) -> Weights:
    """Weights from the arrays of `kinds.npz`."""
    import numpy as np

    names = bytes(stored["grams"]).decode().split("\n")
    pieces = bytes(stored["pieces"]).decode().split("\n")
    scale = stored["scale"].astype(np.float32)
    trees = {k: stored[k] for k in ("feature", "threshold", "left", "right", "value", "depth")}
    return Weights(
        grams=dict(zip(names, stored["gram_weights"].astype(np.float64).tolist(), strict=True)),
        gram_bias=float(stored["gram_bias"]),
        pieces={piece: n for n, piece in enumerate(pieces)},
        vectors=stored["vectors"].astype(np.float32) * scale,
        semantic=stored["semantic"].astype(np.float32),
        trees=trees,
        base=float(stored["base"]),
    )
