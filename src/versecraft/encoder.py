"""A small transformer reads a text whole: how sure it is that each line, and any line, is foreign.

MiniLM (Wang et al. 2020, https://arxiv.org/abs/2002.10957; the checkpoint all-MiniLM-L6-v2,
Apache-2.0), trained further by `bench/kinds/tune.py`, stored as 8-bit integers and run with numpy,
so that guarding a poet needs no other package.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from .classifier import shipped, spelt
from .lines import Line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[Any]

MOST = 200
"""How many tokens are read at once; longer texts are read in pieces, half overlapping."""
_READ = 4  # windows
_LONGEST = 120  # tokens of a line
_HEADS = 12
_PART = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
_PLAIN = str.maketrans("’‘“”", "''\"\"")
BEGIN, UNKNOWN, END, LOW_END, BLANK = range(5)
"""Rows of the table that no piece has: the text begins; a word that cannot be spelt; the end of a
line, and of one that begins with a small letter; a blank line."""


def tokens(lines: Sequence[Line], pieces: Mapping[str, int]) -> list[list[int]]:
    """The rows of the table for each line of a text; a line ends with a token of its own."""
    rows, last = [], None
    for line in lines:
        small = unicodedata.normalize("NFD", line.text.translate(_PLAIN).lower())
        small = "".join(c for c in small if unicodedata.category(c) != "Mn")
        ids = [BLANK] if last is not None and line.number > last + 1 else []
        for word in _PART.findall(small)[:_LONGEST]:
            ids += spelt(word, pieces) or [UNKNOWN]
        rows.append([*ids[:_LONGEST], LOW_END if line.text[:1].islower() else END])
        last = line.number
    return rows


def windows(rows: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """The ranges of lines that are read at once."""
    found, begin = [], 0
    while True:
        end, size = begin, 1
        while end < len(rows) and (end == begin or size + len(rows[end]) <= MOST):
            size += len(rows[end])
            end += 1
        found.append((begin, end))
        if end == len(rows):
            return found
        begin = max(begin + 1, (begin + end + 1) // 2)


@dataclass(frozen=True)
class Encoder:
    """Trained weights.

    Attributes:
        pieces: Rows of `table` by word piece; a piece inside a word begins with `##`.
        weights: Matrices and vectors by name; those of a layer begin with its number.
        layers: How many there are.
    """

    pieces: Mapping[str, int]
    weights: Mapping[str, Matrix] = field(repr=False)
    layers: int

    def odds(self, lines: Sequence[Line], doubts: Matrix) -> tuple[Matrix, float]:
        """For each line the log-odds that it is not poem, and those that any line is not.

        Args:
            lines: Of one text, in order; at least one.
            doubts: Log-odds of each line by a quicker judge. Of a long text only the windows
                with the highest are read; the lines of the others keep theirs.
        """
        import numpy as np

        rows = tokens(lines, self.pieces)
        odds, whole = np.full(len(rows), -np.inf), -np.inf
        ranges = sorted(windows(rows), key=lambda at: -doubts[at[0] : at[1]].max())
        for begin, end in ranges[:_READ]:
            ids = np.array([BEGIN, *(i for row in rows[begin:end] for i in row)])
            ends = np.cumsum([len(row) for row in rows[begin:end]])
            state = self._states(ids)[np.append(0, ends)]
            scores = state @ self.weights["heads"].T + self.weights["heads_bias"]
            odds[begin:end] = np.maximum(odds[begin:end], scores[1:, 0])
            whole = max(whole, float(scores[0, 1]))
        return np.where(np.isinf(odds), doubts, odds), whole

    def _states(self, ids: Matrix) -> Matrix:
        """The last layer's states, a row a token."""
        import numpy as np
        from scipy.special import erf

        w = self.weights
        state = _normed(w["table"][ids] + w["places"][: len(ids)], w["first"])
        width = state.shape[1] // _HEADS
        for n in range(self.layers):
            joint = state @ w[f"{n}.qkv"] + w[f"{n}.qkv_bias"]
            query, key, value = joint.reshape(len(ids), 3, _HEADS, width).transpose(1, 2, 0, 3)
            scores = query @ key.transpose(0, 2, 1) / np.float32(width**0.5)
            np.exp(scores - scores.max(-1, keepdims=True), out=scores)
            scores /= scores.sum(-1, keepdims=True)
            heard = (scores @ value).transpose(1, 0, 2).reshape(len(ids), -1)
            state = _normed(state + heard @ w[f"{n}.out"] + w[f"{n}.out_bias"], w[f"{n}.norm"])
            wide = state @ w[f"{n}.up"] + w[f"{n}.up_bias"]
            wide *= 0.5 * (1 + erf(wide * np.float32(0.5**0.5)))
            state = _normed(state + wide @ w[f"{n}.down"] + w[f"{n}.down_bias"], w[f"{n}.last"])
        return state


def _normed(state: Matrix, gains: Matrix) -> Matrix:
    """Each row with mean 0 and variance 1, then scaled and moved by the two rows of `gains`."""
    import numpy as np

    state = state - state.mean(1, keepdims=True)
    scale = np.sqrt((state * state).mean(1, keepdims=True) + np.float32(1e-12))
    normed: Matrix = state / scale * gains[0] + gains[1]
    return normed


@cache
def trained() -> Encoder:
    """The weights that ship."""
    return unpacked(shipped("encoder.npz"))


def unpacked(stored: Mapping[str, Matrix]) -> Encoder:
    """Weights from the arrays of `encoder.npz`: 8-bit rows, each with its scale."""
    import numpy as np

    pieces = bytes(stored["pieces"]).decode().split("\n")
    weights = {
        name: (
            array.astype(np.float32) * stored[f"{name}_scale"][:, None].astype(np.float32)
            if array.dtype == np.int8
            else array.astype(np.float32)
        )
        for name, array in stored.items()
        if name != "pieces" and not name.endswith("_scale")
    }
    layers = sum(name.endswith(".qkv") for name in weights)
    return Encoder({piece: n for n, piece in enumerate(pieces, start=5)}, weights, layers)
