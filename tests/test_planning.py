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
from versecraft.ledger import read_run
from versecraft.planning import items, plan
from versecraft.plugins import get_task
from versecraft.records import BriefItem, PairItem, PoemItem, RevisionItem


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
    read = read_run(get_task("critique"), items(get_task("critique"), poems), first.ledger)
    assert [r.item_id for r in read.rows] == [p.id for p in poems[:2]]
    assert [e.meta for e in read.examples()] == [e.meta for e in list(run.examples())[3:]]


def test_the_same_inputs_give_the_same_plan(tmp_path: Path) -> None:
    one, two = (make_plan(tmp_path, teacher(), 7) for _ in range(2))
    assert [j.key for j in one.jobs] == [j.key for j in two.jobs]
