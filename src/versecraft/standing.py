"""How far a project is: what each step still asks, and what is stale, by digest.

Nothing is kept for this that is not needed elsewhere. What is cheap to make is made again and
compared: the files of the steps, the data sets. Of the rest it is recorded what it came from: the
prompt and the key of each answer, the rows that a checkpoint was trained on, the card that a GGUF
came from, the models that a report is about, the poems that matches were made from.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .batches import Journal
from .checkpoints import card_digest, exported_from, sampled_digest
from .decisions import read_decisions
from .errors import VersecraftError
from .ledger import read_rows
from .planning import CHARS_PER_TOKEN, bill
from .project import Project, Step, steps
from .records import Price, Record, Role, Row
from .runs import Cost, Plan, Tokens
from .trainers import facts_in
from .training_data import Split, read_split

__all__ = ["Outlook", "Stale", "Standing", "forecast", "outlook", "standing"]


class Stale(Record):
    """Something that is not what would be made today, and how to make it anew.

    Attributes:
        what: A path in the workspace.
        why: What has changed.
        renew: The command that makes it anew.
        asks: How many requests that takes.
    """

    what: str
    why: str
    renew: str
    asks: int = 0


@dataclass(frozen=True)
class Standing:
    """How far a project is.

    Attributes:
        steps: For each step: items answered, decided by a reader, failed last, to ask, under way
            by the batch; answers that no item asks for any more; dollars.
        stale: What something before it has outdated, in the order of the way of data.
    """

    steps: list[dict[str, Any]] = field(default_factory=list)
    stale: list[Stale] = field(default_factory=list)


def standing(project: Project) -> Standing:
    """Counts what the ledgers hold, and finds what is stale. No model is asked."""
    found = Standing()
    _look_at_matches(project, found)
    with warnings.catch_warnings(), project.at_rest():
        warnings.simplefilter("ignore", RuntimeWarning)  # of answers left out: they are counted
        for step in steps():
            _look_at_step(project, step, found)
        sets = _DataSets(project)
        for role in ("educator", "poet"):
            _look_at_data_set(project, role, sets, found)
        for folder in sorted((project.workspace.root / "models").glob("*/README.md")):
            _look_at_model(project, folder.parent, sets, found)
        _look_at_report(project, found)
    return found


def _look_at_matches(project: Project, found: Standing) -> None:
    place = project.workspace
    if place.matches.is_file() and _has_poems(project) and (why := project.mismatch()):
        found.stale.append(Stale(what="data/matches.jsonl", why=why, renew="versecraft match"))
        _rematch(project)


def _has_poems(project: Project) -> bool:
    try:
        return bool(project.corpus.good)
    except VersecraftError:
        return False


def _rematch(project: Project) -> None:
    """Pairs the poems anew for this look alone, so that what will be asked can be told."""
    try:
        project.pair()
    except VersecraftError:  # the sentence model is not installed, or poems are too few
        return


def _plan(project: Project, step: Step, *, count: bool = False) -> Plan | None:
    """The step's plan; None while something that it needs is not there."""
    try:
        return project.plan(step, count=count)
    except VersecraftError:
        return None


def _look_at_step(project: Project, step: Step, found: Standing) -> None:
    ledger = project.workspace.ledger(step.phase, step.task)
    rows, broken = read_rows(ledger)
    journal = Journal(ledger)
    # An answer counts though a failure was written after it.
    last = {r.item_id: r for r in sorted(rows, key=lambda row: row.output is not None)}.values()
    decisions = read_decisions(project.workspace.decisions)
    plan = _plan(project, step)
    unused: set[str] = set()
    if plan:
        unused = {r.item_id for r in last if r.output} - {job.item.item_id for job in plan.jobs}
        found.stale.extend(_outdated(plan, step, rows))
    found.steps.append(
        {
            "phase": step.phase,
            "task": step.task,
            "answered": sum(row.output is not None for row in last),
            "decided": sum(row.key in decisions and decisions[row.key].judges(row) for row in last),
            "failed": sum(row.error is not None for row in last),
            "to_ask": plan.to_ask if plan else None,
            "unused": len(unused),
            "under_way": len(journal.under_way(rows)),
            "batches": [batch.line() for batch in journal.open.values()],
            "broken_lines": len(broken),
            "dollars": round(sum((row.cost for row in rows), 0.0), 4),
        }
    )
    file = project.workspace.inside(step.file)
    if plan and file.is_file() and file.read_text(encoding="utf-8") != project.left(step):
        why = "not what the ledger holds of today's items"
        found.stale.append(Stale(what=step.file, why=why, renew=_generate(step)))


