"""What a mixture promises: its share, its coverage, its fairness, and a reason for each row."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rows import (
    autopsy,
    brief,
    comparison,
    critique,
    full_set,
    lesson,
    revision_brief,
    verse,
)
from sources import make_poem
from versecraft.balancing import Balancer
from versecraft.errors import BadInput, CoverageError
from versecraft.records import Example
from versecraft.training_data import Mixture

STEADY = settings(deadline=None, derandomize=True, max_examples=60)


@st.composite
def inputs(draw: st.DrawFn) -> list[Example]:
    """Rows as runs leave them: covered bad poems, a free number of good rows, repeats."""
    rows: list[Example] = []
    for n in range(draw(st.integers(1, 12))):
        poem = make_poem(n)
        partners = draw(st.lists(st.integers(0, 30), min_size=1, max_size=4, unique=True))
        rows += [critique(poem), autopsy(poem)]
        if draw(st.booleans()):
            rows.append(revision_brief(poem))
        for partner in (make_poem(p, "good") for p in partners):
            orders = draw(st.sampled_from(("first", "second", "both")))
            rows += [comparison(poem, partner)] if orders != "second" else []
            rows += [comparison(partner, poem)] if orders != "first" else []
    rows += [critique(make_poem(n, "good")) for n in range(draw(st.integers(40, 60)))]
    rows += [brief(f"a poem about the number {n}") for n in range(draw(st.integers(20, 40)))]
    rows += [lesson(f"What is line {n} for?") for n in range(draw(st.integers(20, 40)))]
    rows += draw(st.lists(st.sampled_from(rows), max_size=5))
    return rows


def tasks_of_bad_poems(mixture: Mixture) -> dict[str, set[str]]:
    tasks: dict[str, set[str]] = defaultdict(set)
    for row in mixture.kept:
        for poem in set(row.poem_ids) & set(mixture.bad_poems):
            tasks[poem].add(row.task)
    return tasks


def texts(rows: Iterable[Example]) -> Counter[str]:
    return Counter(row.model_dump_json() for row in rows)


def reasons(mixture: Mixture) -> Counter[str]:
    return Counter(dropped.reason for dropped in mixture.dropped)


@STEADY
@given(inputs(), st.sampled_from((1 / 3, 0.4, 0.47, 0.6)))
def test_the_share_is_met_and_no_row_vanishes_or_doubles(rows: list[Example], share: float) -> None:
    mixture = Balancer(bad_share=share).balance(rows)
    got = mixture.report()["bad_share"]["got"]
    assert abs(got - share) <= 0.005 or mixture.notes
    assert abs(got - share) <= 0.5 / len(mixture.kept) + 0.005
    assert len(mixture.kept) + len(mixture.dropped) == len(rows)
    assert texts(mixture.kept) <= texts(rows)
    assert set(texts(mixture.kept).values()) == {1}


@STEADY
@given(inputs())
def test_every_bad_poem_stays_in_three_tasks(rows: list[Example]) -> None:
    mixture = Balancer().balance(rows)
    tasks = tasks_of_bad_poems(mixture)
    assert set(tasks) == {row.poem_ids[0] for row in rows if row.task == "autopsy"}
    assert all(len(names) >= 3 for names in tasks.values())


@STEADY
@given(inputs(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_changes_nothing(rows: list[Example], draw: random.Random) -> None:
    shuffled = draw.sample(rows, len(rows))
    assert Balancer().balance(shuffled) == Balancer().balance(rows)


def test_another_seed_leaves_out_other_rows() -> None:
    rows = full_set(10, 60, 20)
    assert texts(Balancer(seed=7).balance(rows).kept) != texts(Balancer(seed=8).balance(rows).kept)


def test_the_larger_side_gives_way_and_small_tasks_are_spared() -> None:
    mixture = Balancer().balance(full_set(20, 200, 10))
    tasks = mixture.report()["tasks"]
    assert sum(task["bad"] for task in tasks.values()) == 80
    assert tasks["brief"]["good"] == tasks["lesson"]["good"] == 10
    assert tasks["critique"]["good"] == 100
    assert set(reasons(mixture)) == {"share"}
    assert "more rows from bad poems" in mixture.notes[0]


def test_the_bad_side_gives_way_but_stays_covered() -> None:
    mixture = Balancer().balance(full_set(20, 40, 28))
    assert mixture.report()["bad_share"] == {"asked": 0.4, "got": 0.4, "bad": 64, "good": 96}
    assert {len(names) for names in tasks_of_bad_poems(mixture).values()} == {3, 4}


def test_good_poems_take_turns_before_one_comes_again() -> None:
    poems = [make_poem(n, "good") for n in range(30)]
    rows = [*full_set(4, 0), *map(critique, poems), *map(revision_brief, poems)]
    mixture = Balancer().balance(rows)
    good = [row.poem_ids for row in mixture.kept if row.quality == "good"]
    assert len(good) == 24
    assert len(set(good)) == 24


def test_a_set_too_small_for_the_share_says_so() -> None:
    poem, other = make_poem(1), make_poem(1, "good")
    rows = [critique(poem), autopsy(poem), comparison(poem, other)]
    rows += [critique(make_poem(n, "good")) for n in range(4)]
    mixture = Balancer().balance(rows)
    assert mixture.report()["bad_share"]["got"] == 3 / 7
    assert "as near to 40% as so few rows come" in mixture.notes[0]


def test_a_bad_poem_in_too_few_tasks_is_named_with_what_to_generate() -> None:
    poem = make_poem(99)
    with pytest.raises(CoverageError) as caught:
        Balancer().balance([*full_set(5, 50), critique(poem)])
    assert f"poem {poem.id}: has critique; generate comparison, autopsy" in str(caught.value)
    assert str(caught.value).startswith("1 of 6 bad poems are in fewer than 3 tasks")


def test_a_long_list_of_uncovered_poems_is_shortened() -> None:
    with pytest.raises(CoverageError, match="… and 80 more"):
        Balancer().balance([critique(make_poem(n)) for n in range(100)])


def test_an_answer_that_was_dropped_is_named_where_it_is_missed() -> None:
    poem, other = make_poem(1), make_poem(1, "good")
    rows = [*full_set(0, 30), critique(poem), autopsy(poem)]
    rows += [comparison(poem, other), comparison(other, poem, winner=poem)]
    with pytest.raises(CoverageError, match=r"comparison: 2 dropped, order_disagreement"):
        Balancer().balance(rows)


def test_too_few_good_rows_are_counted_out() -> None:
    with pytest.raises(CoverageError, match=r"takes 90 rows .* there are 20. Generate 70 more"):
        Balancer().balance(full_set(20, 20))


@pytest.mark.parametrize(("bad", "good", "missing"), [(0, 9, "bad"), (3, 0, "good")])
def test_one_side_alone_is_an_error(bad: int, good: int, missing: str) -> None:
    with pytest.raises(CoverageError, match=f"Generate critiques of {missing} poems"):
        Balancer().balance(full_set(bad, good))


def test_nothing_to_balance_is_an_error() -> None:
    with pytest.raises(CoverageError, match="versecraft generate"):
        Balancer().balance([])


@pytest.mark.parametrize("settings", [{"bad_share": 0.0}, {"bad_share": 40}, {"min_tasks": 0}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        Balancer(**settings)  # type: ignore[arg-type]


def test_the_same_answer_from_two_runs_is_kept_once() -> None:
    rows = full_set(5, 30)
    again = [row.model_copy(update={"meta": {**row.meta, "key": "second run"}}) for row in rows[:9]]
    mixture = Balancer().balance([*rows, *again])
    assert reasons(mixture)["duplicate"] == 9


def test_one_turn_never_has_two_targets() -> None:
    rows = [*full_set(5, 30), critique(make_poem(3), say="Said another way.")]
    mixture = Balancer().balance(rows)
    turns = [(row.task, row.messages[1]) for row in mixture.kept]
    assert reasons(mixture)["second_answer"] == 1
    assert len(turns) == len(set(turns))


def test_orders_that_disagree_are_both_dropped() -> None:
    poem, other = make_poem(0), make_poem(50, "good")
    rows = [*full_set(5, 30), comparison(poem, other), comparison(other, poem, winner=poem)]
    mixture = Balancer().balance(rows)
    assert reasons(mixture)["order_disagreement"] == 2
    assert not any(set(row.poem_ids) == {poem.id, other.id} for row in mixture.kept)


def test_an_answer_that_takes_a_bad_poem_for_good_is_dropped() -> None:
    poem, other = make_poem(0), make_poem(50, "good")
    rows = [*full_set(5, 30), comparison(poem, other, winner=poem)]
    rows.append(critique(make_poem(1), must_fix=False, say="Nothing must change."))
    mixture = Balancer().balance(rows)
    details = [d.detail for d in mixture.dropped if d.reason == "contradicts_label"]
    assert sorted(details) == [
        "comparison: it prefers the bad poem",
        "critique: it approves a bad poem: no issue must be fixed",
    ]


def test_a_poem_called_both_good_and_bad_is_left_out() -> None:
    bad = make_poem(77)
    good = bad.model_copy(update={"quality": "good"})
    rows = [*full_set(5, 30), critique(bad), critique(good), comparison(bad, make_poem(1, "good"))]
    mixture = Balancer().balance(rows)
    assert reasons(mixture)["label_conflict"] == 3
    assert bad.id not in mixture.bad_poems


def test_the_bad_poem_of_a_pair_is_known_by_elimination() -> None:
    poem, other = make_poem(60), make_poem(2, "good")
    rows = [*full_set(5, 30), comparison(poem, other, winner=poem)]
    with pytest.raises(CoverageError, match=rf"poem {poem.id}: has nothing"):
        Balancer().balance(rows)


def test_a_bad_poem_has_two_partners_in_both_orders_at_most() -> None:
    poem = make_poem(0)
    partners = [make_poem(n, "good") for n in range(40, 45)]
    rows = [critique(poem), autopsy(poem)]
    rows += [comparison(poem, partner) for partner in partners]
    rows += [comparison(partner, poem) for partner in partners[2:]]
    rows.append(comparison(partners[4], poem, shares_topic=False))
    rows += full_set(0, 30)
    mixture = Balancer(max_partners=2).balance(rows)
    pairs = Counter(frozenset(r.poem_ids) for r in mixture.kept if r.task == "comparison")
    assert sorted(pairs.values()) == [2, 2]
    assert reasons(mixture) == {"context_cap": 4, "duplicate": 1, "share": 21}
    assert mixture.report()["winner_is"] == {"A": 2, "B": 2}


def paired_both_ways(good: int) -> list[Example]:
    """Twelve bad poems, each twice in first place and once in second."""
    rows = [row for row in full_set(12, good) if row.task != "comparison"]
    for n in range(12):
        poem, near, far = make_poem(n), make_poem(n + 20, "good"), make_poem(n + 40, "good")
        rows += [comparison(poem, near), comparison(near, poem), comparison(poem, far)]
    return rows


def test_winners_stand_at_both_places_where_that_costs_no_task() -> None:
    mixture = Balancer().balance(paired_both_ways(120))
    assert mixture.report()["winner_is"] == {"A": 12, "B": 12}
    assert reasons(mixture)["position_surplus"] == 12


def test_winners_stay_at_both_places_when_comparisons_are_left_out() -> None:
    places = Balancer().balance(paired_both_ways(72)).report()["winner_is"]
    assert abs(places["A"] - places["B"]) <= 2


def test_a_comparison_that_is_the_only_one_of_its_poem_stays_at_any_place() -> None:
    rows = [row for row in full_set(12, 80) if row.task != "comparison"]
    rows += [comparison(make_poem(n), make_poem(n, "good")) for n in range(12)]
    assert Balancer().balance(rows).report()["winner_is"] == {"A": 0, "B": 12}


def test_poet_rows_pass_unmixed() -> None:
    poems = [verse(f"the {n} steps", f"Ladder {n}\nlet down\ninto the dark") for n in range(8)]
    mixture = Balancer().balance([*poems, poems[0]])
    assert mixture.report()["rows"] == {"educator": 0, "poet": 8}
    assert reasons(mixture) == {"duplicate": 1}
    both = Balancer().balance([*full_set(5, 30), *poems])
    assert both.report()["rows"]["poet"] == 8
    assert both.report()["bad_share"]["got"] == 0.4


def test_a_mixture_shows_its_mix() -> None:
    html = Balancer().balance(full_set(5, 60, 5))._repr_html_()
    for words in ("from bad poems", "40.0%", "Winner is A in", "Left out, share"):
        assert words in html
