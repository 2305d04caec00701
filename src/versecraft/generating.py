"""Asking what a plan has left to ask, and keeping every answer and every failure."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from .backends import Price, Reply, Request, deadline_of, price_of
from .errors import BackendError, ErrorKind, LedgerError
from .ledger import Ledger, is_open
from .loops import in_own_loop
from .progress import Meter, open_meter
from .records import Row, RowError, Usage
from .runs import Job, Plan, Run

__all__ = ["generate"]

_REASKS = 2  # an answer that breaks the schema or that the task refuses is asked again so often
_TRIES = 6  # a request that the server or the network fails is sent so often
_TIMEOUTS = 2  # a request past its deadline, which may have been paid for, so often
_LONGEST_WAIT = 120.0  # seconds; a server that asks for more is a failure to be retried later
_WINDOW = 50  # the error rate is taken over so many finished requests,
_MAX_ERROR_RATE = 0.5  # and stops the run above this share
_SAME_ERROR = 5  # a run stops after so many equal errors that no retry can cure, in a row


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

    Args:
        plan: From `plan`; the ledger is read again, so a plan may be used more than once.
        budget: Dollars that this call may spend. A request is sent only when what is spent, what
            is in flight at its most, and this request at its most stay within it.
        retry_failed: Whether items that failed before are asked again.
        progress: Whether to show a bar (lines where there is no terminal) on stderr.

    Raises:
        LedgerError: Another process holds the ledger, or the disk is full.
    """
    with Ledger(plan.ledger) as ledger:
        found = ledger.latest(job.key for job in plan.jobs)
        todo = [job for job in plan.jobs if is_open(found.get(job.key), retry_failed)]
        with open_meter(plan.task.name, len(todo), shown=progress) as meter:
            engine = _Engine(plan, ledger, budget, meter)
            if todo:
                in_own_loop(lambda: engine.run(todo), engine.stop)
    if engine.interrupted:
        raise KeyboardInterrupt
    rows = tuple(
        engine.done.get(job.key) or found.get(job.key) or engine.unasked(job) for job in plan.jobs
    )
    cached = sum(r.output is not None and r.key not in engine.done for r in rows)
    return Run(
        task=plan.task,
        items=tuple(job.item for job in plan.jobs),
        rows=rows,
        cached=cached,
        cost=engine.spent,
        stopped=engine.stopped,
    )


