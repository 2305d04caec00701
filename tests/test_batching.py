"""What a run by the batch promises: nothing is lost and nothing is bought twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claudes import MODEL
from conftest import ModelServer
from sources import make_plan, make_poem
from teacher import answer
from versecraft.backends import BatchState, Price, Reply, Request
from versecraft.backends.claude import Claude
from versecraft.backends.claude_batch import ClaudeBatch
from versecraft.batches import Batch, Journal
from versecraft.batching import cancel
from versecraft.errors import BackendError, LedgerError
from versecraft.generating import generate
from versecraft.ledger import read_rows
from versecraft.planning import plan
from versecraft.plugins import get_task
from versecraft.records import Row, Usage
from versecraft.runs import Plan, Run
from versecraft.testing import check_backend

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks more often than at a real provider, whose batches take longer."""
    monkeypatch.setattr("versecraft.batching._FIRST_POLL", 0.05)


def by_the_batch(folder: Path, count: int, *, first: int = 0, most: int = 100_000) -> Plan:
    """A plan of critiques by the batch, with a ledger in `folder`."""
    backend = ClaudeBatch(MODEL)
    backend.max_requests = most
    poems = [make_poem(n) for n in range(first, first + count)]
    return plan(get_task("critique"), poems, backend, ledger=folder / "runs" / "critique.jsonl")


def journal_of(plan_: Plan) -> Path:
    return plan_.ledger.with_suffix(".batches.jsonl")


def told(rows: list[Row]) -> dict[str, Any]:
    """What must not depend on how often a run was cut."""
    return {r.key: (r.output, r.error and r.error.kind, r.usage.requests, r.attempts) for r in rows}


def balances(plan_: Plan, server: ModelServer) -> None:
    """The ledger says what the server says, and nothing was bought twice."""
    rows, broken = read_rows(plan_.ledger)
    assert broken == []
    stats, paid = server.stats(), server.paid()["batch"]
    assert set(paid.values()) <= {1}, "a custom id was paid twice"
    used = sum((row.usage for row in rows), Usage())
    assert used.requests == stats.get("paid", 0) == len(paid)
    assert used.input == stats.get("tokens_in", 0)
    assert used.output == stats.get("tokens_out", 0)
    assert used.cache_read == stats.get("cache_read", 0)
    assert Journal(plan_.ledger).under_way(rows) == set()
    assert Journal(plan_.ledger).open == {}


def sums_match(run: Run, items: int) -> bool:
    return run.answered + run.failed + run.refused + run.cached == items == len(run.rows)


def until(server: ModelServer, what: str, count: int) -> None:
    """Waits until the server has counted so many."""
    patience = time.monotonic() + 60
    while server.stats().get(what, 0) < count:
        assert time.monotonic() < patience
        time.sleep(0.02)


def leave(plan_: Plan, server: ModelServer, batches: int = 1) -> None:
    """Presses Ctrl-C once the server has so many batches, all of which run for a while."""

    def press() -> None:
        until(server, "batches", batches)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        generate(plan_)
    thread.join()


