"""A loopback server that speaks the Messages API, strictly, and misbehaves on demand.

    python tests/messages_server.py --port 0        # prints the port

Endpoints, checked as the documentation and the SDK's types say (no SSE, no tools):
    POST /v1/messages · POST /v1/messages/count_tokens
    POST, GET /v1/messages/batches · GET, DELETE …/{id} · POST …/{id}/cancel · GET …/{id}/results
    POST /v1/chat/completions (for the `openai:` backend)
    POST /faults  sets the faults and forgets everything; with ?keep=1 it forgets nothing
    GET /stats    what it was asked and answered
    GET /paid     {"live": {turn_digest(turn): times}, "batch": {custom_id: times}}

Faults, each a probability and a pure function of seed, first user turn and attempt (attempts are
counted over live and batch):
    live: p401 p403 p413 p429 p429bare (no retry-after) p500 p503 p529 pspend (429, spend limit)
        phang pdrop (closed unanswered) preset (half the body, then RST) pdrip (byte by byte)
        ptruncated pinvalid (half the JSON) pbounds (far too long strings) prefusal pempty pbare
    batch items: perrored pexpired ptruncated pinvalid pbounds prefusal pempty
    all calls but /v1/messages: papi_401 … papi_529, papi_429bare, papi_spend, papi_hang, papi_drop,
        pcreate_lost (batch made, no answer), presults_reset (RST in the middle); by call number
Options: seed 7, latency 0, retry_after 1, drip_seconds 3600, batch_seconds 0.3 (until a batch
ends), ttl (seconds a cached prefix lives, in place of 5 minutes or 1 hour), rpm, itpm, otpm (token
buckets; only with one of these are there anthropic-ratelimit-* headers), max_concurrent.

A token is four characters of text or of output format. A prefix (model, output format, blocks up
to a breakpoint) can be read once the first answer that writes it has begun; batches run 16 items
at a time. Paid is every answer whose body was at least begun: all but errors, hang, drop and bare.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import math
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from aiohttp import web

from teacher import answer, share

MODELS = {  # and the fewest tokens that can be cached
    "claude-opus-5-5": 512, "claude-opus-5": 4096, "claude-sonnet-5-5": 4096,
    "claude-haiku-5-5": 4096,
}  # fmt: skip
REQUIRED = ("model", "max_tokens", "messages")
PARAMS = {
    "model", "max_tokens", "messages", "system", "output_config", "metadata", "stop_sequences",
    "service_tier", "stream", "thinking", "tools", "tool_choice", "cache_control", "container",
    "diagnostics", "inference_geo", "speed", "user_profile_id",
}  # fmt: skip
COUNTED_PARAMS = {
    "model", "messages", "system", "output_config", "thinking", "tools", "tool_choice",
    "cache_control", "speed", "user_profile_id",
}  # fmt: skip
UNSPOKEN = ("stream", "tools", "tool_choice", "container", "diagnostics", "speed")
KEYWORDS = {
    "type", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "properties", "required", "items",
    "additionalProperties", "description", "title", "format", "minItems",
}  # fmt: skip
FORMATS = {
    "date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid",
}  # fmt: skip
CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MOST_ITEMS, MOST_BYTES, BATCH_BYTES = 100_000, 2**25, 2**28
THINKING = 40  # tokens of it in every answer

ERRORS = {
    "401": (401, "authentication_error", "invalid x-api-key"),
    "403": (403, "permission_error", "Your API key may not use this resource"),
    "413": (413, "request_too_large", "Request exceeds the maximum allowed number of bytes"),
    "429": (429, "rate_limit_error", "slow down"),
    "429bare": (429, "rate_limit_error", "slow down"),
    "500": (500, "api_error", "Internal server error"),
    "503": (503, "api_error", "Service unavailable"),
    "529": (529, "overloaded_error", "Overloaded"),
    "spend": (429, "rate_limit_error", "You have reached your spend limit"),
}  # fmt: skip
SPOILED = ("invalid", "refusal", "truncated", "bounds", "empty")
# The order decides which fault a seed draws: what is new goes to the end.
LIVE = (
    "429", "500", "invalid", "refusal", "truncated", "hang", "drop", "bare",
    "401", "403", "413", "429bare", "503", "529", "spend", "reset", "drip", "bounds", "empty",
)  # fmt: skip
ITEM = ("errored", "expired", *SPOILED)
API = (*ERRORS, "hang", "drop")
OPTIONS = {
    "seed", "latency", "retry_after", "drip_seconds", "batch_seconds", "ttl", "rpm", "itpm", "otpm",
    "max_concurrent", "pcreate_lost", "presults_reset",
}  # fmt: skip
SETTINGS = OPTIONS | {f"p{n}" for n in (*LIVE, *ITEM)} | {f"papi_{n}" for n in API}


class Refused(Exception):
    """A request that gets an error for an answer."""

    def __init__(self, code: int, kind: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.code, self.kind = code, kind
        self.headers: dict[str, str] = extra.pop("headers", {})
        self.extra = extra

    def body(self, request_id: str | None) -> dict[str, Any]:
        error = {"type": self.kind, "message": str(self), **self.extra}
        return {"type": "error", "error": error, "request_id": request_id}


def bad(message: str) -> Refused:
    return Refused(400, "invalid_request_error", message)


def not_found(message: str) -> Refused:
    return Refused(404, "not_found_error", message)


def turn_digest(turn: str) -> str:
    """The name under which `/paid` counts a first user turn."""
    return hashlib.blake2b(turn.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


# What is accepted.


@dataclass(slots=True)
class Prompt:
    """A request that has been checked.

    Args:
        model: The model asked for.
        turn: The first user turn's text.
        tokens: Input tokens in all.
        warming: Whether nothing is to be generated (`max_tokens` is 0).
        marks: Digest, tokens and ttl ("" where there is no breakpoint) up to each block.
    """

    model: str
    turn: str
    tokens: int
    warming: bool
    marks: list[tuple[bytes, int, str]]


def authorize(headers: Any) -> None:
    """Refuses a request without key, version or JSON."""
    bearer = headers.get("authorization", "")
    key = headers.get("x-api-key") or bearer.removeprefix("Bearer ")
    if not key or "wrong" in key:
        raise Refused(401, "authentication_error", f"invalid API key {key}")
    if not headers.get("anthropic-version"):
        raise bad("anthropic-version: header is required")


def only(node: Any, allowed: set[str], where: str = "") -> None:
    """Refuses what is not an object, and keys that it cannot have."""
    if not isinstance(node, dict):
        raise bad(f"{where or 'body'}: Input should be a valid dictionary")
    if extra := node.keys() - allowed:
        path = f"{where}.{min(extra)}" if where else min(extra)
        raise bad(f"{path}: Extra inputs are not permitted")


def one_of(value: Any, allowed: Iterable[Any], where: str) -> None:
    if value not in allowed:
        raise bad(f"{where}: Input should be {' or '.join(map(repr, allowed))}")


def parse(body: Any, *, counting: bool = False, batch: bool = False) -> Prompt:
    """Checks a request's parameters.

    Raises:
        Refused: The API would not take them.
    """
    only(body, COUNTED_PARAMS if counting else PARAMS)
    for name in REQUIRED:
        if name not in body and not (counting and name == "max_tokens"):
            raise bad(f"{name}: Field required")
    for name in UNSPOKEN:
        if body.get(name):
            raise bad(f"{name}: not spoken by this test server")
    model, most = body["model"], body.get("max_tokens", 1)
    if not isinstance(model, str):
        raise bad("model: Input should be a valid string")
    if model not in MODELS:
        raise not_found(f"model: {model}")
    if type(most) is not int or not 0 <= most <= 128_000:
        raise bad(f"max_tokens: {most} is not an integer from 0 to 128000, the most of {model}")
    check_options(body, model, most)
    form = check_config(body["output_config"]) if "output_config" in body else ""
    if not most and (form or batch):
        raise bad("max_tokens: 0 cannot be combined with an output format or a batch")
    parts = [("system", *block) for block in system_blocks(body)]
    messages = body["messages"]
    if not isinstance(messages, list) or not messages:
        raise bad("messages: at least one message is required")
    turn = ""
    for number, message in enumerate(messages):
        where = f"messages.{number}"
        only(message, {"role", "content"}, where)
        role = "assistant" if number % 2 else "user"
        if message.get("role") != role:
            raise bad(f"{where}.role: roles must alternate and begin with 'user'")
        blocks = text_blocks(message.get("content"), f"{where}.content")
        turn = turn if number else "".join(text for text, _ in blocks)
        parts += [(role, *block) for block in blocks]
    if len(messages) % 2 == 0:
        raise bad("This model does not support assistant message prefill: end with a user message.")
    if ttl := ttl_of(body.get("cache_control"), "cache_control"):
        parts[-1] = (*parts[-1][:2], ttl)
    check_breakpoints([ttl for _, _, ttl in parts if ttl])
    tokens = (len(form) + sum(len(text) for _, text, _ in parts)) // 4
    marks = marks_of(f"{model}\0{form}", len(form), parts) if any(p[2] for p in parts) else []
    return Prompt(model, turn, tokens, not most, marks)


def check_options(body: dict[str, Any], model: str, most: int) -> None:
    if "metadata" in body:
        only(body["metadata"], {"user_id"}, "metadata")
    if "service_tier" in body:
        one_of(body["service_tier"], ("auto", "standard_only"), "service_tier")
    stops = body.get("stop_sequences", [])
    if not isinstance(stops, list) or not all(isinstance(s, str) and s.strip() for s in stops):
        raise bad("stop_sequences: each must be a string that is not only whitespace")
    for name in ("inference_geo", "user_profile_id"):
        if not isinstance(body.get(name, ""), str):
            raise bad(f"{name}: Input should be a valid string")
    if "thinking" not in body:
        return
    thinking = body["thinking"]
    only(thinking, {"type", "budget_tokens", "display"}, "thinking")
    kind, budget = thinking.get("type"), thinking.get("budget_tokens")
    one_of(kind, ("enabled", "disabled", "adaptive", "between_tools"), "thinking.type")
    one_of(thinking.get("display"), (None, "summarized", "omitted"), "thinking.display")
    if model == "claude-opus-5-5" and kind in ("enabled", "disabled"):
        raise bad(f"thinking.type: {kind!r} is not supported on {model}; use 'adaptive'")
    if (budget is not None) != (kind == "enabled"):
        raise bad("thinking.budget_tokens: goes with type 'enabled' only")
    if kind == "enabled" and (type(budget) is not int or not 1024 <= budget < most):
        raise bad("thinking.budget_tokens: must be at least 1024 and less than max_tokens")


def check_config(config: Any) -> str:
    """Checks `output_config`; returns the format as text."""
    only(config, {"effort", "format"}, "output_config")
    efforts = (None, "low", "medium", "high", "xhigh", "max")
    one_of(config.get("effort"), efforts, "output_config.effort")
    if config.get("format") is None:
        return ""
    form = json.dumps(config["format"], separators=(",", ":"))
    check_format(form)
    return form


@lru_cache(64)
def check_format(text: str) -> None:
    form, where = json.loads(text), "output_config.format"
    only(form, {"type", "schema"}, where)
    one_of(form.get("type"), ("json_schema",), f"{where}.type")
    schema = form.get("schema")
    if not isinstance(schema, dict):
        raise bad(f"{where}.schema: Input should be a valid dictionary")
    check_schema(schema, schema.get("$defs", {}), ())


def check_schema(node: Any, defs: dict[str, Any], inside: tuple[str, ...]) -> None:
    """Refuses schema keywords that structured outputs do not know, and recursion."""
    where = "output_config.format.schema"
    if not isinstance(node, dict):
        return
    if extra := set(node) - KEYWORDS:
        raise bad(f"{where}: property {min(extra)!r} is not supported")
    if node.get("type") == "object" and node.get("additionalProperties") is not False:
        raise bad(f"{where}: for 'object' type, 'additionalProperties' must be explicitly false")
    if node.get("minItems", 0) not in (0, 1):
        raise bad(f"{where}: 'minItems' values other than 0 or 1 are not supported")
    if node.get("format", "date") not in FORMATS:
        raise bad(f"{where}: format {node['format']!r} is not supported")
    if "$ref" in node:
        name = str(node["$ref"]).removeprefix("#/$defs/")
        if name in inside or name not in defs:
            raise bad(f"{where}: {node['$ref']} is recursive or leads nowhere")
        check_schema(defs[name], defs, (*inside, name))
    for child in (*node.get("properties", {}).values(), *node.get("$defs", {}).values()):
        check_schema(child, defs, inside)
    for child in (*node.get("anyOf", []), *node.get("allOf", []), node.get("items")):
        check_schema(child, defs, inside)


def system_blocks(body: dict[str, Any]) -> list[tuple[str, str]]:
    system = body.get("system", "")
    return text_blocks(system, "system") if system not in ("", []) else []


def text_blocks(content: Any, where: str) -> list[tuple[str, str]]:
    """Text and ttl of each block."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise bad(f"{where}: Input should be a non-empty string or list of text blocks")
    found = []
    for number, block in enumerate(content):
        at = f"{where}.{number}"
        only(block, {"type", "text", "cache_control", "citations"}, at)
        one_of(block.get("type"), ("text",), f"{at}.type")
        text = block.get("text")
        if not isinstance(text, str) or not text.strip():
            raise bad(f"{where.partition('.')[0]}: text content blocks must be non-empty")
        found.append((text, ttl_of(block.get("cache_control"), f"{at}.cache_control")))
    return found


