"""The report of a run: what went in, what was made of it, what it cost, and what was left out."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from .errors import BadInput, VersecraftError
from .figures import Report
from .firewall import LEAKS
from .ledger import read_records, read_rows
from .overview import Bill, Curve, Left, Purity, Set, Sitting, WorkspaceReport
from .project import Project, steps
from .records import Dropped, Role, Row, digest
from .sessions import FILE, Session
from .trainers import facts_in
from .training_data import read_split
from .workspace import Workspace

__all__ = ["WorkspaceReport", "report"]

_PAIRS = 10
_SHOWN = 3  # of what was left out for one reason; the file has all
_CAME = (None, "invalid", "rejected", "truncated", "refusal")
"""How a request ends when the model has said something."""

T = TypeVar("T")


def report(workspace: Workspace | str | Path) -> WorkspaceReport:
    """What a workspace holds, as one page: corpus, pairs, mix, costs, losses, poems, failures.

    Nothing is asked and nothing is made. What is not there yet is named with the command that
    makes it.

    Args:
        workspace: One, or its folder.

    Raises:
        BadInput: The folder is no workspace.
    """
    place = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
    gathering = _Gathering(Project(place))
    return gathering.report()


@dataclass
class _Asked:
    """The ledger of a task: who asked, its rows, and its file as seen from the workspace."""

    place: str
    task: str
    rows: list[Row]
    file: str

    @property
    def last(self) -> list[Row]:
        """Each backend's last word on each item: an answer, where it ever gave one.

        An evaluation asks several times for an answer to one item, and all count.
        """
        rows = sorted(self.rows, key=lambda row: row.output is not None)
        every = self.place == "evaluation"
        return list({(r.item_id, r.backend, every and r.key): r for r in rows}.values())


class _Gathering:
    """Reads a workspace, and notes what it does not find."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.place = project.workspace
        self.missing: dict[str, str] = {}
        self.notes: list[str] = []

    def report(self) -> WorkspaceReport:
        corpus = self._try("corpus", "versecraft corpus", lambda: self.project.corpus)
        matches = list(self._try("pairs", "versecraft match", self.project.matches) or ())
        if not matches:
            self.missing.setdefault("pairs", "versecraft match")
        seed = str(self.place.settings.seed)
        drawn = sorted(matches, key=lambda m: digest(seed, m.bad.id, m.good.id))[:_PAIRS]
        asked = list(self._asked())
        sets = self._sets()
        curves = tuple(self._curves())
        evaluation = self._evaluation()
        sittings = self._sittings(asked)
        return WorkspaceReport(
            name=self.place.root.name,
            made=date.today().isoformat(),
            version=version("versecraft"),
            corpus=corpus.report() if corpus else {},
            matched=len(matches),
            pairs=tuple(drawn),
            sets=tuple(sets),
            costs=tuple(_bills(asked)),
            purity=tuple(_purity(asked, sets, curves, evaluation)),
            curves=curves,
            evaluation=evaluation,
            sessions=len(sittings),
            sittings=tuple(_telling(sittings)),
            left=tuple(self._left(corpus.dropped if corpus else (), asked)),
            notes=tuple(self.notes),
            missing=self.missing,
        )

    def _try(self, part: str, command: str, make: Callable[[], T]) -> T | None:
        """What `make` gives; where it cannot, the part is missing and the reason is noted."""
        try:
            return make()
        except (VersecraftError, OSError) as error:
            self.missing[part] = command
            self.notes.append(f"{part.capitalize()}: {error}")
            return None

    def _asked(self) -> Iterator[_Asked]:
        """Every ledger: those of the phases, of the evaluation, of the workshop."""
        root = self.place.root
        found = [(s.phase, self.place.ledger(s.phase, s.task)) for s in steps()]
        found += [("evaluation", f) for f in sorted(root.glob("runs/evaluation/*.jsonl"))]
        found += [("workshop", f) for f in sorted(root.glob("sessions/*/answers.jsonl"))]
        for phase, file in dict.fromkeys(found):
            rows = read_rows(file)[0]
            for task in dict.fromkeys(row.task for row in rows):
                own = [row for row in rows if row.task == task]
                yield _Asked(phase, task, own, file.relative_to(root).as_posix())
        if not any(file.is_file() for _, file in found):
            self.missing["costs"] = "versecraft run seed"

    def _sets(self) -> list[Set]:
        roles: tuple[Role, ...] = ("educator", "poet")
        found = []
        for role in roles:
            folder = self.place.data_set(role)
            part, command = f"the {role}'s data set", f"versecraft balance --role {role}"
            if not (folder / "README.md").is_file():
                self.missing[part] = command
            elif data := self._try(part, command, partial(read_split, folder)):
                found.append(_set(role, data.card))
        return found

    def _curves(self) -> Iterator[Curve]:
        for folder in sorted(p.parent for p in self.place.root.glob("models/*/README.md")):
            facts = facts_in(folder)
            if facts and facts.get("finished") and (folder / "loss.csv").is_file():
                with (folder / "loss.csv").open(encoding="utf-8", newline="") as file:
                    told = list(csv.DictReader(file))
                lines = {
                    name: tuple((float(t["step"]), float(t[name])) for t in told if t[name])
                    for name in ("loss", "valid_loss")
                }
                yield Curve(
                    model=folder.name, train=lines["loss"], valid=lines["valid_loss"], card=facts
                )
            elif facts:
                self.notes.append(f"{folder.name} has not finished training: run the phase again.")
        if not any(self.place.root.glob("models/*/loss.csv")):
            self.missing["losses"] = "versecraft run interim"

    def _evaluation(self) -> Report | None:
        file = self.place.root / "reports" / "evaluation.json"
        try:
            return Report.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            pass
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            self.notes.append(f"{file.name} cannot be read: {first['msg']}. Run final again.")
        self.missing["evaluation"] = "versecraft run final"
        return None

    def _sittings(self, asked: list[_Asked]) -> list[Sitting]:
        """The sessions, the newest last."""
        found = []
        for file in sorted(self.place.root.glob(f"sessions/*/{FILE}"), key=_when):
            folder = file.parent.relative_to(self.place.root).as_posix()
            own = [one for one in asked if one.file.startswith(f"{folder}/")]
            try:
                session = Session.read(file)
                trouble, answer = _trouble(session, own)
                found.append(
                    Sitting(folder=folder, session=session, trouble=trouble, answer=answer)
                )
            except BadInput as error:
                self.notes.append(str(error))
        if not found:
            self.missing["workshop"] = 'versecraft write "a sonnet about rust"'
        return found

    def _left(self, dropped: Iterable[Dropped], asked: Iterable[_Asked]) -> Iterator[Left]:
        """Everything that was left out, by place and reason."""
        yield from _grouped("reading the corpus", dropped, "versecraft corpus --dropped")
        for one in asked:
            name = one.task.replace("_", " ")
            failed = [
                Dropped(file="", item=row.item_id, reason=row.error.kind, detail=row.error.message)
                for row in one.last
                if row.error
            ]
            yield from _grouped(f"{one.place}: {name}", failed, one.file)
        for part in ("data/educator_training", "data/poet_training", *self._models()):
            file = self.place.root / part / "dropped.jsonl"
            records = read_records(file, Dropped)[0]
            place = part.replace("data/", "").replace("_training", "'s data set")
            yield from _grouped(place, records, f"{part}/dropped.jsonl")

    def _models(self) -> list[str]:
        return [
            f"models/{p.parent.name}"
            for p in sorted(self.place.root.glob("models/*/dropped.jsonl"))
        ]


