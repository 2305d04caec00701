"""A loopback server that speaks the Messages API, strictly, and misbehaves on demand.

    python tests/messages_server.py --port 0        # prints the port

`GET /stats` tells what it was asked and answered; `POST /faults` sets the faults:
`{"p429": .06, "retry_after": 1, "p500": .03, "pinvalid": .03, "prefusal": .01,
"ptruncated": .01, "phang": 0, "pdrop": 0, "latency": .02, "seed": 7}`.
A fault is a pure function of seed, first user turn and attempt, so runs can be compared.
It also serves `/v1/chat/completions` for the `openai:` backend.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import time
from collections import Counter
from typing import Any

from aiohttp import web

PARAMS = {
    "model", "max_tokens", "messages", "system", "output_config", "metadata", "stop_sequences",
    "service_tier", "stream", "thinking", "tools", "tool_choice", "cache_control",
}  # fmt: skip
KEYWORDS = {
    "type", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "properties", "required", "items",
    "additionalProperties", "description", "title", "format", "minItems",
}  # fmt: skip


def share(*parts: object) -> float:
    """A number in [0, 1) that the parts decide."""
    found = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(found, "big") / 2**64


class Refused(Exception):
    """A request that the API would not take."""

    def __init__(self, code: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.code, self.kind = code, kind


def check(headers: Any, body: dict[str, Any]) -> None:
    """Refuses what the documentation says is refused."""
    key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
    if not key or "wrong" in key:
        raise Refused(401, "authentication_error", f"invalid API key {key}")
    if not headers.get("anthropic-version"):
        raise Refused(400, "invalid_request_error", "anthropic-version: header is required")
    for name in ("model", "max_tokens", "messages"):
        if name not in body:
            raise Refused(400, "invalid_request_error", f"{name}: Field required")
    if extra := set(body) - PARAMS:
        raise Refused(
            400, "invalid_request_error", f"{sorted(extra)[0]}: Extra inputs are not permitted"
        )
    if body["model"] == "claude-nowhere":
        raise Refused(404, "not_found_error", f"model: {body['model']}")
    roles = [m.get("role") for m in body["messages"]]
    if not roles or roles[0] != "user" or roles[-1] != "user":
        raise Refused(400, "invalid_request_error", "messages: must begin and end with a user turn")
    if any(not m.get("content") for m in body["messages"]):
        raise Refused(
            400, "invalid_request_error", "messages: text content blocks must be non-empty"
        )
    config = body.get("output_config") or {}
    if set(config) - {"effort", "format"}:
        raise Refused(400, "invalid_request_error", "output_config: Extra inputs are not permitted")
    if form := config.get("format"):
        check_schema(form["schema"])


def check_schema(node: Any) -> None:
    """Refuses schema keywords that structured outputs do not know."""
    if not isinstance(node, dict):
        return
    if extra := set(node) - KEYWORDS:
        raise Refused(
            400,
            "invalid_request_error",
            f"output_config.format: {sorted(extra)[0]} is not supported",
        )
    if node.get("type") == "object" and node.get("additionalProperties") is not False:
        raise Refused(400, "invalid_request_error", "additionalProperties must be false")
    for name in ("properties", "$defs"):
        for child in node.get(name, {}).values():
            check_schema(child)
    for name in ("anyOf", "allOf"):
        for child in node.get(name, []):
            check_schema(child)
    check_schema(node.get("items"))


# A teacher of small means: its answers pass the tasks' checks, whatever the poem.


def lines_of(turn: str, tag: str) -> list[str]:
    """The lines of a numbered poem in a turn."""
    found = re.search(rf"<{tag}>\n(.*?)\n</{tag}>", turn, re.DOTALL)
    rows = re.findall(r"^ *\d+  (.*)$", found[1], re.MULTILINE) if found else []
    return [r.strip() for r in rows if len(re.sub(r"\W", "", r)) > 3] or ["nothing here"]


def quote(line: str) -> str:
    return line[:150].rsplit(" ", 1)[0] if len(line) > 150 else line


FORM = {"name": "free-verse", "lines": [3, 20], "scheme": "none", "meter": "none", "feet": 0}
AVOID = ["heart of gold", "sands of time", "tears like rain", "silent night", "broken dreams"]
BRIEF = {
    "angle": "Begin with one object on a table and stay with it until somebody comes to fetch it.",
    "avoid": AVOID,
    "imagery": "Kitchen things, weights and measures, a drawer that sticks.",
    "form": FORM,
}


def issue(line: str, severity: str) -> dict[str, Any]:
    return {
        "type": "abstraction",
        "location": {"quote": quote(line)},
        "diagnosis": "Here a feeling is named and nothing is there to be seen.",
        "direction": "Cut the named feeling and let one object in the room carry it.",
        "severity": severity,
    }


def answer(turn: str) -> str:
    """An answer to a turn of one of the built-in tasks."""
    task = re.match(r"Task: ([a-z ]+)\.", turn)
    name = task[1] if task else "poem"
    poem = lines_of(turn, "poem")
    if name == "critique":
        first = [issue(poem[0], "must_fix")]
        more = [issue(poem[-1], "should_fix")] if quote(poem[-1]) != quote(poem[0]) else []
        return json.dumps({"strengths": [], "issues": first + more})
    if name == "comparison":
        a, b = lines_of(turn, "poem_a"), lines_of(turn, "poem_b")
        point = {
            "dimension": "image",
            "finding": "its nouns can be picked up and turned over in the hand",
        }
        points = [
            {**point, "a_quote": quote(a[0]), "b_quote": quote(b[0])},
            {**point, "dimension": "ending", "a_quote": quote(a[-1]), "b_quote": quote(b[-1])},
        ]
        winner = "A" if share(*sorted((a[0], b[0]))) < 0.5 else "B"
        winner = winner if a[0] <= b[0] else {"A": "B", "B": "A"}[winner]
        loser = b if winner == "A" else a
        return json.dumps(
            {
                "winner": winner,
                "margin": "clear",
                "points": points,
                "loser_best": {"quote": quote(loser[0])},
                "loser_failure": "the point where it explains what it has shown",
                "lesson": "An image that is trusted needs nobody to explain it afterwards.",
            }
        )
    if name == "autopsy":
        item = {
            "cliche": {"quote": quote(poem[0])},
            "why_dead": "It has been said so often that nobody hears it any more.",
            "reaching_for": "the weight of a thing that is missed",
            "replacement": "a teaspoon left standing upright in the sugar",
        }
        return json.dumps({"items": [item]})
    if name == "brief":
        return json.dumps(BRIEF)
    if name == "revision brief":
        change = {
            "type": "abstraction",
            "location": {"quote": quote(poem[0])},
            "change": "Cut the opening and begin at the object.",
        }
        return json.dumps({**BRIEF, "keep": [], "change": [change]})
    if name == "lesson":
        return json.dumps(
            {
                "topic": "images",
                "claim": "An image works when the reader could draw it from memory.",
                "explanation": "Take the thing itself and leave out what it means. " * 5,
                "examples": [
                    {
                        "quote": "a cup with two handles",
                        "source": "made for this lesson",
                        "shows": "A small oddity makes the cup this one and no other.",
                    }
                ],
                "exercise": "Write down ten things on your table; strike the nine you expected.",
            }
        )
    if turn == "Name a thing that floats, as JSON.":  # versecraft.testing.check_backend
        return '{"thing": "cork"}'
    return "The drawer sticks.\nInside it the scales\nkeep level without us."


class Server:
    """The state of the server: its faults and what it has seen."""

    def __init__(self) -> None:
        self.faults: dict[str, float] = {}
        self.attempts: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.stats: Counter[str] = Counter()
        self.in_flight = 0
        self.times = (0.0, 0.0)  # of the first request and the latest event
        self.told = -3600.0  # when anyone was last told to wait

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/messages", self.messages)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/stats", self.get_stats)
        app.router.add_post("/faults", self.set_faults)
        return app

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

    async def set_faults(self, request: web.Request) -> web.Response:
        self.faults = await request.json()
        self.attempts.clear()
        self.answered.clear()
        self.stats.clear()
        self.times = (0.0, 0.0)
        self.told = -3600.0
        return web.json_response({})

    def fault(self, turn: str) -> str | None:
        self.attempts[turn] += 1
        drawn, below = share(self.faults.get("seed", 7), turn, self.attempts[turn]), 0.0
        for name in ("429", "500", "invalid", "refusal", "truncated", "hang", "drop", "bare"):
            below += self.faults.get(f"p{name}", 0.0)
            if drawn < below:
                return name
        return None

    async def serve(
        self, request: web.Request, body: dict[str, Any], turn: str
    ) -> tuple[str | None, str]:
        """The fault that strikes, and the answer's text."""
        self.stats["requests"] += 1
        self.times = (self.times[0] or time.time(), time.time())
        self.in_flight += 1
        self.stats["most_in_flight"] = max(self.stats["most_in_flight"], self.in_flight)
        try:
            fault = self.fault(turn)
            if fault:
                self.stats[fault] += 1
            if fault == "hang":
                await asyncio.sleep(3600)
            if fault == "drop" and request.transport:
                request.transport.close()
            if fault != "429":
                await asyncio.sleep(self.faults.get("latency", 0.0))
        finally:
            self.in_flight -= 1
            self.times = (self.times[0], time.time())
        text = answer(turn)
        if fault == "invalid":
            text = text[: len(text) // 2]
        if fault in (None, "invalid", "refusal", "truncated"):
            self.stats["paid"] += 1
        if fault is None:
            self.answered[turn] += 1
        return fault, text

    async def messages(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.stats["sent"] += 1
        # The first half is for requests that were under way when the word went out.
        since, wait = time.time() - self.told, self.faults.get("retry_after", 1)
        self.stats["impatient"] += 0.5 * wait < since < wait
        facts = {"request-id": f"req_{self.stats['sent']:06d}"}
        try:
            check(request.headers, body)
        except Refused as error:
            self.stats["refused_requests"] += 1
            return error_response(error.code, error.kind, str(error), facts)
        fault, text = await self.serve(request, body, body["messages"][0]["content"])
        if fault == "429":
            self.told = time.time()
            facts["retry-after"] = str(self.faults.get("retry_after", 1))
            return error_response(429, "rate_limit_error", "slow down", facts)
        if fault == "500":
            return error_response(500, "api_error", "Internal server error", facts)
        stop, content, details = "end_turn", [{"type": "text", "text": text}], None
        if body["model"].startswith("claude-opus-5-5"):
            content.insert(0, {"type": "thinking", "thinking": "", "signature": "c2ln"})
        if fault == "truncated":
            stop, content = "max_tokens", [{"type": "text", "text": text[:40]}]
        if fault == "refusal":
            stop, content = "refusal", []
            details = {"type": "refusal", "category": "frontier_llm", "explanation": "Not this."}
        if fault == "bare":
            return web.json_response({"type": "message"}, headers=facts)
        usage = {
            "input_tokens": len(json.dumps(body)) // 4,
            "output_tokens": len(text) // 4 + 40,
            "output_tokens_details": {"thinking_tokens": 40},
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        }
        self.stats["tokens_in"] += usage["input_tokens"]
        self.stats["tokens_out"] += usage["output_tokens"]
        reply = {
            "id": f"msg_{self.stats['sent']:06d}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "stop_details": details,
            "usage": usage,
        }
        return web.json_response(reply, headers=facts)

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        turn = next(m["content"] for m in body["messages"] if m["role"] == "user")
        fault, text = await self.serve(request, body, turn)
        if fault in ("429", "500"):
            return web.json_response({"error": {"message": "busy"}}, status=int(fault))
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


def error_response(code: int, kind: str, message: str, headers: dict[str, str]) -> web.Response:
    body = {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": headers["request-id"],
    }
    return web.json_response(body, status=code, headers=headers)


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
