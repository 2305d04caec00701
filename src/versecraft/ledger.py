"""The ledger: an append-only JSONL of answers and failures.

A row is keyed by a digest of what was sent, so a changed prompt, schema, model or setting asks
anew and everything else is found again.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Self, TypeVar

from pydantic import ValidationError

from .errors import LedgerError
from .records import Dropped, Record, Row

__all__ = ["Ledger", "is_open", "latest", "read_records", "read_rows", "warn_broken"]

R = TypeVar("R", bound=Record)


def read_rows(path: str | Path) -> tuple[list[Row], list[Dropped]]:
    """The rows of a ledger in the order they were written, and the lines that are no rows.

    A line cut by a crash is among the second, with its number; nothing else is lost with it.
    A ledger that does not exist has no rows.
    """
    return read_records(path, Row)


def read_records(path: str | Path, model: type[R]) -> tuple[list[R], list[Dropped]]:
    """As `read_rows`, for a file whose lines are other records than rows."""
    path = Path(path)
    rows: list[R] = []
    broken: list[Dropped] = []
    if path.exists():
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    rows.append(model.model_validate_json(line))
                except ValidationError as error:
                    detail = f"{error.error_count()} problems; begins {line[:60]!r}"
                    broken.append(
                        Dropped(file=str(path), line=number, reason="broken", detail=detail)
                    )
    return rows, broken


class Ledger:
    """A ledger open for writing, by one process at a time.

    Each row is handed to the operating system before `append` returns, so it survives the death
    of the process; `fsync` follows when the ledger is closed.

    Args:
        path: The file.
        then: What to do again after an error.

    Raises:
        LedgerError: Another process holds it, or it cannot be written.
    """

    def __init__(self, path: str | Path, then: str = "call generate again") -> None:
        self.path = Path(path)
        self.then = then

    def __enter__(self) -> Self:
        from filelock import FileLock, Timeout

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(f"{self.path}.lock", timeout=0)
            self._lock.acquire()
        except Timeout:
            raise LedgerError(
                f"Another process is writing to {self.path}. Wait until it ends, or give this run "
                "a ledger of its own."
            ) from None
        except OSError as error:
            raise LedgerError(f"Cannot write {self.path}: {error.strerror}. Check it.") from error
        try:
            self._file = self.path.open("ab+", buffering=0)
            if self._file.tell() and self._last_byte() != b"\n":
                # The tail of a line that a crash cut stays as it is, on a line of its own.
                self._file.write(b"\n")
        except OSError as error:
            self._lock.release()
            raise LedgerError(f"Cannot write {self.path}: {error.strerror}. Check it.") from error
        return self

    def _last_byte(self) -> bytes:
        self._file.seek(-1, os.SEEK_END)
        return self._file.read(1)

    def __exit__(self, *_: object) -> None:
        try:
            os.fsync(self._file.fileno())
        finally:
            self._file.close()
            self._lock.release()

    def sync(self) -> None:
        """Waits until the rows so far would also survive a machine that loses its power."""
        os.fsync(self._file.fileno())

    def append(self, row: Record) -> None:
        """Writes a row.

        Raises:
            LedgerError: The disk is full or gone; no part of the row is left behind.
        """
        line = row.model_dump_json(exclude_none=True).encode() + b"\n"
        start = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._file.truncate(start)
            raise LedgerError(
                f"Cannot write {self.path}: {error.strerror}. All rows before this one are safe; "
                f"make room and {self.then}."
            ) from error


def latest(rows: Iterable[Row], keys: Iterable[str]) -> dict[str, Row]:
    """For each key its last answered row, else its last row."""
    wanted = set(keys)
    found: dict[str, Row] = {}
    for row in rows:
        before = found.get(row.key)
        better = row.output is not None or before is None or before.output is None
        if row.key in wanted and better:
            found[row.key] = row
    return found


def is_open(row: Row | None, retry_failed: bool = True) -> bool:
    """Whether a job is to be asked, given the ledger's last row for it.

    A refusal is never asked again: a changed prompt or model has a key of its own.
    """
    if row is None:
        return True
    return row.error is not None and row.error.kind != "refusal" and retry_failed


def warn_broken(broken: list[Dropped]) -> None:
    """Says that a ledger has lines that are no rows, and where."""
    lines = ", ".join(str(d.line) for d in broken[:5])
    warnings.warn(
        f"{broken[0].file} has {len(broken)} line(s) that are no rows (line {lines}), cut by a "
        "crash or edited. What they held is asked again; delete the lines to silence this.",
        RuntimeWarning,
        stacklevel=3,
    )
