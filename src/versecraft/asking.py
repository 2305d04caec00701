"""Asking models for an evaluation: each first answer is kept as it was said, whatever it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from .answers import Answer
from .backends import Backend, BatchBackend
from .canaries import Canary
from .critics import Reading
from .errors import BadInput
from .generating import generate
from .planning import plan
from .plugins import get_task
from .records import BriefItem, Item, Match, Role, Row
from .runs import Plan
from .tasks import PromptTask, Task

__all__ = [
    "Asked",
    "Asking",
    "Backends",
    "System",
    "ask",
    "check_names",
    "has_come",
    "one_of",
    "reading",
]

Backends = Backend | BatchBackend | Mapping[str, Backend | BatchBackend]
System = Literal["guide", "persona"]

GREEDY = "greedy"
"""The name of a poet whose answers to one brief are all alike."""


class _Said(Answer):
    text: str


@dataclass(frozen=True, kw_only=True)
class _Unchecked(PromptTask[Any, Any]):
    """A task whose first answer always counts: nothing is refused, so nothing is asked again."""

    def read(self, item: Item, answer: str) -> Any:
        return _Said(text=answer)

    def accept(self, item: Item, result: Any) -> str | None:
        return None


def _unchecked(name: str, **changes: Any) -> _Unchecked:
    task = get_task(name)
    parts = {f.name: getattr(task, f.name) for f in fields(PromptTask)}
    return _Unchecked(**{**parts, "check": None, **changes})


@dataclass(frozen=True)
class Asked:
    """What is asked of one model, and what it answered.

    Attributes:
        of: Whose answers they are, as the report calls them.
        rows: Answers with their items. Before asking: those of an earlier call that did not end,
            which count and are not asked again.
    """

    of: str
    plan: Plan
    rows: tuple[tuple[Item, Row], ...]


@dataclass(frozen=True)
class Asking:
    """How an evaluation asks.

    Attributes:
        into: The folder of the ledgers, one for each task.
        systems: What the models of a role are told.
        samples: Answers to each brief.
        poem_tokens: Longest answer of a poet.
    """

    into: Path
    systems: Mapping[str, System]
    samples: int
    poem_tokens: int
    seed: int

    def poems(
        self,
        who: str,
        backends: Backends | None,
        briefs: Sequence[Canary],
        like: Backends | None = None,
    ) -> list[Asked]:
        """The briefs, asked of each of the backends; of those only that `like` has names of."""
        task = _unchecked("poem", max_tokens=self.poem_tokens)
        names = None if like is None else list(like) if isinstance(like, Mapping) else [""]
        items = [BriefItem(brief=canary.brief) for canary in briefs]
        return [
            self._asked(f"{who}, {name}" if name else who, task, items, backend, self.seed + n)
            for name, backend in _by_name(backends, names).items()
            for n in range(1 if name == GREEDY else self.samples)
        ]

    def readings(
        self, who: str, backend: Backend | BatchBackend | None, pairs: Sequence[Match]
    ) -> list[Asked]:
        """The pairs in both orders, and their poems one by one."""
        if backend is None or not pairs:
            return []
        both = [pair for m in pairs for pair in (m.pair("bad-first"), m.pair("good-first"))]
        poems = list({p.id: p for m in pairs for p in (m.bad, m.good)}.values())
        return [
            self._asked(who, _unchecked(name), items, backend, self.seed)
            for name, items in (("comparison", both), ("critique", poems))
        ]

    def _asked(
        self,
        of: str,
        task: Task[Any, Any],
        sources: Sequence[Any],
        backend: Backend | BatchBackend,
        seed: int,
    ) -> Asked:
        ledger, system = self.into / f"{task.name}.jsonl", self.systems[task.role]
        whole = plan(task, sources, backend, ledger=ledger, system=system, seed=seed)
        cut = [
            (job, row)
            for job in whole.jobs
            if (row := whole.found.get(job.key)) and row.error and row.error.kind == "truncated"
        ]
        if cut:
            keys = {job.key for job, _ in cut}
            left = [job.item for job in whole.jobs if job.key not in keys]
            whole = plan(task, left, backend, ledger=ledger, system=system, seed=seed)
        return Asked(of, whole, tuple((job.item, row) for job, row in cut))


def _by_name(
    backends: Backends | None, names: Iterable[str] | None
) -> Mapping[str, Backend | BatchBackend]:
    if backends is None:
        return {}
    if isinstance(backends, Mapping):
        return {n: b for n, b in backends.items() if names is None or n in names}
    return dict.fromkeys(names or [""], backends)


def check_names(base: Backends | None, poet: Backends | None) -> None:
    """Raises where a base has a name that nobody has whom it could stand beside.

    Raises:
        BadInput: There is such a name.
    """
    known = [*(poet if isinstance(poet, Mapping) else ()), "educator"]
    for name in base if isinstance(base, Mapping) else ():
        if name not in known:
            raise BadInput(
                f"The base {name!r} stands beside nobody. Name bases as the poets are named, or "
                f"educator; known: {', '.join(known)}. A base without a name stands beside all."
            )


def one_of(backends: Backends | None, name: Role) -> Backend | BatchBackend | None:
    """The backend of that name; the only one where there is one."""
    return backends.get(name) if isinstance(backends, Mapping) else backends


def ask(asked: Sequence[Asked], budget: float | None, progress: bool) -> list[Asked]:
    """Asks what has no answer yet; all together stay within the budget."""
    found = []
    for _, group in groupby(asked, key=lambda one: id(one.plan.backend)):
        same = list(group)
        with _held(same[0].plan.backend):
            for one in same:
                run = generate(one.plan, budget=budget, progress=progress)
                if budget is not None:
                    budget = max(0.0, budget - run.cost - run.held)
                now = zip(run.items, run.rows, strict=True)
                found.append(replace(one, rows=(*one.rows, *now)))
    return found


def _held(backend: object) -> AbstractContextManager[None]:
    """Within this a model in this process stays loaded from run to run."""
    return backend.held() if hasattr(backend, "held") else nullcontext()


def has_come(row: Row) -> bool:
    """Whether a row says something of the model: an answer, one that was cut, or a refusal."""
    return row.error is None or row.error.kind in ("truncated", "refusal")


def reading(name: str, item: Item, row: Row) -> Reading:
    """A first answer as the task of that name takes it."""
    if row.output is None:
        return Reading(item)
    task = get_task(name)
    try:
        result = task.read(item, row.output["text"])
    except ValidationError:
        return Reading(item)
    return Reading(item, result, task.accept(item, result))