def test_a_batch_gives_the_rows_of_a_live_run_at_half_the_price(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(batch_seconds=0)
    live = generate(make_plan(tmp_path / "live", Claude(MODEL, cache=None), 40), progress=False)
    batch_plan = make_plan(tmp_path / "batch", ClaudeBatch(MODEL, cache=None), 40)
    batch = generate(batch_plan, progress=False)
    assert [r.output for r in batch.rows] == [r.output for r in live.rows]
    assert [r.usage for r in batch.rows] == [r.usage for r in live.rows]
    assert all(r.output for r in batch.rows)
    assert float(batch.cost) == pytest.approx(live.cost / 2)
    assert batch.cost == pytest.approx(sum(r.cost for r in read_rows(batch_plan.ledger)[0]))
    assert {r.request_id for r in batch.rows} != {None}
    assert [e.messages for e in batch.examples()] == [e.messages for e in live.examples()]


@pytest.mark.slow
def test_every_item_ends_as_a_row_whatever_goes_wrong(
    tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This server lists a batch at once.
    monkeypatch.setattr("versecraft.batching._SETTLED", 0.5)
    model_server.faults(
        perrored=0.05, pexpired=0.05, ptruncated=0.04, pinvalid=0.06, pbounds=0.05, prefusal=0.04,
        pempty=0.04, papi_429=0.04, papi_500=0.015, papi_529=0.015, papi_drop=0.015,
        pcreate_lost=0.3, presults_reset=0.2, retry_after=0.05, batch_seconds=0.1, seed=3,
    )  # fmt: skip
    plan_ = by_the_batch(tmp_path, 300, most=100)
    run = generate(plan_, progress=False)
    assert run.stopped is None
    assert sums_match(run, 300)
    assert set(run.errors()) <= {"refusal", "truncated", "timeout", "http", "invalid"}
    assert run.refused
    assert run.answered > 250
    balances(plan_, model_server)
    assert float(run.cost) == pytest.approx(sum(r.cost for r in run.rows))
    stats = model_server.stats()
    faults = "errored expired truncated invalid bounds refusal empty create_lost results_reset"
    assert all(stats[fault] for fault in faults.split()), stats
    again = generate(plan_, retry_failed=False, progress=False)
    assert (again.cached, again.cost) == (run.answered, 0.0)


def test_what_a_task_refuses_is_asked_again_in_the_next_batch_with_the_reason(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(pinvalid=0.5, batch_seconds=0, seed=2)
    plan_ = by_the_batch(tmp_path, 20)
    run = generate(plan_, progress=False)
    attempts = Counter(row.attempts for row in run.rows)
    assert attempts[1]
    assert attempts[2]
    assert max(attempts) == 3
    assert all(row.usage.requests == row.attempts for row in run.rows)
    assert {row.error.kind for row in run.rows if row.error} <= {"invalid"}
    # The answer that was refused and the reason are sent along, so more goes in than at first.
    twice = [row for row in run.rows if row.attempts == 2]
    once = max(row.usage.sent for row in run.rows if row.attempts == 1)
    assert all(row.usage.sent > 2 * once for row in twice)
    balances(plan_, model_server)


@pytest.mark.parametrize(("fault", "attempts"), [("expired", 2), ("errored", 6)])
def test_what_the_provider_fails_is_asked_again_but_not_for_ever(
    tmp_path: Path, model_server: ModelServer, fault: str, attempts: int
) -> None:
    model_server.faults(**{f"p{fault}": 1.0, "batch_seconds": 0})
    plan_ = by_the_batch(tmp_path, 3)
    run = generate(plan_, progress=False)
    assert [r.attempts for r in run.rows] == [attempts] * 3
    assert run.failed == 3
    assert run.cost == 0.0
    model_server.change(batch_seconds=0)
    assert generate(plan_, progress=False).answered == 3
    balances(plan_, model_server)


# Killed and interrupted


CHILD = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from test_batching import by_the_batch
from versecraft import batching
from versecraft.generating import generate
batching._FIRST_POLL = 0.05
plan = by_the_batch(Path(sys.argv[1]), int(sys.argv[2]), most=int(sys.argv[3]))
print("go", flush=True)
generate(plan, retry_failed=False)
"""


def start(folder: Path, count: int, most: int) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(count), str(most)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "go\n"
    return child


def kill(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    child.communicate()  # which closes its pipes


def holds(path: Path, what: str, count: int) -> bool:
    return path.exists() and path.read_bytes().count(what.encode()) >= count


ITEM_FAULTS = {"perrored": 0.08, "pexpired": 0.08, "pinvalid": 0.1, "ptruncated": 0.05}


@pytest.mark.slow
def test_kill_9_at_any_moment_changes_nothing(
    tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("versecraft.batching._SETTLED", 0.5)
    count, most, draw = 240, 60, random.Random(20)
    calm: dict[str, float] = {**ITEM_FAULTS, "batch_seconds": 0.0, "seed": 5}
    model_server.faults(**calm)
    undisturbed = by_the_batch(tmp_path / "calm", count, most=most)
    generate(undisturbed, retry_failed=False, progress=False)
    balances(undisturbed, model_server)

    model_server.faults(**calm)
    folder = tmp_path / "killed"
    journal = folder / "runs" / "critique.batches.jsonl"
    ledger = folder / "runs" / "critique.jsonl"
    sent = 0
    moments = ["create", "lost", "poll", "download", "download", "any", "any", "any"]
    for moment in moments:
        # Lost: accepted, and killed before the id is known.
        model_server.change(
            **{**calm, "batch_seconds": 1.0 if moment == "poll" else 0.05},
            pcreate_lost=float(moment == "lost"),
        )
        rows = len(read_rows(ledger)[0])
        child = start(folder, count, most)
        patience = time.monotonic() + 20
        while child.poll() is None and time.monotonic() < patience:
            if moment in ("create", "lost") and holds(journal, '"sending"', sent + 1):
                time.sleep(0.3 if moment == "lost" else draw.uniform(0.0, 0.01))
                break
            if moment == "poll" and holds(journal, '"sent"', sent + 1):
                time.sleep(draw.uniform(0.1, 0.9))
                break
            if moment == "download" and holds(ledger, "\n", rows + draw.randint(1, 25)):
                break
            if moment == "any":
                time.sleep(draw.uniform(0.0, 1.2))
                break
            time.sleep(0.001)
        kill(child)
        sent = journal.read_bytes().count(b'"sending"') if journal.exists() else 0
    assert 0 < len(read_rows(ledger)[0]) < count, "all kills came before the end"
    model_server.change(**calm)
    plan_ = by_the_batch(folder, count, most=most)
    run = generate(plan_, retry_failed=False, progress=False)
    assert run.stopped is None
    assert sums_match(run, count)
    balances(plan_, model_server)
    assert told(read_rows(ledger)[0]) == told(read_rows(undisturbed.ledger)[0])


def test_a_batch_whose_id_was_not_written_down_is_found_again(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(batch_seconds=0.7)
    plan_ = by_the_batch(tmp_path, 12, most=8)
    leave(plan_, model_server, batches=2)
    journal = journal_of(plan_)
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith('{"sent"')]
    assert len(kept) == len(lines) - 2
    journal.write_text("".join(kept), encoding="utf-8")
    assert by_the_batch(tmp_path, 12).report()["under_way"] == 12
    run = generate(plan_, progress=False)
    assert run.answered == 12
    assert model_server.stats()["batches"] == 2
    balances(plan_, model_server)


def test_ctrl_c_leaves_the_batches_at_work_and_the_next_call_collects_them(
    tmp_path: Path, model_server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    model_server.faults(batch_seconds=1.0)
    plan_ = by_the_batch(tmp_path, 30, most=20)
    leave(plan_, model_server, batches=2)
    said = capsys.readouterr().err
    assert "Leaving 30 requests at work at the provider. Run it again to collect them." in said
    assert read_rows(plan_.ledger) == ([], [])
    meanwhile = by_the_batch(tmp_path, 30)
    assert meanwhile.to_ask == 0
    assert (meanwhile.dollars, meanwhile.tokens.input) == (0.0, 0)
    assert meanwhile.report()["under_way"] == 30
    run = generate(meanwhile, progress=False)
    assert run.answered == 30
    assert model_server.stats()["batches"] == 2
    balances(plan_, model_server)


def test_a_second_ctrl_c_ends_a_hand_in_that_hangs_and_what_became_of_it_is_found_out(
    tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("versecraft.batching._SETTLED", 0.5)
    plan_ = by_the_batch(tmp_path, 5)
    model_server.faults(papi_hang=1.0)

    def press() -> None:
        until(model_server, "api_hang", 1)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.4)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        generate(plan_)
    thread.join()
    model_server.change(batch_seconds=0)
    assert by_the_batch(tmp_path, 5).report()["under_way"] == 5
    assert generate(plan_, progress=False).answered == 5
    assert model_server.stats()["batches"] == 1
    balances(plan_, model_server)


def test_ctrl_c_in_another_process_ends_it_and_tells_how_to_go_on(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(batch_seconds=3)
    child = start(tmp_path, 10, 10)
    until(model_server, "batches", 1)
    begun = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate()
    assert child.returncode != 0
    assert time.monotonic() - begun < 2.5
    assert "Leaving 10 requests at work at the provider" in said
    assert by_the_batch(tmp_path, 10).report()["under_way"] == 10


# More plans than one on a ledger


def test_a_plan_for_other_items_leaves_a_batch_alone(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(batch_seconds=0.7)
    one, other = by_the_batch(tmp_path, 6), by_the_batch(tmp_path, 6, first=6)
    leave(one, model_server)
    with pytest.warns(RuntimeWarning, match=r"6 request\(s\) under way are not of this plan"):
        assert generate(other, progress=False).answered == 6
    assert by_the_batch(tmp_path, 6).report()["under_way"] == 6
    assert generate(one, progress=False).answered == 6
    assert model_server.stats()["batches"] == 2
    balances(one, model_server)


def test_a_batch_can_be_collected_piece_by_piece(tmp_path: Path, model_server: ModelServer) -> None:
    model_server.faults(batch_seconds=0.4)
    whole = by_the_batch(tmp_path, 12)
    leave(whole, model_server)
    for first, others in ((4, 8), (0, 4), (8, 0)):
        with pytest.warns(RuntimeWarning, match=f"{others} request") if others else nullcontext():
            run = generate(by_the_batch(tmp_path, 4, first=first), progress=False)
        assert run.answered == 4
    assert generate(whole, progress=False).cached == 12
    assert model_server.stats()["batches"] == 1
    balances(whole, model_server)


def test_live_requests_leave_alone_what_is_under_way_by_the_batch(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(batch_seconds=1.0)
    plan_ = by_the_batch(tmp_path, 6)
    leave(plan_, model_server)
    live = make_plan(tmp_path, Claude(MODEL), 10)
    assert (live.to_ask, live.report()["under_way"]) == (4, 6)
    run = generate(live, progress=False)
    assert run.answered == 4
    assert model_server.stats()["sent"] == 4
    assert generate(plan_, progress=False).answered == 6
    assert generate(live, progress=False).cached == 10
    assert model_server.stats()["answered_again"] == 0


# A batch of which nobody knows


def test_a_batch_that_was_taken_without_an_answer_is_not_bought_again(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(pcreate_lost=1, batch_seconds=0.2)
    plan_ = by_the_batch(tmp_path, 10)
    run = generate(plan_, progress=False)
    assert run.answered == 10
    assert model_server.stats()["batches"] == 1
    balances(plan_, model_server)


def test_a_batch_that_never_arrived_is_handed_in_again_once_that_is_sure(
    tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("versecraft.batching._SETTLED", 2.0)
    model_server.faults(papi_drop=1)
    plan_ = by_the_batch(tmp_path, 5)
    mended = threading.Timer(0.5, lambda: model_server.change(batch_seconds=0))
    mended.start()
    begun = time.monotonic()
    run = generate(plan_, progress=False)
    mended.join()
    assert run.answered == 5
    assert time.monotonic() - begun > 2, "it could still have arrived"
    assert model_server.stats()["batches"] == 1
    balances(plan_, model_server)


# Cancelled


def test_what_a_cancelled_batch_had_answered_is_collected_and_the_rest_asked_again(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(batch_seconds=30)
    plan_ = by_the_batch(tmp_path, 40)
    leave(plan_, model_server)
    [named] = cancel(plan_)
    assert named.startswith("msgbatch_")
    collected = generate(plan_, budget=0, progress=False)
    assert 0 < collected.answered < 40
    assert collected.errors() == {"cancelled": 40 - collected.answered}
    assert model_server.stats()["batches"] == 1
    assert cancel(plan_) == []
    model_server.change(batch_seconds=0)
    again = by_the_batch(tmp_path, 40)
    assert again.to_ask == collected.failed
    rest = generate(again, progress=False)
    assert (rest.answered, rest.cached) == (collected.failed, collected.answered)
    balances(plan_, model_server)


# Budgets


def test_a_budget_is_kept_batch_after_batch_and_the_rest_can_be_bought_later(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(batch_seconds=0)
    whole = generate(by_the_batch(tmp_path / "whole", 40), progress=False)
    model_server.faults(batch_seconds=0)
    plan_ = by_the_batch(tmp_path / "part", 40)
    budget = 0.15  # dollars; a request can cost some 0.1 at most
    assert whole.cost > budget
    part = generate(plan_, budget=budget, progress=False)
    assert 5 < part.answered < 40
    assert part.cost <= budget - 0.05
    assert part.errors() == {"budget": 40 - part.answered}
    assert part.stopped
    assert "budget" in part.stopped
    assert "call generate again" in part.stopped
    stats = model_server.stats()
    assert stats["batches"] > 2
    assert stats["batch_items"] == part.answered
    rest = generate(plan_, progress=False)
    assert rest.answered + rest.cached == 40
    assert [r.output for r in rest.rows] == [r.output for r in whole.rows]
    balances(plan_, model_server)


def test_what_is_under_way_counts_against_the_budget_of_the_next_call(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(batch_seconds=0.7)
    first = by_the_batch(tmp_path, 4)
    leave(first, model_server)
    plan_ = by_the_batch(tmp_path, 7)
    run = generate(plan_, budget=0.3, progress=False)
    assert run.cost <= 0.3
    # What was under way is collected first: only then is it known what it cost.
    journal = [json.loads(line) for line in journal_of(plan_).read_text("utf-8").splitlines()]
    events = [next(iter(event)) for event in journal]
    assert events.index("over") < events.index("sending", events.index("sent"))
    assert run.answered >= 4


# Chunks and stops


def test_a_batch_holds_no_more_than_the_provider_takes(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(batch_seconds=0)
    plan_ = by_the_batch(tmp_path, 20, most=7)
    assert generate(plan_, progress=False).answered == 20
    stats = model_server.stats()
    assert (stats["batches"], stats["batch_items"]) == (3, 20)
    other = by_the_batch(tmp_path, 20, first=20)
    other.backend.max_bytes = 3 * other.backend.size(other.request(other.jobs[0])) + 50
    assert generate(other, progress=False).answered == 20
    assert model_server.stats()["batches"] - 3 == 7  # of three each
    balances(plan_, model_server)


@pytest.mark.parametrize(
    ("fault", "says"), [("401", "Check ANTHROPIC_API_KEY"), ("spend", "Raise the spend limit")]
)
def test_a_refused_hand_in_stops_with_the_reason_and_keeps_what_is_under_way(
    tmp_path: Path, model_server: ModelServer, fault: str, says: str
) -> None:
    model_server.faults(batch_seconds=0.7)
    leave(by_the_batch(tmp_path, 5), model_server)
    plan_ = by_the_batch(tmp_path, 9)
    model_server.change(**{f"papi_{fault}": 1.0})
    run = generate(plan_, progress=False)
    assert run.stopped
    assert says in run.stopped
    assert "Items without an answer yet: 9" in run.stopped
    assert run.errors() == {"cancelled": 9}
    assert by_the_batch(tmp_path, 9).report()["under_way"] == 5
    model_server.change(batch_seconds=0)
    assert generate(plan_, progress=False).answered == 9
    assert model_server.stats()["batches"] == 2
    balances(plan_, model_server)


def test_a_refused_hand_in_does_not_keep_from_collecting(tmp_path: Path) -> None:
    backend = Tray()
    backend.refuses_from = 2
    run = generate(make_plan(tmp_path, backend, 20), progress=False)  # type: ignore[arg-type]
    assert (run.answered, run.failed) == (16, 4)
    assert run.stopped
    assert "the tray is full. Items without an answer yet: 4" in run.stopped
    backend.refuses_from = 99
    run = generate(make_plan(tmp_path, backend, 20), progress=False)  # type: ignore[arg-type]
    assert (run.answered, run.cached) == (4, 16)


def test_a_batch_that_the_provider_does_not_know_stops_with_a_way_out(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(batch_seconds=30)
    plan_ = by_the_batch(tmp_path, 4)
    leave(plan_, model_server)
    model_server.faults(batch_seconds=0)  # forgets the batch
    run = generate(plan_, progress=False)
    assert run.stopped
    assert "another key or workspace" in run.stopped
    assert journal_of(plan_).name in run.stopped
    assert model_server.stats().get("batches", 0) == 0
    # The way out that the message names.
    [name] = Journal(plan_.ledger).open
    assert name in run.stopped
    lines = journal_of(plan_).read_text("utf-8").splitlines(keepends=True)
    kept = "".join(line for line in lines if name not in line)
    journal_of(plan_).write_text(kept, encoding="utf-8")
    assert generate(plan_, progress=False).answered == 4


def test_a_batch_that_is_gone_does_not_keep_from_collecting_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Tray()
    monkeypatch.setattr(Tray, "state", unreachable)
    plan_ = make_plan(tmp_path, backend, 16)  # type: ignore[arg-type]
    run = generate(plan_, progress=False)
    assert (run.answered, len(backend.batches)) == (0, 2)
    monkeypatch.undo()
    del backend.batches["tray-0"]
    run = generate(plan_, progress=False)
    assert run.answered == 8
    assert run.stopped
    assert "there is no tray-0. Call generate again where" in run.stopped
    assert backend.batches.keys() == {"tray-1"}, "nothing was asked anew"


async def unreachable(self: Any, batch: str) -> BatchState:
    raise BackendError("HTTP 401", fatal=True)


# The disk


def test_a_full_disk_stops_the_run_and_the_next_collects_the_rest(
    tmp_path: Path, model_server: ModelServer
) -> None:
    resource = pytest.importorskip("resource")
    model_server.faults(batch_seconds=0)
    plan_ = by_the_batch(tmp_path, 30)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, before[1]))
    try:
        with pytest.raises(LedgerError, match="make room and call generate again"):
            generate(plan_, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    rows, broken = read_rows(plan_.ledger)
    assert 0 < len(rows) < 30
    assert broken == []
    run = generate(plan_, progress=False)
    assert (run.answered, run.cached) == (30 - len(rows), len(rows))
    assert model_server.stats()["batches"] == 1
    balances(plan_, model_server)


@pytest.mark.parametrize(("what", "bought"), [("sending", 0), ("sent", 1)])
def test_a_journal_that_cannot_be_written_stops_the_run_and_nothing_is_bought_twice(
    tmp_path: Path, model_server: ModelServer, what: str, bought: int
) -> None:
    resource = pytest.importorskip("resource")
    model_server.faults(batch_seconds=0)
    plan_ = by_the_batch(tmp_path, 30)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = 300
    if what == "sent":  # the first line fits, and the second with the id, of 75 bytes, does not
        other = Journal(tmp_path / "other.jsonl")
        other.sending(
            Batch(
                name="x" * 12, ids=tuple(job.key for job in plan_.jobs), at=time.time(),
                most=1.234567, about=0.123456, backend=plan_.backend.id,
            )
        )  # fmt: skip
        room = other.path.stat().st_size + 35
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(LedgerError, match="Make room and call generate again"):
            generate(plan_, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert model_server.stats().get("batches", 0) == bought
    assert journal_of(plan_).stat().st_size == room, "the line was cut"
    assert generate(plan_, progress=False).answered == 30
    assert model_server.stats()["batches"] == 1
    balances(plan_, model_server)


def test_a_journal_cut_by_a_crash_is_read_to_its_last_whole_line(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(batch_seconds=0.7)
    plan_ = by_the_batch(tmp_path, 6)
    leave(plan_, model_server)
    journal = journal_of(plan_)
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])  # the id is gone
    assert generate(plan_, progress=False).answered == 6
    assert model_server.stats()["batches"] == 1
    balances(plan_, model_server)


EVENTS = st.lists(
    st.tuples(st.sampled_from(("sending", "sent", "again", "over")), st.integers(0, 99)),
    max_size=25,
)


def play(journal: Journal, kind: str, number: int) -> None:
    """One thing that happens to a batch, where it can happen to any."""
    named = sorted(journal.open)
    batch = journal.open[named[number % len(named)]] if named else None
    if kind == "sending":
        name = f"n{len(list(journal.path.parent.iterdir()))}-{os.urandom(6).hex()}"
        ids = tuple(f"{name[-6:]}{n:010x}-{number}" for n in range(1 + number % 3))
        journal.sending(
            Batch(
                name=name, ids=ids, at=float(number), most=0.5, about=0.1, backend="claude-batch:x"
            )
        )
    elif batch and kind == "sent" and batch.batch is None:
        journal.sent(batch, f"b-{batch.name}")
    elif batch and kind == "again" and batch.batch:
        key = batch.keys[number % len(batch.keys)]
        journal.ask_again(key, batch.batch, {"followups": [["“so—☃", "why"]], "n": number})
    elif batch and kind == "over":
        journal.over(batch, "collected")


def known(journal: Journal) -> Any:
    """All that a journal knows."""
    return (
        dict(journal.open),
        set(journal.known),
        json.dumps(journal.again, sort_keys=True),
        set(journal.handled),
        journal.under_way([]),
    )


@settings(max_examples=150, deadline=None)
@given(events=EVENTS, cut=st.integers(0, 2**20), more=EVENTS)
def test_a_journal_cut_at_any_byte_forgets_nothing_that_was_accepted(
    tmp_path_factory: pytest.TempPathFactory, events: Any, cut: int, more: Any
) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal") / "x.jsonl")
    states = [(0, known(journal))]  # the size of the file after each event, and what is known then
    for event in events:
        play(journal, *event)
        size = journal.path.stat().st_size if journal.path.exists() else 0
        states.append((size, known(journal)))
    data = journal.path.read_bytes() if journal.path.exists() else b""
    kept = data[: cut % (len(data) + 1)]
    journal.path.write_bytes(kept)
    read = Journal(journal.path.with_name("x.jsonl"))
    # A line counts as soon as it is whole, be it without its newline.
    assert known(read) == [state for size, state in states if size - 1 <= len(kept)][-1]
    for event in more:
        play(read, *event)
    assert known(Journal(journal.path.with_name("x.jsonl"))) == known(read)


# Backends of one's own


class Tray:
    """Batches in memory."""

    id = "tray:1"
    max_requests, max_bytes = 8, 1_000_000
    price = Price(input=10, output=20)

    def __init__(self) -> None:
        self.batches: dict[str, dict[str, Request]] = {}
        self.made: dict[str, float] = {}
        self.hides: dict[str, float] = {}  # the listing does not show it until then
        self.loses = -1  # the number of a batch whose id never comes
        self.refuses_from = 99
        self.takes = 0.0  # seconds
        self.spoils = ""  # what all answers of the first batch are

    def size(self, request: Request) -> int:
        return len(request.turn)

    async def submit(self, requests: Mapping[str, Request]) -> str:
        number = len(self.batches)
        if number >= self.refuses_from:
            raise BackendError("the tray is full", fatal=True)
        name = f"tray-{number}"
        self.batches[name], self.made[name] = dict(requests), time.time()
        if number == self.loses:
            self.hides[name] = time.time() + 0.3
            raise BackendError("no answer in time", kind="timeout", retryable=True, lost=True)
        return name

    async def state(self, batch: str) -> BatchState:
        if batch not in self.batches:
            raise BackendError(f"there is no {batch}")
        count, made = len(self.batches[batch]), self.made[batch]
        return BatchState(batch, count, made, time.time() >= made + self.takes, "in the tray")

    async def recent(self, since: float) -> AsyncIterator[BatchState]:
        for name in reversed(self.batches):
            if self.hides.get(name, 0.0) < time.time():
                yield await self.state(name)

    async def collect(self, batch: str) -> AsyncGenerator[tuple[str, Reply | BackendError], None]:
        for name, request in reversed(self.batches[batch].items()):
            text = "cork" if request.schema is None else answer(request.turn)
            text = self.spoils if self.spoils and batch == "tray-0" else text
            usage = Usage(requests=1, input=len(request.turn), output=len(text))
            yield name, Reply(text=text, model="tray", usage=usage)

    async def cancel(self, batch: str) -> None:
        self.made[batch] = 0.0


def test_a_batch_backend_of_ones_own_works(tmp_path: Path) -> None:
    backend = Tray()
    plan_ = make_plan(tmp_path, backend, 20)  # type: ignore[arg-type]
    assert (plan_.to_ask, plan_.caches) == (20, False)
    assert plan_.dollars == pytest.approx(plan_.cost.batch) == plan_.cost.live / 2
    run = generate(plan_, progress=False)
    assert (run.answered, len(backend.batches)) == (20, 3)
    assert run.cost == pytest.approx(sum(r.cost for r in run.rows))
    assert {row.model for row in run.rows} == {"tray"}
    assert make_plan(tmp_path, backend, 20).to_ask == 0  # type: ignore[arg-type]


def test_a_batch_backend_of_ones_own_can_be_checked() -> None:
    check_backend(Tray())


def test_a_batch_that_the_provider_lists_late_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("versecraft.batching._SETTLED", 0.5)
    backend = Tray()
    # The second batch, of what was refused in the first, is lost late in the run.
    backend.takes, backend.spoils, backend.loses = 0.6, "{}", 1
    run = generate(make_plan(tmp_path, backend, 5), progress=False)  # type: ignore[arg-type]
    assert (run.answered, len(backend.batches)) == (5, 2)
