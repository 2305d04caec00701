"""Items, orders, keys and the bill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_server import answer
from sources import make_matches, make_plan, make_poem
from versecraft.answers import Brief, RevisionBrief
from versecraft.backends import Price
from versecraft.backends.scripted import Scripted
from versecraft.errors import BadInput
from versecraft.generating import generate
from versecraft.planning import items, plan
from versecraft.plugins import get_task
from versecraft.records import BriefItem, PairItem, PoemItem, RevisionItem, RowError
from versecraft.runs import read_run


def teacher(**options: int) -> Scripted:
    return Scripted(lambda request: answer(request.turn), **options)


@given(count=st.integers(0, 60), seed=st.integers(0, 5))
def test_the_bad_poem_comes_first_in_exactly_half_of_the_pairs(count: int, seed: int) -> None:
    matches = make_matches(count)
    pairs = items(get_task("comparison"), matches, seed=seed)
    bad_first = sum(isinstance(p, PairItem) and p.a.quality == "bad" for p in pairs)
    assert len(pairs) == count
    assert bad_first == count // 2
    shuffled = items(get_task("comparison"), matches[::-1], seed=seed)
    assert {p.item_id for p in shuffled} == {p.item_id for p in pairs}


def test_both_orders_give_each_pair_twice() -> None:
    pairs = items(get_task("comparison"), make_matches(5), orders="both")
    assert len({p.item_id for p in pairs}) == 10
    assert len({frozenset(p.item_id.split(":")) for p in pairs}) == 5


def test_a_run_becomes_the_items_of_the_next_task(tmp_path: Path) -> None:
    critiques = generate(make_plan(tmp_path, teacher(), 4), progress=False)
    revision = get_task("revision_brief")
    revisions = items(revision, critiques)
    assert all(isinstance(item, RevisionItem) for item in revisions)
    run = generate(
        plan(revision, critiques, teacher(), ledger=tmp_path / "r.jsonl"), progress=False
    )
    drafts = items(get_task("poem"), run)
    assert [d.draft for d in drafts if isinstance(d, BriefItem)] == [
        item.poems[0] for item in revisions
    ]
    assert all(isinstance(d, BriefItem) and type(d.brief) is RevisionBrief for d in drafts)
    briefs = generate(
        plan(get_task("brief"), ["a poem about rust"], teacher(), ledger=tmp_path / "b.jsonl"),
        progress=False,
    )
    [item] = items(get_task("poem"), briefs)
    assert isinstance(item, BriefItem)
    assert (type(item.brief), item.draft) == (Brief, None)


def test_what_a_task_cannot_work_on_is_an_error_that_says_what_it_needs() -> None:
    with pytest.raises(BadInput, match="PairItem"):
        items(get_task("comparison"), [make_poem(1)])
    with pytest.raises(BadInput, match="does not take pairs"):
        items(get_task("critique"), make_matches(1))
    assert items(get_task("critique"), [PoemItem(poem=make_poem(1))])


def test_a_plan_asks_anew_exactly_what_a_change_touches(tmp_path: Path) -> None:
    backend = teacher()
    first = make_plan(tmp_path, backend, 6)
    generate(first, progress=False)
    assert make_plan(tmp_path, backend, 6).to_ask == 0
    assert make_plan(tmp_path, backend, 8).to_ask == 2
    critique = get_task("critique")
    other = replace(critique, prompt=replace(critique.prompt, guide="Be brief."))
    poems = [make_poem(n) for n in range(6)]
    assert plan(other, poems, backend, ledger=first.ledger).to_ask == 6
    backend_2 = teacher()
    backend_2.id = "scripted:another"
    assert make_plan(tmp_path, backend_2, 6).to_ask == 6
    assert make_plan(tmp_path, backend, 6, seed=3).to_ask == 6


def test_the_bill_counts_what_is_left_and_halves_for_batch(tmp_path: Path) -> None:
    backend = teacher()
    backend.price = Price(input=4, output=20)  # type: ignore[assignment]
    bill = make_plan(tmp_path, backend, 10)
    assert (bill.items, bill.cached, bill.to_ask) == (10, 0, 10)
    assert bill.tokens.output == 10 * bill.task.typical_tokens
    expected = (bill.tokens.input * 4 + bill.tokens.output * 20) / 1e6
    assert bill.cost.live == pytest.approx(expected)
    assert bill.cost.batch == pytest.approx(expected / 2)
    run = generate(bill, progress=False)
    again = make_plan(tmp_path, backend, 10)
    assert (again.to_ask, again.cost.live) == (0, 0.0)
    assert run.cost == pytest.approx(sum(r.cost for r in run.rows))
    assert not bill.ledger.with_suffix(".other").exists()


def test_equal_items_are_asked_once(tmp_path: Path) -> None:
    poem = make_poem(1)
    bill = plan(get_task("critique"), [poem, poem], teacher(), ledger=tmp_path / "x.jsonl")
    assert bill.items == 1


def test_making_a_plan_writes_nothing(tmp_path: Path) -> None:
    make_plan(tmp_path, teacher(), 3)
    assert list(tmp_path.iterdir()) == []


def test_a_run_can_be_read_back_without_its_backend(tmp_path: Path) -> None:
    first = make_plan(tmp_path, teacher(), 5)
    run = generate(first, progress=False)
    poems = [make_poem(n) for n in range(3, 9)]
    with pytest.warns(RuntimeWarning, match="3 to other items"):
        read = read_run(get_task("critique"), items(get_task("critique"), poems), first.ledger)
    assert [r.item_id for r in read.rows] == [p.id for p in poems[:2]]
    assert [e.meta for e in read.examples()] == [e.meta for e in list(run.examples())[3:]]


def test_an_edited_answer_that_fails_the_checks_is_left_out_and_named(tmp_path: Path) -> None:
    first = make_plan(tmp_path, teacher(), 3)
    generate(first, progress=False)
    text = first.ledger.read_text(encoding="utf-8")
    quote = next(iter(first.jobs)).item.poems[0].text.split("\n")[0]
    edited = text.replace(f'"quote":"{quote}"', '"quote":"words that stand nowhere"')
    first.ledger.write_text(edited, encoding="utf-8")
    poems = [make_poem(n) for n in range(3)]
    run = read_run(get_task("critique"), items(get_task("critique"), poems), first.ledger)
    with pytest.warns(RuntimeWarning, match="do not pass its checks"):
        assert len(list(run.examples())) == 2


def test_answers_that_are_not_used_are_counted(tmp_path: Path) -> None:
    first = make_plan(tmp_path, teacher(), 5)
    generate(first, progress=False)
    critique = get_task("critique")
    with pytest.warns(RuntimeWarning, match=r"2 answer.* 0 to another turn, 2 to other items"):
        read_run(critique, items(critique, [make_poem(n) for n in range(3)]), first.ledger)
    turn = critique.prompt.turn.replace("Critique this", "Look at this")
    other = replace(critique, prompt=replace(critique.prompt, turn=turn))
    with pytest.warns(RuntimeWarning, match="5 to another turn"):
        run = read_run(other, items(other, [make_poem(n) for n in range(5)]), first.ledger)
    assert run.rows == ()


def test_an_answer_counts_though_a_failure_comes_after_it(tmp_path: Path) -> None:
    plan_ = make_plan(tmp_path, teacher(), 1)
    row = generate(plan_, progress=False).rows[0]
    failed = row.model_copy(
        update={"output": None, "error": RowError(kind="http", message="late", retryable=True)}
    )
    with plan_.ledger.open("a", encoding="utf-8") as ledger:
        ledger.write(failed.model_dump_json(exclude_none=True) + "\n")
    assert make_plan(tmp_path, teacher(), 1).to_ask == 0


def test_plans_and_runs_tell_their_counts_in_a_line(tmp_path: Path) -> None:
    plan_ = make_plan(tmp_path, teacher(), 2)
    assert "to_ask=2" in repr(plan_)
    assert "answered=2" in str(generate(plan_, progress=False))
    assert len(repr(plan_)) < 500


def test_a_name_in_place_of_a_task_or_backend_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="get_task"):
        plan("critique", [], teacher(), ledger=tmp_path / "x")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="get_backend"):
        plan(get_task("critique"), [], "claude:x", ledger=tmp_path / "x")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="Change or remove it"):
        items(get_task("brief"), ["ab"])
    with pytest.raises(BadInput, match="balanced"):
        items(get_task("comparison"), make_matches(1), orders="bth")  # type: ignore[arg-type]


def test_the_same_inputs_give_the_same_plan(tmp_path: Path) -> None:
    one, two = (make_plan(tmp_path, teacher(), 7) for _ in range(2))
    assert [j.key for j in one.jobs] == [j.key for j in two.jobs]
