"""The line-in-context classifier: how sure trained weights are that a line is foreign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from .lines import Line, describe, grams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[Any]


FOREIGN = 0.95
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
        trees: Boosted trees: `feature`, `threshold`, `left`, `right`, `value` by tree and node.
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

    def meanings(self, lines: Sequence[Line]) -> Matrix:
        """A unit vector for each line: the mean of its words."""
        import numpy as np

        rows = [self._rows(line.words[:120]) for line in lines]
        means = np.zeros((len(lines), self.vectors.shape[1]), np.float32)
        for n, row in enumerate(rows):
            if row:
                means[n] = self.vectors[row].mean(0)
        return means / (np.linalg.norm(means, axis=1, keepdims=True) + 1e-6)

    def _rows(self, words: Sequence[str]) -> list[int]:
        known = _SEEN
        rows: list[int] = []
        for word in words:
            if word not in known:
                if len(known) > 200_000:
                    known.clear()
                known[word] = _split(word, self.pieces)
            rows += known[word]
        return rows

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

        vectors = self.meanings(lines)
        return describe(lines, vectors, np.column_stack([self.spoken(lines), self.heard(vectors)]))

    def chances(self, lines: list[Line]) -> Matrix:
        """For each line how sure it is that it is not poem, from 0 to 1."""
        import numpy as np

        if not lines:
            return np.zeros(0, np.float32)
        return grown(self.features(lines), self.trees, self.base)


_SEEN: dict[str, list[int]] = {}


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


def grown(rows: Matrix, trees: Mapping[str, Matrix], base: float) -> Matrix:
    """The probability that boosted trees give each row."""
    import numpy as np

    feature, threshold = trees["feature"], trees["threshold"]
    number = np.arange(len(feature))[None, :]
    node = np.zeros((len(rows), len(feature)), np.int64)
    at = np.arange(len(rows))[:, None]
    for _ in range(int(trees["depth"])):
        asked = feature[number, node]
        goes_left = rows[at, np.maximum(asked, 0)] <= threshold[number, node]
        step = np.where(goes_left, trees["left"][number, node], trees["right"][number, node])
        node = np.where(asked < 0, node, step)
    return 1 / (1 + np.exp(-(base + trees["value"][number, node].sum(1))))


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
