"""How many requests are in flight: what the server can bear, and not one more than is paid for."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from claudes import MODEL
from conftest import ModelServer
from sources import make_plan
from teacher import answer
from versecraft.backends import Price, Reply, Request
from versecraft.backends.claude import Claude
from versecraft.errors import BackendError
from versecraft.generating import generate
from versecraft.ledger import read_rows
from versecraft.records import Usage
from versecraft.runs import Plan


def live(folder: Path, count: int, **options: Any) -> Plan:
    return make_plan(folder, Claude(MODEL, **options), count)


# Warming the cache


def test_the_first_request_goes_alone_and_fills_the_cache_for_all_others(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(latency=0.3)
    plan = live(tmp_path, 60, concurrency=64)
    assert plan.caches
    run = generate(plan, progress=False)
    stats = model_server.stats()
    assert run.answered == 60
    assert (stats["cold_writes"], stats["cache_written"]) == (1, run.cost.written)
    assert stats["cache_read"] == 59 * run.cost.written
    assert stats["most_in_flight"] > 20


def test_without_a_cache_nobody_waits_for_the_first(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(latency=0.3)
    plan = live(tmp_path, 30, concurrency=30, cache=None)
    assert not plan.caches
    run = generate(plan, progress=False)
    assert run.answered == 30
    stats = model_server.stats()
    assert stats["last_at"] - stats["first_at"] < 0.6, "two rounds of 0.3 seconds"
    assert stats.get("cold_writes", 0) == run.cost.written == 0


def test_the_cache_is_filled_once_though_the_first_requests_fail(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(p429=0.5, retry_after=0.05, latency=0.05, seed=6)
    run = generate(live(tmp_path, 12, concurrency=12), progress=False)
    assert run.answered == 12
    assert model_server.stats()["cold_writes"] == 1


def test_a_run_whose_first_request_never_ends_goes_on_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("versecraft.generating._WARM_UP", 0.3)

    class Slow:
        id, concurrency, cache_from, asked = "slow:1", 8, 1, 0

        async def complete(self, request: Request) -> Reply:
            self.asked += 1
            if self.asked == 1:
                await asyncio.sleep(1.5)
            return Reply(text=answer(request.turn), model="slow", usage=Usage(requests=1))

    backend = Slow()
    plan = make_plan(tmp_path, backend, 20)
    assert plan.caches
    run = generate(plan, progress=False)
    assert run.answered == 20
    first, *others = sorted(run.rows, key=lambda row: row.started)
    assert max(row.finished for row in others) < first.finished


# What the server can bear


@pytest.mark.slow
def test_a_server_that_takes_few_at_once_gets_few_at_once(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(max_concurrent=5, latency=0.05)
    run = generate(live(tmp_path, 40, concurrency=64), progress=False)
    assert run.answered == 40
    stats = model_server.stats()
    assert stats["most_in_flight"] == 5
    # 27 of the first 32 are refused, and from then on one in five.
    assert stats["over_concurrent"] <= 27 + 40 / 4
    assert stats["answered_again"] == 0


def test_the_window_grows_to_the_concurrency_that_was_asked_for(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(latency=0.4)
    run = generate(live(tmp_path, 250, concurrency=120, cache=None), progress=False)
    assert run.answered == 250
    assert 32 < model_server.stats()["most_in_flight"] <= 120


@pytest.mark.slow
def test_no_more_is_sent_than_the_rate_limits_leave_room_for(
    tmp_path: Path, model_server: ModelServer
) -> None:
    # 120 at once, and two more a second.
    model_server.faults(rpm=120, latency=0.05)
    run = generate(live(tmp_path, 126, concurrency=64), progress=False)
    assert run.answered == 126
    stats = model_server.stats()
    assert stats["most_in_flight"] > 20
    # Without room one at a time is sent, so at most one is refused for each that comes through.
    assert stats.get("over_rate", 0) <= 8
    assert stats["impatient"] == 0


@pytest.mark.parametrize("asked_to_wait", [0.6, None])
def test_when_the_server_is_overloaded_nobody_sends_for_as_long_as_it_asks(
    tmp_path: Path, asked_to_wait: float | None
) -> None:
    sent: list[float] = []

    class Busy:
        id, concurrency = "busy:1", 8
        refused_at = 0.0

        async def complete(self, request: Request) -> Reply:
            sent.append(time.monotonic())
            await asyncio.sleep(0.02)
            if len(sent) > 20 and not self.refused_at:
                self.refused_at = time.monotonic()
                raise BackendError(
                    "HTTP 529", retryable=True, overloaded=True, retry_after=asked_to_wait
                )
            return Reply(text=answer(request.turn), model="busy")

    backend = Busy()
    run = generate(make_plan(tmp_path, backend, 60), progress=False)
    assert run.answered == 60
    waited = [at - backend.refused_at for at in sent if at > backend.refused_at]
    first = asked_to_wait or 1.0
    assert first <= min(waited) < first + 0.6
    assert len(sent) == 61
    # They do not all come back in the same instant.
    assert sorted(waited)[5] - min(waited) > 0.01


@pytest.mark.slow
def test_a_server_that_is_overloaded_in_every_way_answers_all_in_the_end(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(
        p429=0.1, p429bare=0.05, p503=0.05, p529=0.05, retry_after=0.2, latency=0.02, seed=1
    )
    run = generate(live(tmp_path, 24, concurrency=20), progress=False)
    assert run.answered == 24
    stats = model_server.stats()
    assert sum(stats.get(fault, 0) for fault in ("429", "429bare", "503", "529")) > 3
    assert stats["impatient"] == 0
    assert stats["paid"] == 24


def test_a_spend_limit_stops_at_once_and_the_rest_is_asked_when_it_is_raised(
    tmp_path: Path, model_server: ModelServer
) -> None:
    plan = live(tmp_path, 100, concurrency=16)
    model_server.faults(pspend=0.05, latency=0.02, seed=1)
    run = generate(plan, progress=False)
    stats = model_server.stats()
    assert stats["spend"] >= 1
    assert run.stopped
    assert "Raise the spend limit" in run.stopped
    assert f"again. Items without an answer yet: {run.failed}, about $" in run.stopped
    assert 0 < run.answered < 100
    # What was in flight is kept, and nothing was sent after that.
    assert stats["requests"] <= run.answered + 16
    assert stats["paid"] == run.answered
    model_server.change()
    rest = generate(plan, progress=False)
    assert (rest.answered, rest.cached) == (100 - run.answered, run.answered)
    assert model_server.stats()["answered_again"] == 0


# Budgets


def test_requests_whose_answer_was_lost_count_at_their_most(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(pdrop=0.3, preset=0.2, seed=8)
    budget = 2.0
    run = generate(live(tmp_path, 200, concurrency=8), budget=budget, progress=False)
    stats = model_server.stats()
    assert run.stopped
    assert "budget" in run.stopped
    lost = sum(row.lost for row in read_rows(tmp_path / "runs" / "critique.jsonl")[0])
    assert lost >= 8
    assert stats["paid"] == run.answered + stats["reset"]
    # Also with what nobody saw it stays below.
    price = Price(input=4, output=20, cache_write_5m=5, cache_read=0.2)
    unseen = Usage(
        input=stats["tokens_in_unseen"],
        output=stats["tokens_out_unseen"],
        cache_read=stats["cache_read_unseen"],
        cache_write_5m=stats["cache_written_unseen"],
    )
    assert run.cost + price.cost(unseen) < budget
    model_server.change()
    rest = generate(live(tmp_path, 200, concurrency=8), progress=False)
    assert rest.answered + rest.cached == 200


def test_a_budget_bounds_what_is_in_flight(tmp_path: Path) -> None:
    most = 0

    class Counting:
        id, concurrency, price, now = "counting:1", 50, Price(input=0, output=100), 0

        async def complete(self, request: Request) -> Reply:
            nonlocal most
            self.now += 1
            most = max(most, self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            usage = Usage(requests=1, output=request.max_tokens)
            return Reply(text=answer(request.turn), model="counting", usage=usage)

    plan = make_plan(tmp_path, Counting(), 50)
    one = plan.task.max_tokens * 100 / 1e6
    run = generate(plan, budget=7.5 * one, progress=False)
    assert (run.answered, most) == (7, 7)
    assert run.cost == pytest.approx(7 * one)
    assert run.stopped


def test_an_answer_that_could_cost_more_than_the_budget_is_never_asked_for(
    tmp_path: Path, model_server: ModelServer
) -> None:
    begun = time.monotonic()
    run = generate(live(tmp_path, 5), budget=0.01, progress=False)
    assert model_server.stats().get("sent", 0) == 0
    assert run.errors() == {"budget": 5}
    assert time.monotonic() - begun < 5


def test_a_backend_that_breaks_in_its_own_way_does_not_keep_the_gate_shut(tmp_path: Path) -> None:
    class Fickle:
        id, concurrency, asked = "fickle:1", 6, 0

        async def complete(self, request: Request) -> Reply:
            self.asked += 1
            if self.asked % 3 == 0:
                raise BackendError("busy", retryable=True, overloaded=True, retry_after=0.01)
            return Reply(text=answer(request.turn), model="fickle")

    run = generate(make_plan(tmp_path, Fickle(), 30), progress=False)
    assert run.answered == 30
