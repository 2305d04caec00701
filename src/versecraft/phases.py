"""The phases of a project: which task is done on what, by whom, and where the answers lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .backends import Backend, BatchBackend
from .backwards import pairs_of, requests_of
from .balancing import Balancer
from .batches import Journal
from .corpus import read_corpus
from .dataset import build_dataset
from .errors import BadInput, UnknownName
from .exporting import export
from .generating import generate
from .ledger import read_rows
from .matching import Matcher, Matches
from .planning import CHARS_PER_TOKEN, bill, items, plan
from .plugins import get_task, get_trainer, list_tasks
from .records import Corpus, Example, Item, Poem, Price, RevisionItem, Role, digest
from .runs import Cost, Plan, Run, Tokens, read_run
from .trainers import Checkpoint, read_checkpoint
from .training_data import Mixture, Split, read_split
from .workspace import Workspace

__all__ = ["PHASES", "Project", "Step", "interim", "steps"]


@dataclass(frozen=True)
class Step:
    """One task of a phase.

    Attributes:
        phase: "seed", "interim", "poet", or a plugin's name.
        task: The task's name.
        backend: "opus", "local", or a backend's spec.
        items: Makes the items from a project.
        file: Where the phase leaves the answers, for people and other tools.
        after: The task whose answers the items are made from, if they are.
        most: How many items there will be at the most, for such a step.
    """

    phase: str
    task: str
    backend: str
    items: Callable[[Project], Iterable[Any]]
    file: str
    after: str | None = None
    most: Callable[[Project], int] = lambda _: 0


class Project:
    """A workspace with what has been read from it so far."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._corpus: Corpus | None = None

    @property
    def corpus(self) -> Corpus:
        """The poems in `data/raw`."""
        if self._corpus is None:
            self._corpus = read_corpus(self.workspace.raw)
        return self._corpus

    def match(
        self, *, strategy: str | None = None, k: int | None = None, seed: int | None = None
    ) -> Matches:
        """Pairs the bad poems with good ones and writes the pairs down."""
        wanted = self.workspace.settings.matching
        matcher = Matcher(
            strategy=strategy or wanted.strategy,  # type: ignore[arg-type]
            k=k or wanted.k,
            seed=self.workspace.settings.seed if seed is None else seed,
            cache=self.workspace.cache,
        )
        matches = matcher.fit(self.corpus.good).match(self.corpus.bad)
        matches.write(self.workspace.matches)
        return matches

    def matches(self) -> Matches:
        """The pairs that `match` wrote down.

        Raises:
            BadInput: There are none yet.
        """
        if not self.workspace.matches.is_file():
            raise BadInput("There are no matches yet. Make them with: versecraft match")
        return Matches.read(self.workspace.matches, self.corpus)

    def good(self, first: int, count: int) -> list[Poem]:
        """`count` good poems from the `first` on, in an order that the seed decides."""
        seed = str(self.workspace.settings.seed)
        drawn = sorted(self.corpus.good, key=lambda p: digest(seed, p.id))
        return drawn[first : first + count]

    def plan(
        self,
        step: Step,
        backend: str | Backend | BatchBackend | None = None,
        *,
        limit: int | None = None,
        **options: Any,
    ) -> Plan:
        """What a step would ask.

        Args:
            step: Which step.
            backend: A backend or its spec, in place of the step's role.
            limit: Take the first items only.
            options: For the backend, such as `concurrency`.
        """
        place = self.workspace
        system: Literal["guide", "persona"] = "guide"
        if backend is None or isinstance(backend, str):
            spec = backend or step.backend
            system = place.system(spec)
            backend = place.backend(spec, **options)
        return plan(
            get_task(step.task),
            list(self.items(step))[:limit],
            backend,
            ledger=place.ledger(step.phase, step.task),
            system=system,
        )

    def forecast(self, step: Step, plan: Plan, limit: int | None = None) -> tuple[int, Cost]:
        """Items that a step may still get from what is not answered yet, and their cost at most.

        A turn is taken as some 4,000 characters: a poem with its critique, or a brief.
        """
        count = 0
        if step.after:
            source = _step(step.after)
            unanswered = len(self.items(source)) - len(self.run(source).rows)
            most = step.most(self) if limit is None else min(limit, step.most(self))
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

    def items(self, step: Step) -> list[Item]:
        """The items of a step."""
        settings = self.workspace.settings
        task, orders = get_task(step.task), settings.matching.orders
        return items(task, step.items(self), orders=orders, seed=settings.seed)

    def run(self, step: Step) -> Run:
        """What the ledger of a step holds."""
        ledger = self.workspace.ledger(step.phase, step.task)
        return read_run(get_task(step.task), self.items(step), ledger)

    def examples(self, phase: str | None = None) -> Iterator[Example]:
        """The training rows of every step that has a ledger, or of those of one phase."""
        for step in steps(phase):
            if self.workspace.ledger(step.phase, step.task).is_file():
                run = self.run(step)
                yield from run.examples()
                yield from pairs_of(run)

    def spent(self) -> float:
        """Dollars that all ledgers have cost so far."""
        ledgers = [self.workspace.ledger(step.phase, step.task) for step in steps()]
        total = 0.0
        for ledger in ledgers:
            rows = read_rows(ledger)[0]
            total += sum(row.cost for row in rows)
            # Batches are paid for before all that they were asked has ended in a row.
            total += sum(state["cost"] for state in Journal(ledger).unfinished(rows).values())
        return total

    def balance(
        self,
        role: Role,
        *,
        bad_share: float | None = None,
        min_tasks: int | None = None,
        seed: int | None = None,
        phase: str | None = None,
    ) -> tuple[Mixture, Split]:
        """Mixes what the ledgers hold, splits it by poem, and writes the data set's folder.

        Arguments that are None are as the settings say; `phase` takes the answers of one alone.
        """
        settings = self.workspace.settings
        seed = settings.seed if seed is None else seed
        mixture = Balancer(
            bad_share=settings.balance.bad_share if bad_share is None else bad_share,
            min_tasks=settings.balance.min_tasks if min_tasks is None else min_tasks,
            seed=seed,
        ).balance(e for e in self.examples(phase) if e.role == role)
        data = build_dataset(
            mixture, role=role, valid=settings.balance.valid, seed=seed, cost=self.spent()
        )
        data.write(self.workspace.data_set(role))
        return mixture, data

    def train(
        self,
        role: Role,
        name: str,
        *,
        trainer: str | None = None,
        base: str | None = None,
        steps: int | None = None,
    ) -> Checkpoint:
        """Trains on the data set of a role; the checkpoint's folder is `models/<name>`."""
        wanted = self.workspace.settings.training
        steps = steps or wanted.steps
        options = {**wanted.options, **({"steps": steps} if steps else {})}
        return get_trainer(trainer or wanted.trainer, **options).train(
            read_split(self.workspace.data_set(role)),
            base=self.workspace.base(base or wanted.base),
            into=self.workspace.inside(f"models/{name}"),
        )

    def export(self, checkpoint: str | Path, *, quantization: str | None = None) -> Path:
        """Writes `models/<name>.gguf` from the checkpoint in the folder `models/<name>`."""
        folder = self.workspace.inside(checkpoint)
        return export(
            read_checkpoint(folder),
            quantization=quantization or self.workspace.settings.training.quantization,
            into=folder.with_name(f"{folder.name}.gguf"),
        )

    def leave(self, step: Step) -> Path:
        """Writes all answered rows of a step where its phase leaves them."""
        file = self.workspace.inside(step.file)
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(".part")
        try:
            with aside.open("w", encoding="utf-8") as out:
                for row in self.run(step).rows:
                    out.write(row.model_dump_json(exclude_none=True) + "\n")
            os.replace(aside, file)
        finally:
            aside.unlink(missing_ok=True)
        return file

    def status(self) -> list[dict[str, Any]]:
        """For each step: items answered, failed last, under way by the batch; dollars."""
        found = []
        for step in steps():
            ledger = self.workspace.ledger(step.phase, step.task)
            rows, broken = read_rows(ledger)
            journal = Journal(ledger)
            # An answer counts though a failure was written after it.
            by_worth = sorted(rows, key=lambda row: row.output is not None)
            last = {row.item_id: row for row in by_worth}.values()
            found.append(
                {
                    "phase": step.phase,
                    "task": step.task,
                    "answered": sum(row.output is not None for row in last),
                    "failed": sum(row.error is not None for row in last),
                    "under_way": len(journal.under_way(rows)),
                    "batches": [batch.line() for batch in journal.open.values()],
                    "broken_lines": len(broken),
                    "dollars": round(sum((row.cost for row in rows), 0.0), 4),
                }
            )
        return found


