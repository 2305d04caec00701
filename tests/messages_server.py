"""A loopback server that speaks the Messages API, strictly, and misbehaves on demand.

    python tests/messages_server.py --port 0        # prints the port

Endpoints, checked by `messages_rules.py` (no SSE, no tools):
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

Stats, absent while 0: of /v1/messages sent, refused_requests (not valid; batch items too), requests
(the valid ones), over_rate, over_concurrent, most_in_flight, impatient; one per fault (429, reset,
errored, api_500, create_lost …); counted, batches, batch_items; paid, tokens_in, tokens_out,
cache_written, cache_written_1h, cache_read and cold_writes over all, the same with _batch over
batch items, and with _unseen over replies that broke off; answered (turns answered well),
answered_again, first_at, last_at.

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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from messages_rules import (
    Cache,
    Limits,
    Prompt,
    Reading,
    Refused,
    authorize,
    bad,
    check_batch,
    moment,
    not_found,
    parse,
)
from teacher import answer, share

MOST_BYTES, BATCH_BYTES = 2**25, 2**28
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


def turn_digest(turn: str) -> str:
    """The name under which `/paid` counts a first user turn."""
    return hashlib.blake2b(turn.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


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
        self.calls = self.made = 0  # ids are never given twice
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
        self.told = (-3600.0, 0.0)  # when anyone was last told to wait, and how long

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2 * BATCH_BYTES, middlewares=[self.guard])
        app.on_response_prepare.append(self.add_headers)
        batches = "/v1/messages/batches"
        post, get = app.router.add_post, app.router.add_get
        post("/v1/messages", self.messages)
        post("/v1/messages/count_tokens", self.count_tokens, name="count_tokens")
        post(batches, self.create_batch, name="create")
        get(batches, self.list_batches, name="list")
        get(f"{batches}/{{id}}", self.retrieve_batch, name="retrieve")
        app.router.add_delete(f"{batches}/{{id}}", self.delete_batch, name="delete")
        post(f"{batches}/{{id}}/cancel", self.cancel_batch, name="cancel")
        get(f"{batches}/{{id}}/results", self.batch_results, name="results")
        post("/v1/chat/completions", self.chat)
        get("/stats", self.get_stats)
        get("/paid", self.get_paid)
        post("/faults", self.set_faults)
        return app

    @web.middleware
    async def guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Gives the request an id, and turns what is refused into an error response."""
        self.calls += 1
        request["id"] = f"req_{self.calls:06d}"
        try:
            if name := request.match_info.route.name:  # of a call that is not a live request
                authorize(request.headers)
                await request.read()
                if fault := self.draw(name, API, "papi_"):
                    if fault in ERRORS:
                        raise self.error(fault)
                    return await self.silence(request, fault)
            return await handler(request)
        except Refused as error:
            refused = error
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
        self.told = (time.time(), seconds)
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
        data = await request.read()
        if len(data) > most:
            raise Refused(*ERRORS["413"])
        try:
            return json.loads(data)
        except ValueError as error:
            raise bad(f"The request body is not valid JSON: {error}") from error

    # Live requests.

    async def messages(self, request: web.Request) -> web.StreamResponse:
        self.stats["sent"] += 1
        # The first half is for requests that were under way when the word went out.
        since, wait = time.time() - self.told[0], self.told[1]
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
    async def flight(self) -> AsyncIterator[None]:
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
            return await self.send_slowly(request, prompt.turn, message, fault)
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
        self.made += 1
        return {
            "id": f"msg_{self.made:08d}",
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
        self, request: web.Request, turn: str, message: dict[str, Any], fault: str
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
            self.answered[turn] += 1
        return response

    async def count_tokens(self, request: web.Request) -> web.Response:
        tokens = parse(await self.read(request), counting=True).tokens
        self.stats["counted"] += 1
        return web.json_response({"input_tokens": tokens})

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
                name = item["custom_id"]
                result: dict[str, Any] = {"type": "canceled"}
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
        return web.json_response(self.batch(request).shown(str(request.url.origin())))

    async def cancel_batch(self, request: web.Request) -> web.Response:
        batch = self.batch(request)
        if batch.ended_at:
            raise bad(f"Message Batch {batch.id} has ended and cannot be canceled")
        batch.cancelled_at = batch.cancelled_at or time.time()
        batch.cancelled.set()
        return web.json_response(batch.shown(str(request.url.origin())))

    async def delete_batch(self, request: web.Request) -> web.Response:
        batch = self.batch(request)
        if not batch.ended_at:
            raise bad(f"Message Batch {batch.id} has not ended: cancel it first")
        del self.batches[batch.id]
        return web.json_response({"id": batch.id, "type": "message_batch_deleted"})

    async def batch_results(self, request: web.Request) -> web.StreamResponse:
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
    assert isinstance(site._server, asyncio.Server)
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(main(parser.parse_args().port))
