"""Claude, one request at a time, through the real SDK: what is sent, what is read, what is lost."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from claudes import (
    GUIDE,
    KEY,
    MESSAGE,
    MODEL,
    Writer,
    ask,
    fails,
    reset,
    response,
    run,
    server,
    unplugged,
)  # fmt: skip
from conftest import ModelServer
from versecraft.backends import Price, Reply
from versecraft.backends.claude import Claude
from versecraft.backends.claude_batch import ClaudeBatch
from versecraft.errors import BackendError, UnknownName
from versecraft.plugins import get_backend
from versecraft.records import Usage


async def breaking(how: str, writer: Writer) -> None:
    """Breaks off in one of several ways, after the whole request came in."""
    whole = json.dumps(MESSAGE).encode()
    half = whole[: len(whole) // 2]
    if how == "dropped":
        writer.close()
    elif how == "reset":
        reset(writer)
    elif how == "half, then closed":
        writer.write(response(half, length=len(whole)))
        await writer.drain()
        writer.close()
    elif how == "half, then reset":
        writer.write(response(half, length=len(whole)))
        await asyncio.sleep(0.05)
        reset(writer)
    elif how == "half a chunk":
        head = b"HTTP/1.1 200 So\r\ntransfer-encoding: chunked\r\n\r\nfff\r\n"
        writer.write(head + half)
        await writer.drain()
        writer.close()
    elif how == "half, as if whole":
        writer.write(response(half))
    elif how == "silent":
        await asyncio.sleep(60)
    elif how == "half, then silent":
        writer.write(response(half, length=len(whole)))
        await asyncio.sleep(60)
    elif how == "no HTTP":
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
    elif how == "no gzip":
        writer.write(response(whole, "content-encoding: gzip"))
    elif how == "no message":
        writer.write(response(b"[]"))
    elif how == "no usage":
        writer.write(response(b'{"type": "message"}'))


BREAKS = (
    "dropped", "reset", "half, then closed", "half, then reset", "half a chunk",
    "half, as if whole", "silent", "half, then silent", "no HTTP", "no gzip", "no message",
    "no usage",
)  # fmt: skip


@pytest.mark.parametrize("how", BREAKS)
def test_a_request_without_a_whole_answer_is_lost_and_never_sent_twice(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Claude(MODEL, timeout=0.3)

    async def main() -> None:
        async with server(lambda writer, *_: breaking(how, writer), monkeypatch) as bodies:
            with pytest.raises(BackendError) as caught:
                await backend.complete(ask())
            await backend.aclose()
            assert len(bodies) == 1
        error = caught.value
        assert (error.lost, error.retryable, error.fatal) == (True, True, False), error
        assert error.kind == ("timeout" if "silent" in how else "http")

    asyncio.run(main())


def test_a_connection_that_breaks_between_two_requests_loses_the_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = Claude(MODEL)

    async def main() -> None:
        async def answer(writer: Writer, *_: bytes) -> None:
            writer.write(response(json.dumps(MESSAGE).encode())) if len(bodies) < 2 else (
                writer.close()
            )

        async with server(answer, monkeypatch) as bodies:
            assert (await backend.complete(ask())).text == "A cork."
            with pytest.raises(BackendError) as caught:
                await backend.complete(ask())
            await backend.aclose()
            assert caught.value.lost
            assert len(bodies) == 2

    asyncio.run(main())


def test_a_request_that_never_left_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    unplugged(monkeypatch)
    backend = Claude(MODEL)
    error = fails(backend.complete(ask()), backend)
    assert (error.lost, error.retryable, error.kind) == (False, True, "http")
    assert "ANTHROPIC_BASE_URL" in str(error)


def test_a_server_that_takes_no_connection_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{full.getsockname()[1]}")
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        backend = Claude(MODEL, timeout=0.3)
        error = fails(backend.complete(ask()), backend)
        for one in waiting:
            one.close()
    assert (error.lost, error.retryable) == (False, True), error


@pytest.mark.parametrize(
    ("fault", "retryable", "overloaded", "fatal"),
    [
        ("401", False, False, True),
        ("403", False, False, True),
        ("413", False, False, False),
        ("429", True, True, False),
        ("429bare", True, True, False),
        ("500", True, False, False),
        ("503", True, True, False),
        ("529", True, True, False),
        ("spend", False, False, True),
    ],
)
def test_what_a_status_says(
    model_server: ModelServer, fault: str, retryable: bool, overloaded: bool, fatal: bool
) -> None:
    model_server.faults(**{f"p{fault}": 1.0, "retry_after": 7})
    backend = Claude(MODEL)
    error = fails(backend.complete(ask()), backend)
    assert (error.retryable, error.overloaded, error.fatal) == (retryable, overloaded, fatal)
    assert error.retry_after == (7 if fault == "429" else None)
    assert not error.lost
    assert error.request_id
    assert model_server.stats()["requests"] == 1


def test_a_guide_is_written_to_the_cache_once_and_read_from_then_on(
    model_server: ModelServer,
) -> None:
    async def usages(backend: Claude) -> list[Usage]:
        return [(await backend.complete(ask(number))).usage for number in range(3)]

    for cache, written in (("5m", "cache_write_5m"), ("1h", "cache_write_1h"), (None, "")):
        model_server.faults()
        backend = Claude(MODEL, cache=cache)  # type: ignore[arg-type]
        first, *others = run(usages(backend), backend)
        stats = model_server.stats()
        if cache:
            assert getattr(first, written) > backend.cache_from
            assert all(u.cache_read == getattr(first, written) for u in others)
        assert stats["cold_writes"] == (1 if cache else 0)
        total = sum(others, first)
        assert total.requests == stats["paid"] == 3
        assert total.input == stats["tokens_in"]
        assert total.output == stats["tokens_out"]
        assert total.cache_read == stats["cache_read"]
        assert total.cache_write_5m + total.cache_write_1h == stats["cache_written"]
        assert total.thinking == 120


def test_where_a_cache_begins_depends_on_the_model() -> None:
    assert Claude(MODEL).cache_from == ClaudeBatch(MODEL).cache_from == 512
    assert Claude("claude-sonnet-5-5").cache_from == 4096
    assert Claude("claude-next", price=Price(input=1, output=2)).cache_from == 4096
    assert Claude(MODEL, cache=None).cache_from is None
    assert Claude(MODEL, cache="1h").id == Claude(MODEL, cache=None).id


def test_room_is_what_the_scarcest_limit_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Claude(MODEL)
    limits = {"requests": "900", "input-tokens": "90000", "output-tokens": "8000", "tokens": "x"}

    async def main() -> list[int | None]:
        shown: list[str] = []

        async def answer(writer: Writer, *_: bytes) -> None:
            writer.write(response(json.dumps(MESSAGE).encode(), *shown))

        async with server(answer, monkeypatch):
            rooms = []
            for name, left in limits.items():
                rooms.append((await backend.complete(ask())).room)
                shown.append(f"Anthropic-RateLimit-{name}-Remaining: {left}")
            rooms.append((await backend.complete(ask())).room)
            await backend.aclose()
            return rooms

    # 100 tokens in (the 5,000 read from the cache do not count), 20 out.
    assert asyncio.run(main()) == [None, 900, 900, 400, 400]


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [("refusal", "refusal", "frontier_llm"), ("truncated", "truncated", "max_tokens")],
)
def test_what_was_paid_without_an_answer_is_told(
    model_server: ModelServer, fault: str, kind: str, said: str
) -> None:
    model_server.faults(**{f"p{fault}": 1.0})
    backend = Claude(MODEL)
    error = fails(backend.complete(ask()), backend)
    assert error.kind == kind
    assert said in str(error)
    assert error.usage
    assert (error.usage.requests, error.model, error.lost) == (1, MODEL, False)
    assert bool(error.text) == (kind == "truncated"), "what was said before the cut is kept"


def test_an_answer_that_makes_no_sense_is_still_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Claude(MODEL)
    odd = json.dumps({**MESSAGE, "content": [{"type": "text"}]}).encode()

    async def main() -> BackendError:
        async def answer(writer: Writer, *_: bytes) -> None:
            writer.write(response(odd))

        async with server(answer, monkeypatch):
            with pytest.raises(BackendError) as caught:
                await backend.complete(ask())
            await backend.aclose()
            return caught.value

    error = asyncio.run(main())
    assert error.usage
    assert (error.usage.input, error.usage.requests, error.lost) == (100, 1, False)


@pytest.mark.parametrize("make", [Claude, ClaudeBatch])
def test_tokens_are_counted_without_asking(
    model_server: ModelServer, make: type[Claude | ClaudeBatch]
) -> None:
    backend = make(MODEL, effort="low")
    assert run(backend.count(ask()), backend) > len(GUIDE) // 4
    stats = model_server.stats()
    assert (stats["counted"], stats.get("sent", 0)) == (1, 0)
    backend.timeout = 0.3
    for fault, retryable in (("401", False), ("529", True), ("drop", True), ("hang", True)):
        model_server.faults(**{f"papi_{fault}": 1.0})
        error = fails(backend.count(ask()), backend)
        assert error.retryable == retryable
        assert not error.lost, "counting costs nothing"


def test_odd_requests_are_taken(model_server: ModelServer) -> None:
    backend = Claude(MODEL, effort="max")

    async def main() -> list[Reply]:
        odd = (
            ask(system=""),
            ask(schema=None),
            ask(max_tokens=64_000),
            ask(turn="half of a pair: \ud83d, and “whole” ones: 🦉\n\ttab"),
            ask(followups=(("an answer", "why not"),)),
        )
        return [await backend.complete(request) for request in odd]

    assert [r.model for r in run(main(), backend)] == [MODEL] * 5


def test_a_key_in_an_answer_is_not_repeated(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-ant-wrong-0123456789"
    monkeypatch.setenv("ANTHROPIC_API_KEY", f" {key}\n")  # as read from a file
    for backend in (Claude(MODEL), ClaudeBatch(MODEL)):
        error = fails(backend.count(ask()), backend)
        assert error.fatal
        assert "wrong" not in str(error)
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    error = fails(backend.submit({"a": ask()}), backend)  # type: ignore[union-attr]
    assert error.fatal
    assert "ANTHROPIC_API_KEY" in str(error)


@pytest.mark.parametrize("scheme", ["claude", "claude-batch"])
def test_specs_name_model_and_effort(scheme: str) -> None:
    backend = get_backend(f"{scheme}:{MODEL};effort=low", concurrency=3, timeout=9)
    assert backend.id == f"{scheme}:{MODEL};effort=low"
    assert backend.price.output == 20  # type: ignore[attr-defined]
    assert get_backend(f"{scheme}:claude-haiku-5-5").price.input == 0.1  # type: ignore[attr-defined]
    with pytest.raises(UnknownName, match=r"versecraft\.toml"):
        get_backend(f"{scheme}:claude-unheard-of")
    with pytest.raises(UnknownName, match="high, low, max"):
        get_backend(f"{scheme}:{MODEL};effort=hihg")