def _when(file: Path) -> tuple[float, Path]:
    return file.stat().st_mtime, file


def _telling(sittings: list[Sitting]) -> list[Sitting]:
    """The newest that has a revision, and the newest; often it is one."""
    revised = [one for one in sittings if len(one.session.rounds) > 1]
    newest = [one for one in sittings[-1:] if one not in revised[-1:]]
    return [*revised[-1:], *newest]


def _grouped(place: str, dropped: Iterable[Dropped], file: str) -> Iterator[Left]:
    by: dict[str, list[Dropped]] = {}
    for one in dropped:
        by.setdefault(one.reason, []).append(one)
    for reason, some in sorted(by.items(), key=lambda pair: -len(pair[1])):
        said = Counter(_said(one) for one in some)
        examples = tuple(
            f"{text} ({n}×)" if n > 1 else text for text, n in said.most_common(_SHOWN)
        )
        yield Left(place=place, reason=reason, count=len(some), examples=examples, file=file)


def _said(one: Dropped) -> str:
    what = ": ".join(filter(None, [one.file, str(one.line or "")]))
    detail = one.detail.partition("\n")[0]
    return f"{what}: {detail}" if what else detail


def _bills(asked: Iterable[_Asked]) -> Iterator[Bill]:
    asked = list(asked)
    # Where no answer came there is no model's name; another answer of that backend may have it.
    models = {row.backend: row.model for one in asked for row in one.rows if row.model}
    by: dict[tuple[str, str], list[Row]] = {}
    for one in asked:
        for row in one.rows:
            name = f"{one.task.replace('_', ' ')} ({one.place})"
            model = row.model or models.get(row.backend, row.backend)
            by.setdefault((name, model), []).append(row)
    for (task, model), rows in by.items():
        yield Bill(
            task=task,
            model=model,
            answered=sum(row.output is not None for row in rows),
            failed=sum(row.error is not None for row in rows),
            read=sum(row.usage.sent for row in rows),
            wrote=sum(row.usage.output for row in rows),
            dollars=sum(row.cost for row in rows),
        )