def _outdated(plan: Plan, step: Step, rows: list[Row]) -> Iterator[Stale]:
    """Answers to items that would be asked again, by what has changed."""
    answered = [row for row in rows if row.output is not None]
    keys = {row.key for row in answered}
    again = {job.item.item_id for job in plan.jobs if job.key not in keys}
    before = {row.item_id: row for row in answered if row.item_id in again}
    prompt = sum(row.prompt != plan.prompt for row in before.values())
    for count, why in (
        (prompt, "to another prompt"),
        (len(before) - prompt, f"not by {plan.backend.id} as it is set"),
    ):
        if count:
            yield Stale(
                what=f"runs/{step.phase}/{step.task}.jsonl",
                why=f"{count:,} answers are {why}",
                renew=_generate(step),
                asks=count,
            )


def _generate(step: Step) -> str:
    first = steps(step.task)[0]
    return f"versecraft generate {step.task if first.phase == step.phase else step.phase}"


class _DataSets:
    """The data sets as they would be made today; each is made once."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._made: dict[str, str | None] = {}
        self.trouble: dict[str, str] = {}

    def seed(self) -> str | None:
        """The digest of what educator v1 learns from; None while there is too little."""
        return self._digest("seed", lambda: self.project.mix_seed()[1])

    def of(self, role: Role) -> str | None:
        """The digest of a role's set; the educator's is the seed's until the interim answers."""
        interim = (self.project.workspace.ledger(s.phase, s.task) for s in steps("interim"))
        if role == "educator" and not any(ledger.is_file() for ledger in interim):
            return self.seed()
        return self._digest(role, lambda: self.project.mix_found(role)[1])

    def _digest(self, name: str, make: Callable[[], Split]) -> str | None:
        if name not in self._made:
            try:
                self._made[name] = make().digest
            except VersecraftError as error:
                self._made[name] = None
                self.trouble[name] = str(error).partition(". ")[0]
        return self._made[name]


def _look_at_data_set(project: Project, role: Role, sets: _DataSets, found: Standing) -> None:
    folder = project.workspace.data_set(role)
    if not (folder / "train.jsonl").is_file():
        return
    today = sets.of(role)
    why = "other rows or other settings than today's are in it"
    if today is None:
        why = f"it cannot be made today: {sets.trouble.get(role) or sets.trouble.get('seed')}"
    try:
        same = read_split(folder).digest == today
    except VersecraftError:
        same = False
    if not same:
        what = f"data/{role}_training/train.jsonl"
        found.stale.append(Stale(what=what, why=why, renew=f"versecraft balance --role {role}"))