class _Engine:
    """One run: its workers, the gate they share, what is spent, and why it stopped."""

    def __init__(self, plan: Plan, ledger: Ledger, budget: float | None, meter: Meter) -> None:
        self.plan = plan
        self.price = price_of(plan.backend)
        self.deadline = deadline_of(plan.backend)
        self.ledger = ledger
        self.budget = budget if self.price else None
        self.meter = meter
        self.done: dict[str, Row] = {}
        self.spent = 0.0
        self.reserved = 0.0  # the most that requests in flight, or lost in flight, can cost
        self.in_flight = 0
        self.stopped: str | None = None
        self.stop_kind: ErrorKind = "cancelled"
        self.interrupted = 0
        self.fault: LedgerError | None = None
        self.recent: deque[bool] = deque(maxlen=_WINDOW)
        self.same: tuple[str, int] = ("", 0)
        self.workers: list[asyncio.Task[None]] = []
        self.shut_until = 0.0
        self.halted = asyncio.Event()
        self.settled = asyncio.Condition()

    async def run(self, todo: list[Job]) -> None:
        jobs = iter(todo)
        size = max(1, min(self.plan.backend.concurrency, len(todo)))
        self.workers = [asyncio.create_task(self._work(jobs)) for _ in range(size)]
        try:
            await asyncio.gather(*self.workers)
        finally:
            close = getattr(self.plan.backend, "aclose", None)
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
        now = time.time()
        return self._row(
            job, _Attempts(started=now), error=(self.stop_kind, self.stopped or "not asked", True)
        )

    def _halt(self, reason: str, kind: ErrorKind = "cancelled") -> None:
        if self.stopped is None:
            self.stopped, self.stop_kind = reason, kind
            self.halted.set()

    async def _work(self, jobs: Iterator[Job]) -> None:
        for job in jobs:
            if self.stopped:
                return
            row = await self._ask(job)
            if row is None:
                return
            try:
                self.ledger.append(row)
            except LedgerError as error:
                self.fault = self.fault or error
                self._halt(str(error))
            self.done[job.key] = row
            self._judge(row)
            self.meter.step(failed=row.error is not None, dollars=self.spent)

    async def _ask(self, job: Job) -> Row | None:
        """A row for the job, or None when the run stopped before anything was sent for it."""
        request = self.plan.request(job)
        seen = _Attempts(started=time.time())
        reasks = 0
        try:
            while True:
                await self._pass_gate()
                if not await self._afford(request):
                    return self._row(job, seen, error=self._why()) if seen.count else None
                lost = False
                try:
                    reply = await self._send(request, seen)
                except BackendError as error:
                    lost = error.kind == "timeout"
                    if await self._again(error, seen):
                        continue
                    return self._row(job, seen, error=(error.kind, str(error), error.retryable))
                finally:
                    await self._settle(request, lost)
                kind, reason, output = self._read(job, reply)
                if kind is None:
                    return self._row(job, seen, output=output)
                if reasks == _REASKS or self.stopped:
                    # The answer was paid for: it is kept with the reason.
                    said = f"{reason}\nThe answer was: {reply.text}"
                    return self._row(job, seen, error=(kind, said, True))
                reasks += 1
                request = _asked_again(request, reply.text, reason)
        except asyncio.CancelledError:
            if not seen.count:
                return None
            return self._row(job, seen, error=("cancelled", "dropped while under way", True))

    def _why(self) -> tuple[ErrorKind, str, bool]:
        return self.stop_kind, self.stopped or "stopped", True

    async def _send(self, request: Request, seen: _Attempts) -> Reply:
        seen.count += 1
        try:
            async with asyncio.timeout(self.deadline) as clock:
                reply = await self.plan.backend.complete(request)
        except BackendError as error:
            self._pay(seen, error.usage)
            seen.note(error.model, error.request_id, error.stop_reason)
            raise
        except TimeoutError as error:
            if not clock.expired():
                raise BackendError(f"TimeoutError: {error}", retryable=True) from error
            raise BackendError(
                f"no answer within {self.deadline:g} s; raise the backend's timeout if answers "
                "take that long",
                kind="timeout",
                retryable=True,
            ) from None
        except Exception as error:  # a plugin's backend; the row records it
            raise BackendError(f"{type(error).__name__}: {error}") from error
        if not (
            isinstance(reply, Reply)
            and isinstance(reply.text, str)
            and isinstance(reply.model, str)
            and isinstance(reply.usage, Usage)
        ):
            raise BackendError(f"the backend gave {str(reply)[:80]!r}, not a Reply; mend it")
        self._pay(seen, reply.usage)
        seen.note(reply.model, reply.request_id, reply.stop_reason)
        return reply

    def _pay(self, seen: _Attempts, usage: Usage | None) -> None:
        if usage is None:
            return
        seen.usage = seen.usage + usage
        if self.price:
            cost = self.price.cost(usage)
            seen.cost += cost
            self.spent += cost

    async def _again(self, error: BackendError, seen: _Attempts) -> bool:
        """Whether to send once more; waits as long as the server or the backoff asks for."""
        if error.fatal:
            self._halt(str(error))
        if not error.retryable or self.stopped or error.kind in ("refusal", "truncated"):
            return False
        seen.failures += 1
        seen.timeouts += error.kind == "timeout"
        if seen.failures >= _TRIES or seen.timeouts >= _TIMEOUTS:
            return False
        wait = error.retry_after if error.retry_after is not None else 0.5 * 2**seen.failures
        if wait > _LONGEST_WAIT:
            return False
        if error.overloaded:
            self.shut_until = max(self.shut_until, time.monotonic() + wait)
        else:
            await self._pause(wait * random.uniform(0.5, 1.0))
        return True

    async def _pass_gate(self) -> None:
        """Waits as the server asked anyone to, and a little more: not all return at once."""
        while self.stopped is None and (wait := self.shut_until - time.monotonic()) > 0:
            await self._pause(wait + random.uniform(0.0, min(1.0, 0.25 * wait)))

    async def _pause(self, seconds: float) -> None:
        """Sleeps, but no longer than until the run stops."""
        try:
            async with asyncio.timeout(seconds):
                await self.halted.wait()
        except TimeoutError:
            pass

    async def _afford(self, request: Request) -> bool:
        """Reserves the most that a request can cost; waits while others hold the money."""
        if self.budget is None or self.price is None:
            return self.stopped is None
        most = _most(self.price, request)
        async with self.settled:
            while self.stopped is None and self.spent + self.reserved + most > self.budget:
                if not self.in_flight:
                    self._halt(
                        f"the budget of ${self.budget:,.2f} is used up (${self.spent:,.2f} spent, "
                        f"the next request may cost ${most:,.2f}); call generate again with more",
                        kind="budget",
                    )
                    self.settled.notify_all()
                    break
                await self.settled.wait()
            if self.stopped is None:
                self.in_flight += 1
                self.reserved += most
            return self.stopped is None

    async def _settle(self, request: Request, lost: bool) -> None:
        """Frees what was reserved; but what a request past its deadline cost, nobody knows."""
        if self.budget is None or self.price is None:
            return
        async with self.settled:
            self.in_flight -= 1
            if not lost:
                self.reserved -= _most(self.price, request)
            self.settled.notify_all()

    def _read(self, job: Job, reply: Reply) -> tuple[ErrorKind | None, str, dict[str, Any]]:
        task = self.plan.task
        try:
            result = task.read(job.item, reply.text)
            reason = task.accept(job.item, result)
            output = result.model_dump(mode="json")
        except ValidationError as error:
            return "invalid", _in_words(error), {}
        except Exception as error:  # a plugin's check; the row records it
            return "rejected", f"the task's own check broke: {error!r}", {}
        return ("rejected", reason, {}) if reason else (None, "", output)

    def _row(
        self,
        job: Job,
        seen: _Attempts,
        *,
        output: dict[str, Any] | None = None,
        error: tuple[ErrorKind, str, bool] | None = None,
    ) -> Row:
        return Row(
            key=job.key,
            task=self.plan.task.name,
            item_id=job.item.item_id,
            poem_ids=tuple(p.id for p in job.item.poems),
            turn=job.turn,
            output=output,
            error=RowError(kind=error[0], message=error[1], retryable=error[2]) if error else None,
            backend=self.plan.backend.id,
            model=seen.model,
            request_id=seen.request_id,
            stop_reason=seen.stop_reason,
            usage=seen.usage,
            cost=seen.cost,
            attempts=max(1, seen.count),
            started=seen.started,
            finished=time.time(),
        )

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
            last = error.message if error else "see the rows"
            self._halt(
                f"{sum(self.recent)} of the last {_WINDOW} requests failed, the last with: {last}"
            )


