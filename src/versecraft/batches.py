"""The journal of batches beside a ledger: what was handed in, and what has to be asked again.

A batch is written down before it is handed in, and its id as soon as the provider has named it, so
a process may die at any instant: what was handed in is found again, and nothing is bought twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from .errors import LedgerError
from .records import Record, Row

__all__ = ["Batch", "Journal", "key_of"]


class Batch(Record):
    """Requests that were handed in together.

    Attributes:
        name: Ours, from before the provider knew of it.
        ids: The custom ids: the ledger key, and `-N` after N earlier attempts.
        at: When it was handed in, in seconds since the epoch.
        most: Dollars that it can cost at most.
        about: Dollars that were estimated for those of its requests that are asked first.
        backend: The id of the backend that handed it in.
        batch: The provider's id; None when it is not known whether the batch arrived.
    """

    name: str
    ids: tuple[str, ...]
    at: float
    most: float
    about: float = 0.0
    backend: str = ""
    batch: str | None = None

    def line(self) -> str:
        """What is to be said of it, for people."""
        when = datetime.fromtimestamp(self.at).strftime("%Y-%m-%d %H:%M")
        return (
            f"{len(self.ids):,} requests in batch {self.batch or 'of unknown id'}, handed in by "
            f"{self.backend} on {when}"
        )

    @property
    def keys(self) -> list[str]:
        """The ledger keys of its requests."""
        return [key_of(i) for i in self.ids]


class Journal:
    """What is known of the batches of a ledger, as an append-only JSONL beside it.

    Attributes:
        open: The batches that are not collected yet, by name.
        known: The provider's id of every batch there has been.
        again: For each ledger key that has to be asked again the state of its attempts.
        handled: Key and batch of the answers that led to that.
    """

    def __init__(self, ledger: Path) -> None:
        name = ledger.stem if ledger.suffix == ".jsonl" else ledger.name
        self.path = ledger.with_name(f"{name}.batches.jsonl")
        self.open: dict[str, Batch] = {}
        self.known: set[str] = set()
        self.again: dict[str, dict[str, Any]] = {}
        self.handled: set[tuple[str, str]] = set()
        if self.path.exists():
            # As bytes: a crash may have cut a character.
            with self.path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    self._take(number, line)

    def _take(self, number: int, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            # The end of a line that a crash cut: what it would have said is found out again.
            return
        try:
            ((event, facts),) = said.items()
            if event == "sending":
                self.open[facts["name"]] = Batch(**facts)
            elif event == "sent":
                batch = self.open[facts["name"]]
                self.open[batch.name] = batch.model_copy(update={"batch": facts["batch"]})
                self.known.add(facts["batch"])
            elif event == "again":
                self.again[facts["key"]] = facts["seen"]
                self.handled.add((facts["key"], facts["batch"]))
            elif event == "over":
                self.open.pop(facts["name"], None)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LedgerError(
                f"{self.path}, line {number}, is no line of a journal: {error!r}. It tells what "
                "was bought: mend the line, or bring back the file."
            ) from error

    def unfinished(self, rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
        """The state of the attempts that have not ended in a row, by ledger key."""
        ended = {row.key: row.started for row in rows}
        return {k: s for k, s in self.again.items() if s["started"] > ended.get(k, 0.0)}

    def under_way(self, rows: Iterable[Row]) -> set[str]:
        """The ledger keys whose answers are to come from batches that are not collected yet."""
        had = self.handled | {(row.key, row.request_id or "") for row in rows}
        return {
            key
            for batch in self.open.values()
            for key in batch.keys
            if (key, batch.batch or "") not in had
        }

    def sending(self, batch: Batch) -> None:
        """Writes down a batch that is about to be handed in."""
        self.open[batch.name] = batch
        self._write("sending", batch.model_dump(exclude_none=True))

    def sent(self, batch: Batch, named: str) -> Batch:
        """Writes down the provider's id of a batch."""
        batch = batch.model_copy(update={"batch": named})
        self.open[batch.name] = batch
        self.known.add(named)
        self._write("sent", {"name": batch.name, "batch": named})
        return batch

    def ask_again(self, key: str, batch: str, seen: dict[str, Any]) -> None:
        """Writes down that an answer led to no row, and how its attempts stand."""
        self.again[key] = seen
        self.handled.add((key, batch))
        self._write("again", {"key": key, "batch": batch, "seen": seen})

    def over(self, batch: Batch, why: str) -> None:
        """Writes down that a batch is collected, or never was one."""
        self.open.pop(batch.name, None)
        self._write("over", {"name": batch.name, "why": why})

    def _write(self, event: str, facts: dict[str, Any]) -> None:
        line = json.dumps({event: facts}, ensure_ascii=False) + "\n"
        try:
            with self.path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                file.write(line.encode())
                file.flush()
                if event != "again":
                    os.fsync(file.fileno())
        except OSError as error:
            raise LedgerError(
                f"Cannot write {self.path}: {error.strerror}. Make room and call generate again; "
                "batches that were handed in are found again."
            ) from error


def key_of(custom_id: str) -> str:
    """The ledger key that a custom id begins with."""
    return custom_id.partition("-")[0]