def interim(project: Project) -> list[Run]:
    """Trains educator v1 on the seed data and does with it, on this machine, what is easy.

    Briefs, autopsies of all bad poems, lessons, more critiques of good poems; then the whole
    educator's set is balanced anew, unless a run was stopped. Call it again to go on.

    Returns:
        A run for each of these tasks.
    """
    # The seed has neither autopsies nor good rows enough for each bad poem in three tasks. Of its
    # answers alone: v1 must not learn from what it said itself.
    project.balance("educator", min_tasks=1, phase="seed")
    checkpoint = project.train("educator", "educator-v1")  # at once where it has finished
    gguf = project.workspace.inside("models/educator-v1.gguf")
    card = checkpoint.path / "README.md"
    if not gguf.is_file() or gguf.stat().st_mtime < card.stat().st_mtime:
        project.export(checkpoint.path)
    runs = []
    for step in steps("interim"):
        runs.append(generate(project.plan(step, "gguf:models/educator-v1.gguf")))
        project.leave(step)
        if runs[-1].stopped:
            return runs
    project.balance("educator")
    return runs


def _seed_critiques(p: Project) -> Iterable[Any]:
    return [*p.corpus.bad, *p.good(0, p.workspace.settings.quotas.good_critiques)]


def _more_critiques(p: Project) -> Iterable[Any]:
    quotas = p.workspace.settings.quotas
    return p.good(quotas.good_critiques, quotas.more_critiques)


