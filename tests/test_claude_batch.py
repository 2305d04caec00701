"""Claude by the batch, through the real SDK: nothing is lost unsaid, nothing is passed over."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from claudes import (
    GUIDE,
    MESSAGE,
    MODEL,
    Writer,
    ask,
    fails,
    response,
    run,
    server,
    unplugged,
)  # fmt: skip
from conftest import ModelServer
from versecraft.backends import BatchBackend, Reply
from versecraft.backends.claude import Claude
from versecraft.backends.claude_batch import ClaudeBatch
from versecraft.errors import BackendError
from versecraft.records import Usage


async def ended(backend: ClaudeBatch, batch: str) -> str:
    while not (await backend.state(batch)).ended:
        await asyncio.sleep(0.02)
    return batch


async def results(backend: ClaudeBatch, batch: str) -> list[tuple[str, Reply | BackendError]]:
    return [pair async for pair in backend.collect(batch)]


async def broken_off(backend: ClaudeBatch, batch: str) -> tuple[list[str], BackendError]:
    """The names that came before the error that must come."""
    names = []
    try:
        async for name, _ in backend.collect(batch):
            names.append(name)
    except BackendError as error:
        return names, error
    raise AssertionError("nothing broke")


def test_a_batch_backend_is_known_by_its_methods(model_server: ModelServer) -> None:
    backend = ClaudeBatch(MODEL)
    assert isinstance(backend, BatchBackend)
    assert not isinstance(Claude(MODEL), BatchBackend)
    error = fails(backend.complete(ask()), backend)
    assert error.fatal
    assert f"claude:{MODEL}" in str(error)


def test_each_request_of_a_batch_comes_back_once_with_what_it_cost(
    model_server: ModelServer,
) -> None:
    model_server.faults(perrored=0.2, pexpired=0.2, prefusal=0.2, ptruncated=0.2, batch_seconds=0)
    backend = ClaudeBatch(MODEL)

    async def main() -> tuple[str, list[tuple[str, Reply | BackendError]]]:
        batch = await backend.submit({f"id-{n}": ask(n) for n in range(60)})
        return batch, await results(backend, await ended(backend, batch))

    batch, found = run(main(), backend)
    assert sorted(name for name, _ in found) == sorted(f"id-{n}" for n in range(60))
    assert [name for name, _ in found] != [f"id-{n}" for n in range(60)], "in any order"
    assert {outcome.request_id for _, outcome in found} == {batch}
    answers = [o for _, o in found if isinstance(o, Reply)]
    errors = [o for _, o in found if isinstance(o, BackendError)]
    assert answers
    assert {(e.kind, e.retryable, e.usage is None) for e in errors} == {
        ("http", True, True), ("timeout", True, True), ("refusal", False, False),
        ("truncated", True, False),
    }  # fmt: skip
    used = sum((o.usage for _, o in found if o.usage), Usage())
    stats = model_server.stats()
    assert used.requests == stats["paid_batch"]
    assert used.input == stats["tokens_in_batch"]
    assert used.cache_read == stats["cache_read_batch"] > 0


def test_parameters_that_the_api_refuses_are_an_error_of_their_request(
    model_server: ModelServer,
) -> None:
    model_server.faults(batch_seconds=0)
    backend = ClaudeBatch(MODEL)

    async def main() -> dict[str, Reply | BackendError]:
        batch = await backend.submit({"good": ask(), "bad": ask(turn="")})
        return dict(await results(backend, await ended(backend, batch)))

    found = run(main(), backend)
    assert isinstance(found["good"], Reply)
    assert isinstance(found["bad"], BackendError)
    assert not found["bad"].retryable
    assert "non-empty" in str(found["bad"])


def test_a_size_is_that_of_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ClaudeBatch(MODEL, effort="high")
    requests = {f"{n:064}": ask(n, system=GUIDE + "é“🦉" * n) for n in range(40)}

    async def main() -> bytes:
        async def answer(writer: Writer, *_: bytes) -> None:
            writer.write(response(b'{"id": "msgbatch_1"}'))

        async with server(answer, monkeypatch) as bodies:
            assert await backend.submit(requests) == "msgbatch_1"
            await backend.aclose()
            return bodies[0]

    body = asyncio.run(main())
    assert len(body) == sum(map(backend.size, requests.values())) + len('{"requests":[]}') - 1
    sent = json.loads(body)["requests"]
    assert [entry["custom_id"] for entry in sent] == list(requests)
    assert all(e["params"]["output_config"]["effort"] == "high" for e in sent)


def test_a_batch_that_was_made_without_an_answer_is_found_again(
    model_server: ModelServer,
) -> None:
    model_server.faults(pcreate_lost=1)
    backend = ClaudeBatch(MODEL)
    before = time.time() - 1
    error = fails(backend.submit({f"id-{n}": ask(n) for n in range(7)}), backend)
    assert error.lost

    async def main() -> list[Any]:
        return [state async for state in backend.recent(before)]

    [state] = run(main(), backend)
    assert state.requests == 7
    assert before < state.created < time.time() + 1


@pytest.mark.parametrize(
    ("fault", "lost", "retryable", "overloaded"),
    [
        ("401", False, False, False),
        ("413", False, False, False),
        ("429", False, True, True),
        ("spend", False, False, False),
        ("500", True, True, False),
        ("529", True, True, True),
        ("drop", True, True, False),
        ("hang", True, True, False),
    ],
)
def test_whether_a_batch_was_taken_is_known_or_said_to_be_unknown(
    model_server: ModelServer, fault: str, lost: bool, retryable: bool, overloaded: bool
) -> None:
    model_server.faults(**{f"papi_{fault}": 1.0})
    backend = ClaudeBatch(MODEL, timeout=0.4)
    error = fails(backend.submit({"a": ask()}), backend)
    assert (error.lost, error.retryable, error.overloaded) == (lost, retryable, overloaded)
    assert (error.kind == "timeout") == (fault == "hang")


def test_a_batch_that_never_left_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    unplugged(monkeypatch)
    backend = ClaudeBatch(MODEL)
    error = fails(backend.submit({"a": ask()}), backend)
    assert (error.lost, error.retryable) == (False, True)


def test_recent_batches_are_listed_page_by_page_newest_first(model_server: ModelServer) -> None:
    backend = ClaudeBatch(MODEL)

    async def main() -> None:
        made = [await backend.submit({"a": ask(system="", schema=None)}) for _ in range(105)]
        since = (await backend.state(made[0])).created
        listed = [state.batch async for state in backend.recent(since)]
        assert listed == made[::-1]
        since = (await backend.state(made[60])).created
        assert [state.batch async for state in backend.recent(since)] == made[:59:-1]
        assert [state async for state in backend.recent(time.time() + 60)] == []

    run(main(), backend)


def test_a_broken_download_is_an_error_and_can_be_had_again(model_server: ModelServer) -> None:
    model_server.faults(batch_seconds=0)
    backend = ClaudeBatch(MODEL)

    async def main() -> None:
        batch = await backend.submit({f"id-{n}": ask(n) for n in range(300)})
        await ended(backend, batch)
        model_server.change(presults_reset=1)
        seen, error = await broken_off(backend, batch)
        assert 0 < len(seen) < 300, "what came whole came through"
        assert (error.retryable, error.lost) == (True, False)
        model_server.change()
        again = [name for name, _ in await results(backend, batch)]
        assert again[: len(seen)] == seen
        assert len(set(again)) == 300

    run(main(), backend)


def batch_of(writer: Writer, head: bytes, lines: bytes, count: int) -> None:
    """Answers for a batch that has ended, with such results."""
    if b"/results" in head:
        writer.write(response(lines))
        return
    facts = {
        "id": "msgbatch_1",
        "processing_status": "ended",
        "request_counts": {"succeeded": count},
        "created_at": "2026-11-24T08:00:00Z",
        "results_url": "/v1/messages/batches/msgbatch_1/results",
    }
    writer.write(response(json.dumps(facts).encode()))


def line(name: str, **message: Any) -> bytes:
    result = {"type": "succeeded", "message": {**MESSAGE, **message}}
    return json.dumps({"custom_id": name, "result": result}).encode() + b"\n"


@pytest.mark.parametrize(
    "lines",
    [
        line("a") + line("b")[:70] + b"\n" + line("c"),
        line("a") + b'{"result": {"type": "succeeded"}}\n' + line("c"),
        line("a") + line("c"),
        line("a") + line("c") + line("b")[:70],
    ],
    ids=["broken", "nameless", "lacking", "cut off"],
)
def test_a_line_that_cannot_be_read_is_never_passed_over(
    lines: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = ClaudeBatch(MODEL)

    async def main() -> None:
        async def answer(writer: Writer, head: bytes, _: bytes) -> None:
            batch_of(writer, head, lines, 3)

        async with server(answer, monkeypatch):
            seen, error = await broken_off(backend, "msgbatch_1")
            await backend.aclose()
        assert seen == ["a", "c"]
        assert error.retryable
        assert "1 of the 3 results" in str(error)

    asyncio.run(main())


def test_a_result_that_makes_no_sense_is_an_error_under_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = ClaudeBatch(MODEL)
    odd = b'{"custom_id": "b", "result": {"type": "succeeded", "message": {}}}\n'
    new = b'{"custom_id": "c", "result": {"type": "vanished"}}\n\n'

    async def main() -> dict[str, Reply | BackendError]:
        async def answer(writer: Writer, head: bytes, _: bytes) -> None:
            batch_of(writer, head, line("a") + odd + new, 3)

        async with server(answer, monkeypatch):
            found = dict(await results(backend, "msgbatch_1"))
            await backend.aclose()
            return found

    found = asyncio.run(main())
    assert isinstance(found["a"], Reply)
    for name in ("b", "c"):
        outcome = found[name]
        assert isinstance(outcome, BackendError)
        assert (outcome.lost, outcome.retryable, outcome.request_id) == (True, True, "msgbatch_1")


def test_results_are_read_while_they_arrive_however_long_a_line_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = ClaudeBatch(MODEL)
    long = "A cork. " * 500_000
    first, last = line("a"), line("b", content=[{"type": "text", "text": long}])

    async def main() -> None:
        seen = asyncio.Event()

        async def answer(writer: Writer, head: bytes, _: bytes) -> None:
            if b"/results" not in head:
                batch_of(writer, head, b"", 2)
                return
            writer.write(response(first + last)[: -len(last)])
            await asyncio.wait_for(seen.wait(), 10)
            writer.write(last)

        async with server(answer, monkeypatch):
            found = {}
            async for name, outcome in backend.collect("msgbatch_1"):
                seen.set()
                found[name] = outcome
            await backend.aclose()
        assert isinstance(found["b"], Reply)
        assert found["b"].text == long

    asyncio.run(main())


def test_a_batch_that_runs_or_is_unknown_has_no_results(model_server: ModelServer) -> None:
    model_server.faults(batch_seconds=30)
    backend = ClaudeBatch(MODEL)

    async def main() -> None:
        batch = await backend.submit({"a": ask()})
        state = await backend.state(batch)
        assert (state.batch, state.requests, state.ended) == (batch, 1, False)
        with pytest.raises(BackendError, match="in_progress") as caught:
            await results(backend, batch)
        assert caught.value.retryable
        for call in (backend.state, backend.cancel, lambda b: results(backend, b)):
            with pytest.raises(BackendError, match="29 days") as caught:
                await call("msgbatch_nowhere")
            assert (caught.value.retryable, caught.value.fatal) == (False, False)

    run(main(), backend)


def test_a_cancelled_batch_ends_and_says_what_was_not_done(model_server: ModelServer) -> None:
    model_server.faults(batch_seconds=30)
    backend = ClaudeBatch(MODEL)

    async def main() -> list[tuple[str, Reply | BackendError]]:
        batch = await backend.submit({f"id-{n}": ask(n) for n in range(40)})
        await backend.cancel(batch)
        assert (await backend.state(batch)).status == "canceling"
        await ended(backend, batch)
        await backend.cancel(batch)  # too late, and no harm
        await backend.aclose()
        return await results(backend, batch)

    outcomes = [outcome for _, outcome in run(main(), backend)]
    assert len(outcomes) == 40
    errors = [o for o in outcomes if isinstance(o, BackendError)]
    assert 0 < len(errors) < 40
    assert {(e.kind, e.retryable, e.usage) for e in errors} == {("cancelled", True, None)}


@pytest.mark.parametrize("fault", ["401", "429", "503", "drop", "hang"])
def test_calls_that_cost_nothing_lose_nothing(model_server: ModelServer, fault: str) -> None:
    model_server.faults(batch_seconds=0)
    backend = ClaudeBatch(MODEL, timeout=0.4)

    async def recent() -> None:
        async for _ in backend.recent(0):
            pass

    async def main() -> None:
        batch = await ended(backend, await backend.submit({"a": ask()}))
        model_server.change(**{f"papi_{fault}": 1.0})
        for call in (lambda: backend.state(batch), lambda: backend.cancel(batch), recent,
                     lambda: results(backend, batch)):  # fmt: skip
            with pytest.raises(BackendError) as caught:
                await call()
            assert caught.value.retryable == (fault != "401")
            assert not caught.value.lost

    run(main(), backend)
