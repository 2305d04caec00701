"""What a run promises, whatever the server does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import ModelServer
from messages_server import answer
from sources import make_plan
from versecraft.backends import Price, Reply, Request
from versecraft.backends.claude import Claude
from versecraft.backends.openai import OpenAI
from versecraft.backends.scripted import Scripted
from versecraft.errors import BackendError, LedgerError
from versecraft.generating import generate
from versecraft.ledger import Ledger, read_rows

MODEL = "claude-opus-5-5"


def sums_match(run: Any, items: int) -> bool:
    return bool(run.answered + run.failed + run.refused + run.cached == items == len(run.rows))


def test_every_item_ends_as_a_row_when_the_server_misbehaves(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(
        p429=0.06, retry_after=0.05, p500=0.03, pinvalid=0.1, prefusal=0.05, ptruncated=0.05
    )
    plan = make_plan(tmp_path, Claude(MODEL, concurrency=16), 150)
    run = generate(plan, progress=False)
    assert sums_match(run, 150)
    assert run.refused > 0
    assert set(run.errors()) <= {"refusal", "truncated", "invalid"}
    stats = model_server.stats()
    assert stats["429"] > 0
    assert stats["500"] > 0
    assert stats["answered_again"] == 0
    rows, broken = read_rows(plan.ledger)
    assert (len(rows), broken) == (150, [])
    assert sum(r.usage.output for r in rows) == stats["tokens_out"]
    assert sum(r.usage.input for r in rows) == stats["tokens_in"]
    assert run.cost == pytest.approx(sum(r.cost for r in rows))
    assert {r.model for r in rows} == {MODEL}


def test_a_second_call_asks_only_what_failed_and_never_a_refusal(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(prefusal=0.2, ptruncated=0.2)
    backend = Claude(MODEL, concurrency=8)
    plan = make_plan(tmp_path, backend, 60)
    first = generate(plan, progress=False)
    assert first.refused
    assert first.failed
    model_server.faults()
    again = make_plan(tmp_path, backend, 60)
    assert again.to_ask == first.failed
    kept = generate(again, retry_failed=False, progress=False)
    assert model_server.stats().get("requests", 0) == 0
    assert (kept.failed, kept.refused) == (first.failed, first.refused)
    second = generate(again, progress=False)
    assert model_server.stats()["requests"] == first.failed
    assert (second.answered, second.failed) == (first.failed, 0)
    assert (second.cached, second.refused) == (first.answered, first.refused)
    assert second.cost < first.cost
    third = generate(again, progress=False)
    assert (third.cached, third.cost) == (60 - first.refused, 0.0)


def test_a_refusal_is_shown_with_category_and_explanation(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(prefusal=1.0)
    run = generate(make_plan(tmp_path, Claude(MODEL), 1), progress=False)
    error = run.rows[0].error
    assert error is not None
    assert "frontier_llm" in error.message
    assert "Not this." in error.message
    assert run.rows[0].usage.output > 0


def test_an_invalid_answer_is_asked_again_with_the_reason_after_the_same_first_turn(
    tmp_path: Path,
) -> None:
    seen: list[Request] = []

    def teacher(request: Request) -> str:
        seen.append(request)
        return answer(request.turn) if len(seen) == 3 else ['{"strengths": []', "{}"][len(seen) - 1]

    run = generate(make_plan(tmp_path, Scripted(teacher), 1), progress=False)
    assert run.answered == 1
    assert [len(r.followups) for r in seen] == [0, 1, 2]
    assert len({r.turn for r in seen}) == 1
    assert "Field required" in seen[2].messages()[-1]["content"]
    assert run.rows[0].attempts == 3
    assert next(run.examples()).messages[1].content == seen[0].turn


def test_an_answer_that_stays_unusable_fails_after_three_attempts_and_is_kept(
    tmp_path: Path,
) -> None:
    wrong = {"strengths": [], "issues": [{**json.loads(answer_for_missing_quote())}]}
    run = generate(make_plan(tmp_path, Scripted(lambda _: json.dumps(wrong)), 1), progress=False)
    row = run.rows[0]
    assert row.error is not None
    assert (row.error.kind, row.attempts) == ("rejected", 3)
    assert "not in the poem" in row.error.message
    assert "words that stand nowhere" in row.error.message


def answer_for_missing_quote() -> str:
    return json.dumps(
        {
            "type": "cliche",
            "location": {"quote": "words that stand nowhere"},
            "diagnosis": "A diagnosis that is long enough for the bounds.",
            "direction": "Cut the phrase and name the thing in the room.",
            "severity": "must_fix",
        }
    )


@pytest.mark.parametrize(
    ("key", "model", "says"),
    [
        ("sk-ant-wrong", MODEL, "Check ANTHROPIC_API_KEY"),
        ("", MODEL, "ANTHROPIC_API_KEY"),
        ("right", "claude-nowhere", "Check the model's name"),
    ],
)
def test_a_run_that_cannot_work_stops_at_once_and_says_what_to_do(
    tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch,
    key: str, model: str, says: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    backend = Claude(model, concurrency=4, price=Price(input=1, output=1))
    run = generate(make_plan(tmp_path, backend, 50), progress=False)
    assert run.stopped
    assert says in run.stopped
    assert sums_match(run, 50)
    assert model_server.stats().get("sent", 0) <= 4


def test_the_key_is_nowhere_in_the_ledger(
    tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-wrong-0123456789")
    plan = make_plan(tmp_path, Claude(MODEL), 1)
    run = generate(plan, progress=False)
    assert run.stopped
    assert "0123456789" not in run.stopped + plan.ledger.read_text(encoding="utf-8")


def test_the_same_incurable_error_stops_the_run(tmp_path: Path) -> None:
    asked = []

    def refuse(request: Request) -> Exception:
        asked.append(request)
        return BackendError("HTTP 400: temperature: Extra inputs are not permitted")

    run = generate(make_plan(tmp_path, Scripted(refuse, concurrency=1), 100), progress=False)
    assert len(asked) == 5
    assert run.stopped
    assert "in a row" in run.stopped
    assert sums_match(run, 100)


def test_a_run_in_which_most_requests_fail_stops(tmp_path: Path) -> None:
    backend = Scripted(lambda r: BackendError(f"broken {r.turn}"), concurrency=4)
    run = generate(make_plan(tmp_path, backend, 300), progress=False)
    assert run.stopped
    assert "of the last 50 requests failed" in run.stopped
    assert len(read_rows(tmp_path / "runs" / "critique.jsonl")[0]) < 60


def test_a_request_past_its_deadline_is_a_timeout(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(phang=1.0)
    run = generate(make_plan(tmp_path, Claude(MODEL, timeout=0.3), 2), progress=False)
    assert run.errors() == {"timeout": 2}


def test_a_dropped_connection_is_sent_again(tmp_path: Path, model_server: ModelServer) -> None:
    model_server.faults(pdrop=0.3, seed=3)
    run = generate(make_plan(tmp_path, Claude(MODEL), 20), progress=False)
    assert run.answered == 20
    assert model_server.stats()["drop"] > 0


def test_a_backend_that_answers_with_rubbish_fails_its_own_rows_only(tmp_path: Path) -> None:
    class Odd:
        id, concurrency = "odd:1", 4
        asked = 0

        async def complete(self, request: Request) -> Any:
            self.asked += 1
            good = Reply(text=answer(request.turn), model="odd")
            return [good, "a plain text", None, good][self.asked % 4]

    run = generate(make_plan(tmp_path, Odd(), 12), progress=False)
    assert (run.answered, run.failed) == (6, 6)
    assert "not a Reply" in next(r.error.message for r in run.rows if r.error)


def test_a_response_without_usage_is_a_failed_row(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(pbare=1.0)
    run = generate(make_plan(tmp_path, Claude(MODEL), 1), progress=False)
    assert run.errors() == {"http": 1}
    assert "unreadable response" in str(run.rows[0].error)


def test_what_a_request_past_its_deadline_may_have_cost_counts_against_the_budget(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(phang=1.0)
    backend = Claude(MODEL, timeout=0.2, concurrency=1)
    run = generate(make_plan(tmp_path, backend, 30), budget=1.0, progress=False)
    assert run.stopped
    assert "budget" in run.stopped
    assert model_server.stats()["requests"] < 8


def test_nobody_sends_while_the_server_asks_to_wait(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(p429=0.2, retry_after=3, seed=11)
    run = generate(make_plan(tmp_path, Claude(MODEL, concurrency=30), 30), progress=False)
    assert run.answered == 30
    stats = model_server.stats()
    assert stats["429"] > 0
    assert stats["impatient"] == 0


def test_no_more_is_spent_than_the_budget_and_the_rest_can_be_bought_later(
    tmp_path: Path, model_server: ModelServer
) -> None:
    backend = Claude(MODEL, concurrency=32)
    whole = generate(make_plan(tmp_path / "whole", backend, 80), progress=False)
    budget = whole.cost / 4 + 0.25  # dollars that one request can cost at most
    plan = make_plan(tmp_path / "part", backend, 80)
    part = generate(plan, budget=budget, progress=False)
    assert 0 < part.answered < 80
    assert part.cost <= budget
    assert part.errors() == {"budget": 80 - part.answered}
    assert part.stopped
    assert "budget" in part.stopped
    rest = generate(plan, progress=False)
    assert rest.answered + rest.cached == 80
    assert [r.output for r in rest.rows] == [r.output for r in whole.rows]


def test_two_processes_on_one_ledger_is_an_error_that_says_so(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, Scripted(lambda r: answer(r.turn)), 3)
    with Ledger(plan.ledger), pytest.raises(LedgerError, match="Another process is writing"):
        generate(plan, progress=False)
    assert generate(plan, progress=False).answered == 3


def test_a_torn_last_line_costs_one_row_and_is_reported(tmp_path: Path) -> None:
    backend = Scripted(lambda r: answer(r.turn))
    plan = make_plan(tmp_path, backend, 10)
    generate(plan, progress=False)
    whole = plan.ledger.read_bytes()
    plan.ledger.write_bytes(whole[:-40])
    with pytest.warns(RuntimeWarning, match=r"line 10"):
        torn = make_plan(tmp_path, backend, 10)
    assert (torn.cached, torn.to_ask) == (9, 1)
    run = generate(torn, progress=False)
    assert (run.answered, run.cached) == (1, 9)
    rows, broken = read_rows(plan.ledger)
    assert (len(rows), [b.line for b in broken]) == (10, [10])


def test_a_run_works_inside_a_running_event_loop(tmp_path: Path) -> None:
    import asyncio

    async def notebook() -> int:
        plan = make_plan(tmp_path, Scripted(lambda r: answer(r.turn)), 5)
        return generate(plan, progress=False).answered

    assert asyncio.run(notebook()) == 5


def test_the_openai_backend_speaks_to_a_compatible_server(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(p500=0.1, prefusal=0.05, ptruncated=0.05)
    backend = OpenAI(f"{model_server.url}/v1#some-model", concurrency=8)
    run = generate(make_plan(tmp_path, backend, 60), progress=False)
    assert sums_match(run, 60)
    assert set(run.errors()) <= {"refusal", "truncated"}
    assert run.answered > 45
    assert {r.model for r in run.rows} == {"some-model"}


@pytest.mark.slow
def test_an_unplugged_server_fails_with_the_reason(tmp_path: Path) -> None:
    backend = OpenAI("http://127.0.0.1:9/v1#none", concurrency=2)
    backend.timeout = 1.0
    plan = make_plan(tmp_path, backend, 1)
    run = generate(plan, progress=False)
    assert run.failed == 1
    assert run.rows[0].error is not None
    assert "Is the server up?" in run.rows[0].error.message
