"""The seam to models: what is asked, what comes back, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from ..records import Record, Usage

__all__ = ["Backend", "Price", "Reply", "Request", "deadline_of", "price_of"]

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
    """

    text: str
    model: str
    usage: Usage = _NOTHING
    request_id: str | None = None
    stop_reason: str | None = None


class Price(Record):
    """Dollars per million tokens, by class; `batch` is the factor of the batch API.

    Tokens of a prompt cache cost what other input does where no price of their own is given.
    """

    input: float
    output: float
    cache_write_5m: float | None = None
    cache_write_1h: float | None = None
    cache_read: float | None = None
    batch: float = 0.5

    def cost(self, usage: Usage) -> float:
        """Dollars for the given tokens at live prices."""
        dollars = usage.input * self.input + usage.output * self.output
        for name in ("cache_write_5m", "cache_write_1h", "cache_read"):
            price = getattr(self, name)
            dollars += getattr(usage, name) * (self.input if price is None else price)
        return dollars / 1e6


@runtime_checkable
class Backend(Protocol):
    """Something that completes requests.

    A backend may also have `timeout` (seconds that one attempt may take as a whole; 600 if not),
    `price` (a `Price`; tokens cost nothing if not), and `async def aclose(self)`, called in the
    same event loop when a run ends; connections are made lazily, inside `complete`.

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


def price_of(backend: Backend) -> Price | None:
    """What a backend's tokens cost; None when they cost nothing."""
    price: Price | None = getattr(backend, "price", None)
    return price


def deadline_of(backend: Backend) -> float:
    """Seconds that one attempt of a backend may take as a whole."""
    return float(getattr(backend, "timeout", 600.0))
