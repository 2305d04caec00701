"""Requests to Claude, and a server that answers them as a test says, down to the bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from versecraft.backends import Request
from versecraft.backends.claude import Claude
from versecraft.backends.claude_batch import ClaudeBatch
from versecraft.errors import BackendError

MODEL = "claude-opus-5-5"
KEY = "sk-ant-test-0123456789"
GUIDE = "Read the poem twice, and say what is on the page before you say what it does. " * 60
SCHEMA = {
    "type": "object",
    "properties": {"thing": {"type": "string", "maxLength": 40}},
    "required": ["thing"],
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "model": MODEL,
    "content": [{"type": "thinking", "thinking": ""}, {"type": "text", "text": "A cork."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 5000},
}


def ask(number: int = 0, **changes: Any) -> Request:
    facts = {"system": GUIDE, "turn": f"Name thing {number}.", "max_tokens": 1000} | changes
    return Request(**{"schema": SCHEMA, **facts})


def run(work: Coroutine[Any, Any, Any], backend: Claude | ClaudeBatch | None = None) -> Any:
    async def main() -> Any:
        try:
            return await work
        finally:
            if backend:
                await backend.aclose()

    return asyncio.run(main())


def fails(work: Coroutine[Any, Any, Any], backend: Claude | ClaudeBatch) -> BackendError:
    with pytest.raises(BackendError) as caught:
        run(work, backend)
    assert KEY not in str(caught.value)
    return caught.value


Writer = asyncio.StreamWriter


@asynccontextmanager
async def server(
    answer: Callable[[Writer, bytes, bytes], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[bytes]]:
    """Answers each request by `answer(writer, head, body)`, and lists the bodies it got."""
    bodies: list[bytes] = []
    tasks: set[asyncio.Task[Any]] = set()

    async def talk(reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                _, _, length = head.lower().partition(b"content-length: ")
                bodies.append(await reader.readexactly(int(length.split(b"\r\n")[0] or 0)))
                await answer(writer, head, bodies[-1])
                await writer.drain()
        except (EOFError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0, limit=2**20)
    port = listening.sockets[0].getsockname()[1]
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    async with listening:
        yield bodies
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


def response(body: bytes, *headers: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = ("HTTP/1.1 200 So", *headers, f"content-length: {size}", "", "")
    return "\r\n".join(lines).encode() + body


def reset(writer: Writer) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points the SDK at an address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
