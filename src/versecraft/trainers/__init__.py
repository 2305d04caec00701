"""The seam to training: a split goes in, a checkpoint folder comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..records import Record
from ..training_data import Split

__all__ = ["Checkpoint", "Trainer"]


class Checkpoint(Record):
    """A trained adapter or model folder; its card is the folder's `README.md`."""

    path: Path
    base: str


class Trainer(Protocol):
    """Something that fine-tunes a base model on a split."""

    def train(self, data: Split, *, base: str, into: Path) -> Checkpoint:
        """Trains `base` on `data` and leaves the result in the folder `into`."""
        ...
