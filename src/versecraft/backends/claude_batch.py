"""Claude at half the price: requests by the batch, answered within a day."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..anthropic_api import (
    Cache,
    Effort,
    Heads,
    api_errors,
    cache_from,
    connect,
    count,
    dollars,
    encode,
    post,
    read_message,
    read_spec,
    tidy,
)
from ..errors import BackendError
from ..hookspecs import hookimpl
from . import Backend, BatchState, Price, Reply, Request

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

_PAGE = 100
_BLOCK = 2**18
_UNKNOWN = "It was made with another key or workspace, or is too old: results are kept 29 days."
_PASSING = ("api_error", "overloaded_error", "rate_limit_error", "timeout_error")
_LONGEST_ID = "x" * 64


class ClaudeBatch:
    """Asks a Claude model through the Message Batches API, which takes up to a day.

    Key and address as for `Claude`.

    Args:
        model: Such as "claude-opus-5-5".
        effort: How hard the model thinks; the API's default when None.
        cache: How long the system prompt stays in the provider's cache after its last use; it is
            not cached when None. At the prices of Opus 5.5 writing for 5 minutes pays when more
            than 21 % of the requests then read it, writing for an hour from 51 % on; the provider
            reports 30 to 98 % in batches.
        concurrency: Without effect: a batch is handed in as a whole.
        timeout: Seconds for one call, but for the download of results: there, for each read.
        price: Dollars per million tokens of live requests; from the list that ships when None.

    Attributes:
        max_bytes: The API takes 256 MB. It is not said what it counts, nor which MB: 6 million
            bytes are left as a margin.

    Raises:
        UnknownName: The list that ships has no price for the model.
    """

    max_requests = 100_000
    max_bytes = 250_000_000

    def __init__(
        self,
        model: str,
        *,
        effort: Effort | None = None,
        cache: Cache | None = "5m",
        concurrency: int = 1,
        timeout: float = 600.0,
        price: Price | None = None,
    ) -> None:
        self.model = model
        self.effort = effort
        self.cache = cache
        self.id = f"claude-batch:{model}" + (f";effort={effort}" if effort else "")
        self.answers_as = self.id.replace("claude-batch:", "claude:", 1)
        self.concurrency = concurrency
        self.timeout = timeout
        self.price = price or dollars(model)
        self.cache_from = cache_from(model) if cache else None
        self._client: AsyncAnthropic | None = None
        self._heads: Heads = {}

    async def complete(self, request: Request) -> Reply:
        """Refuses: a batch takes up to a day.

        Raises:
            BackendError: Always.
        """
        raise BackendError(
            f"{self.id} answers by the batch only, within a day. Use claude:{self.model} for "
            "single questions.",
            fatal=True,
        )

    async def count(self, request: Request) -> int:
        """The input tokens of a request, counted by the provider at no cost.

        Raises:
            BackendError: The provider cannot be reached.
        """
        return await count(self._connect(), self._encode(request))

    def size(self, request: Request) -> int:
        """Bytes of a request as it is sent in a batch, with the longest custom id."""
        return len(self._entry(_LONGEST_ID, request)) + 1

    async def submit(self, requests: Mapping[str, Request]) -> str:
        """Hands in a batch and returns the provider's id for it.

        Args:
            requests: By custom id: at most 64 characters of `[A-Za-z0-9_-]`.

        Raises:
            BackendError: It was not taken; or, with `lost` set, nobody knows whether it was.
        """
        client = self._connect()
        # Encoded twice, once to measure it and once piece by piece, not to hold 250 MB.
        length = sum(map(len, self._pieces(requests)))
        try:
            with api_errors(paid=True):
                async with asyncio.timeout(self.timeout):
                    response = await post(
                        client,
                        "/v1/messages/batches",
                        _blocks(self._pieces(requests)),
                        {"content-length": str(length)},
                    )
                return str(response.json()["id"])
        except BackendError as error:
            # A server that fails may have failed after it took the batch.
            error.lost = error.lost or getattr(error.__cause__, "status_code", 0) >= 500
            raise

    async def state(self, batch: str) -> BatchState:
        """How a batch stands.

        Raises:
            BackendError: The provider cannot be reached, or does not know the batch.
        """
        with api_errors(missing=_UNKNOWN):
            return _state(await self._retrieve(batch))

    async def recent(self, since: float) -> AsyncIterator[BatchState]:
        """The batches made since then (seconds since the epoch), newest first.

        Raises:
            BackendError: The provider cannot be reached.
        """
        listing = self._connect().messages.batches.with_raw_response.list
        after: dict[str, Any] = {}
        while True:
            with api_errors():
                async with asyncio.timeout(self.timeout):
                    response = await listing(limit=_PAGE, **after)
                page = response.http_response.json()
                states = [_state(batch) for batch in page["data"]]
                last = page.get("last_id") if page.get("has_more") else None
            for state in states:
                if state.created < since:
                    return
                yield state
            if not last or not states:
                return
            after = {"after_id": last}

    async def collect(self, batch: str) -> AsyncGenerator[tuple[str, Reply | BackendError], None]:
        """The results of a batch that has ended, by custom id, in any order.

        They are read as they arrive, never held together. What comes whole comes through, also
        when something else in the file is broken; that is an error at the end.

        Raises:
            BackendError: The batch has not ended, its results are gone, or some did not arrive.
        """
        with api_errors(missing=_UNKNOWN):
            facts = await self._retrieve(batch)
            state = _state(facts)
            if not facts.get("results_url"):
                raise BackendError(
                    f"batch {batch} has no results: it is {state.status}. "
                    + (_UNKNOWN if state.ended else "Collect it when it has ended."),
                    retryable=not state.ended,
                )
            whole = broken = 0
            download = self._connect().messages.batches.with_streaming_response.results
            async with download(batch) as response:
                async for line in _lines(response.iter_bytes()):
                    if found := _result(line, batch):
                        whole += 1
                        yield found
                    else:
                        broken += bool(line.strip())
        if missing := max(broken, state.requests - whole):
            raise BackendError(
                f"{missing} of the {state.requests} results of batch {batch} did not arrive or "
                "cannot be read. Collect it again.",
                retryable=True,
            )

    async def cancel(self, batch: str) -> None:
        """Asks the provider to drop what it has not begun; the batch then ends.

        Nothing happens to a batch that has ended already.

        Raises:
            BackendError: The provider cannot be reached, or does not know the batch.
        """
        try:
            with api_errors(missing=_UNKNOWN):
                async with asyncio.timeout(self.timeout):
                    await self._connect().messages.batches.with_raw_response.cancel(batch)
        except BackendError as error:
            refused = getattr(error.__cause__, "status_code", None) in (400, 409)
            if not refused or not (await self.state(batch)).ended:
                raise

    async def aclose(self) -> None:
        """Closes the connections; the next call opens new ones."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _retrieve(self, batch: str) -> dict[str, Any]:
        async with asyncio.timeout(self.timeout):
            response = await self._connect().messages.batches.with_raw_response.retrieve(batch)
        facts: dict[str, Any] = response.http_response.json()
        return facts

    def _pieces(self, requests: Mapping[str, Request]) -> Iterator[bytes]:
        separator = b'{"requests":['
        for name, request in requests.items():
            yield separator + self._entry(name, request)
            separator = b","
        yield b"]}"

    def _entry(self, name: str, request: Request) -> bytes:
        return b'{"custom_id":"%b","params":%b}' % (name.encode(), self._encode(request))

    def _encode(self, request: Request) -> bytes:
        return encode(
            request, model=self.model, effort=self.effort, ttl=self.cache, heads=self._heads
        )

    def _connect(self) -> AsyncAnthropic:
        if self._client is None:
            self._client = connect(self.timeout, connections=16)
        return self._client


