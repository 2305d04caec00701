"""Claude through the anthropic SDK, one request at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
)
from ..errors import BackendError
from ..hookspecs import hookimpl
from . import Backend, Price, Reply, Request

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic


class Claude:
    """Asks a Claude model through the Messages API.

    The key is taken from `ANTHROPIC_API_KEY`, the address from `ANTHROPIC_BASE_URL` where set.
    The SDK's own retries are off: the engine retries, with one gate for all requests.

    Args:
        model: Such as "claude-opus-5-5".
        effort: How hard the model thinks; the API's default when None.
        cache: How long the system prompt stays in the provider's cache after its last use; it is
            not cached when None. No answer depends on it.
        concurrency: Requests in flight at once.
        timeout: Seconds for one attempt as a whole.
        price: Dollars per million tokens; from the list that ships when None.

    Raises:
        UnknownName: The list that ships has no price for the model.
    """

    def __init__(
        self,
        model: str,
        *,
        effort: Effort | None = None,
        cache: Cache | None = "5m",
        concurrency: int = 64,
        timeout: float = 600.0,
        price: Price | None = None,
    ) -> None:
        self.model = model
        self.effort = effort
        self.cache = cache
        self.id = f"claude:{model}" + (f";effort={effort}" if effort else "")
        self.concurrency = concurrency
        self.timeout = timeout
        self.price = price or dollars(model)
        self.cache_from = cache_from(model) if cache else None
        self._client: AsyncAnthropic | None = None
        self._heads: Heads = {}

    async def complete(self, request: Request) -> Reply:
        """Asks once.

        Raises:
            BackendError: No usable answer: refusal, cut at `max_tokens`, HTTP or connection error.
        """
        client, body = self._connect(), self._encode(request)
        with api_errors(paid=True):
            response = await post(client, "/v1/messages", body)
            headers = response.headers
            found = read_message(response.json(), headers.get("request-id"), headers)
        if isinstance(found, BackendError):
            raise found
        return found

    async def count(self, request: Request) -> int:
        """The input tokens of a request, counted by the provider at no cost.

        Raises:
            BackendError: The provider cannot be reached.
        """
        return await count(self._connect(), self._encode(request))

    async def aclose(self) -> None:
        """Closes the connections; the next request opens new ones."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _encode(self, request: Request) -> bytes:
        return encode(
            request, model=self.model, effort=self.effort, ttl=self.cache, heads=self._heads
        )

    def _connect(self) -> AsyncAnthropic:
        if self._client is None:
            self._client = connect(self.timeout, self.concurrency)
        return self._client


def _named(rest: str, **options: Any) -> Claude:
    """Asks a Claude model through the Messages API: claude:MODEL or claude:MODEL;effort=low."""
    model, spec = read_spec(rest)
    return Claude(model, **{**options, **spec})


@hookimpl
def versecraft_backends() -> Mapping[str, Callable[..., Backend]]:
    """Registers `claude:`."""
    return {"claude": _named}