def _set(role: Role, card: Mapping[str, Any]) -> Set:
    bars: dict[str, list[int]] = {}
    for row in card["counts"]:
        bar = bars.setdefault(row["task"], [0, 0])
        bar[row["quality"] != "bad"] += row["train"] + row["valid"]
    bad, total = sum(b for b, _ in bars.values()), sum(map(sum, bars.values()))
    return Set(
        role=role,
        card=card,
        bars=tuple((task, bad, other) for task, (bad, other) in bars.items()),
        asked=card["bad_share"]["asked"],
        got=bad / total if total else 0.0,
    )


def _purity(
    asked: Iterable[_Asked],
    sets: Iterable[Set],
    curves: Iterable[Curve],
    evaluation: Report | None,
) -> Iterator[Purity]:
    """Kind purity at the five places where the firewall stands."""
    asked = list(asked)
    made = [row for one in asked if one.place == "poet" and one.task == "poem" for row in one.rows]
    yield _first_answers(
        "poems as they are generated", "first answers", made, "versecraft run poet"
    )
    sets, curves = list(sets), list(curves)
    if not sets:
        yield _unknown("data sets", "both", "versecraft balance")
    for one in sets:
        leaks = {reason: n for reason, n in one.card["dropped"].items() if reason in LEAKS}
        gone = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in leaks.items())
        rows = sum(n + m for _, n, m in one.bars)
        says = f"{rows:,} rows kept; left out: {gone or 'none'}"
        yield Purity(place="data sets", of=one.role, share=one.card["kind_purity"], says=says)
    if not curves:
        yield _unknown("what carries loss", "both models", "versecraft run interim")
    for curve in curves:
        rows = curve.card["rows"]["train"] + curve.card["rows"]["valid"]
        says = f"{rows:,} rows under the x-ray; a fault would have stopped the training"
        yield Purity(place="what carries loss", of=curve.model, share=1.0, says=says)
    poets = [f for f in evaluation.figures if f.name == "kind purity"] if evaluation else []
    for figure in poets:
        says = f"{figure.basis}; 95 %: {figure.interval}"
        yield Purity(place="the trained poet", of=figure.of, share=figure.value, says=says)
    if not poets:
        yield _unknown("the trained poet", "canary briefs", "versecraft run final")
    drafts = [
        row for one in asked if one.place == "workshop" and one.task == "poem" for row in one.rows
    ]
    yield _first_answers(
        "the workshop", "first answers", drafts, 'versecraft write "a sonnet about rust"'
    )


def _unknown(place: str, of: str, command: str) -> Purity:
    return Purity(place=place, of=of, share=None, says=command)


def _first_answers(place: str, of: str, rows: list[Row], command: str) -> Purity:
    """The share of poems that were taken as they first came."""
    came = [row for row in rows if (row.error.kind if row.error else None) in _CAME]
    if not came:
        return _unknown(place, of, command)
    first = sum(row.output is not None and row.attempts - row.lost == 1 for row in came)
    later = sum(row.output is not None for row in came) - first
    says = f"{first:,} of {len(came):,} taken at once, {later:,} when asked again"
    return Purity(place=place, of=of, share=first / len(came), says=says)


def _trouble(session: Session, asked: Iterable[_Asked]) -> tuple[str, str]:
    """Why a session stands still, and the last answer that was of no use."""
    if session.stopped:
        return "", ""
    failed = [row for one in asked for row in one.rows if row.error]
    last = max(failed, key=lambda row: row.finished, default=None)
    if last is None or last.error is None:
        return session.why_stopped, ""
    reason, _, answer = last.error.message.partition("\nThe answer was: ")
    name = last.task.replace("_", " ")
    times = "once" if last.attempts == 1 else f"{last.attempts} times"
    return f"No {name} of use came, asked {times}: {reason.rstrip('.')}.", answer