def _revision_briefs(p: Project) -> Iterable[Any]:
    # Bad poems come first in the critiques, so the quota goes to them before the good ones; an
    # approved poem needs no revision.
    made = items(get_task("revision_brief"), p.run(_step("critique")))
    unfinished = [i for i in made if isinstance(i, RevisionItem) and not i.critique.approved]
    return unfinished[: p.workspace.settings.quotas.revision_briefs]


def _briefs(p: Project) -> Iterable[Any]:
    backwards = requests_of(p.good(0, p.workspace.settings.quotas.backwards))
    return [*p.workspace.lines("requests"), *backwards]


def _poems(p: Project) -> Iterable[Any]:
    # A brief that was made from a poem has its poem.
    asked = [i for i in p.items(_step("brief")) if not i.poems]
    run = read_run(get_task("brief"), asked, p.workspace.ledger("interim", "brief"))
    return items(get_task("poem"), run)


PHASES: dict[str, tuple[Step, ...]] = {
    "seed": (
        Step("seed", "critique", "opus", _seed_critiques, "data/annotated/critiques_seed.jsonl"),
        Step("seed", "comparison", "opus", Project.matches, "data/annotated/comparisons.jsonl"),
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
            lambda p: len(p.workspace.lines("requests")),
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
        return [_step(name)]
    others = [t.name for t in list_tasks() if t.name not in {step.task for step in built_in}]
    if name is None:
        return built_in + [_plugin_step(other) for other in others]
    if name in others:
        return [_plugin_step(name)]
    raise UnknownName("task or phase", name, [*PHASES, *(s.task for s in built_in), *others])


def _step(task: str) -> Step:
    return next(step for phase in PHASES.values() for step in phase if step.task == task)


def _plugin_step(name: str) -> Step:
    """A plugin's task is done on all poems, matches or lines, by what its input needs."""
    task = get_task(name)
    phase, _, short = name.rpartition("/")
    needed = {f.annotation for f in task.input.model_fields.values() if f.is_required()}

    def sources(p: Project) -> Iterable[Any]:
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
