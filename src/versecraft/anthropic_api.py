"""Anthropic's Messages API as both Claude backends use it: client, bodies, answers, errors, prices.

Bodies are encoded here and posted through the SDK's client as bytes: its own way walks each body
in Python and encodes guide and schema anew, a fourth of a request's whole CPU time. Building its
typed message from the answer would take another tenth.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, get_args

from .backends import Reply, Request
from .errors import BackendError, UnknownName
from .records import Price, Usage

if TYPE_CHECKING:
    import httpx2
    from anthropic import APIStatusError, AsyncAnthropic

__all__ = [
    "Cache", "Effort", "Heads", "api_errors", "cache_from", "connect", "count", "dollars",
    "encode", "post", "read_message", "read_spec", "tidy",
]  # fmt: skip

Effort = Literal["low", "medium", "high", "xhigh", "max"]
"""How hard a model thinks."""

Cache = Literal["5m", "1h"]
"""How long a system prompt stays in the provider's cache after its last use."""

Heads = dict[tuple[str, int, int], tuple[Any, bytes]]
"""What many requests share, encoded: by system prompt, schema (its `id`) and bound."""

_LIMITS = tuple(
    f"anthropic-ratelimit-{what}-remaining"
    for what in ("requests", "input-tokens", "output-tokens", "tokens")
)
_SECRET = re.compile(r"sk-[A-Za-z0-9_-]{6,}|(?<=://)[^/@\s]+(?=@)")
_HINTS = {
    401: "Check ANTHROPIC_API_KEY.",
    402: "Check the account's billing.",
    403: "The key may not use this model or workspace; check its permissions.",
    404: "Check the model's name.",
}
_MOST_HEADS = 64
_TRANSPORT = ("anthropic", "httpx2", "httpcore2", "aiohttp")


def read_spec(rest: str) -> tuple[str, dict[str, Any]]:
    """Model and options of a spec such as `claude-opus-5-5;effort=low`, without its scheme.

    Raises:
        UnknownName: There is no such effort.
    """
    model, _, effort = rest.partition(";effort=")
    if effort and effort not in get_args(Effort):
        raise UnknownName("effort", effort, get_args(Effort))
    return model, {"effort": effort} if effort else {}


def dollars(model: str) -> Price:
    """The list price of a model.

    Raises:
        UnknownName: The list that ships does not have it; says how to add it.
    """
    models = _models()
    if model not in models:
        raise UnknownName(
            "priced model",
            model,
            models,
            "If the name is right, pass price=versecraft.backends.Price(input=…, output=…), or add "
            f'[prices."{model}"] with input and output to versecraft.toml.',
        )
    return Price(**{k: v for k, v in models[model].items() if k != "cache_from"})


def cache_from(model: str) -> int:
    """The fewest tokens that a model caches; the most that any model asks for where not listed."""
    return int(_models().get(model, {}).get("cache_from", 4096))


@cache
def _models() -> dict[str, dict[str, float]]:
    file = resources.files("versecraft") / "data" / "prices.json"
    models: dict[str, dict[str, float]] = json.loads(file.read_text(encoding="utf-8"))["models"]
    return models


def connect(timeout: float, connections: int) -> AsyncAnthropic:
    """A client that tries once; the key is that of `ANTHROPIC_API_KEY` and no other.

    Args:
        timeout: Seconds without a byte from the server; connecting takes at most 30.
        connections: How many there may be at once.

    Raises:
        BackendError: There is no key.
    """
    key = os.environ.get("ANTHROPIC_API_KEY", "").strip()
    if not key:
        raise BackendError(
            "no key for Claude. Set the environment variable ANTHROPIC_API_KEY, or use "
            "another backend: `versecraft backends` lists them",
            fatal=True,
        )
    import httpx2
    from anthropic import AsyncAnthropic, DefaultAioHttpClient

    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    seconds = httpx2.Timeout(timeout, connect=min(timeout, 30.0))
    return AsyncAnthropic(
        api_key=key,
        max_retries=0,
        timeout=seconds,
        http_client=DefaultAioHttpClient(limits=limits, timeout=seconds),
    )


