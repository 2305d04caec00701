"""The bill before a run, and what the run says that it cost."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from claudes import MODEL
from conftest import ModelServer
from sources import make_plan, make_poem
from teacher import answer
from versecraft.backends import Price, Reply, Request
from versecraft.backends.claude import Claude
from versecraft.backends.claude_batch import ClaudeBatch
from versecraft.backends.scripted import Scripted
from versecraft.generating import generate
from versecraft.ledger import read_rows
from versecraft.planning import bill, plan
from versecraft.plugins import get_task
from versecraft.records import Usage
from versecraft.runs import Cost, Tokens

OPUS = Price(input=4, output=20, cache_write_5m=5, cache_write_1h=8, cache_read=0.2)


def shown(value: Any) -> str:
    """What a terminal shows, in one line."""
    console = Console(width=200, record=True, file=StringIO())
    console.print(value)
    return " ".join(console.export_text().split())


def test_the_four_bills_are_those_of_the_price_list() -> None:
    tokens = Tokens(input=1_000_000, output=100_000, guide=2_000)
    cost = bill(OPUS, tokens, 100)
    assert cost.live == pytest.approx(4.0 + 2.0)
    # 800,000 tokens as they are; the guide once written and 99 times read.
    assert cost.live_cached == pytest.approx(3.2 + 0.01 + 0.0396 + 2.0)
    assert cost.batch == pytest.approx(cost.live / 2)
    # 30 read it, 70 write it.
    assert cost.batch_cached == pytest.approx((3.2 + 0.7 + 0.012 + 2.0) / 2)


@given(
    requests=st.integers(0, 5000),
    guide=st.integers(0, 5000),
    turn=st.integers(1, 5000),
    output=st.integers(1, 5000),
)
def test_what_is_saved_is_half_by_the_batch_and_never_more_than_the_guide(
    requests: int, guide: int, turn: int, output: int
) -> None:
    tokens = Tokens(input=requests * (guide + turn), output=requests * output, guide=guide)
    cost = bill(OPUS, tokens, requests)
    assert cost.batch == pytest.approx(cost.live / 2)
    assert cost.live - cost.live_cached <= requests * guide * 4 / 1e6 + 1e-9
    if requests > 1:
        assert cost.live_cached <= cost.live
    assert cost.batch_cached <= cost.live
    assert min(cost.model_dump().values()) >= 0


def test_without_prices_nothing_costs_anything(tmp_path: Path) -> None:
    free = make_plan(tmp_path, Scripted(lambda r: answer(r.turn)), 5)
    assert (free.cost, free.dollars, free.price, free.caches) == (Cost(), 0.0, None, False)
    assert "dollars, batch" not in shown(free)
    run = generate(free, budget=0.0, progress=False)
    assert (run.answered, run.cost, run.cost.saved) == (5, 0.0, 0.0)


def test_a_plan_takes_the_bill_of_the_way_it_asks(
    tmp_path: Path, model_server: ModelServer
) -> None:
    cost = make_plan(tmp_path, Claude(MODEL), 20).cost
    assert make_plan(tmp_path, Claude(MODEL), 20).dollars == cost.live_cached
    assert make_plan(tmp_path, Claude(MODEL, cache=None), 20).dollars == cost.live
    assert make_plan(tmp_path, ClaudeBatch(MODEL), 20).dollars == cost.batch_cached
    assert make_plan(tmp_path, ClaudeBatch(MODEL, cache=None), 20).dollars == cost.batch
    said = shown(make_plan(tmp_path, ClaudeBatch(MODEL), 20))
    assert "dollars, live" in said
    assert "dollars, batch" in said
    assert "with the guide cached" in said


def test_tokens_are_counted_by_the_provider_on_a_sample(
    tmp_path: Path, model_server: ModelServer
) -> None:
    plan_ = make_plan(tmp_path, Claude(MODEL), 50)
    stats = model_server.stats()
    assert 0 < stats["counted"] <= 10
    assert stats.get("sent", 0) == 0
    assert f"counted by the provider on {stats['counted']} of 50" in plan_.tokens.counted_by
    assert plan_.tokens.counted_by in shown(plan_)
    run = generate(plan_, progress=False)
    assert plan_.tokens.input == pytest.approx(sum(r.usage.sent for r in run.rows), rel=0.02)


@pytest.mark.parametrize("fault", ["401", "500", "drop"])
def test_where_nobody_counts_a_usual_figure_is_taken_and_said(
    tmp_path: Path, model_server: ModelServer, fault: str
) -> None:
    model_server.faults(**{f"papi_{fault}": 1.0})
    plan_ = make_plan(tmp_path, Claude(MODEL), 5)
    assert "characters / 3.5; not counted by the provider: " in plan_.tokens.counted_by
    assert plan_.tokens.input > 0
    assert plan_.dollars > 0


def test_a_plan_does_not_wait_long_for_a_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("versecraft.planning._PATIENCE", 0.3)

    class Slow(Scripted):
        price = OPUS

        async def count(self, request: Request) -> int:
            await asyncio.sleep(60)
            return 0

    begun = time.monotonic()
    plan_ = make_plan(tmp_path, Slow(lambda r: answer(r.turn)), 5)
    assert time.monotonic() - begun < 5
    assert "not counted by the provider" in plan_.tokens.counted_by


@pytest.mark.parametrize("cache", [None, "5m"])
def test_the_estimate_stands_beside_the_bill(
    tmp_path: Path, model_server: ModelServer, cache: Any
) -> None:
    backend = Claude(MODEL, cache=cache)
    first = generate(make_plan(tmp_path, backend, 30), progress=False)
    assert first.estimate > first.cost, "the task's usual answer is longer than this teacher's"
    # From then on the ledger knows how long answers are.
    plan_ = make_plan(tmp_path, backend, 90)
    assert plan_.to_ask == 60
    run = generate(plan_, progress=False)
    assert run.estimate == pytest.approx(plan_.dollars)
    # With a cache it is on the safe side: this server keeps the schema with the guide.
    assert run.cost == pytest.approx(run.estimate, rel=0.05 if cache is None else 0.5)
    assert run.cost < 1.05 * run.estimate
    assert run.report()["estimate"] == pytest.approx(run.estimate, abs=1e-5)
    assert "estimated before" in shown(run)
    assert generate(plan_, progress=False).estimate == 0.0


@pytest.mark.parametrize("make", [Claude, ClaudeBatch])
@pytest.mark.parametrize("cache", ["5m", "1h"])
def test_a_run_tells_what_the_cache_did(
    tmp_path: Path, model_server: ModelServer, make: Any, cache: Any
) -> None:
    model_server.faults(batch_seconds=0)
    run = generate(make_plan(tmp_path, make(MODEL, cache=cache), 40), progress=False)
    stats = model_server.stats()
    assert run.cost.written == stats["cache_written"] > 0
    assert run.cost.read == stats["cache_read"] > 0
    assert run.cost.usage.input == stats["tokens_in"]
    assert run.cost.usage.requests == stats["paid"] == 40
    price = OPUS if make is Claude else OPUS.batched()
    writing = price.cache_write_5m if cache == "5m" else price.cache_write_1h
    assert writing is not None
    assert price.cache_read is not None
    dearer = (writing - price.input) * run.cost.written / 1e6
    cheaper = (price.input - price.cache_read) * run.cost.read / 1e6
    assert run.cost.saved == pytest.approx(cheaper - dearer)
    assert run.report()["cache"]["written"] == run.cost.written
    assert "saved by the cache" in shown(run)
    plain = Usage(input=run.cost.usage.sent, output=run.cost.usage.output)
    assert run.cost + run.cost.saved == pytest.approx(price.cost(plain))


def test_a_guide_that_is_too_short_to_be_cached_is_reported(
    tmp_path: Path, model_server: ModelServer
) -> None:
    critique = get_task("critique")
    short = replace(critique, prompt=replace(critique.prompt, guide="Read it twice."))
    poems = [make_poem(n) for n in range(8)]
    plan_ = plan(short, poems, Claude(MODEL, concurrency=8), ledger=tmp_path / "x.jsonl")
    assert not plan_.caches
    assert plan_.dollars == plan_.cost.live
    assert "are not cached: this model caches from 512 on" in shown(plan_)
    run = generate(plan_, progress=False)
    assert run.answered == 8
    assert "not cached" not in shown(make_plan(tmp_path, Claude(MODEL), 8))


def test_each_row_tells_where_its_answer_comes_from(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(pinvalid=0.3, p500=0.1, seed=3)
    before = time.time()
    plan_ = make_plan(tmp_path, Claude(MODEL), 20)
    generate(plan_, progress=False)
    rows = read_rows(plan_.ledger)[0]
    assert max(row.attempts for row in rows) > 1
    for row in rows:
        assert (row.model, row.backend, row.prompt) == (MODEL, f"claude:{MODEL}", plan_.prompt)
        assert row.request_id
        assert row.request_id.startswith("req_")
        assert row.stop_reason == "end_turn"
        assert row.price == OPUS
        assert row.cost == pytest.approx(OPUS.cost(row.usage))
        assert row.attempts >= row.usage.requests >= 1
        assert row.usage.thinking == 40 * row.usage.requests
        assert before <= row.started <= row.finished <= time.time()
    assert len({row.request_id for row in rows}) == 20


def test_a_row_from_a_batch_names_its_batch_and_the_price_that_was_paid(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(batch_seconds=0)
    run = generate(make_plan(tmp_path, ClaudeBatch(MODEL), 5), progress=False)
    for row in run.rows:
        assert row.request_id
        assert row.request_id.startswith("msgbatch_")
        assert (row.model, row.backend) == (MODEL, f"claude-batch:{MODEL}")
        assert row.price == OPUS.batched()
        assert row.cost == pytest.approx(OPUS.cost(row.usage) / 2)


def test_a_refusal_is_told_whole_and_what_it_cost_is_counted(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(prefusal=1.0, batch_seconds=0)
    for backend in (Claude(MODEL), ClaudeBatch(MODEL)):
        folder = tmp_path / type(backend).__name__
        run = generate(make_plan(folder, backend, 3), progress=False)
        assert run.refused == 3
        assert run.refusals() == {"the model declined (frontier_llm): Not this.": 3}
        assert "frontier_llm" in shown(run)
        assert run.cost > 0
        assert make_plan(folder, backend, 3).to_ask == 0


def test_dollars_of_answers_that_could_not_be_used_are_in_the_bill(tmp_path: Path) -> None:
    class Wordy:
        id, concurrency, price = "wordy:1", 4, OPUS

        async def complete(self, request: Request) -> Reply:
            text = answer(request.turn) if len(request.followups) == 1 else "{}"
            return Reply(text=text, model="wordy", usage=Usage(requests=1, output=1000))

    run = generate(make_plan(tmp_path, Wordy(), 5), progress=False)
    assert run.answered == 5
    assert run.cost == pytest.approx(5 * 2 * 0.02)
