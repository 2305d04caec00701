"""Claude through the anthropic SDK, one request at a time."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from ..errors import BackendError, UnknownName
from ..hookspecs import hookimpl
from ..records import Usage
from . import Backend, Price, Reply, Request

if TYPE_CHECKING:
    from anthropic import APIError, APIStatusError, AsyncAnthropic

_KEY = re.compile(r"sk-[A-Za-z0-9_-]{6,}")


class Claude:
    """Asks a Claude model through the Messages API.

    The key is taken from `ANTHROPIC_API_KEY`, the address from `ANTHROPIC_BASE_URL` where set.
    The SDK's own retries are off: the engine retries, with one gate for all requests.

    Args:
        model: Such as "claude-opus-5-5".
        effort: How hard the model thinks; the API's default when None.
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
        effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None,
        concurrency: int = 64,
        timeout: float = 600.0,
        price: Price | None = None,
    ) -> None:
        self.model = model
        self.effort = effort
        self.id = f"claude:{model}" + (f";effort={effort}" if effort else "")
        self.concurrency = concurrency
        self.timeout = timeout
        self.price = price or _price(model)
        self._client: AsyncAnthropic | None = None
        self._schemas: dict[int, tuple[Mapping[str, Any], dict[str, Any]]] = {}

    async def complete(self, request: Request) -> Reply:
        """Asks once.

        Raises:
            BackendError: No usable answer: refusal, cut at `max_tokens`, HTTP or connection error.
        """
        from anthropic import APIError

        # Raw: building the SDK's typed message takes a tenth of the request's whole CPU time.
        ask = self._connect().messages.with_raw_response.create
        try:
            response = await ask(**self._params(request))
            return _reply(response.http_response.json(), response.headers.get("request-id"))
        except APIError as error:
            raise _translated(error) from error
        except OSError as error:
            raise BackendError(f"connection: {error}", retryable=True) from error
        except BackendError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise BackendError(f"unreadable response: {error!r}", retryable=True) from error
        except Exception as error:
            # A body that breaks off surfaces as an error of the transport, not of the SDK.
            if type(error).__module__.partition(".")[0] in ("httpx2", "aiohttp", "httpcore2"):
                raise BackendError(
                    f"connection: {type(error).__name__}: {error}", retryable=True
                ) from error
            raise

    async def aclose(self) -> None:
        """Closes the connections; the next request opens new ones."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _params(self, request: Request) -> dict[str, Any]:
        config: dict[str, Any] = {}
        if self.effort:
            config["effort"] = self.effort
        if request.schema is not None:
            config["format"] = {"type": "json_schema", "schema": self._schema(request.schema)}
        params: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_tokens,
            "system": request.system,
            "messages": request.messages(),
        }
        if config:
            params["output_config"] = config
        return params

    def _schema(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        # All requests of a plan share one schema object, so it is transformed once. The object is
        # kept beside the result, else its id could come to mean another schema.
        if id(schema) not in self._schemas:
            from anthropic import transform_schema

            self._schemas[id(schema)] = (schema, transform_schema(dict(schema)))
        return self._schemas[id(schema)][1]

    def _connect(self) -> AsyncAnthropic:
        if self._client is None:
            if not os.environ.get("ANTHROPIC_API_KEY"):
                raise BackendError(
                    "no key for Claude. Set the environment variable ANTHROPIC_API_KEY, or use "
                    "another backend: `versecraft backends` lists them",
                    fatal=True,
                )
            import httpx2
            from anthropic import AsyncAnthropic, DefaultAioHttpClient

            limits = httpx2.Limits(
                max_connections=self.concurrency, max_keepalive_connections=self.concurrency
            )
            self._client = AsyncAnthropic(
                max_retries=0,
                timeout=self.timeout,
                http_client=DefaultAioHttpClient(limits=limits, timeout=self.timeout),
            )
        return self._client


def _price(model: str) -> Price:
    file = resources.files("versecraft") / "data" / "prices.json"
    models = json.loads(file.read_text(encoding="utf-8"))["models"]
    if model not in models:
        raise UnknownName(
            "priced model",
            model,
            models,
            "If the name is right, pass price=versecraft.backends.Price(input=…, output=…), or add "
            f'[prices."{model}"] with input and output to versecraft.toml.',
        )
    return Price(**models[model])


def _reply(message: dict[str, Any], request_id: str | None) -> Reply:
    usage, stop_reason = _usage(message["usage"]), message.get("stop_reason")
    facts: dict[str, Any] = {
        "usage": usage,
        "model": message["model"],
        "request_id": request_id,
        "stop_reason": stop_reason,
    }
    if stop_reason == "refusal":
        details = message.get("stop_details") or {}
        category = details.get("category") or "no category"
        why = details.get("explanation") or "no explanation"
        raise BackendError(f"the model declined ({category}): {why}", kind="refusal", **facts)
    if stop_reason in ("max_tokens", "model_context_window_exceeded"):
        raise BackendError(
            f"cut at {usage.output} tokens ({stop_reason}); raise the task's max_tokens",
            kind="truncated",
            retryable=True,
            **facts,
        )
    blocks = message.get("content") or ()
    return Reply(text="".join(b["text"] for b in blocks if b["type"] == "text"), **facts)


def _usage(usage: dict[str, Any]) -> Usage:
    written = usage.get("cache_creation_input_tokens") or 0
    hour = (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0
    return Usage(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        thinking=(usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
        cache_write_5m=written - hour,
        cache_write_1h=hour,
        cache_read=usage.get("cache_read_input_tokens") or 0,
    )


def _translated(error: APIError) -> BackendError:
    from anthropic import APIConnectionError, APIStatusError, APITimeoutError

    if isinstance(error, APITimeoutError):
        return BackendError("the connection timed out", kind="timeout", retryable=True)
    if isinstance(error, APIConnectionError):
        cause = error.__cause__ or error
        return BackendError(
            f"connection: {_clean(str(cause)) or type(cause).__name__}", retryable=True
        )
    if isinstance(error, APIStatusError):
        return _status(error)
    return BackendError(f"unreadable response: {_clean(str(error))}", retryable=True)


def _status(error: APIStatusError) -> BackendError:
    code = error.status_code
    said = _clean(error.api_message or str(error))
    capped = error.error_code == "enforced_spend_limit_reached"
    hints = {
        401: "Check ANTHROPIC_API_KEY.",
        402: "Check the account's billing.",
        403: "The key may not use this model or workspace; check its permissions.",
        404: "Check the model's name.",
    }
    hint = "Raise the spend limit in the console, then call generate again." if capped else ""
    hint = hint or hints.get(code, "")
    return BackendError(
        f"HTTP {code} ({error.type or 'no type'}): {said}" + (f" {hint}" if hint else ""),
        retryable=not capped and (code in (408, 409, 429) or code >= 500),
        retry_after=_seconds(error.response.headers.get("retry-after")),
        overloaded=code in (429, 503, 529) and not capped,
        fatal=capped or code in (401, 402, 403, 404),
        request_id=error.request_id,
    )


def _seconds(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None


def _clean(text: str) -> str:
    key = os.environ.get("ANTHROPIC_API_KEY")
    return _KEY.sub("sk-…", text.replace(key, "…") if key else text)


def _named(rest: str, **options: Any) -> Claude:
    """Asks a Claude model through the Messages API: claude:MODEL or claude:MODEL;effort=low."""
    model, _, effort = rest.partition(";effort=")
    if effort:
        options["effort"] = effort
    return Claude(model, **options)


@hookimpl
def versecraft_backends() -> Mapping[str, Callable[..., Backend]]:
    """Registers `claude:`."""
    return {"claude": _named}
