"""Plans and runs: what a ledger lacks for the items of a task, and what it holds."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from .backends import Backend, BatchBackend, Request
from .decisions import Decision, decided
from .ledger import is_open, read_rows, warn_broken
from .records import Dropped, Example, Item, Price, Record, Row, Shown, Usage
from .tasks import Task

if TYPE_CHECKING:
    from rich.console import RenderableType

_SAID = ("invalid", "rejected", "truncated")

__all__ = ["Cost", "Job", "Plan", "Run", "Spent", "Tokens", "as_said", "read_run"]


@dataclass(frozen=True, slots=True)
class Job:
    """One item of a plan: what will be sent, and the key under which its answer is kept."""

    key: str
    item: Item
    turn: str


class Tokens(Record):
    """Estimated tokens, sent and received.

    Attributes:
        guide: Those of the guide or persona, which each request begins with.
        counted_by: How `input` was estimated.
    """

    input: int
    output: int
    guide: int = 0
    counted_by: str = "characters / 3.5"


class Cost(Record):
    """Estimated dollars: asked one by one or by the batch, without and with a prompt cache."""

    live: float = 0.0
    live_cached: float = 0.0
    batch: float = 0.0
    batch_cached: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{f: getattr(self, f) + getattr(other, f) for f in Cost.model_fields})


class Spent(float):
    """Dollars that were spent, and what a prompt cache did to them.

    Attributes:
        usage: The tokens that were paid for.
        saved: Dollars that the cache saved, what it cost to write taken off.
    """

    usage: Usage
    saved: float

    def __new__(cls, dollars: float, usage: Usage, price: Price | None) -> Self:
        """Dollars for the tokens at the price."""
        spent = super().__new__(cls, dollars)
        spent.usage = usage
        spent.saved = price.saved(usage) if price else 0.0
        return spent

    @property
    def written(self) -> int:
        """Tokens that were written to the cache."""
        return self.usage.cache_write_5m + self.usage.cache_write_1h

    @property
    def read(self) -> int:
        """Tokens that were found in the cache."""
        return self.usage.cache_read


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """What would be asked, what is answered already, and the bill. Making one is free.

    Attributes:
        jobs: One per item, in the order of the items; equal items are asked once.
        found: The ledger's last row for each key of `jobs` that it has.
        pending: Keys of what has been handed in by the batch and not been collected yet.
        prompt: Digest of the prompt: guide or persona, turn template, schema.
        tokens: For what is left to ask; the task's usual answer out.
        cost: Dollars for `tokens`, in four ways; `dollars` is the one that this backend takes.
        price: What this backend charges; None when it charges nothing.
        caches: Whether the backend keeps the guide in a prompt cache.
        seconds: For what is left to ask, at the backend's concurrency.
    """

    task: Task[Any, Any]
    backend: Backend | BatchBackend
    ledger: Path
    jobs: tuple[Job, ...]
    found: Mapping[str, Row]
    pending: frozenset[str]
    system: str
    schema: Mapping[str, Any] | None
    prompt: str
    seed: int | None
    tokens: Tokens
    cost: Cost
    price: Price | None
    caches: bool
    seconds: float

    @property
    def items(self) -> int:
        """How many items there are."""
        return len(self.jobs)

    @property
    def cached(self) -> int:
        """How many are answered already."""
        return sum(row.output is not None for row in self.found.values())

    @property
    def refused(self) -> int:
        """How many the model has declined; they are not asked again."""
        return self.items - self.cached - self.to_ask - self.under_way

    @property
    def under_way(self) -> int:
        """How many have been handed in by the batch and not been collected yet."""
        return len(self.pending)

    @property
    def to_ask(self) -> int:
        """How many are left to ask, those that failed before among them."""
        open_now = sum(is_open(self.found.get(job.key)) for job in self.jobs)
        return open_now - self.under_way

    @property
    def dollars(self) -> float:
        """The bill: what is left to ask, the way this backend asks it."""
        return self.of(self.cost)

    def of(self, cost: Cost) -> float:
        """Of four bills, the one for the way in which this backend asks."""
        way = "batch" if isinstance(self.backend, BatchBackend) else "live"
        return float(getattr(cost, f"{way}_cached" if self.caches else way))

    def request(self, job: Job) -> Request:
        """What is sent for a job."""
        return Request(
            system=self.system,
            turn=job.turn,
            max_tokens=self.task.max_tokens,
            schema=self.schema,
            seed=self.seed,
            meta={"task": self.task.name, "item_id": job.item.item_id},
        )

    def report(self) -> dict[str, Any]:
        """The bill as plain values."""
        return {
            "task": self.task.name,
            "backend": self.backend.id,
            "items": self.items,
            "cached": self.cached,
            "refused": self.refused,
            "to_ask": self.to_ask,
            "under_way": self.under_way,
            "tokens": self.tokens.model_dump(),
            "cost": self.cost.model_dump(),
            "dollars": self.dollars,
            "seconds": round(self.seconds, 1),
        }

    def __rich__(self) -> RenderableType:
        from rich.table import Table

        table = Table(title=f"Plan: {self.task.name} with {self.backend.id}", title_justify="left")
        table.add_column("what")
        table.add_column("amount", justify="right")
        failed = sum(is_open(row) for row in self.found.values())
        table.add_row("items", f"{self.items:,}")
        table.add_row("answered already", f"{self.cached:,}")
        if self.refused:
            table.add_row("refused before", f"{self.refused:,}")
        before = f" ({failed} failed before)" if failed else ""
        table.add_row("to ask", f"{self.to_ask:,}{before}")
        if self.under_way:
            table.add_row("under way by the batch", f"{self.under_way:,}")
        table.add_row("tokens in, about", f"{self.tokens.input:,}")
        table.add_row("tokens out, about", f"{self.tokens.output:,}")
        if self.price:
            for way, name in (("live", "dollars, live"), ("batch", "dollars, batch")):
                table.add_row(name, f"{getattr(self.cost, way):,.2f}")
                if self.caches:
                    cached = getattr(self.cost, f"{way}_cached")
                    table.add_row("  with the guide cached", f"{cached:,.2f}")
        table.add_row("dollars, this way", f"{self.dollars:,.2f}")
        if not isinstance(self.backend, BatchBackend):
            table.add_row("minutes, about", f"{self.seconds / 60:,.1f}")
        table.caption = self._notes()
        table.caption_justify = "left"
        return table

    def _notes(self) -> str:
        notes = [f"Tokens in: {self.tokens.counted_by}."]
        starts = getattr(self.backend, "cache_from", None)
        if starts and not self.caches:
            notes.append(
                f"The guide's {self.tokens.guide:,} tokens are not cached: this model caches "
                f"from {starts:,} on."
            )
        return " ".join(notes)


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """The rows for a plan's items, with what this call answered, failed and spent.

    answered + failed + refused + cached is the number of items.

    Attributes:
        rows: One per item, in the order of the plan.
        cost: Dollars spent by this call; knows the tokens written to and read from a prompt
            cache, and what that saved.
        estimate: Dollars that was estimated for what this call asked or collected.
        held: Dollars that what is still under way, or was lost under way, may cost on top.
        stopped: Why the run ended before all items were asked; None when it did not.
        dropped: The answers that a reader rejected; `rows` has none of them.
    """

    task: Task[Any, Any]
    items: tuple[Item, ...]
    rows: tuple[Row, ...]
    cached: int
    cost: Spent = field(default_factory=lambda: Spent(0.0, Usage(), None))
    estimate: float = 0.0
    held: float = 0.0
    stopped: str | None = None
    dropped: tuple[Dropped, ...] = ()

    @property
    def refused(self) -> int:
        """How many the model declined."""
        return sum(r.error is not None and r.error.kind == "refusal" for r in self.rows)

    @property
    def failed(self) -> int:
        """How many have no answer for any other reason."""
        return sum(r.error is not None and r.error.kind != "refusal" for r in self.rows)

    @property
    def answered(self) -> int:
        """How many this call answered."""
        return len(self.rows) - self.cached - self.failed - self.refused

    def answers(self) -> Iterator[tuple[Item, Any]]:
        """Each item that has an answer, with the answer as the task's output model."""
        for item, _, result in self._results():
            yield item, result

    def examples(self) -> Iterator[Example]:
        """The training rows that the answers make, with model, ledger key and licence."""
        for item, row, result in self._results():
            licences = sorted({p.licence or "unknown" for p in item.poems})
            facts = {
                "model": row.model,
                "key": row.key,
                "licence": "; ".join(licences) or None,
                "edited": "yes" if row.edited else None,
                "winner": None,
            }
            for example in self.task.examples(item, result):
                yield example.model_copy(update={"meta": {**facts, **example.meta}})

    def _results(self) -> Iterator[tuple[Item, Row, Any]]:
        """The answers that pass the task's checks as they are today; a warning counts the rest."""
        refused: list[str] = []
        for item, row in zip(self.items, self.rows, strict=True):
            if row.output is None:
                continue
            try:
                result = self.task.read(item, as_said(self.task, row.output))
                why = self.task.accept(item, result)
            except (ValidationError, KeyError) as error:
                why = str(error).replace("\n", " ")
            if why:
                refused.append(f"item {row.item_id}, key {row.key}: {why}")
            else:
                yield item, row, result
        if refused:
            warnings.warn(
                f"{len(refused)} answer(s) to {self.task.name} do not pass its checks and are left "
                f"out; the first is {refused[0]}. Delete those lines of the ledger to ask again.",
                RuntimeWarning,
                stacklevel=4,
            )

    def errors(self) -> dict[str, int]:
        """How many failed, by kind of error."""
        return dict(Counter(r.error.kind for r in self.rows if r.error))

    def validity(self) -> dict[str, float | None]:
        """Shares of what came back: `schema`, answers that fit; `quotes`, quotations in the poem.

        Every answer that came back counts, those that were refused too. A share of nothing is
        None.
        """
        said = [r for r in self.rows if r.output or (r.error and r.error.kind in _SAID)]
        misfits = sum(bool(r.error and r.error.kind != "rejected") for r in said)
        places = [line for r in said if r.output for line in _places(r.output)]
        false = sum(bool(r.error and "is not in the poem" in r.error.message) for r in said)
        quoted = false + len(places)
        return {
            "schema": 1 - misfits / len(said) if said else None,
            "quotes": 1 - (false + places.count(None)) / quoted if quoted else None,
        }

    def refusals(self) -> dict[str, int]:
        """How many the model declined, by what it said: the category and its explanation."""
        said = (r.error.message for r in self.rows if r.error and r.error.kind == "refusal")
        return dict(Counter(said).most_common())

    def report(self) -> dict[str, Any]:
        """The counts as plain values."""
        return {
            "task": self.task.name,
            "items": len(self.rows),
            "answered": self.answered,
            "failed": self.failed,
            "refused": self.refused,
            "cached": self.cached,
            "errors": self.errors(),
            "refusals": self.refusals(),
            "cost": round(float(self.cost), 6),
            "estimate": round(self.estimate, 6),
            "held": round(self.held, 6),
            "cache": {
                "written": self.cost.written,
                "read": self.cost.read,
                "saved": round(self.cost.saved, 6),
            },
            "stopped": self.stopped,
        }

    def __rich__(self) -> RenderableType:
        from rich.table import Table

        table = Table(title=f"Run: {self.task.name}", title_justify="left")
        table.add_column("what")
        table.add_column("amount", justify="right")
        for name in ("failed", "refused", "answered", "cached"):
            table.add_row(name, f"{getattr(self, name):,}")
        for kind, count in sorted(self.errors().items()):
            if kind != "refusal":
                error = next(r.error for r in self.rows if r.error and r.error.kind == kind)
                example = error.message.partition("\n")[0][:70]
                table.add_row(f"  {kind}, such as: {example}", f"{count:,}")
        for message, count in self.refusals().items():
            table.add_row(f"  {message}", f"{count:,}")
        table.add_row("dollars", f"{self.cost:,.2f}")
        if self.estimate:
            table.add_row("  estimated before", f"{self.estimate:,.2f}")
        if self.held:
            table.add_row("  may cost besides, at most", f"{self.held:,.2f}")
        if self.cost.written or self.cost.read:
            table.add_row("  saved by the cache", f"{self.cost.saved:,.2f}")
            table.add_row("tokens written to the cache", f"{self.cost.written:,}")
            table.add_row("tokens read from it", f"{self.cost.read:,}")
        if self.stopped:
            table.caption = f"Stopped: {self.stopped}"
        return table