class _Attempts:
    """What was sent and paid for one job so far."""

    __slots__ = (
        "cost", "count", "failures", "model", "request_id", "started", "stop_reason", "timeouts",
        "usage",
    )  # fmt: skip

    def __init__(self, started: float) -> None:
        self.started = started
        self.count = self.failures = self.timeouts = 0
        self.usage = Usage()
        self.cost = 0.0
        self.model: str | None = None
        self.request_id: str | None = None
        self.stop_reason: str | None = None

    def note(self, model: str | None, request_id: str | None, stop_reason: str | None) -> None:
        self.model = model or self.model
        self.request_id = request_id or self.request_id
        self.stop_reason = stop_reason or self.stop_reason


def _most(price: Price, request: Request) -> float:
    """Dollars that one attempt can cost at most: a token per two bytes in, `max_tokens` out."""
    sent = len(request.system.encode()) + len(str(request.schema or ""))
    sent += sum(len(m["content"].encode()) for m in request.messages())
    return price.cost(Usage(input=sent // 2, output=request.max_tokens))


def _asked_again(request: Request, answer: str, reason: str) -> Request:
    follow = f"That answer cannot be used: {reason}. Answer the same task again, whole."
    return replace(request, followups=(*request.followups, (answer or "(empty)", follow)))


def _in_words(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)
    parts = [f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in found[:5]]
    return "; ".join(parts) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
