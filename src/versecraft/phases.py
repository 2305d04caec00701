"""The four phases: from poems to two models and a report, each a short walk over a project.

A phase yields what it makes, as it is made. Run again, it goes on where it stopped: what was
answered is not asked again, what is made of it comes out the same, and a model whose training has
finished is kept.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .checkpoints import card_digest, exported_from, sampled_digest, write_whole
from .errors import BadInput
from .evaluating import evaluate
from .figures import Report
from .generating import generate
from .ledger import read_rows
from .matching import Matches
from .plugins import get_task
from .project import PHASES, Project, Step, steps
from .records import Match, Role, digest
from .runs import Plan, Run
from .trainers import Checkpoint, facts_in, read_checkpoint
from .training_data import Mixture, Split

__all__ = ["LEAVES", "PHASES", "RUNS", "Budget", "Made", "Project", "Step", "ask", "steps"]


@dataclass
class Budget:
    """Dollars that may still be spent; shared by all steps. None is no limit."""

    left: float | None = None

    def take(self, run: Run) -> None:
        """Takes off what a run has spent, and what it may still have to pay."""
        if self.left is not None:
            self.left = max(0.0, self.left - run.cost - run.held)


@dataclass(frozen=True)
class Made:
    """Something that a phase has made.

    Attributes:
        phase: Which phase.
        what: The thing itself, such as the run of a step.
        path: Where it stands.
    """

    phase: str
    what: Matches | Run | Mixture | Split | Checkpoint | Report | None
    path: Path

    def report(self, root: Path) -> dict[str, Any]:
        """What it is, as plain values; its path as seen from `root`."""
        facts = self.what.report() if self.what is not None else {}
        if isinstance(self.what, Run):
            facts["validity"] = self.what.validity()
        return {"phase": self.phase, "path": self.path.relative_to(root).as_posix(), **facts}


def seed(project: Project, budget: Budget) -> Iterator[Made]:
    """Pairs the poems, and asks for critiques, comparisons and revision briefs."""
    place = project.workspace
    if not place.matches.is_file() or project.mismatch():
        yield Made("seed", project.match(), place.matches)
    yield from ask(project, steps("seed"), budget)


def interim(project: Project, budget: Budget) -> Iterator[Made]:
    """Trains educator v1 on the seed, and asks `local`, which it is, for what is easy.

    Briefs, autopsies of all bad poems, lessons, more critiques of good poems; then the whole
    educator's set is balanced anew.
    """
    _need(project, "critique", "interim")
    _, data = project.mix_seed()
    folder = data.write(project.workspace.data_set("educator"))
    yield Made("interim", data, folder)
    yield from _model(project, "educator", "educator-v1", "interim")
    stopped = False
    for made in ask(project, steps("interim"), budget):
        yield made
        stopped |= isinstance(made.what, Run) and made.what.stopped is not None
    if not stopped:
        yield from _balance(project, "educator", "interim")


def poet(project: Project, budget: Budget) -> Iterator[Made]:
    """Asks for a poem to each brief; with them go pairs made backwards from good poems."""
    _need(project, "brief", "poet")
    yield from ask(project, steps("poet"), budget)


def final(project: Project, budget: Budget) -> Iterator[Made]:
    """Balances all there is, trains educator v2 and poet v2, and measures them."""
    _need(project, "brief", "final")
    _need(project, "poem", "final")
    for role in _ROLES:
        yield from _balance(project, role, "final")
    for role in _ROLES:
        yield from _model(project, role, f"{role}-v2", "final")
    if project.workspace.settings.quotas.canaries:
        yield _measured(project, budget)


_ROLES: tuple[Role, ...] = ("educator", "poet")

RUNS: dict[str, Callable[[Project, Budget], Iterator[Made]]] = {
    "seed": seed,
    "interim": interim,
    "poet": poet,
    "final": final,
}
"""The phases in their order."""

LEAVES: dict[str, tuple[str, ...]] = {
    "seed": ("data/matches.jsonl", *(step.file for step in PHASES["seed"])),
    "interim": (
        "models/educator-v1.gguf",
        *(step.file for step in PHASES["interim"]),
        "data/educator_training/train.jsonl",
    ),
    "poet": tuple(step.file for step in PHASES["poet"]),
    "final": (
        *(f"data/{role}_training/{side}.jsonl" for role in _ROLES for side in ("train", "valid")),
        *(f"models/{role}-v2.gguf" for role in _ROLES),
        "reports/evaluation.html",
    ),
}
"""The files that each phase leaves."""


def ask(
    project: Project,
    todo: Iterable[Step],
    budget: Budget,
    *,
    before: Callable[[Plan], None] | None = None,
    **how: Any,
) -> Iterator[Made]:
    """Asks what each step has left to ask, and writes down what it leaves.

    Args:
        project: Of which workspace.
        todo: The steps, in their order.
        budget: Is charged with what each of them spends.
        before: Is given the plan of a step whose items have come into being just now, such as to
            show the bill.
        how: As for `Project.plan`: `backend`, `limit`, and what the backend takes.
    """
    for step in todo:
        plan = project.plan(step, **how)
        if before and step.after:
            before(plan)
        run = generate(plan, budget=budget.left)
        budget.take(run)
        yield Made(step.phase, run, project.leave(step))
        # Without money the steps that follow can still collect what they have handed in.
        if run.stopped and "budget" not in run.errors():
            return


def _need(project: Project, task: str, phase: str) -> None:
    """Refuses to begin a phase that has nothing to begin with."""
    (step,) = steps(task)[:1]
    ledger = project.workspace.ledger(step.phase, task)
    if ledger.is_file() and project.run(step).rows:
        return
    failed = sum(row.error is not None for row in read_rows(ledger)[0])
    if step.after and not failed:  # then the fault lies there
        _need(project, step.after, phase)
    if failed:
        raise BadInput(
            f"The {phase} phase needs answers to {task}, and all {failed:,} failed; versecraft "
            f"report shows why. Name another model as roles.{step.backend} in versecraft.toml, "
            f"then: versecraft run {step.phase}"
        )
    raise BadInput(
        f"There are no answers to {task} yet, which the {phase} phase needs. Make them with: "
        f"versecraft run {step.phase}"
    )


def _balance(project: Project, role: Role, phase: str) -> Iterator[Made]:
    mixture, data = project.mix_found(role)
    folder = data.write(project.workspace.data_set(role))
    if role == "educator":
        yield Made(phase, mixture, folder)
    yield Made(phase, data, folder)


def _model(project: Project, role: Role, name: str, phase: str) -> Iterator[Made]:
    """Trains a model and makes a GGUF of it; a finished one is kept, whatever has changed."""
    folder = project.workspace.inside(f"models/{name}")
    try:
        checkpoint = project.train(role, name)  # at once where it has finished
    except BadInput:
        if not (facts_in(folder) or {}).get("finished"):
            raise
        warnings.warn(
            f"models/{name} was trained on other data or with other settings than today's, and is "
            f"kept. Train it anew with: versecraft reset models/{name} --yes, then versecraft run "
            f"{phase}",
            RuntimeWarning,
            stacklevel=2,
        )
        checkpoint = read_checkpoint(folder)
    yield Made(phase, checkpoint, folder)
    gguf = folder.with_name(f"{name}.gguf")
    if exported_from(gguf) != card_digest(folder):
        project.export(folder)
    yield Made(phase, None, gguf)


def _measured(project: Project, budget: Budget) -> Made:
    """Asks both models, as nobody corrects them, and writes the report; a current one is kept."""
    place = project.workspace
    page = place.inside("reports/evaluation.html")
    record, sources = page.with_suffix(".json"), page.with_suffix(".from.json")
    unseen = project.unseen()
    made_from = json.dumps(_sources(project, unseen))
    if page.is_file() and sources.is_file() and sources.read_text("utf-8") == made_from:
        return Made("final", Report.model_validate_json(record.read_bytes()), page)
    report = evaluate(
        poet=place.poets("gguf:models/poet-v2.gguf"),
        educator=place.backend("gguf:models/educator-v2.gguf") if unseen else None,
        corpus=project.corpus,
        matches=unseen,
        into=place.inside("runs/evaluation"),
        limit=place.settings.quotas.canaries,
        budget=budget.left,
        seed=place.settings.seed,
    )
    report.html(page)
    write_whole(record, report.model_dump_json(indent=1))
    if not report.unanswered:  # else the next run asks for what is missing
        write_whole(sources, made_from)
    return Made("final", report, page)


def _sources(project: Project, pairs: list[Match]) -> dict[str, str]:
    """Digests of what a report is made from."""
    place = project.workspace
    models = ("educator-v2.gguf", "poet-v2.gguf")
    prompts = [get_task(name).prompt for name in ("poem", "comparison", "critique")]
    return {
        **{name: sampled_digest(place.inside(f"models/{name}")) for name in models},
        "poems": digest(*sorted(poem.id for poem in project.corpus.poems)),
        "pairs": digest(*sorted(f"{m.bad.id} {m.good.id}" for m in pairs)),
        "prompts": digest(*(f"{prompt.turn}{prompt.render_persona()}" for prompt in prompts)),
        "settings": f"{place.settings.quotas.canaries} {place.settings.seed}",
        "versecraft": version("versecraft"),
    }