def read_run(
    task: Task[Any, Any],
    items: Iterable[Item],
    path: str | Path,
    decisions: Mapping[str, Decision] | None = None,
) -> Run:
    """The answers that a ledger holds for the given items, whichever backend gave them.

    A row counts when its task and item are asked for and its turn is the one that the prompt
    renders today. A warning counts the answers that are left out: to other items, such as the
    pairs of an earlier matching, or to another turn, from before a prompt was changed.

    Args:
        task: The task that was asked.
        items: What it was asked about.
        path: The ledger.
        decisions: A reader's, by the key of the row (`read_decisions`): a rejected answer is in
            `Run.dropped` only, an edited one is read as edited.
    """
    rows, broken = read_rows(path)
    if broken:
        warn_broken(broken)
    answers = {(r.item_id, r.turn): r for r in rows if r.task == task.name and r.output is not None}
    pairs = []
    dropped: list[Dropped] = []
    known: set[str] = set()
    for item in items:
        known.add(item.item_id)
        row = answers.pop((item.item_id, task.prompt.render_turn(item.variables())), None)
        if row and (kept := decided(row, decisions or {})):
            pairs.append((item, kept))
        elif row:
            detail = f"{task.name}: a reader rejected the answer"
            dropped.append(Dropped(file="", item=row.item_id, reason="rejected", detail=detail))
    if answers:
        old = sum(item_id in known for item_id, _ in answers)
        warnings.warn(
            f"{path}: {len(answers)} answer(s) to {task.name} are not used: {old} to another turn, "
            f"{len(answers) - old} to other items than today's. They stay in the ledger.",
            RuntimeWarning,
            stacklevel=2,
        )
    return Run(
        task=task,
        items=tuple(item for item, _ in pairs),
        rows=tuple(row for _, row in pairs),
        cached=len(pairs),
        dropped=tuple(dropped),
    )


def _places(value: Any) -> Iterator[int | None]:
    """The line of every quotation in an output."""
    if isinstance(value, dict):
        if "quote" in value and "line" in value:
            yield value["line"]
        for part in value.values():
            yield from _places(part)
    elif isinstance(value, list):
        for part in value:
            yield from _places(part)


def as_said(task: Task[Any, Any], output: dict[str, Any]) -> str:
    """An output as the model gave it: what code computes is computed anew when it is read."""
    return str(output["text"]) if task.output.bare else json.dumps(output)
