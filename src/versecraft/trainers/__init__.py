"""The seam to training: a split goes in, a checkpoint folder comes out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import Field

from ..cards import MARK
from ..errors import BadInput
from ..records import Record, Shown
from ..training_data import Split

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Checkpoint", "Settings", "Trainer", "facts_in", "read_checkpoint"]


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


class Settings(Record):
    """How to train. The same settings, data and base give the same adapter on one machine.

    Attributes:
        epochs: How often every row is seen, where `steps` is None.
        steps: How many steps to take.
        learning_rate: At its height; it rises over the first 5 % of steps and falls as a cosine.
        rank: Of the LoRA matrices on all linear layers; they are scaled by two.
        batch_size: Rows that go through the model at once; memory grows with it.
        accumulate: Batches for one step.
        max_length: Most tokens of a row; a longer one is left out, never cut.
        seed: Of the first weights and of the order of rows.
        eval_every: Steps between two evaluations, which also save; None makes ten in all.
        save_memory: Whether activations are computed again on the way back (gradient
            checkpointing): much less memory for about a third more time.
        patience: Evaluations without a better loss after which training stops; None never does.
        progress: Whether a bar is shown (in a terminal; elsewhere a line now and then) on stderr.
    """

    epochs: Annotated[float, Field(gt=0)] = 3.0
    steps: Annotated[int, Field(gt=0)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    rank: Annotated[int, Field(gt=0)] = 16
    batch_size: Annotated[int, Field(gt=0)] = 1
    accumulate: Annotated[int, Field(gt=0)] = 4
    max_length: Annotated[int, Field(gt=0)] = 2048
    seed: int = 7
    save_memory: bool = False
    eval_every: Annotated[int, Field(gt=0)] | None = None
    patience: Annotated[int, Field(gt=0)] | None = 3
    progress: bool = True


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