def encode(
    request: Request, *, model: str, effort: Effort | None, ttl: Cache | None, heads: Heads
) -> bytes:
    """The parameters of a message as JSON. Halves of surrogate pairs become question marks.

    Args:
        request: What is asked.
        model: Who is asked.
        effort: How hard it thinks; the API's default when None.
        ttl: How long the system prompt is cached; not at all when None.
        heads: Where what requests share is kept from one call to the next.
    """
    # The schema is kept beside its `id`, else that could come to mean another schema.
    key = (request.system, id(request.schema), request.max_tokens)
    if key not in heads:
        if len(heads) == _MOST_HEADS:
            heads.clear()
        head = _json(_head(request, model, effort, ttl))
        heads[key] = request.schema, head[:-1] + b',"messages":'
    return heads[key][1] + _json(request.messages()) + b"}"


def _head(request: Request, model: str, effort: Effort | None, ttl: Cache | None) -> dict[str, Any]:
    head: dict[str, Any] = {"model": model, "max_tokens": request.max_tokens}
    if request.system:
        block: dict[str, Any] = {"type": "text", "text": request.system}
        if ttl:
            lifetime = {} if ttl == "5m" else {"ttl": ttl}
            block["cache_control"] = {"type": "ephemeral", **lifetime}
        head["system"] = [block]
    config: dict[str, Any] = {"effort": effort} if effort else {}
    if request.schema is not None:
        from anthropic import transform_schema

        schema = transform_schema(dict(request.schema))
        config["format"] = {"type": "json_schema", "schema": schema}
    return {**head, "output_config": config} if config else head


def _json(value: Any) -> bytes:
    return _ENCODER.encode(value).encode(errors="replace")


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


async def post(
    client: AsyncAnthropic,
    path: str,
    body: bytes | AsyncIterable[bytes],
    headers: Mapping[str, str] | None = None,
) -> httpx2.Response:
    """Posts a body; to be called within `api_errors`."""
    import httpx2

    return await client.post(
        path, content=body, cast_to=httpx2.Response, options={"headers": headers or {}}
    )


async def count(client: AsyncAnthropic, asked: bytes) -> int:
    """The input tokens of a message with these parameters, counted by the provider at no cost.

    Raises:
        BackendError: They cannot be had.
    """
    counted = json.loads(asked)
    del counted["max_tokens"]
    with api_errors():
        response = await post(client, "/v1/messages/count_tokens", _json(counted))
        return int(response.json()["input_tokens"])


def read_message(
    message: Mapping[str, Any], request_id: str | None, limits: Mapping[str, str] | None = None
) -> Reply | BackendError:
    """What a message says: an answer, or why it is none, with what was paid for it either way.

    Args:
        message: A message as the API gives it.
        request_id: Goes into the result.
        limits: The response's headers, for the room that the rate limits leave.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: It does not say what was charged.
    """
    used = _usage(message["usage"])
    stop_reason = message.get("stop_reason")
    facts: dict[str, Any] = {
        "usage": used,
        "model": message.get("model"),
        "request_id": request_id,
        "stop_reason": stop_reason,
    }
    if stop_reason == "refusal":
        details = message.get("stop_details") or {}
        category = details.get("category") or "no category"
        why = details.get("explanation") or "no explanation"
        return BackendError(f"the model declined ({category}): {why}", kind="refusal", **facts)
    if stop_reason in ("max_tokens", "model_context_window_exceeded"):
        return BackendError(
            f"cut at {used.output} tokens ({stop_reason}); raise the task's max_tokens",
            kind="truncated",
            retryable=True,
            text="".join(str(b.get("text", "")) for b in message.get("content") or ()),
            **facts,
        )
    try:
        text = "".join(b["text"] for b in message["content"] or () if b["type"] == "text")
        facts["model"] = str(message["model"])
    except (KeyError, TypeError) as error:
        return BackendError(f"unreadable answer: {error!r}", retryable=True, **facts)
    return Reply(text=text, room=_room(limits, used) if limits else None, **facts)


