"""The seam to models: what is asked, what comes back, what it costs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from ..errors import BackendError
from ..records import Price, Usage

__all__ = [
    "Backend",
    "BatchBackend",
    "BatchState",
    "Price",
    "Reply",
    "Request",
    "answers_of",
    "deadline_of",
    "price_of",
]  # fmt: skip

_NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model.

    Attributes:
        system: The system prompt: a guide for a teacher, a persona for a trained model.
        turn: The user message, byte for byte as it will stand in a training row.
        max_tokens: Upper bound of the answer, thinking included.
        schema: JSON schema of the answer; None when the answer is plain text.
        seed: For backends that sample with one.
        followups: Earlier answers to this turn with the reason each was refused.
        meta: `task` and `item_id`; never sent to a model.
    """

    system: str
    turn: str
    max_tokens: int
    schema: Mapping[str, Any] | None = None
    seed: int | None = None
    followups: tuple[tuple[str, str], ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)

    def messages(self) -> list[dict[str, str]]:
        """The chat after the system prompt: the turn, then each refused answer and why."""
        chat = [{"role": "user", "content": self.turn}]
        for answer, reason in self.followups:
            chat.append({"role": "assistant", "content": answer})
            chat.append({"role": "user", "content": reason})
        return chat


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that ended by itself.

    Backends raise `BackendError` for everything else: refusals (kind "refusal"), answers cut
    at the token limit ("truncated"), HTTP and connection errors ("http"), deadlines ("timeout").

    Attributes:
        text: What the model said, without thinking.
        model: The model that really answered.
        room: How many more requests like this one the server's rate limits leave room for right
            now; None where it does not say.
    """

    text: str
    model: str
    usage: Usage = _NOTHING
    request_id: str | None = None
    stop_reason: str | None = None
    room: int | None = None


@runtime_checkable
class Backend(Protocol):
    """Something that completes requests.

    A backend may also have

    * `timeout`: seconds that one attempt may take as a whole (600 if not),
    * `price`: a `Price` (tokens cost nothing if not),
    * `answers_as`: the id of the backend whose answers are as good as its own; what one of the
      two has answered the other does not ask,
    * `cache_from`: tokens from which on it caches a system prompt (it never does if not); the
      first request is then sent ahead of the others, which find the cache warm,
    * `async def count(self, request) -> int`: the tokens of a request, counted at no cost,
    * `async def aclose(self)`: called in the same event loop when a run ends; connections are
      made lazily, inside `complete`,
    * `held()`: a context within which it keeps from run to run what is dear to load.

    Attributes:
        id: Model and sampling settings; part of every request's digest.
        concurrency: How many requests may be in flight at once.
    """

    id: str
    concurrency: int

    async def complete(self, request: Request) -> Reply:
        """Answers a request.

        Raises:
            BackendError: There is no usable answer; says why and whether to try again.
        """
        ...


@dataclass(frozen=True, slots=True)
class BatchState:
    """What a provider says of a batch.

    Attributes:
        batch: The provider's id.
        requests: How many there are in it.
        created: Seconds since the epoch, by the provider's clock.
        ended: Whether the results can be collected.
        status: The provider's word, such as "in_progress" or "canceling".
    """

    batch: str
    requests: int
    created: float
    ended: bool
    status: str


@runtime_checkable
class BatchBackend(Protocol):
    """A backend that also takes requests by the batch and answers hours later, for less.

    What it charges is its `price` times the price's `batch`. Where an instance satisfies this
    protocol, `generate` uses it and never calls `complete`.

    Attributes:
        max_requests: So many requests may be in one batch,
        max_bytes: and so many bytes.
    """

    id: str
    max_requests: int
    max_bytes: int

    def size(self, request: Request) -> int:
        """Bytes of a request as it is sent in a batch."""
        ...

    async def submit(self, requests: Mapping[str, Request]) -> str:
        """Hands in a batch and returns the provider's id for it.

        Args:
            requests: By custom id: at most 64 characters of `[A-Za-z0-9_-]`.

        Raises:
            BackendError: It was not taken; or, with `lost` set, nobody knows whether it was.
        """
        ...

    async def state(self, batch: str) -> BatchState:
        """How a batch stands.

        Raises:
            BackendError: The provider cannot be reached, or does not know the batch.
        """
        ...

    def recent(self, since: float) -> AsyncIterator[BatchState]:
        """The batches made since then (seconds since the epoch), newest first."""
        ...

    def collect(self, batch: str) -> AsyncGenerator[tuple[str, Reply | BackendError], None]:
        """The results of a batch that has ended, by custom id, in any order.

        May be called again at any time; each call gives all of them. An error has kind "timeout"
        where the batch expired before the provider came to a request, "cancelled" where it was
        cancelled before.

        Raises:
            BackendError: They cannot be had (now: retryable).
        """
        ...

    async def cancel(self, batch: str) -> None:
        """Asks the provider to drop what it has not begun; the batch then ends.

        Raises:
            BackendError: The provider cannot be reached.
        """
        ...


def price_of(backend: Backend | BatchBackend) -> Price | None:
    """What a backend's tokens cost; None when they cost nothing."""
    price: Price | None = getattr(backend, "price", None)
    return price.batched() if price and isinstance(backend, BatchBackend) else price


def answers_of(backend: Backend | BatchBackend) -> str:
    """What a backend's answers are kept under: its id, or that of the one it stands in for."""
    return str(getattr(backend, "answers_as", backend.id))


def deadline_of(backend: Backend | BatchBackend) -> float:
    """Seconds that one attempt of a backend may take as a whole."""
    return float(getattr(backend, "timeout", 600.0))
