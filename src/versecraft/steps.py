"""The steps of the phases: which task is done on what, by whom, and where its answers lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

from .backwards import requests_of, unbriefed
from .errors import BadInput, UnknownName
from .planning import items
from .plugins import get_task, list_tasks
from .records import Poem, RevisionItem

__all__ = ["PHASES", "Step", "step_of", "steps"]


@dataclass(frozen=True)
class Step:
    """One task of a phase.

    Attributes:
        phase: "seed", "interim", "poet", or a plugin's name.
        task: The task's name.
        backend: "opus", "local", or a backend's spec.
        items: Makes the items from a `Project`.
        file: Where the phase leaves the answers, for people and other tools.
        after: The task whose answers the items are made from, if they are.
        most: How many items there will be at the most, where something must be made before.
        leaves: What is written there: the answered rows, or all pairs of a brief and a poem.
    """

    phase: str
    task: str
    backend: str
    items: Callable[[Any], Iterable[Any]]
    file: str
    after: str | None = None
    most: Callable[[Any], int] = lambda _: 0
    leaves: Literal["rows", "pairs"] = "rows"


def _seed_critiques(p: Any) -> Any:
    return [*p.corpus.bad, *p.good(0, p.workspace.settings.quotas.good_critiques)]


def _more_critiques(p: Any) -> Any:
    quotas = p.workspace.settings.quotas
    return p.good(quotas.good_critiques, quotas.more_critiques)


def _revision_briefs(p: Any) -> Any:
    # Bad poems come first in the critiques, so the quota goes to them before the good ones; an
    # approved poem needs no revision.
    made = items(get_task("revision_brief"), p.run(step_of("critique")))
    unfinished = [i for i in made if isinstance(i, RevisionItem) and not i.critique.approved]
    return unfinished[: p.workspace.settings.quotas.revision_briefs]


def _briefs(p: Any) -> Any:
    wanted = p.workspace.settings.quotas.backwards
    # As many as are wanted, if there are: of some poems no brief can be true.
    fit = (poem for poem in p.good(0, len(p.corpus.good)) if unbriefed(poem) is None)
    return [*p.workspace.lines("requests"), *requests_of(islice(fit, wanted))]


def _in_pairs(p: Any) -> Any:
    wanted = p.workspace.settings.matching
    return len(p.corpus.bad) * wanted.k * (2 if wanted.orders == "both" else 1)


def _poems(p: Any) -> Any:
    # A brief that was made from a poem has its poem.
    run = p.run(step_of("brief"))
    kept = [(item, row) for item, row in zip(run.items, run.rows, strict=True) if not item.poems]
    forward = replace(run, items=tuple(i for i, _ in kept), rows=tuple(row for _, row in kept))
    return items(get_task("poem"), forward)


PHASES: dict[str, tuple[Step, ...]] = {
    "seed": (
        Step("seed", "critique", "opus", _seed_critiques, "data/annotated/critiques_seed.jsonl"),
        Step(
            "seed", "comparison", "opus", lambda p: p.matches(), "data/annotated/comparisons.jsonl",
            most=_in_pairs,
        ),
        Step(
            "seed", "revision_brief", "opus", _revision_briefs,
            "data/educator_training/revision_briefs_seed.jsonl",
            "critique",
            lambda p: p.workspace.settings.quotas.revision_briefs,
        ),
    ),
    "interim": (
        Step(
            "interim", "brief", "local", _briefs, "data/educator_training/briefs.jsonl",
        ),
        Step(
            "interim", "autopsy", "local", lambda p: p.corpus.bad, "data/annotated/autopsies.jsonl"
        ),
        Step(
            "interim", "lesson", "local", lambda p: p.workspace.lines("questions"),
            "data/educator_training/lessons.jsonl",
        ),
        Step(
            "interim", "critique", "local", _more_critiques, "data/annotated/critiques.jsonl"
        ),
    ),
    "poet": (
        Step(
            "poet", "poem", "opus", _poems, "data/poet_training/pairs.jsonl", "brief",
            lambda p: len(p.workspace.lines("requests")), "pairs",
        ),
    ),
}  # fmt: skip
"""The steps of each phase that asks a model, in their order."""


def steps(name: str | None = None) -> list[Step]:
    """The steps of a phase or of a task; of all phases and plugins when no name is given.

    Raises:
        UnknownName: There is no phase and no task of that name.
    """
    built_in = [step for phase in PHASES.values() for step in phase]
    if name in PHASES:
        return list(PHASES[name])
    if name in {step.task for step in built_in}:
        return [step_of(name)]
    others = [t.name for t in list_tasks() if t.name not in {step.task for step in built_in}]
    if name is None:
        return built_in + [_pluginstep_of(other) for other in others]
    if name in others:
        return [_pluginstep_of(name)]
    raise UnknownName("task or phase", name, [*PHASES, *(s.task for s in built_in), *others])


def step_of(task: str) -> Step:
    """The first step that does a built-in task."""
    return next(step for phase in PHASES.values() for step in phase if step.task == task)


def _pluginstep_of(name: str) -> Step:
    """A plugin's task is done on all poems, matches or lines, by what its input needs."""
    task = get_task(name)
    phase, _, short = name.rpartition("/")
    needed = {f.annotation for f in task.input.model_fields.values() if f.is_required()}

    def sources(p: Any) -> Any:
        if needed == {Poem}:
            return _seed_critiques(p)
        if needed == {str}:
            return p.workspace.lines("requests")
        if Poem in needed:
            return p.matches()
        raise BadInput(
            f"Which items {name} works on cannot be told from its input model. Call "
            "versecraft.plan from Python with items of your own."
        )

    return Step(phase or short, name, task.backend, sources, f"data/annotated/{name}.jsonl")
