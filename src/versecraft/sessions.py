"""Sessions of the workshop: drafts, what was said of them, and what each revision changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import ValidationError, model_validator

from .answers import Brief, Critique, Issue, Loc, RevisionBrief
from .errors import BadInput
from .prosody import Clause
from .records import Record, Shown
from .revisions import Changes, Diff, Reason, Version, breaches, changes, lines_of, said_of

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Changes", "Round", "Session", "breaches", "changes"]

Stopped = Literal["approved", "rounds", "worse", "unchanged", "budget"]
"""Why a session ended: nothing must be fixed any more; as many drafts as were asked for; a draft
worse than the one before; one that is the same; or the money."""

FILE = "session.json"
_ISSUES = 5  # that a critique holds at most


class Round(Record):
    """A draft and what was said of it.

    Attributes:
        draft: The poem's text.
        refused: Why the poem task refused the draft, where it did: it breaks its brief.
        breaches: Clauses of the form that it breaks; None where they were not measured.
        changes: What it changed in the draft before it.
        worse: The facts that make it worse than the draft before it.
        critique: What the educator said of it.
        revision_brief: What the next draft was asked to do.
    """

    draft: str
    refused: str | None = None
    breaches: tuple[Clause, ...] | None = None
    changes: Changes | None = None
    worse: tuple[str, ...] = ()
    critique: Critique | None = None
    revision_brief: RevisionBrief | None = None

    @property
    def must_fix(self) -> tuple[Issue, ...]:
        """The issues that must be fixed."""
        issues = self.critique.issues if self.critique else ()
        return tuple(issue for issue in issues if issue.severity == "must_fix")

    @property
    def defects(self) -> tuple[str, ...]:
        """What keeps the draft from being approved: issues to be fixed, and what was measured."""
        found = [f"{i.type.replace('_', ' ')}: {i.location.quote}" for i in self.must_fix]
        found += map(said_of, self.breaches or ())
        return (*found, *([self.refused] if self.refused else []))

    @property
    def approved(self) -> bool:
        """Whether a critique approves the draft and nothing is left that must be fixed."""
        return self.critique is not None and self.critique.approved and not self.defects

    def to_mend(self) -> Critique | None:
        """The critique, with what was measured among the issues that must be fixed."""
        if self.critique is None or not self.breaches:
            return self.critique
        measured = [_issue(breach, self) for breach in self.breaches[:_ISSUES]]
        said = sorted(self.critique.issues, key=lambda issue: issue.severity != "must_fix")
        issues = (*measured, *said)[:_ISSUES]
        return self.critique.model_copy(update={"issues": issues, "approved": False})

    def reasons(self) -> list[Reason]:
        """What was measured, the issues with the changes to their lines, and the other changes."""
        brief, issues = self.revision_brief, self.critique.issues if self.critique else ()
        asked = [
            (lines_of(c.location.quote, self.draft), c) for c in (brief.change if brief else ())
        ]
        found = [Reason(c.lines, f"measured, {said_of(c)}") for c in self.breaches or ()]
        for issue in issues:
            lines = lines_of(issue.location.quote, self.draft)
            own = [c for at, c in asked if set(at) & set(lines)]
            asked = [(at, c) for at, c in asked if c not in own]
            need = "must" if issue.severity == "must_fix" else "should"
            text = f"{issue.type.replace('_', ' ')} ({need} be fixed): {issue.diagnosis}"
            found.append(Reason(lines, " ".join([text, *(f"Asked: {c.change}" for c in own)])))
        rest = (Reason(at, f"{c.type.replace('_', ' ')}: {c.change}") for at, c in asked)
        return [*found, *rest]


def _issue(clause: Clause, round: Round) -> Issue:
    """A broken clause as an issue, at the last line that breaks it or the last of all.

    A line of a letter or two is quoted with its neighbour.
    """
    lines = [line.strip() for line in round.draft.split("\n") if line.strip()]
    number = clause.lines[-1] if clause.lines else len(lines)
    if len(lines[number - 1]) < 3 and len(lines) > 1:  # too short to be quoted alone
        number = min(number, len(lines) - 1)
        lines[number - 1] = " / ".join(lines[number - 1 : number + 1])
    line = lines[number - 1]
    cut = line if len(line) <= 160 else line[:160].rpartition(" ")[0]
    where = f" (lines {', '.join(map(str, clause.lines[:8]))})" if clause.lines else ""
    return Issue.model_construct(
        type="form_breach",
        # Not validated: a poem of one word, or of one without an end, is measured like another.
        location=Loc.model_construct(quote=cut if len(cut) > 2 else line[:160], line=number),
        diagnosis=f"Measured, not judged: the form is broken. Its {said_of(clause)}{where}."[:280],
        direction=f"Recast what breaks it, so that the {clause.name} is {clause.asked}."[:280],
        severity="must_fix",
    )


class Session(Shown, Record):
    """A request on its way to a poem: brief, drafts, critiques, and why it stopped.

    Attributes:
        educator: Id of the backend that read.
        poet: Id of the backend that wrote.
        models: The models that really answered.
        cost: Dollars that all its answers cost.
        best: Number of the round whose draft is the best, from 1.
        stopped: A code for why it ended; None while it is under way.
        why_stopped: The same in words.
    """

    request: str
    educator: str = ""
    poet: str = ""
    models: tuple[str, ...] = ()
    cost: float = 0.0
    brief: Brief | None = None
    rounds: tuple[Round, ...] = ()
    best: int | None = None
    stopped: Stopped | None = None
    why_stopped: str = "It has not ended yet."

    @model_validator(mode="after")
    def _is_so(self) -> Self:
        if self.best is not None and not 1 <= self.best <= len(self.rounds):
            raise ValueError(f"there is no round {self.best} to be the best")
        if self.stopped == "approved" and not self.approved:
            raise ValueError("no draft is approved while something must be fixed")
        return self

    @property
    def drafts(self) -> tuple[str, ...]:
        """The drafts in their order."""
        return tuple(round.draft for round in self.rounds)

    @property
    def critiques(self) -> tuple[Critique, ...]:
        """The critiques in their order."""
        return tuple(round.critique for round in self.rounds if round.critique)

    @property
    def final(self) -> str | None:
        """The best draft; None where there is none."""
        return self.rounds[self.best - 1].draft if self.best else None

    @property
    def approved(self) -> bool:
        """Whether the final poem is approved. Never with a defect left."""
        return self.best is not None and self.rounds[self.best - 1].approved

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The session in a file, or in the folder that it was held in.

        Raises:
            BadInput: There is none, or it cannot be read.
        """
        path = Path(path)
        file = path / FILE if path.is_dir() else path
        try:
            return cls.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            raise BadInput(f"There is no session {file}. Check the path.") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "it"
            raise BadInput(
                f"{file} is no session: {where}: {first['msg']}. Give a file that a session wrote."
            ) from error

    def write(self, path: str | Path) -> Path:
        """Writes the session as JSON; a folder gets `session.json`. Returns the file.

        The folder that the file is to lie in is made where there is none.
        """
        path = Path(path)
        file = path / FILE if path.is_dir() else path
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f"{file.name}.part")
        aside.write_text(self.model_dump_json(indent=1, exclude_none=True) + "\n", encoding="utf-8")
        os.replace(aside, file)
        return file

    def diff(self) -> Diff:
        """The drafts side by side, each beside the one that it revises."""
        return Diff([Version(round.draft, round.reasons()) for round in self.rounds])

    def report(self) -> dict[str, Any]:
        """The session in figures."""
        return {
            "request": self.request,
            "drafts": len(self.rounds),
            "best": self.best,
            "approved": self.approved,
            "stopped": self.stopped,
            "must_fix": [len(round.must_fix) for round in self.rounds],
            "breaches": [len(round.breaches or ()) for round in self.rounds],
            "targeted": [r.changes.targeted for r in self.rounds if r.changes],
            "collateral": [r.changes.collateral for r in self.rounds if r.changes],
            "regression": [r.changes.regression for r in self.rounds if r.changes],
            "cost": round(self.cost, 6),
        }

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(title=f"Session: {self.request}", title_justify="left")
        for name in ("draft", "must fix", "breaches", "targeted", "collateral", "regression"):
            table.add_column(name, justify="right")
        for number, one in enumerate(self.rounds, start=1):
            change = one.changes
            figures = (
                (_percent(change.targeted), _percent(change.collateral), str(change.regression))
                if change
                else ("", "", "")
            )
            must = str(len(one.must_fix)) if one.critique else ""
            broken = "" if one.breaches is None else str(len(one.breaches))
            best = " *" if number == self.best else ""
            table.add_row(f"{number}{best}", must, broken, *figures)
        return Group(table, Text(self.why_stopped), Text(f"\n{self.final or ''}"))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