def _look_at_model(project: Project, folder: Path, sets: _DataSets, found: Standing) -> None:
    facts = facts_in(folder)
    if not facts or not facts["finished"]:
        return
    name = folder.name
    today = sets.seed() if name == "educator-v1" else sets.of(facts["role"])
    base = project.workspace.base(project.workspace.settings.training.base)
    changed = ["other data"] * (facts["data"] != today) + ["another base"] * (facts["base"] != base)
    again = {"educator-v1": "interim", "educator-v2": "final", "poet-v2": "final"}.get(name)
    make = f"run {again}" if again else f"train {facts['role']} --name {name}"
    if changed:
        found.stale.append(
            Stale(
                what=f"models/{name}",
                why=f"trained on {' and '.join(changed)} than today's",
                renew=f"versecraft reset models/{name} --yes, then versecraft {make}",
            )
        )
    gguf = folder.with_name(f"{name}.gguf")
    if gguf.is_file() and exported_from(gguf) != card_digest(folder):
        why = "exported from another checkpoint"
        renew = f"versecraft export models/{name}"
        found.stale.append(Stale(what=f"models/{gguf.name}", why=why, renew=renew))


def _look_at_report(project: Project, found: Standing) -> None:
    models = project.workspace.root / "models"
    for file in sorted((project.workspace.root / "reports").glob("*.json")):
        try:
            said = json.loads(file.read_text(encoding="utf-8"))["models"].values()
        except (ValueError, KeyError, AttributeError, TypeError):
            continue  # some other file
        for name, _, digest in sorted({model.partition("@") for model in said}):
            gguf = models / name
            if digest and gguf.is_file() and sampled_digest(gguf)[:8] != digest:
                found.stale.append(
                    Stale(
                        what=f"reports/{file.name}",
                        why=f"about another {name}",
                        renew="versecraft run final",
                    )
                )


# What is still to come.


class Outlook(Record):
    """What a step would ask and make.

    Attributes:
        backend: Who would be asked.
        later: How many items there may be besides, once what they are made from is there.
        dollars: For all of them, at most.
        leaves: The file.
    """

    phase: str
    task: str
    backend: str
    items: int
    answered: int
    to_ask: int
    later: int
    dollars: float
    leaves: str


def outlook(project: Project, phase: str) -> list[Outlook]:
    """What the steps of a phase would ask by now, and at most once those before it have run."""
    place = project.workspace
    if phase == "seed" and place.matches.is_file() and project.mismatch():
        _rematch(project)
    return [_outlook(project, step) for step in steps(phase)] if phase != "final" else []


def _outlook(project: Project, step: Step) -> Outlook:
    named = project.workspace.settings.roles.model_dump().get(step.backend, step.backend)
    facts = {"phase": step.phase, "task": step.task, "backend": named, "leaves": step.file}
    plan = _plan(project, step, count=True)
    try:
        plan = plan or project.plan(step, sources=(), count=False)
    except VersecraftError:  # the model is not there yet, and is run on this machine
        items = len(project.items(step))
        return Outlook(**facts, items=items, answered=0, to_ask=items, later=0, dollars=0.0)
    later, cost = forecast(project, step, plan)
    return Outlook(
        **facts,
        items=plan.items,
        answered=plan.cached,
        to_ask=plan.to_ask,
        later=later,
        dollars=plan.dollars + plan.of(cost),
    )


def forecast(
    project: Project, step: Step, plan: Plan, limit: int | None = None
) -> tuple[int, Cost]:
    """Items that a step may still get from what is not there yet, and their cost at most.

    A turn is taken as some 4,000 characters: a poem with its critique, or a brief.
    """
    most = step.most(project) if limit is None else min(limit, step.most(project))
    count = 0 if plan.items else most
    if step.after:
        (source,) = steps(step.after)[:1]
        run = project.run(source)
        unanswered = len(project.items(source)) - len(run.rows) - len(run.dropped)
        count = max(0, min(most - plan.items, unanswered))
    price: Price | None = getattr(plan.backend, "price", None)
    if not price:
        return count, Cost()
    guide = len(plan.system) / CHARS_PER_TOKEN
    rest = (len(json.dumps(plan.schema)) + 4000) / CHARS_PER_TOKEN
    tokens = Tokens(
        input=int(count * (guide + rest)),
        output=count * plan.task.typical_tokens,
        guide=int(guide),
    )
    return count, bill(price, tokens, count)
