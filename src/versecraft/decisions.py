"""What a reader decided about answers: accepted, rejected, or edited.

Decisions stand in a file of their own, to which lines are only added; the last one for a row
holds. The ledger with the answers is never written.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from .ledger import Ledger, read_records
from .records import Record, Row, digest

__all__ = ["Decision", "Verdict", "decided", "read_decisions", "write_decision"]

Verdict = Literal["accepted", "rejected", "edited", "undecided"]
"""What may be said of an answer; "undecided" takes back what was said before."""


class Decision(Record):
    """One line of the decisions' file.

    Attributes:
        key: Of the ledger's row.
        answer: Digest of the output that was read. The decision does not hold for another one,
            such as comes when lines of the ledger are deleted and the model is asked again.
        output: In place of the row's, when it was edited; as the task's output model dumps it.
        when: Seconds since the epoch.
    """

    key: str
    answer: str
    decision: Verdict
    output: dict[str, Any] | None = None
    when: float

    @model_validator(mode="after")
    def _edited_has_output(self) -> Self:
        if (self.output is None) == (self.decision == "edited"):
            raise ValueError("an edited row has an output, and no other has")
        return self

    def judges(self, row: Row) -> bool:
        """Whether it is about the answer that this row has."""
        return self.key == row.key and self.answer == answer_digest(row)


def answer_digest(row: Row) -> str:
    """What stands for a row's output in decisions."""
    return digest(json.dumps(row.output, sort_keys=True))


def read_decisions(path: str | Path) -> dict[str, Decision]:
    """The last decision on each row, by the row's key; of a file that does not exist, none.

    A line that a crash cut is left out with a warning.
    """
    lines, broken = read_records(path, Decision)
    if broken:
        warnings.warn(
            f"{path} has {len(broken)} line(s) that are no decisions (line {broken[0].line}), cut "
            "by a crash or edited. Decide on those rows again; delete the lines to silence this.",
            RuntimeWarning,
            stacklevel=2,
        )
    found = {line.key: line for line in lines}
    return {key: line for key, line in found.items() if line.decision != "undecided"}


def write_decision(path: str | Path, decision: Decision) -> None:
    """Adds a decision; when this returns, it would survive a machine that loses its power.

    Raises:
        LedgerError: Another process is writing, or the file cannot be written.
    """
    with Ledger(path, then="decide again") as ledger:
        ledger.append(decision)


def decided(row: Row, decisions: Mapping[str, Decision]) -> Row | None:
    """An answered row as the reader left it: as it was, edited, or None when it was rejected."""
    decision = decisions.get(row.key)
    if decision is None or not decision.judges(row) or decision.decision == "accepted":
        return row
    if decision.decision == "rejected":
        return None
    return row.model_copy(update={"output": decision.output, "edited": decision.when})
