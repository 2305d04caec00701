"""Asking for one answer: what was sent and paid so far, how an answer is read, the row it makes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from .backends import Reply, Request
from .errors import BackendError, ErrorKind
from .records import Row, RowError, Usage
from .runs import Job, Plan

__all__ = [
    "REASKS",
    "TRIES",
    "Attempts",
    "Purse",
    "Reading",
    "ask_again",
    "came_back",
    "from_journal",
    "in_words",
    "read_reply",
    "row_of",
    "with_answer",
]

REASKS = 2  # an answer that breaks the schema or that the task refuses is asked again so often
TRIES = 6  # a request that the server or the network fails is sent so often


@dataclass(slots=True)
class Attempts:
    """What was sent for one job so far, and what it cost.

    Attributes:
        started: Seconds since the epoch.
        count: Requests sent.
        failures: Of them, those that the server or the network failed.
        timeouts: Of those, the ones past their deadline.
        lost: Requests whose answer never came, though they may have been paid for.
        followups: Each answer that could not be used, and why; sent along with the next request.
    """

    started: float = field(default_factory=time.time)
    count: int = 0
    failures: int = 0
    timeouts: int = 0
    lost: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0
    followups: tuple[tuple[str, str], ...] = ()
    model: str | None = None
    request_id: str | None = None
    stop_reason: str | None = None

    def request(self, plan: Plan, job: Job) -> Request:
        """What is sent next."""
        return replace(plan.request(job), followups=self.followups)

    def note(self, outcome: Reply | BackendError, cost: float) -> None:
        """Takes down what came back, and the dollars it cost."""
        if outcome.usage:
            self.usage = self.usage + outcome.usage
        self.cost += cost
        self.model = outcome.model or self.model
        self.request_id = outcome.request_id or self.request_id
        self.stop_reason = outcome.stop_reason or self.stop_reason
        if isinstance(outcome, BackendError):
            self.failures += 1
            self.timeouts += outcome.kind == "timeout"
            self.lost += outcome.lost


def came_back(said: object) -> Reply | BackendError:
    """What a backend returned or raised, fit to be written down: a reply, or why it is none."""
    if isinstance(said, BackendError):
        said.args = tuple(_encodable(str(part)) for part in said.args)
        said.text = _encodable(said.text)
        return said
    if isinstance(said, Exception):
        return BackendError(_encodable(f"{type(said).__name__}: {said}"))
    whole = isinstance(said, Reply) and isinstance(said.text, str) and isinstance(said.model, str)
    if not (whole and isinstance(said, Reply) and isinstance(said.usage, Usage)):
        return BackendError(
            _encodable(f"the backend gave {str(said)[:80]!r}, not a Reply; mend it")
        )
    text = _encodable(said.text)
    return said if text == said.text else replace(said, text=text)


def _encodable(text: str) -> str:
    """The text; a half of a surrogate pair, which no file can hold, becomes a question mark."""
    return text if text.isascii() else text.encode(errors="replace").decode()


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer as the task takes it: the output, or why it cannot be used."""

    output: dict[str, Any] | None = None
    kind: ErrorKind = "invalid"
    reason: str = ""


def read_reply(plan: Plan, job: Job, reply: Reply) -> Reading:
    """Holds an answer against the task's schema and its own check."""
    task = plan.task
    try:
        result = task.read(job.item, reply.text)
        reason = task.accept(job.item, result)
        output = result.model_dump(mode="json")
    except ValidationError as error:
        return Reading(reason=in_words(error))
    except Exception as error:  # a plugin's check; the row records it
        return Reading(kind="rejected", reason=f"the task's own check broke: {error!r}")
    return Reading(kind="rejected", reason=reason) if reason else Reading(output=output)