def _usage(usage: Mapping[str, Any]) -> Usage:
    written = usage.get("cache_creation_input_tokens") or 0
    hour = (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0
    return Usage(
        requests=1,
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        thinking=(usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
        cache_write_5m=written - hour,
        cache_write_1h=hour,
        cache_read=usage.get("cache_read_input_tokens") or 0,
    )


def _room(headers: Mapping[str, str], used: Usage) -> int | None:
    # What is read from a cache does not count against the limit of input.
    sent = used.sent - used.cache_read
    needs = (1, sent, used.output, sent + used.output)
    left = ((headers.get(name), need) for name, need in zip(_LIMITS, needs, strict=True))
    return min(
        (int(said) // max(1, need) for said, need in left if said and said.isdecimal()),
        default=None,
    )


@contextmanager
def api_errors(*, paid: bool = False, missing: str = "") -> Iterator[None]:
    """Turns what the SDK, its transport or an unreadable answer raise into `BackendError`.

    Args:
        paid: Whether an answer costs money, so that a request without a whole one is `lost`.
        missing: What a 404 means, where it does not mean a wrong model.
    """
    try:
        yield
    except BackendError:
        raise
    except Exception as error:
        found = _translated(error, paid, missing)
        if found is None:
            raise
        raise found from error


def _translated(error: Exception, paid: bool, missing: str) -> BackendError | None:
    import httpx2
    from anthropic import APIConnectionError, APIStatusError

    if isinstance(error, APIStatusError):
        return _status(error, missing)
    cause = (error.__cause__ or error) if isinstance(error, APIConnectionError) else error
    said = tidy(str(cause) or type(cause).__name__)
    hint = " It may have been charged for." if paid else ""
    if isinstance(cause, TimeoutError | httpx2.TimeoutException) and _went_out(error):
        what = f"no answer in time ({said}).{hint}"
        return BackendError(what, kind="timeout", retryable=True, lost=paid)
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _TRANSPORT:
        if _went_out(error):
            return BackendError(f"connection: {said}.{hint}", retryable=True, lost=paid)
        hint = "Check the network, and ANTHROPIC_BASE_URL where it is set."
        return BackendError(f"connection: {said}. {hint}", retryable=True)
    if isinstance(error, ValueError | KeyError | TypeError | AttributeError):
        what = f"unreadable response: {tidy(repr(error))}.{hint}"
        return BackendError(what, retryable=True, lost=paid)
    return None


def _went_out(error: BaseException | None) -> bool:
    """Whether the server may have got the request.

    To the SDK's aiohttp transport every broken connection is an `httpx2.ConnectError`, also when
    it broke after the request was sent; what aiohttp itself raised tells them apart.
    """
    import aiohttp
    import httpx2

    unsent = (
        aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError,
        aiohttp.InvalidURL, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol,
    )  # fmt: skip
    while error is not None:
        if isinstance(error, unsent):
            return False
        error = error.__cause__
    return True


def _status(error: APIStatusError, missing: str) -> BackendError:
    code, name = error.status_code, error.error_code or ""
    capped = name.endswith("spend_limit_reached")
    lacking = code == 404 and bool(missing)
    hint = "Raise the spend limit in the console, then call generate again." if capped else ""
    hint = hint or (missing if lacking else _HINTS.get(code, ""))
    said = f"HTTP {code} ({error.type or 'no type'}): {tidy(error.api_message or str(error))}"
    return BackendError(
        f"{said.rstrip('.')}. {hint}" if hint else said,
        retryable=not capped and (code in (408, 409, 429) or code >= 500),
        retry_after=_seconds(error.response.headers.get("retry-after")),
        overloaded=code in (429, 503, 529) and not capped,
        fatal=capped
        or name == "organization_on_hold"
        or (code in (401, 402, 403, 404) and not lacking),
        request_id=error.request_id,
    )


def _seconds(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None


def tidy(text: str) -> str:
    """A message of someone else's, on one line, not too long, and without keys."""
    key = os.environ.get("ANTHROPIC_API_KEY", "").strip()
    text = _SECRET.sub("…", text.replace(key, "…") if key else text)
    text = " ".join(text.split())
    return text if len(text) <= 400 else f"{text[:400]}…"
