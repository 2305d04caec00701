"""A project: a workspace with what it holds: poems, matches, answers, data sets, models."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from .backends import Backend, BatchBackend
from .backwards import pairs_of
from .balancing import Balancer
from .batches import Journal
from .checkpoints import write_whole
from .corpus import read_corpus
from .dataset import build_dataset
from .decisions import read_decisions
from .errors import BadInput, CoverageError
from .exporting import export
from .ledger import read_rows
from .matching import Matcher, Matches
from .planning import items, plan
from .plugins import get_task, get_trainer
from .records import Corpus, Example, Item, Match, Poem, Role, digest
from .runs import Plan, Run, read_run
from .steps import PHASES, Step, steps
from .trainers import Checkpoint, read_checkpoint
from .training_data import Mixture, Split, read_split
from .workspace import Workspace

__all__ = ["PHASES", "Project", "Step", "steps"]

T = TypeVar("T")


class Project:
    """A workspace with what has been read from it so far."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._corpus: Corpus | None = None
        self._matches: Matches | None = None
        self._seen: dict[tuple[str, Step], Any] | None = None

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """While nobody asks anything: each step's items, and what it holds, are read once."""
        outer, self._seen = self._seen, self._seen if self._seen is not None else {}
        try:
            yield
        finally:
            self._seen = outer

    def _once(self, what: str, step: Step, read: Callable[[], T]) -> T:
        if self._seen is None:
            return read()
        if (what, step) not in self._seen:
            self._seen[what, step] = read()
        found: T = self._seen[what, step]
        return found

    @property
    def corpus(self) -> Corpus:
        """The poems in `data/raw`."""
        if self._corpus is None:
            cache = self.workspace.root / ".cache" / "corpus.json"
            self._corpus = read_corpus(self.workspace.raw, cache=cache)
        return self._corpus

    def pair(
        self, *, strategy: str | None = None, k: int | None = None, seed: int | None = None
    ) -> Matches:
        """Pairs the bad poems with good ones, for this object alone; nothing is written.

        Arguments that are None are as the settings say.
        """
        wanted = self.workspace.settings.matching
        matcher = Matcher(
            strategy=strategy or wanted.strategy,  # type: ignore[arg-type]
            k=k or wanted.k,
            seed=self.workspace.settings.seed if seed is None else seed,
            cache=self.workspace.cache,
        )
        self._matches = matcher.fit(self.corpus.good).match(self.corpus.bad)
        return self._matches

    def match(self, **how: Any) -> Matches:
        """Pairs the poems as `pair` does, and writes the pairs down."""
        matches = self.pair(**how)
        matches.write(self.workspace.matches)
        write_whole(self._sources_file, json.dumps(self._sources()))
        return matches

    def _sources(self) -> dict[str, str]:
        """Digests of what matches are made from; what was given in place of settings is not in."""
        settings = self.workspace.settings
        wanted = settings.matching.model_dump_json(exclude={"orders"})
        ids = {
            side: digest(*sorted(poem.id for poem in poems))
            for side, poems in (("good", self.corpus.good), ("bad", self.corpus.bad))
        }
        return {**ids, "settings": digest(wanted, str(settings.seed))}

    @property
    def _sources_file(self) -> Path:
        return self.workspace.matches.with_suffix(".from.json")

    def mismatch(self) -> str | None:
        """Why the matches that were written down are not what `match` would make; else None."""
        if not self._sources_file.is_file():
            return "it is not recorded what they were made from"
        found, today = json.loads(self._sources_file.read_text("utf-8")), self._sources()
        changed = [name for name in today if found.get(name) != today[name]]
        said = {"good": "other good poems", "bad": "other bad poems", "settings": "other settings"}
        return f"made from {' and '.join(said[name] for name in changed)}" if changed else None

    def matches(self) -> Matches:
        """The pairs that `match` made or wrote down.

        Raises:
            BadInput: There are none yet, or they are of other poems than today's.
        """
        if self._matches is not None:
            return self._matches
        if not self.workspace.matches.is_file():
            raise BadInput("There are no matches yet. Make them with: versecraft match")
        return Matches.read(self.workspace.matches, self.corpus)

    def unseen(self) -> list[Match]:
        """The matches of which no poem is in the educator's training set.

        Raises:
            BadInput: There are no matches, or there is no data set.
        """
        rows = read_split(self.workspace.data_set("educator")).train
        trained = {poem for row in rows for poem in row.poem_ids}
        return [m for m in self.matches() if trained.isdisjoint((m.bad.id, m.good.id))]

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
        sources: Iterable[Any] | None = None,
        count: bool = True,
        **options: Any,
    ) -> Plan:
        """What a step would ask.

        Args:
            step: Which step.
            backend: A backend or its spec, in place of the step's role.
            limit: Take the first items only.
            sources: In place of the step's own items.
            count: Whether the provider may be asked to count tokens.
            options: For the backend, such as `concurrency`.
        """
        place = self.workspace
        system: Literal["guide", "persona"] = "guide"
        if backend is None or isinstance(backend, str):
            spec = backend or step.backend
            system = place.system(spec, step.task)
            backend = place.backend(spec, **options)
        return plan(
            get_task(step.task),
            list(self.items(step) if sources is None else sources)[:limit],
            backend,
            ledger=place.ledger(step.phase, step.task),
            system=system,
            count=count,
        )

    def items(self, step: Step) -> list[Item]:
        """The items of a step."""
        wanted = self.workspace.settings
        task, orders = get_task(step.task), wanted.matching.orders
        return self._once(
            "items", step, lambda: items(task, step.items(self), orders=orders, seed=wanted.seed)
        )

    def run(self, step: Step) -> Run:
        """What the ledger of a step holds."""
        return self._once("run", step, lambda: self.run_of(step, self.items(step)))

    def run_of(self, step: Step, items: Iterable[Item]) -> Run:
        """What the ledger of a step holds for the given items, as a reader left it."""
        ledger = self.workspace.ledger(step.phase, step.task)
        decisions = read_decisions(self.workspace.decisions)
        return read_run(get_task(step.task), items, ledger, decisions)

    def runs(self, phase: str | None = None) -> Iterator[Run]:
        """What every step that has a ledger holds, or those of one phase."""
        return map(self.run, self._begun(phase))

    def _begun(self, phase: str | None) -> Iterator[Step]:
        for step in steps(phase):
            if self.workspace.ledger(step.phase, step.task).is_file():
                yield step

    def examples(self, phase: str | None = None, role: Role | None = None) -> Iterator[Example]:
        """The training rows of every step that has a ledger; those of one phase, of one role."""
        for step in self._begun(phase):
            yield from self._once(f"rows of {role}", step, partial(self._examples, step, role))

    def _examples(self, step: Step, role: Role | None) -> list[Example]:
        run = self.run(step)
        rows = list(run.examples()) if role in (None, run.task.role) else []
        return [*rows, *(pairs_of(run) if role in (None, "poet") else ())]

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

    def mix(
        self,
        role: Role,
        *,
        bad_share: float | None = None,
        min_tasks: int | None = None,
        seed: int | None = None,
        phase: str | None = None,
    ) -> tuple[Mixture, Split]:
        """Mixes what the ledgers hold and splits it by poem; nothing is written.

        Arguments that are None are as the settings say; `phase` takes the answers of one alone.
        """
        settings = self.workspace.settings
        seed = settings.seed if seed is None else seed
        balancer = Balancer(
            bad_share=settings.balance.bad_share if bad_share is None else bad_share,
            min_tasks=settings.balance.min_tasks if min_tasks is None else min_tasks,
            seed=seed,
        )
        with self.at_rest():
            gone = [d for run in self.runs(phase) if run.task.role == role for d in run.dropped]
            mixture = balancer.balance(self.examples(phase, role), dropped=gone)
        data = build_dataset(
            mixture, role=role, valid=settings.balance.valid, seed=seed, cost=self.spent()
        )
        return mixture, data

    def mix_seed(self) -> tuple[Mixture, Split]:
        """The seed's answers alone, which educator v1 learns from; nothing is written.

        The seed has neither autopsies nor good rows enough for each bad poem in three tasks; and
        v1 must not learn from what it said itself.
        """
        return self.mix("educator", min_tasks=1, phase="seed")

    def mix_found(self, role: Role) -> tuple[Mixture, Split]:
        """Mixes as `mix` does; where bad poems are in too few tasks, with as many as they are in.

        So what a weak `local` has answered is of use; a warning says what is missing.

        Raises:
            CoverageError: There is nothing to mix.
        """
        try:
            return self.mix(role)
        except CoverageError as error:
            for fewer in range(self.workspace.settings.balance.min_tasks - 1, 0, -1):
                with suppress(CoverageError):
                    mixed = self.mix(role, min_tasks=fewer)
                    warnings.warn(
                        f"{error} Until then the set is mixed as if min_tasks were {fewer}.",
                        RuntimeWarning,
                        stacklevel=2,
                    )
                    return mixed
            raise

    def balance(self, role: Role, **how: Any) -> tuple[Mixture, Split]:
        """Mixes and splits as `mix` does, and writes the data set's folder."""
        mixture, data = self.mix(role, **how)
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

    def left(self, step: Step) -> str:
        """What a step has to leave: its answered rows or the pairs they make, a line each."""
        if step.leaves == "pairs":
            return "".join(row.model_dump_json() + "\n" for row in self.examples(role="poet"))
        return "".join(row.model_dump_json(exclude_none=True) + "\n" for row in self.run(step).rows)

    def leave(self, step: Step) -> Path:
        """Writes what a step has to leave where its phase leaves it."""
        file = self.workspace.inside(step.file)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, self.left(step))
        return file
