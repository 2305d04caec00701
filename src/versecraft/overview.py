"""What the report of a run holds, and how it shows: a page, a table, plain values."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BadInput
from .figures import Report
from .records import Match, Record, Role, Shown
from .rendering import render
from .sessions import Session

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Bill", "Curve", "Left", "Purity", "Set", "Sitting", "WorkspaceReport"]


class Bill(Record):
    """What one model was asked in one task, and what it cost.

    Attributes:
        failed: Requests whose last answer could not be used, or never came; refusals among them.
        read: Tokens in, those found in a prompt cache among them.
        wrote: Tokens out.
    """

    task: str
    model: str
    answered: int
    failed: int
    read: int
    wrote: int
    dollars: float


class Purity(Record):
    """Kind purity at one of the five places: the share of texts that are what they claim to be.

    Attributes:
        share: None where it is not known yet.
        says: What was counted, or the command that leads to it.
    """

    place: str
    of: str
    share: float | None
    says: str


class Set(Record):
    """A data set: its card, and the rows by task as bars.

    Attributes:
        bars: For each task its name, rows from bad poems, all other rows.
        asked: Share from bad poems that was asked for; None for a poet's set, which has no mix.
        got: That of all its rows.
    """

    role: Role
    card: Mapping[str, Any]
    bars: tuple[tuple[str, int, int], ...]
    asked: float | None
    got: float


class Curve(Record):
    """The losses of one training, in nats per token of an answer.

    Attributes:
        train: Step and loss of training rows; `valid` of those held out.
        card: The facts of the model card.
    """

    model: str
    train: tuple[tuple[float, float], ...]
    valid: tuple[tuple[float, float], ...]
    card: Mapping[str, Any]

    def points(self, which: str, width: float, height: float) -> list[tuple[float, float]]:
        """The points of a line in a picture of that size, the origin at its upper left."""
        both = (*self.train, *self.valid)
        last = max((step for step, _ in both), default=0) or 1
        return [
            (round(step * width / last, 1), round(height * (1 - loss / self.most), 1))
            for step, loss in getattr(self, which)
        ]

    @property
    def most(self) -> float:
        """Where the axis of losses ends, which begins at 0."""
        return max((loss for _, loss in (*self.train, *self.valid)), default=1.0) * 1.08 or 1.0


class Left(Record):
    """What was left out at one place for one reason.

    Attributes:
        examples: The first few: what it was, and why.
        file: Where all of them stand.
    """

    place: str
    reason: str
    count: int
    examples: tuple[str, ...]
    file: str = ""


class Sitting(Record):
    """A session of the workshop.

    Attributes:
        folder: Where it stands, as seen from the workspace.
        trouble: Why it has not ended, where it has not.
        answer: The last answer that was of no use, where that is why.
    """

    folder: str
    session: Session
    trouble: str = ""
    answer: str = ""


class WorkspaceReport(Shown, Record):
    """A run as one page. Shows in a notebook; `write` makes a file that needs no other one.

    Attributes:
        corpus: Counts of poems, authors, licences, and of what was dropped by reason.
        pairs: Ten of the matches, drawn by the seed, of `matched`.
        sets: The data sets of both models.
        purity: At the five places where the role firewall stands.
        sittings: Of the `sessions` that there are, the newest that has a revision, and the newest.
        missing: For each part that is not there yet, the command that makes it.
    """

    name: str
    made: str
    version: str
    corpus: Mapping[str, Any]
    matched: int = 0
    pairs: tuple[Match, ...] = ()
    sets: tuple[Set, ...] = ()
    costs: tuple[Bill, ...] = ()
    purity: tuple[Purity, ...] = ()
    curves: tuple[Curve, ...] = ()
    evaluation: Report | None = None
    sessions: int = 0
    sittings: tuple[Sitting, ...] = ()
    left: tuple[Left, ...] = ()
    notes: tuple[str, ...] = ()
    missing: Mapping[str, str] = {}

    @property
    def dollars(self) -> float:
        """What all answers have cost."""
        return sum(bill.dollars for bill in self.costs)

    def report(self) -> dict[str, Any]:
        """The report as plain values, without poems and texts."""
        return {
            "name": self.name,
            "made": self.made,
            "corpus": dict(self.corpus),
            "matches": self.matched,
            "data_sets": {one.role: one.card["rows"] for one in self.sets},
            "bad_share": {one.role: one.got for one in self.sets if one.asked is not None},
            "dollars": round(self.dollars, 6),
            "costs": [bill.model_dump() for bill in self.costs],
            "purity": [one.model_dump() for one in self.purity],
            "models": {one.model: one.card.get("valid_loss") for one in self.curves},
            "evaluated": self.evaluation is not None,
            "sessions": self.sessions,
            "left_out": [one.model_dump(exclude={"examples"}) for one in self.left],
            "missing": dict(self.missing),
        }

    def html(self) -> str:
        """The page. Nothing in it is fetched from elsewhere."""
        return render("run.html.j2", run=self)

    def write(self, path: str | Path) -> Path:
        """Writes the page to a file and returns its path.

        Raises:
            BadInput: The file cannot be written.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.html(), encoding="utf-8")
        except OSError as error:
            raise BadInput(f"{path} cannot be written: {error}. Choose another file.") from error
        return path

    def _repr_html_(self) -> str:
        # In a frame, so that neither page changes how the other one looks.
        page = html.escape(self.html())
        return f'<iframe srcdoc="{page}" style="width:100%;height:80vh;border:0"></iframe>'

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table

        table = Table(title=f"Report: {self.name}", title_justify="left")
        table.add_column("what")
        table.add_column("figure", justify="right")
        table.add_row("good poems", f"{self.corpus.get('good', 0):,}")
        table.add_row("bad poems", f"{self.corpus.get('bad', 0):,}")
        table.add_row("matches", f"{self.matched:,}")
        for one in self.sets:
            table.add_row(f"rows for the {one.role}", f"{sum(n + m for _, n, m in one.bars):,}")
        for pure in self.purity:
            if pure.share is not None:
                table.add_row(f"pure: {pure.place}, {pure.of}", f"{pure.share:.1%}")
        table.add_row("sessions", f"{self.sessions:,}")
        table.add_row("left out", f"{sum(one.count for one in self.left):,}")
        table.add_row("dollars", f"{self.dollars:,.2f}")
        lines = [f"Missing, {part}: {command}" for part, command in self.missing.items()]
        return Group(table, *lines)
