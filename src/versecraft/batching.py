"""Asking by the batch: handing in, waiting, collecting, asking again what has no answer yet."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

from .attempts import (
    REASKS,
    TRIES,
    Attempts,
    Purse,
    ask_again,
    came_back,
    read_reply,
    row_of,
    with_answer,
)
from .backends import BatchBackend, Reply, Request
from .batches import Batch, Journal, key_of
from .errors import BackendError, BadInput, ErrorKind
from .ledger import Ledger, read_rows
from .loops import in_own_loop
from .progress import Meter
from .records import Row
from .runs import Job, Plan

__all__ = ["BatchEngine", "cancel"]

T = TypeVar("T")

_EXPIRED = 2  # a request that expires, after a day each time, is handed in so often
_SETTLED = 30.0  # seconds until a batch that the provider does not list has not arrived
_SLACK = 3600.0  # seconds by which the provider's clock may differ from ours
_FIRST_POLL, _LAST_POLL = 0.5, 60.0  # seconds between two looks, at first and at last
_SAY_EVERY = 60.0
_ENOUGH = 50  # requests of a batch that say something about the rest,
_MAX_ERROR_RATE = 0.5  # and the share of failures above which nothing more is asked


class BatchEngine:
    """One run over batches: those still under way from earlier runs, and new ones."""

    def __init__(
        self,
        plan: Plan,
        backend: BatchBackend,
        ledger: Ledger,
        purse: Purse,
        meter: Meter,
        seen: dict[str, Attempts],
    ) -> None:
        self.plan = plan
        self.backend = backend
        self.ledger = ledger
        self.purse = purse
        self.meter = meter
        self.journal = Journal(ledger.path)
        self.jobs = {job.key: job for job in plan.jobs}
        self.done: dict[str, Row] = {}
        self.seen = seen
        self.task: asyncio.Task[Any] | None = None
        self.unsure = 0
        self.ready: list[Job] = []
        self.sent: Counter[str] = Counter()
        self.watched: list[str] = []
        self.places: dict[str, str] = {}
        self.stopped: str | None = None
        self.stop_kind: ErrorKind = "cancelled"
        self.interrupted = 0
        self.each = plan.dollars / max(1, plan.to_ask)
        self.estimate = 0.0
        self.looked: dict[str, float] = {}  # since when a batch is looked for
        self.left = asyncio.Event()

    async def run(self, todo: list[Job]) -> None:
        """Hands in what is to be asked, and collects until nothing is under way."""
        rows = read_rows(self.ledger.path)[0]
        if others := len(self.journal.under_way(rows) - self.jobs.keys()):
            warnings.warn(
                f"{others:,} request(s) under way are not of this plan: they were handed in for "
                "other items or with an earlier prompt, and wait for a plan that asks them.",
                RuntimeWarning,
                stacklevel=2,
            )
        self.had = self.journal.handled | {(row.key, row.request_id or "") for row in rows}
        for row in rows:
            self.sent[row.key] += row.attempts
        for batch in list(self.journal.open.values()):
            if batch.batch and all((key, batch.batch) in self.had for key in batch.keys):
                self.journal.over(batch, "collected")  # but for this line
        self.watched = [
            name
            for name, batch in self.journal.open.items()
            if any(k in self.jobs and (k, batch.batch) not in self.had for k in batch.keys)
        ]
        self.purse.reserved += sum(self.journal.open[name].most for name in self.watched)
        under_way = self.journal.under_way(rows)
        self.ready = [job for job in todo if job.key not in under_way]
        self.task = asyncio.current_task()
        try:
            while not self.left.is_set():
                await self._hand_in()
                if not self.watched:
                    break
                await self._watch()
        except _Left:
            pass
        except asyncio.CancelledError:
            if self.interrupted < 2:
                raise
        finally:
            for name in self.watched:
                batch = self.journal.open[name]
                self.places |= dict.fromkeys(batch.keys, batch.batch or name)
            close = getattr(self.backend, "aclose", None)
            if close:
                await close()

    def stop(self) -> None:
        """Leaves the batches at work. Second call: at once, be it in the middle of a hand-in."""
        self.interrupted += 1
        self._leave("interrupted; call generate again to collect")
        if self.interrupted > 1 and self.task:
            self.task.cancel()
        count = sum(len(self.journal.open[name].ids) for name in self.watched)
        self.meter.say(
            f"Leaving {count:,} requests at work at the provider. Run it again to collect them."
        )

    def unasked(self, job: Job) -> Row:
        """The row of an item that has no answer yet; it is not written down."""
        kind, why = self.stop_kind, self.stopped or "not asked"
        if job.key in self.places:
            kind = "cancelled"
            why = f"under way in batch {self.places[job.key]}; call generate again to collect"
        return row_of(self.plan, job, Attempts(), (kind, why, True))

    def _seen(self, job: Job) -> Attempts:
        return self.seen.get(job.key) or Attempts()

    def _halt(self, reason: str, kind: ErrorKind = "cancelled") -> None:
        """Asks nothing more, and collects what is under way."""
        if self.stopped is None:
            self.stopped, self.stop_kind = reason, kind

    def _leave(self, reason: str) -> None:
        """Asks nothing more, and collects nothing more either."""
        self._halt(reason)
        self.left.set()

    # Handing in

    async def _hand_in(self) -> None:
        while self.ready and self.stopped is None:
            chunk, most = self._chunk()
            if not chunk:
                if not self.watched:
                    first = self._seen(self.ready[0]).request(self.plan, self.ready[0])
                    dollars = self.purse.most(first)
                    self._halt(self.purse.empty(dollars), kind="budget")
                return
            anew = sum(not request.followups for request in chunk.values())
            batch = Batch(
                name=uuid.uuid4().hex[:12],
                ids=tuple(chunk),
                at=time.time(),
                most=most,
                about=self.each * anew,
                backend=self.backend.id,
            )
            self.journal.sending(batch)
            if not await self._submit(batch, chunk):
                return

    def _chunk(self) -> tuple[dict[str, Request], float]:
        """As many requests as fit into one batch and into the budget, and their cost at most."""
        chunk: dict[str, Request] = {}
        size, total = 0, 0.0
        for job in self.ready:
            seen = self._seen(job)
            request = seen.request(self.plan, job)
            most = self.purse.most(request)
            size += self.backend.size(request)
            full = len(chunk) == self.backend.max_requests or size > self.backend.max_bytes
            if (full and chunk) or not self.purse.covers(total + most):
                break
            total += most
            before = self.sent[job.key] + seen.count
            chunk[f"{job.key}-{before}" if before else job.key] = request
        return chunk, total

    async def _submit(self, batch: Batch, chunk: dict[str, Request]) -> bool:
        """Whether the provider took a batch; if nobody knows, it is looked for later."""
        for attempt in range(1, TRIES + 1):
            try:
                named = await self.backend.submit(chunk)
            except BackendError as error:
                if error.lost:
                    self.unsure += 1
                    if self.unsure >= TRIES:
                        self._halt(str(error))
                    self.meter.say(f"Whether a batch arrived is not known: {error}")
                    self._watch_out_for(batch)
                    return True
                if error.retryable and attempt < TRIES and not self.left.is_set():
                    await self._back_off(error, attempt)
                    continue
                self.journal.over(batch, f"not taken: {error}")
                self._halt(str(error))
                return False
            self._watch_out_for(self.journal.sent(batch, named))
            self.meter.say(f"Handed in {len(chunk):,} requests as batch {named}.")
            return True
        return False

    def _watch_out_for(self, batch: Batch) -> None:
        self.watched.append(batch.name)
        self.purse.reserved += batch.most
        sent = set(batch.keys)
        self.ready = [job for job in self.ready if job.key not in sent]

    # Waiting

    async def _watch(self) -> None:
        """Waits until a batch has ended, and collects it."""
        begun = said = time.monotonic()
        poll = _FIRST_POLL
        while not self.left.is_set():
            for name in list(self.watched):
                batch = self.journal.open[name]
                try:
                    if batch.batch is None:
                        await self._look_for(batch)
                    elif (
                        await self._insist(partial(self.backend.state, batch.batch), batch)
                    ).ended:
                        await self._collect(batch)
                except _Gone:
                    self._forget(batch)
                if name not in self.watched or self.left.is_set():
                    return
            if time.monotonic() - said > _SAY_EVERY:
                said = time.monotonic()
                count = sum(len(self.journal.open[name].ids) for name in self.watched)
                minutes = (said - begun) / 60
                self.meter.say(
                    f"{count:,} requests in {len(self.watched)} batches are under way, "
                    f"{minutes:.0f} minutes so far. Ctrl-C leaves them at work."
                )
            await self._pause(poll)
            poll = min(1.5 * poll, _LAST_POLL)

    async def _look_for(self, batch: Batch) -> None:
        """Finds a batch whose id was lost, by its custom ids, or finds that it never arrived."""
        now = time.monotonic()
        undecided = now - self.looked.setdefault(batch.name, now) < _SETTLED

        async def recent() -> list[Any]:
            since = batch.at - _SLACK
            return [state async for state in self.backend.recent(since)]

        for state in await self._insist(recent):
            if state.batch in self.journal.known:
                continue
            if not state.ended:
                # Custom ids are told with the results; and the number, by some, as 0 until then.
                undecided = undecided or state.requests in (0, len(batch.ids))
                continue
            if state.requests != len(batch.ids):
                continue

            async def is_ours(named: str = state.batch) -> bool:
                async with aclosing(self.backend.collect(named)) as results:
                    async for custom_id, _ in results:
                        return custom_id in batch.ids
                return False

            if await self._insist(is_ours):
                self.journal.sent(batch, state.batch)
                return
        if not undecided:
            self._forget(batch)
            self.journal.over(batch, "never arrived")
            self.ready += [self.jobs[key] for key in batch.keys if key in self.jobs]

    def _forget(self, batch: Batch) -> None:
        self.watched.remove(batch.name)
        self.purse.reserved -= batch.most

    async def _insist(self, call: Callable[[], Awaitable[T]], batch: Batch | None = None) -> T:
        """Calls the provider until it answers; leaves the run when it does not.

        Args:
            call: What to call.
            batch: The one that the call is about, where there is a way out if it is gone.
        """
        for attempt in range(1, TRIES + 1):
            try:
                return await call()
            except BackendError as error:
                if not error.retryable or attempt == TRIES or self.left.is_set():
                    said = str(error).rstrip(".")
                    if batch and not (error.retryable or error.fatal):
                        # The others are still collected.
                        self._halt(
                            f"{said}. Call generate again where it can be had; or delete the lines "
                            f"with {batch.name} from {self.journal.path}, and what was in it is "
                            "asked, and charged, anew"
                        )
                        raise _Gone from error
                    self._leave(
                        f"{said}. What is under way goes on; call generate again to collect it"
                    )
                    raise _Left from error
                await self._back_off(error, attempt)
        raise AssertionError

    async def _back_off(self, error: BackendError, attempt: int) -> None:
        wait = error.retry_after if error.retry_after is not None else 0.5 * 2**attempt
        await self._pause(wait * random.uniform(1.0, 1.25))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.left.wait()
        except TimeoutError:
            pass

    # Collecting

    async def _collect(self, batch: Batch) -> None:
        assert batch.batch is not None
        named = batch.batch
        rows: list[Row] = []
        strangers: set[str] = set()

        async def results() -> None:
            async with aclosing(self.backend.collect(named)) as lines:
                async for custom_id, outcome in lines:
                    key = key_of(custom_id)
                    if (key, named) in self.had:
                        continue
                    if key not in self.jobs:
                        strangers.add(key)
                    else:
                        self.had.add((key, named))
                        row = self._take(batch, self.jobs[key], came_back(outcome))
                        if row:
                            rows.append(row)
                    if self.left.is_set():
                        raise _Left

        await self._insist(results, batch)
        self._forget(batch)
        self.estimate += batch.about
        if not strangers:
            self.ledger.sync()
            self.journal.over(batch, "collected")
        failed = [row.error for row in rows if row.error and row.error.kind != "refusal"]
        if len(rows) >= _ENOUGH and len(failed) > _MAX_ERROR_RATE * len(rows):
            last = failed[-1].message.partition("\n")[0]
            self._halt(f"{len(failed)} of {len(rows)} requests failed, the last with: {last}")

    def _take(self, batch: Batch, job: Job, outcome: Reply | BackendError) -> Row | None:
        """The row that a result makes; None when the job is asked again."""
        seen = self.seen.pop(job.key, None) or Attempts(started=batch.at)
        if isinstance(outcome, BackendError) and outcome.lost:
            self.purse.reserved += self.purse.most(seen.request(self.plan, job))
        seen.count += 1
        seen.note(outcome, self.purse.pay(outcome.usage))
        seen.request_id = batch.batch
        if isinstance(outcome, BackendError):
            said = with_answer(str(outcome), outcome.text)
            why = (outcome.kind, said, outcome.retryable)
            hopeless = outcome.kind in ("refusal", "truncated", "cancelled")
            spent = seen.failures >= TRIES or seen.timeouts >= _EXPIRED
            if hopeless or spent or not outcome.retryable:
                return self._end(job, row_of(self.plan, job, seen, why))
        else:
            reading = read_reply(self.plan, job, outcome)
            if reading.output is not None:
                return self._end(job, row_of(self.plan, job, seen, reading.output))
            if len(seen.followups) == REASKS:
                said = with_answer(reading.reason, outcome.text)
                return self._end(job, row_of(self.plan, job, seen, (reading.kind, said, True)))
            ask_again(seen, outcome, reading)
        self.journal.ask_again(job.key, batch.batch or "", _state(seen))
        self.seen[job.key] = seen
        self.ready.append(job)
        return None

    def _end(self, job: Job, row: Row) -> Row:
        self.ledger.append(row)
        self.done[job.key] = row
        self.meter.step(failed=row.error is not None, dollars=self.purse.spent)
        return row


class _Gone(Exception):
    """The provider does not have a batch."""


class _Left(Exception):
    """The run leaves what is under way."""


def _state(seen: Attempts) -> dict[str, Any]:
    return {**asdict(seen), "usage": seen.usage.model_dump()}


def cancel(plan: Plan) -> list[str]:
    """Asks the provider to drop what it has not begun of a ledger's batches; returns their ids.

    What was answered by then is paid for: call `generate` again to collect it, with a budget of 0
    if nothing is to be asked anew.

    Raises:
        BadInput: The batches under way are those of another backend.
        BackendError: The provider cannot be reached.
    """
    backend = plan.backend
    journal = Journal(plan.ledger)
    ours = [b for b in journal.open.values() if b.batch and b.backend == backend.id]
    others = {b.backend for b in journal.open.values()} - {backend.id}
    if others and not ours:
        raise BadInput(
            f"What is under way was handed in by {', '.join(sorted(others))}. Cancel with that "
            "backend."
        )
    if not isinstance(backend, BatchBackend):
        return []
    named: list[str] = []

    async def cancelling() -> None:
        try:
            for batch in ours:
                await backend.cancel(batch.batch or "")
                named.append(batch.batch or "")
        finally:
            close = getattr(backend, "aclose", None)
            if close:
                await close()

    in_own_loop(cancelling)
    return named