def from_journal(states: Mapping[str, dict[str, Any]]) -> dict[str, Attempts]:
    """The attempts that a journal of batches has kept, by ledger key."""
    return {
        key: Attempts(
            **{
                **state,
                "usage": Usage(**state["usage"]),
                "followups": tuple((answer, why) for answer, why in state["followups"]),
            }
        )
        for key, state in states.items()
    }


def ask_again(seen: Attempts, reply: Reply, reading: Reading) -> None:
    """Makes the next request ask once more, with the answer and what is wrong with it."""
    follow = f"That answer cannot be used: {reading.reason}. Answer the same task again, whole."
    seen.followups = (*seen.followups, (reply.text or "(empty)", follow))


def with_answer(reason: str, answer: str) -> str:
    """Why an answer is of no use, with the answer: it was paid for, and shows what went wrong."""
    return f"{reason}\nThe answer was: {answer}" if answer else reason


def row_of(
    plan: Plan,
    job: Job,
    seen: Attempts,
    outcome: dict[str, Any] | tuple[ErrorKind, str, bool],
) -> Row:
    """The ledger's line: with an output, or with the kind, message and hope of an error."""
    output = outcome if isinstance(outcome, dict) else None
    error = None
    if not isinstance(outcome, dict):
        error = RowError(kind=outcome[0], message=outcome[1], retryable=outcome[2])
    return Row(
        key=job.key,
        task=plan.task.name,
        item_id=job.item.item_id,
        poem_ids=tuple(p.id for p in job.item.poems),
        turn=job.turn,
        output=output,
        error=error,
        prompt=plan.prompt,
        backend=plan.backend.id,
        model=seen.model,
        request_id=seen.request_id,
        stop_reason=seen.stop_reason,
        usage=seen.usage,
        price=plan.price,
        cost=seen.cost,
        attempts=max(1, seen.count),
        lost=seen.lost,
        started=seen.started,
        finished=time.time(),
    )


class Purse:
    """What a run has spent, and what it must keep back for requests that are under way.

    Attributes:
        budget: Dollars that may be spent; None for any sum.
        spent: Dollars that were spent.
        reserved: The most that requests under way, or lost under way, can cost.
        usage: Tokens that were paid for.
    """

    def __init__(self, plan: Plan, budget: float | None) -> None:
        self.price = plan.price
        self.budget = budget if plan.price else None
        self.writes = f"cache_write_{getattr(plan.backend, 'cache', None) or '5m'}"
        self.head = len(plan.system.encode()) + len(str(plan.schema or ""))
        self.spent = 0.0
        self.reserved = 0.0
        self.usage = Usage()

    def most(self, request: Request) -> float:
        """Dollars that a request can cost at most: a token per two bytes in, `max_tokens` out.

        All of it may have to be written to a prompt cache first.
        """
        if self.price is None:
            return 0.0
        sent = self.head + sum(len(m["content"].encode()) for m in request.messages())
        written = Usage(**{self.writes: sent // 2}, output=request.max_tokens)
        plain = Usage(input=sent // 2, output=request.max_tokens)
        return max(self.price.cost(written), self.price.cost(plain))

    def covers(self, dollars: float) -> bool:
        """Whether so much more can be spent, should all that is under way cost the most it can."""
        return self.budget is None or self.spent + self.reserved + dollars <= self.budget

    def pay(self, usage: Usage | None) -> float:
        """Takes down what an answer cost, and returns it."""
        if usage is None:
            return 0.0
        self.usage = self.usage + usage
        cost = self.price.cost(usage) if self.price else 0.0
        self.spent += cost
        return cost

    def empty(self, dollars: float) -> str:
        """Why a run ends here."""
        return (
            f"the budget of ${self.budget:,.2f} is used up (${self.spent:,.2f} spent, the next "
            f"request may cost ${dollars:,.2f}); call generate again with more"
        )


def in_words(error: ValidationError) -> str:
    """What is wrong with an answer, in a line."""
    found = error.errors(include_url=False, include_input=False)
    parts = [f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in found[:5]]
    return "; ".join(parts) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