def ttl_of(control: Any, where: str) -> str:
    """The lifetime that a breakpoint asks for; "" where there is none."""
    if control is None:
        return ""
    only(control, {"type", "ttl"}, where)
    one_of(control.get("type"), ("ephemeral",), f"{where}.type")
    ttl = control.get("ttl", "5m")
    one_of(ttl, ("5m", "1h"), f"{where}.ttl")
    return str(ttl)


def check_breakpoints(ttls: list[str]) -> None:
    if len(ttls) > 4:
        raise bad(f"A maximum of 4 blocks with cache_control may be provided. Found {len(ttls)}.")
    if "5m" in ttls and "1h" in ttls[ttls.index("5m") :]:
        raise bad("a ttl='1h' cache_control block must not come after a ttl='5m' one")


def marks_of(
    head: str, characters: int, parts: list[tuple[str, str, str]]
) -> list[tuple[bytes, int, str]]:
    digest, marks = hashlib.blake2b(head.encode(), digest_size=16), []
    for role, text, ttl in parts:
        digest.update(f"\0{role}\0{len(text)}\0".encode())
        digest.update(text.encode("utf-8", "surrogatepass"))
        characters += len(text)
        marks.append((digest.copy().digest(), characters // 4, ttl))
    while marks and not marks[-1][2]:
        marks.pop()
    return marks


def check_batch(body: Any) -> list[dict[str, Any]]:
    """The items of a batch; their parameters are looked at when it runs."""
    only(body, {"requests"})
    items = body.get("requests")
    if not isinstance(items, list) or not 1 <= len(items) <= MOST_ITEMS:
        raise bad(f"requests: must be a list of 1 to {MOST_ITEMS} requests")
    seen: set[str] = set()
    for number, item in enumerate(items):
        where = f"requests.{number}"
        only(item, {"custom_id", "params"}, where)
        name = item.get("custom_id")
        if not isinstance(name, str) or not CUSTOM_ID.fullmatch(name):
            raise bad(f"{where}.custom_id: String should match '^[a-zA-Z0-9_-]{{1,64}}$'")
        if name in seen:
            raise bad(f"{where}.custom_id: {name!r} is not unique in the batch")
        if not isinstance(item.get("params"), dict):
            raise bad(f"{where}.params: Input should be a valid dictionary")
        seen.add(name)
    return items


# What is answered.


@dataclass(slots=True)
class Reading:
    """What of a prompt is read from the cache, and what is written once its answer begins."""

    read: int = 0
    written: dict[str, int] = field(default_factory=lambda: {"5m": 0, "1h": 0})
    writes: list[tuple[bytes, float]] = field(default_factory=list)

    @property
    def cached(self) -> int:
        return self.read + sum(self.written.values())


class Cache:
    """Prefixes that can be read, until when, and how long a hit lets them live on."""

    def __init__(self) -> None:
        self.entries: dict[bytes, tuple[float, float]] = {}

    def look(self, prompt: Prompt, seconds: float | None) -> Reading:
        """Reads the longest prefix there is; `seconds` replaces the lifetimes asked for."""
        now, reading = time.monotonic(), Reading()
        for digest, tokens, _ in prompt.marks:
            until, lifetime = self.entries.get(digest, (0.0, 0.0))
            if until > now:
                self.entries[digest] = (now + lifetime, lifetime)
                reading.read = tokens
        for digest, tokens, ttl in prompt.marks:
            if ttl and tokens > reading.cached and tokens >= MODELS[prompt.model]:
                reading.written[ttl] += tokens - reading.cached
                lifetime = seconds or {"5m": 300.0, "1h": 3600.0}[ttl]
                reading.writes.append((digest, lifetime))
        return reading

    def write(self, reading: Reading) -> None:
        now = time.monotonic()
        for digest, lifetime in reading.writes:
            self.entries[digest] = (now + lifetime, lifetime)


class Bucket:
    """So many units a minute, refilled all the time."""

    def __init__(self, limit: float) -> None:
        self.limit = self.level = float(limit)
        self.at = time.monotonic()

    def wait(self, need: float) -> float:
        """Seconds until `need` units are there."""
        now = time.monotonic()
        self.level = min(self.limit, self.level + (now - self.at) * self.limit / 60)
        self.at = now
        return max(0.0, min(need, self.limit) - self.level) * 60 / self.limit


class Limits:
    """The token buckets of an account."""

    def __init__(self, faults: dict[str, float]) -> None:
        names = {"requests": "rpm", "input-tokens": "itpm", "output-tokens": "otpm"}
        self.buckets = {n: Bucket(faults[key]) for n, key in names.items() if key in faults}

    def admit(self, tokens: int) -> float:
        """Takes a request with so many new input tokens, or says how long to wait."""
        needs = {"requests": 1, "input-tokens": tokens, "output-tokens": 1}
        wait = max((b.wait(needs[name]) for name, b in self.buckets.items()), default=0.0)
        if not wait:
            self.take("requests", 1)
            self.take("input-tokens", tokens)
        return wait

    def take(self, name: str, units: int) -> None:
        if name in self.buckets:
            self.buckets[name].level -= units

    def headers(self) -> dict[str, str]:
        shown: dict[str, tuple[float, float, float]] = {}
        for name, bucket in self.buckets.items():
            wait = bucket.wait(bucket.limit)
            shown[name] = (bucket.limit, max(0.0, bucket.level), time.time() + wait)
        if sums := [v for name, v in shown.items() if name.endswith("tokens")]:
            limits, levels, resets = zip(*sums, strict=True)
            shown["tokens"] = (sum(limits), sum(levels), max(resets))
        return {
            f"anthropic-ratelimit-{name}-{what}": value
            for name, (limit, level, reset) in shown.items()
            for what, value in (
                ("limit", f"{limit:.0f}"),
                ("remaining", f"{math.floor(level)}"),
                ("reset", moment(reset, "seconds")),
            )
        }


def moment(at: float | None, spec: str = "microseconds") -> Any:
    """A time as RFC 3339."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec=spec).replace("+00:00", "Z")


@dataclass(slots=True)
class Batch:
    """A message batch."""

    id: str
    items: list[dict[str, Any]]
    created: float = field(default_factory=time.time)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled_at: float | None = None
    ended_at: float | None = None
    counts: Counter[str] = field(default_factory=Counter)
    lines: list[bytes] = field(default_factory=list)
    downloads: int = 0

    def shown(self, host: str) -> dict[str, Any]:
        status = "canceling" if self.cancelled_at else "in_progress"
        states = ("canceled", "errored", "expired", "succeeded")
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": "ended" if self.ended_at else status,
            "request_counts": {
                "processing": 0 if self.ended_at else len(self.items),
                **{s: self.counts[s] if self.ended_at else 0 for s in states},
            },
            "created_at": moment(self.created),
            "expires_at": moment(self.created + 24 * 3600),
            "ended_at": moment(self.ended_at),
            "cancel_initiated_at": moment(self.cancelled_at),
            "archived_at": None,
            "results_url": f"{host}/v1/messages/batches/{self.id}/results"
            if self.ended_at
            else None,
        }


def lengthened(node: Any) -> Any:
    """The same JSON with every phrase far too long."""
    if isinstance(node, str):
        return node + " and so on" * 400 if " " in node else node
    if isinstance(node, list):
        return [lengthened(child) for child in node]
    return {k: lengthened(v) for k, v in node.items()} if isinstance(node, dict) else node


def spoiled(text: str, fault: str | None) -> str:
    """The answer's text under a fault."""
    if fault == "invalid":
        return text[: len(text) // 2]
    if fault != "bounds":
        return text
    with contextlib.suppress(ValueError):
        return json.dumps(lengthened(json.loads(text)))
    return str(lengthened(text))


def cut(request: web.Request) -> None:
    """Resets the connection."""
    if request.transport is not None:
        linger = struct.pack("ii", 1, 0)
        request.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        request.transport.abort()


class Server:
    """The state of the server: its faults and what it has seen."""

    def __init__(self) -> None:
        self.calls = 0  # ids are never given twice
        self.in_flight = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.faults: dict[str, float] = {}
        self.limits = Limits({})
        self.forget()

    def forget(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.attempts: Counter[str] = Counter()  # of a turn, and calls of an endpoint
        self.answered: Counter[str] = Counter()
        self.paid: dict[str, Counter[str]] = {"live": Counter(), "batch": Counter()}
        self.stats: Counter[str] = Counter()
        self.batches: dict[str, Batch] = {}
        self.cache = Cache()
        self.times = (0.0, 0.0)  # of the first request and the latest event
        self.told = -3600.0  # when anyone was last told to wait

    def app(self) -> web.Application:
        app = web.Application(client_max_size=BATCH_BYTES, middlewares=[self.guard])
        app.on_response_prepare.append(self.add_headers)
        batch = "/v1/messages/batches/{id}"
        app.router.add_post("/v1/messages", self.messages)
        app.router.add_post("/v1/messages/count_tokens", self.count_tokens)
        app.router.add_post("/v1/messages/batches", self.create_batch)
        app.router.add_get("/v1/messages/batches", self.list_batches)
        app.router.add_get(batch, self.retrieve_batch)
        app.router.add_delete(batch, self.delete_batch)
        app.router.add_post(f"{batch}/cancel", self.cancel_batch)
        app.router.add_get(f"{batch}/results", self.batch_results)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/stats", self.get_stats)
        app.router.add_get("/paid", self.get_paid)
        app.router.add_post("/faults", self.set_faults)
        return app

    @web.middleware
    async def guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Gives the request an id, and turns what is refused into an error response."""
        self.calls += 1
        request["id"] = f"req_{self.calls:06d}"
        try:
            return await handler(request)
        except Refused as error:
            refused = error
        except web.HTTPRequestEntityTooLarge:
            refused = Refused(*ERRORS["413"])
        except web.HTTPNotFound:
            refused = not_found("Not found")
        except web.HTTPMethodNotAllowed:
            refused = Refused(405, "invalid_request_error", "Method not allowed")
        body = refused.body(request["id"])
        return web.json_response(body, status=refused.code, headers=refused.headers)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["request-id"] = request.get("id", "req_0")
        if request.path == "/v1/messages":
            response.headers.update(self.limits.headers())

    # Faults and counts.

    async def set_faults(self, request: web.Request) -> web.Response:
        faults = await request.json()
        if unknown := faults.keys() - SETTINGS:
            raise bad(f"no such fault: {', '.join(sorted(unknown))}")
        self.faults = faults
        if "keep" not in request.query:
            self.forget()
        self.limits = Limits(faults)
        return web.json_response({})

    async def get_stats(self, _: web.Request) -> web.Response:
        twice = sum(n - 1 for n in self.answered.values())
        return web.json_response(
            {
                **self.stats,
                "answered": len(self.answered),
                "answered_again": twice,
                "first_at": self.times[0],
                "last_at": self.times[1],
            }
        )

    async def get_paid(self, _: web.Request) -> web.Response:
        return web.json_response(self.paid)

    def option(self, name: str, default: float = 0.0) -> float:
        return self.faults.get(name, default)

    def draw(self, key: str, names: Iterable[str], prefix: str = "p") -> str | None:
        """The fault that strikes this attempt at `key`, if any."""
        self.attempts[key] += 1
        drawn, below = share(self.option("seed", 7), key, self.attempts[key]), 0.0
        for name in names:
            below += self.option(prefix + name)
            if drawn < below:
                self.stats[f"{prefix}{name}"[1:]] += 1
                return name
        return None

    def error(self, fault: str) -> Refused:
        code, kind, message = ERRORS[fault]
        if fault == "spend":
            details = {"error_code": "enforced_spend_limit_reached"}
            return Refused(code, kind, message, details=details)
        if fault != "429":
            return Refused(code, kind, message)
        return self.wait(self.option("retry_after", 1), message)

    def wait(self, seconds: float, message: str) -> Refused:
        self.told = time.time()
        headers = {"retry-after": str(seconds)}
        return Refused(429, "rate_limit_error", message, headers=headers)

    async def silence(self, request: web.Request, fault: str) -> web.Response:
        """No answer: the connection stays open until the client has had enough, or is closed."""
        while fault == "hang" and request.transport and not request.transport.is_closing():
            await asyncio.sleep(0.05)
        if request.transport:
            request.transport.close()
        return web.Response()

    async def read(self, request: web.Request, most: int = MOST_BYTES) -> Any:
        authorize(request.headers)
        if request.content_type != "application/json":
            raise bad("content-type: must be application/json")
        if (request.content_length or 0) > most:
            raise Refused(*ERRORS["413"])
        try:
            return json.loads(await request.read())
        except ValueError as error:
            raise bad(f"The request body is not valid JSON: {error}") from error

    # Live requests.

    async def messages(self, request: web.Request) -> web.StreamResponse:
        self.stats["sent"] += 1
        # The first half is for requests that were under way when the word went out.
        since, wait = time.time() - self.told, self.option("retry_after", 1)
        self.stats["impatient"] += 0.5 * wait < since < wait
        try:
            prompt = parse(await self.read(request))
        except Refused:
            self.stats["refused_requests"] += 1
            raise
        async with self.flight():
            reading = self.cache.look(prompt, self.faults.get("ttl"))
            if wait := self.limits.admit(prompt.tokens - reading.read):
                self.stats["over_rate"] += 1
                raise self.wait(math.ceil(wait), "This request would exceed your rate limit")
            return await self.reply(request, prompt, reading)

    @contextlib.asynccontextmanager
    async def flight(self) -> Any:
        """Counts a request while it is in flight."""
        self.stats["requests"] += 1
        if self.in_flight >= self.option("max_concurrent", math.inf):
            self.stats["over_concurrent"] += 1
            raise Refused(429, "rate_limit_error", "Too many concurrent connections")
        self.times = (self.times[0] or time.time(), time.time())
        self.in_flight += 1
        self.stats["most_in_flight"] = max(self.stats["most_in_flight"], self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1
            self.times = (self.times[0], time.time())

    async def reply(
        self, request: web.Request, prompt: Prompt, reading: Reading
    ) -> web.StreamResponse:
        fault = self.draw(prompt.turn, LIVE)
        if fault in ("hang", "drop"):
            return await self.silence(request, fault)
        error = self.error(fault) if fault in ERRORS else None
        if error is None or error.code >= 500:
            await asyncio.sleep(self.option("latency"))
        if error is not None:
            raise error
        if fault == "bare":
            return web.json_response({"type": "message"})
        self.cache.write(reading)
        message = self.message(prompt, reading, fault, "standard")
        self.paid["live"][turn_digest(prompt.turn)] += 1
        self.bill(message["usage"])
        self.limits.take("output-tokens", message["usage"]["output_tokens"])
        if fault in ("reset", "drip"):
            return await self.send_slowly(request, message, fault)
        if fault is None:
            self.answered[prompt.turn] += 1
        return web.json_response(message)

    def message(
        self, prompt: Prompt, reading: Reading, fault: str | None, tier: str
    ) -> dict[str, Any]:
        text, stop, details = spoiled(answer(prompt.turn), fault), "end_turn", None
        content = [{"type": "text", "text": text}]
        if prompt.model == "claude-opus-5-5":
            content.insert(0, {"type": "thinking", "thinking": "", "signature": "c2ln"})
        if fault == "truncated":
            stop, content = "max_tokens", [{"type": "text", "text": text[:40]}]
        if fault == "refusal":
            stop, content = "refusal", []
            details = {"type": "refusal", "category": "frontier_llm", "explanation": "Not this."}
        if fault == "empty":
            content = []
        if prompt.warming:
            stop, content = "max_tokens", []
        self.stats["messages"] += 1
        return {
            "id": f"msg_{self.calls:06d}{self.stats['messages']:06d}",
            "type": "message",
            "role": "assistant",
            "model": prompt.model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "stop_details": details,
            "usage": {
                "input_tokens": prompt.tokens - reading.cached,
                "cache_creation_input_tokens": sum(reading.written.values()),
                "cache_creation": {
                    "ephemeral_5m_input_tokens": reading.written["5m"],
                    "ephemeral_1h_input_tokens": reading.written["1h"],
                },
                "cache_read_input_tokens": reading.read,
                "output_tokens": 0 if prompt.warming else len(text) // 4 + THINKING,
                "output_tokens_details": {"thinking_tokens": 0 if prompt.warming else THINKING},
                "service_tier": tier,
            },
        }

    def bill(self, usage: dict[str, Any], suffix: str = "", sign: int = 1) -> None:
        """Adds to the sums, or to those that the suffix names."""
        written = usage["cache_creation_input_tokens"]
        for name, count in {
            "paid": 1,
            "tokens_in": usage["input_tokens"],
            "tokens_out": usage["output_tokens"],
            "cache_written": written,
            "cache_written_1h": usage["cache_creation"]["ephemeral_1h_input_tokens"],
            "cache_read": usage["cache_read_input_tokens"],
            "cold_writes": int(written > 0),
        }.items():
            self.stats[name + suffix] += sign * count

    async def send_slowly(
        self, request: web.Request, message: dict[str, Any], fault: str
    ) -> web.StreamResponse:
        """Begins to answer; unless all of it arrives, the bill is one that nobody has seen."""
        body = json.dumps(message).encode()
        if fault == "drip":  # spaces before it, so that no client waits longer than this for a byte
            body = body.rjust(int(self.option("drip_seconds", 3600) / 0.25))
        self.bill(message["usage"], "_unseen")
        response = web.StreamResponse(headers={"content-type": "application/json"})
        response.content_length = len(body)
        await response.prepare(request)
        if fault == "reset":
            await response.write(body[: len(body) // 2])
            await asyncio.sleep(0.02)  # else the reset overtakes it
            cut(request)
            return response
        seconds = self.option("drip_seconds", 3600)
        step = math.ceil(len(body) / max(1, seconds / 0.25))
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(body), step):
                await asyncio.sleep(seconds * step / len(body))
                await response.write(body[at : at + step])
            self.bill(message["usage"], "_unseen", sign=-1)
        return response

    async def count_tokens(self, request: web.Request) -> web.Response:
        body = await self.read(request)
        if fault := self.draw("count_tokens", API, "papi_"):
            return await self.fail(request, fault)
        tokens = parse(body, counting=True).tokens
        self.stats["counted"] += 1
        return web.json_response({"input_tokens": tokens})

    async def fail(self, request: web.Request, fault: str) -> web.Response:
        if fault in ERRORS:
            raise self.error(fault)
        return await self.silence(request, fault)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        turn = next(m["content"] for m in body["messages"] if m["role"] == "user")
        async with self.flight():
            fault = self.draw(turn, LIVE)
            if fault in ("hang", "drop"):
                return await self.silence(request, fault)
            if fault != "429":
                await asyncio.sleep(self.option("latency"))
        if fault in ERRORS:
            error = self.error(fault)
            return web.json_response({"error": {"message": str(error)}}, status=error.code)
        text = spoiled(answer(turn), fault)
        self.stats["paid"] += 1
        self.answered[turn] += fault is None
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if fault == "refusal":
            message = {"role": "assistant", "content": None, "refusal": "I would rather not."}
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": "length" if fault == "truncated" else "stop",
        }
        usage = {"prompt_tokens": len(str(body)) // 4, "completion_tokens": len(text) // 4}
        return web.json_response(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "model": body["model"],
                "choices": [choice],
                "usage": usage,
            }
        )

    # Batches.

    def batch(self, request: web.Request) -> Batch:
        found = self.batches.get(request.match_info["id"])
        if found is None:
            raise not_found(f"Message Batch {request.match_info['id']} not found")
        return found

    async def create_batch(self, request: web.Request) -> web.Response:
        body = await self.read(request, BATCH_BYTES)
        if fault := self.draw("create", API, "papi_"):
            return await self.fail(request, fault)
        batch = Batch(f"msgbatch_{self.calls:020d}", check_batch(body))
        self.batches[batch.id] = batch
        self.stats["batches"] += 1
        self.stats["batch_items"] += len(batch.items)
        self.times = (self.times[0] or time.time(), time.time())
        task = asyncio.create_task(self.run_batch(batch))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        if self.draw("created", ("create_lost",)):
            return await self.silence(request, "drop")
        return web.json_response(batch.shown(str(request.url.origin())))

    async def run_batch(self, batch: Batch) -> None:
        seconds = self.option("batch_seconds", 0.3)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(batch.cancelled.wait(), seconds)
            await asyncio.sleep(min(seconds, 0.2))  # some are under way
        rows: list[tuple[str, dict[str, Any]]] = []
        good: list[str] = []
        for start in range(0, len(batch.items), 16):
            readings = []
            for item in batch.items[start : start + 16]:
                name, result = item["custom_id"], {"type": "canceled"}
                if not batch.cancelled.is_set() or share(self.option("seed", 7), name) < 0.5:
                    result, turn, reading = self.run_item(item["params"])
                    readings.append(reading)
                    good += [turn] if turn else []
                rows.append((name, result))
            for reading in readings:
                self.cache.write(reading)
            await asyncio.sleep(0)
        for name, result in rows:
            batch.counts[result["type"]] += 1
            if result["type"] == "succeeded":
                self.paid["batch"][name] += 1
                self.bill(result["message"]["usage"])
                self.bill(result["message"]["usage"], "_batch")
        for turn in good:
            self.answered[turn] += 1
        rows.sort(key=lambda row: share(self.option("seed", 7), "order", row[0]))
        batch.lines = [
            json.dumps({"custom_id": name, "result": result}).encode() + b"\n"
            for name, result in rows
        ]
        batch.ended_at = time.time()
        self.times = (self.times[0], time.time())

    def run_item(self, params: Any) -> tuple[dict[str, Any], str, Reading]:
        """The result, the turn where it was answered well, and what its answer writes."""
        try:
            prompt = parse(params, batch=True)
        except Refused as error:
            self.stats["refused_requests"] += 1
            return {"type": "errored", "error": error.body(None)}, "", Reading()
        fault = self.draw(prompt.turn, ITEM)
        if fault == "errored":
            return {"type": "errored", "error": self.error("500").body(None)}, "", Reading()
        if fault == "expired":
            return {"type": "expired"}, "", Reading()
        reading = self.cache.look(prompt, self.faults.get("ttl"))
        message = self.message(prompt, reading, fault, "batch")
        return {"type": "succeeded", "message": message}, "" if fault else prompt.turn, reading

    async def list_batches(self, request: web.Request) -> web.Response:
        authorize(request.headers)
        if fault := self.draw("list", API, "papi_"):
            return await self.fail(request, fault)
        query = request.query
        if not re.fullmatch(r"[0-9]+", text := query.get("limit", "20")) or not (
            1 <= (limit := int(text)) <= 1000
        ):
            raise bad("limit: must be from 1 to 1000")
        after, before = query.get("after_id"), query.get("before_id")
        if after and before:
            raise bad("after_id and before_id cannot be given together")
        newest = list(reversed(self.batches))
        if (cursor := after or before) and cursor not in self.batches:
            raise bad(f"{cursor} is not the id of a Message Batch")
        at = newest.index(cursor) if cursor else -1
        start, end = (max(0, at - limit), at) if before else (at + 1, at + 1 + limit)
        page = newest[start:end]
        host = str(request.url.origin())
        return web.json_response(
            {
                "data": [self.batches[name].shown(host) for name in page],
                "has_more": start > 0 if before else end < len(newest),
                "first_id": page[0] if page else None,
                "last_id": page[-1] if page else None,
            }
        )

    async def retrieve_batch(self, request: web.Request) -> web.Response:
        authorize(request.headers)
        if fault := self.draw("retrieve", API, "papi_"):
            return await self.fail(request, fault)
        return web.json_response(self.batch(request).shown(str(request.url.origin())))

    async def cancel_batch(self, request: web.Request) -> web.Response:
        authorize(request.headers)
        if fault := self.draw("cancel", API, "papi_"):
            return await self.fail(request, fault)
        batch = self.batch(request)
        if batch.ended_at:
            raise bad(f"Message Batch {batch.id} has ended and cannot be canceled")
        batch.cancelled_at = batch.cancelled_at or time.time()
        batch.cancelled.set()
        return web.json_response(batch.shown(str(request.url.origin())))

    async def delete_batch(self, request: web.Request) -> web.Response:
        authorize(request.headers)
        if fault := self.draw("delete", API, "papi_"):
            return await self.fail(request, fault)
        batch = self.batch(request)
        if not batch.ended_at:
            raise bad(f"Message Batch {batch.id} has not ended: cancel it first")
        del self.batches[batch.id]
        return web.json_response({"id": batch.id, "type": "message_batch_deleted"})

    async def batch_results(self, request: web.Request) -> web.StreamResponse:
        authorize(request.headers)
        if fault := self.draw("results", API, "papi_"):
            return await self.fail(request, fault)
        batch = self.batch(request)
        if not batch.ended_at:
            raise not_found(f"Message Batch {batch.id} has no available results yet")
        body = b"".join(batch.lines)
        torn = self.draw("downloads", ("results_reset",))
        response = web.StreamResponse(headers={"content-type": "application/x-jsonl"})
        await response.prepare(request)
        end = len(body) // 2 if torn else len(body)
        for at in range(0, end, 2**16):
            await response.write(body[at : min(end, at + 2**16)])
        if torn:
            await asyncio.sleep(0.02)  # else the reset overtakes it
            cut(request)
        return response


async def main(port: int) -> None:
    runner = web.AppRunner(Server().app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    assert site._server is not None
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(main(parser.parse_args().port))
