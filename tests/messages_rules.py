"""What the Messages API takes, what of it is cached, and how much of it a minute.

Written from the documentation and from the types of the SDK. A token is four characters of text
or of output format, everywhere.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

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
MOST_ITEMS = 100_000


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
