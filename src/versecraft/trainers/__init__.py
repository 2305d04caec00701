"""The seam to training: a split goes in, a checkpoint folder comes out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..cards import MARK
from ..errors import BadInput
from ..records import Record, Shown
from ..training_data import Split

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Checkpoint", "Trainer", "facts_in", "read_checkpoint"]


class Checkpoint(Shown, Record):
    """A trained adapter in a folder: PEFT's own files, the tokenizer, and the card `README.md`.

    Attributes:
        base: The base model that the adapter goes on, as it was named for training.
        card: The facts of the card: data, settings, steps, losses, seconds, memory, versions.
    """

    path: Path
    base: str
    card: Mapping[str, Any] = {}

    def report(self) -> dict[str, Any]:
        """Where it is, what it was made from, and how training went."""
        names = ("role", "trainer", "rows", "steps", "loss", "valid_loss", "seconds", "peak_mb")
        return {"path": str(self.path), "base": self.base} | {
            name: self.card[name] for name in names if name in self.card
        }

    def __rich__(self) -> RenderableType:
        from rich.table import Table

        table = Table(title="Checkpoint", title_justify="left", show_header=False)
        for name, value in self.report().items():
            table.add_row(name.replace("_", " "), str(value))
        return table


class Trainer(Protocol):
    """Something that fine-tunes a base model on a split."""

    def train(self, data: Split, *, base: str, into: Path | str) -> Checkpoint:
        """Trains `base` on `data` and leaves the result in the folder `into`."""
        ...


def read_checkpoint(folder: Path | str) -> Checkpoint:
    """The checkpoint in a folder that a trainer filled.

    Raises:
        BadInput: There is none, or its training has not finished.
    """
    folder = Path(folder)
    facts = facts_in(folder)
    if facts is None:
        raise BadInput(f"{folder} holds no model card of versecraft. Train into it first.")
    if not facts["finished"]:
        raise BadInput(
            f"Training into {folder} has not finished. Call train again with the same arguments: "
            "it goes on where it stopped."
        )
    return Checkpoint(path=folder, base=facts["base"], card=facts)


def facts_in(folder: Path) -> dict[str, Any] | None:
    """The facts in the card of a checkpoint folder; None where there is no such card."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    found = re.search(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    if MARK not in text or not found:
        return None
    facts: dict[str, Any] = json.loads(found[1])
    return facts
