"""Asking what a plan has left to ask, and keeping every answer and every failure."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterator

from .attempts import (
    REASKS,
    TRIES,
    Attempts,
    Purse,
    ask_again,
    came_back,
    from_journal,
    read_reply,
    row_of,
    with_answer,
)
from .backends import Backend, BatchBackend, Reply, Request, deadline_of
from .batches import Journal
from .batching import BatchEngine
from .errors import BackendError, ErrorKind
from .ledger import Ledger, is_open, latest, read_rows
from .loops import in_own_loop
from .progress import Meter, open_meter
from .records import Row
from .runs import Job, Plan, Run, Spent

__all__ = ["generate"]

_TIMEOUTS = 2  # a request past its deadline, which may have been paid for, is sent so often
_LONGEST_WAIT = 120.0  # seconds; a server that asks for more is a failure to be retried later
_WINDOW = 50  # the error rate is taken over so many finished requests,
_MAX_ERROR_RATE = 0.5  # and stops the run above this share
_SAME_ERROR = 5  # a run stops after so many equal errors that no retry can cure, in a row
_START = 32  # requests in flight before the server has answered any
_GROWTH = 0.25  # of a request more in flight for each answer, once the server has refused some
_WARM_UP = 60.0  # seconds that all others wait at most for the first answer, which fills a cache


def generate(
    plan: Plan,
    *,
    budget: float | None = None,
    retry_failed: bool = True,
    progress: bool = True,
) -> Run:
    """Asks what is left of a plan and returns the rows for all its items.

    Every row is on disk before its worker asks for the next. Call it again after a stop, a crash
    or a failure: only what has no answer is asked. Ctrl-C stops asking, waits for the answers
    that are under way (they are paid for) and raises `KeyboardInterrupt`; a second one drops them.

    Batches are handed in, waited for and collected. Ctrl-C or the end of the process leaves them
    at work; the next call finds and collects them, be it the next day.

    Args:
        plan: From `plan`; the ledger is read again, so a plan may be used more than once.
        budget: Dollars that this call may spend. A request is sent only when what is spent, what
            is under way at its most, and this request at its most stay within it.
        retry_failed: Whether items that failed before are asked again.
        progress: Whether to show a bar (lines where there is no terminal) on stderr.

    Raises:
        LedgerError: Another process holds the ledger, or the disk is full.
    """
    with Ledger(plan.ledger) as ledger:
        rows = read_rows(plan.ledger)[0]
        found = latest(rows, (job.key for job in plan.jobs))
        todo = [job for job in plan.jobs if is_open(found.get(job.key), retry_failed)]
        journal = Journal(plan.ledger)
        pending = journal.under_way(rows) & {job.key for job in plan.jobs}
        # What was paid for in batches, and led to no row yet, is part of the rows to come.
        seen = from_journal(journal.unfinished(rows))
        purse = Purse(plan, budget)
        with open_meter(plan.task.name, len(todo), shown=progress) as meter:
            engine: _Engine | BatchEngine
            if isinstance(plan.backend, BatchBackend):
                engine = BatchEngine(plan, plan.backend, ledger, purse, meter, seen)
            else:
                todo = [job for job in todo if job.key not in pending]
                engine = _Engine(plan, plan.backend, ledger, purse, meter, seen)
                engine.estimate = plan.dollars / max(1, plan.to_ask) * len(todo)
            if todo or pending:
                in_own_loop(lambda: engine.run(todo), engine.stop)
    if engine.interrupted:
        raise KeyboardInterrupt
    kept = {k: row for k, row in found.items() if not is_open(row, retry_failed)}
    now = tuple(
        engine.done.get(job.key) or kept.get(job.key) or engine.unasked(job) for job in plan.jobs
    )
    stopped = engine.stopped
    if stopped:
        left = sum(is_open(r) for r in now)
        stopped = f"{stopped.rstrip('.')}. Items without an answer yet: {left:,}"
        if plan.to_ask:
            stopped += f", about ${plan.dollars / plan.to_ask * left:,.2f}"
    return Run(
        task=plan.task,
        items=tuple(job.item for job in plan.jobs),
        rows=now,
        cached=sum(r.output is not None and r.key not in engine.done for r in now),
        cost=Spent(purse.spent, purse.usage, plan.price),
        estimate=engine.estimate,
        held=round(purse.reserved, 6),  # sums of floats leave a trace where nothing is held
        stopped=stopped,
    )


class _Engine:
    """One run: its workers, the gate they share, what is spent, and why it stopped.

    The gate lets through as many requests as the window is wide. The window begins modest, grows
    with each answer up to the backend's concurrency, shrinks with each request that the server
    refuses because it is overloaded, and to what the rate limits leave room for where the server
    tells. While the server asks to wait, the gate is shut for all.
    """

    def __init__(
        self,
        plan: Plan,
        backend: Backend,
        ledger: Ledger,
        purse: Purse,
        meter: Meter,
        seen: dict[str, Attempts],
    ) -> None:
        self.plan = plan
        self.backend = backend
        self.deadline = deadline_of(backend)
        self.ledger = ledger
        self.purse = purse
        self.meter = meter
        self.seen = seen
        self.estimate = 0.0
        self.done: dict[str, Row] = {}
        self.stopped: str | None = None
        self.stop_kind: ErrorKind = "cancelled"
        self.interrupted = 0
        self.fault: Exception | None = None
        self.recent: deque[bool] = deque(maxlen=_WINDOW)
        self.same: tuple[str, int] = ("", 0)
        self.workers: list[asyncio.Task[None]] = []
        self.warming = plan.caches
        self.window = 1.0 if self.warming else self._first_window()
        self.in_flight = 0
        self.refused = False
        self.shut_until = 0.0
        self.halted = asyncio.Event()
        self.waiting: deque[asyncio.Future[None]] = deque()

    async def run(self, todo: list[Job]) -> None:
        jobs = iter(todo)
        size = max(1, min(self.backend.concurrency, len(todo)))
        if self.warming:
            asyncio.get_running_loop().call_later(_WARM_UP, self._end_warm_up)
        self.workers = [asyncio.create_task(self._work(jobs)) for _ in range(size)]
        try:
            await asyncio.gather(*self.workers)
        finally:
            close = getattr(self.backend, "aclose", None)
            if close:
                await close()
        if self.fault:
            raise self.fault

    def stop(self) -> None:
        """First call: ask nothing more. Second call: drop what is under way."""
        self.interrupted += 1
        self._halt("interrupted; call generate again to go on")
        if self.interrupted == 1:
            self.meter.say("Stopping: waiting for the answers under way. Ctrl-C again drops them.")
        else:
            for worker in self.workers:
                worker.cancel()

    def unasked(self, job: Job) -> Row:
        """The row of an item that this run did not come to; it is not written down."""
        kind, why, again = self._why()
        if self.stopped is None:
            why = "under way by the batch; collect or cancel it with the backend that handed it in"
        return row_of(self.plan, job, Attempts(), (kind, why, again))

    def _halt(self, reason: str, kind: ErrorKind = "cancelled") -> None:
        if self.stopped is None:
            self.stopped, self.stop_kind = reason, kind
            self.halted.set()
            self._wake(len(self.waiting))

    def _why(self) -> tuple[ErrorKind, str, bool]:
        return self.stop_kind, self.stopped or "not asked", True

    async def _work(self, jobs: Iterator[Job]) -> None:
        for job in jobs:
            if self.stopped:
                return
            try:
                row = await self._ask(job)
                if row is None:
                    return
                self.ledger.append(row)
            except Exception as error:  # what others have under way is still written down
                self.fault = self.fault or error
                self._halt(str(error))
                return
            self.done[job.key] = row
            self._judge(row)
            self.meter.step(failed=row.error is not None, dollars=self.purse.spent)

    async def _ask(self, job: Job) -> Row | None:
        """A row for the job, or None when the run stopped before anything was sent for it."""
        seen = self.seen.get(job.key) or Attempts()
        try:
            while True:
                request = seen.request(self.plan, job)
                most = self.purse.most(request)
                if not await self._enter(most):
                    return row_of(self.plan, job, seen, self._why()) if seen.count else None
                lost = False
                try:
                    reply = await self._send(request, seen)
                except BackendError as error:
                    lost = error.lost
                    if await self._again(error, seen):
                        continue
                    why = (error.kind, with_answer(str(error), error.text), error.retryable)
                    return row_of(self.plan, job, seen, why)
                finally:
                    self._leave(most, lost)
                reading = read_reply(self.plan, job, reply)
                if reading.output is not None:
                    return row_of(self.plan, job, seen, reading.output)
                if len(seen.followups) == REASKS or self.stopped:
                    said = with_answer(reading.reason, reply.text)
                    return row_of(self.plan, job, seen, (reading.kind, said, True))
                ask_again(seen, reply, reading)
        except asyncio.CancelledError:
            if not seen.count:
                return None
            return row_of(self.plan, job, seen, ("cancelled", "dropped while under way", True))

    async def _send(self, request: Request, seen: Attempts) -> Reply:
        seen.count += 1
        try:
            async with asyncio.timeout(self.deadline) as clock:
                said: object = await self.backend.complete(request)
        except TimeoutError as error:
            said = BackendError(f"TimeoutError: {error}", retryable=True)
            if clock.expired():
                said = BackendError(
                    f"no answer within {self.deadline:g} s; raise the backend's timeout if answers "
                    "take that long",
                    kind="timeout",
                    retryable=True,
                    lost=True,
                )
        except asyncio.CancelledError:
            seen.lost += 1
            raise
        except Exception as error:  # a plugin's backend may raise any; the row records it
            said = error
        outcome = came_back(said)
        seen.note(outcome, self.purse.pay(outcome.usage))
        if outcome.usage and self.warming:
            self._end_warm_up()
        if isinstance(outcome, BackendError):
            raise outcome
        self._widen(outcome.room)
        return outcome

    async def _again(self, error: BackendError, seen: Attempts) -> bool:
        """Whether to send once more; waits as long as the server or the backoff asks for."""
        if error.fatal:
            self._halt(str(error))
        if error.overloaded:
            self.refused = True
            self.window = max(1.0, self.window - 1)
        if not error.retryable or self.stopped or error.kind in ("refusal", "truncated"):
            return False
        if seen.failures >= TRIES or seen.timeouts >= _TIMEOUTS:
            return False
        wait = error.retry_after if error.retry_after is not None else 0.5 * 2**seen.failures
        if wait > _LONGEST_WAIT:
            return False
        if error.overloaded:
            self.shut_until = max(self.shut_until, time.monotonic() + wait)
        else:
            await self._pause(wait * random.uniform(0.5, 1.0))
        return True

    async def _pause(self, seconds: float) -> None:
        """Sleeps, but no longer than until the run stops."""
        try:
            async with asyncio.timeout(seconds):
                await self.halted.wait()
        except TimeoutError:
            pass

    async def _enter(self, most: float) -> bool:
        """Waits until the gate is open, the window has room and the money is there."""
        while self.stopped is None:
            if (wait := self.shut_until - time.monotonic()) > 0:
                # And a little more: not all return at once.
                await self._pause(wait + random.uniform(0.0, min(1.0, 0.25 * wait)))
                continue
            affordable = self.purse.covers(most)
            if affordable and self.in_flight < int(self.window):
                self.in_flight += 1
                self.purse.reserved += most
                return True
            if not affordable and not self.in_flight:
                self._halt(self.purse.empty(most), kind="budget")
                break
            place = asyncio.get_running_loop().create_future()
            self.waiting.append(place)
            await place
        return False

    def _leave(self, most: float, lost: bool) -> None:
        """Frees the place; but what a request without an answer cost, nobody knows."""
        self.in_flight -= 1
        if not lost:
            self.purse.reserved -= most
        # The place that became free, and the one by which the window may have grown.
        self._wake(2)

    def _wake(self, count: int) -> None:
        while count and self.waiting:
            place = self.waiting.popleft()
            if not place.done():
                place.set_result(None)
                count -= 1

    def _end_warm_up(self) -> None:
        """Lets the others in, which find the guide in the provider's cache."""
        if self.warming:
            self.warming = False
            self.window = self._first_window()
            self._wake(int(self.window))

    def _first_window(self) -> float:
        return float(min(_START, self.backend.concurrency))

    def _widen(self, room: int | None) -> None:
        """One more in flight for an answer; fewer where the rate limits leave no room."""
        self.window += _GROWTH if self.refused else 1.0
        if room is not None:
            self.window = min(self.window, self.in_flight - 1 + room)
        self.window = max(1.0, min(self.window, self.backend.concurrency))

    def _judge(self, row: Row) -> None:
        """Stops a run that cannot come to anything."""
        error = row.error
        if error and error.kind == "refusal":
            return
        self.recent.append(error is not None)
        if error and error.kind == "http" and not error.retryable:
            message, count = self.same
            self.same = (error.message, count + 1 if message == error.message else 1)
            if self.same[1] >= _SAME_ERROR:
                self._halt(f"{_SAME_ERROR} requests in a row got the same error: {error.message}")
        elif not error:
            self.same = ("", 0)
        if len(self.recent) == _WINDOW and sum(self.recent) / _WINDOW > _MAX_ERROR_RATE:
            last = error.message.partition("\n")[0] if error else "see the rows"
            self._halt(
                f"{sum(self.recent)} of the last {_WINDOW} requests failed, the last with: {last}"
            )