def _state(facts: Mapping[str, Any]) -> BatchState:
    status = facts["processing_status"]
    return BatchState(
        batch=facts["id"],
        requests=sum(facts["request_counts"].values()),
        created=datetime.fromisoformat(facts["created_at"]).timestamp(),
        ended=status == "ended",
        status=status,
    )


async def _blocks(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """The pieces, several at a time."""
    block = bytearray()
    for piece in pieces:
        block += piece
        if len(block) >= _BLOCK:
            yield bytes(block)
            block.clear()
    yield bytes(block)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytearray]:
    """The lines of a stream; each byte is copied once, however long a line is."""
    line = bytearray()
    async for chunk in chunks:
        first, *others = chunk.split(b"\n")
        line += first
        for other in others:
            yield line
            line = bytearray(other)
    yield line


def _result(line: bytearray, batch: str) -> tuple[str, Reply | BackendError] | None:
    """Custom id and outcome; None for a line that has none."""
    try:
        entry = json.loads(line)
        name, result = str(entry["custom_id"]), entry["result"]
    except (ValueError, KeyError, TypeError):
        return None
    try:
        return name, _outcome(result, batch)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"unreadable result: {tidy(repr(error))}"
        return name, BackendError(said, retryable=True, lost=True, request_id=batch)


def _outcome(result: dict[str, Any], batch: str) -> Reply | BackendError:
    if result["type"] == "succeeded":
        return read_message(result["message"], batch)
    if result["type"] == "expired":
        return BackendError(
            "the batch expired before the provider came to it; ask again",
            kind="timeout",
            retryable=True,
            request_id=batch,
        )
    if result["type"] == "canceled":
        return BackendError(
            "the batch was cancelled before the provider came to it; ask again",
            kind="cancelled",
            retryable=True,
            request_id=batch,
        )
    error = result["error"]["error"]
    return BackendError(
        f"{error['type']}: {tidy(error['message'])}",
        retryable=error["type"] in _PASSING,
        request_id=batch,
    )


def _named(rest: str, **options: Any) -> ClaudeBatch:
    """Asks a Claude model by the batch, at half the price: claude-batch:MODEL[;effort=low]."""
    model, spec = read_spec(rest)
    return ClaudeBatch(model, **{**options, **spec})


@hookimpl
def versecraft_backends() -> Mapping[str, Callable[..., Backend]]:
    """Registers `claude-batch:`."""
    return {"claude-batch": _named}
