"""An evaluation measures first answers, and finds the figures that are known to be true."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import teacher
from sources import make_matches, make_poem
from versecraft import get_backend
from versecraft.answers import Critique, Issue, Loc
from versecraft.backends import Request
from versecraft.canaries import canaries
from versecraft.cli import main
from versecraft.critics import period_words
from versecraft.diversity import MEASURES, Memory, at_length, length_for
from versecraft.errors import BackendError, BadInput, MissingExtra, UnknownName
from versecraft.evaluating import evaluate
from versecraft.figures import Figure, Report, Specimen, entropy, mean, rate, share
from versecraft.forms import CONTRACTS, FIXED_FORMS, laid_out, partners
from versecraft.records import Corpus, Match, Poem
from versecraft.sessions import Changes, Round, Session
from versecraft.tasks import loose_brief
from versecraft.testing import Scripted
from versecraft.training_data import archaic

BRIEFS = canaries()[0]

CLEAN = """The ferry left without its bell
and nobody ashore could say
who was the first of them to tell
the harbour it was early May.

A crate of lemons, two wet dogs,
the postman with his bicycle,
went over in a bank of fogs
to somewhere else, and all was still."""

LEAK = f"Critique: the draft needs work.\n\n{CLEAN}"
WIDE = (
    "  In from the edge\n      and further in\n\n\n<b>bold</b> & “quoted” {{ 7*7 }}\n\tafter a tab"
)


def number(request: Request) -> int:
    """Which canary brief a request is about."""
    return next(b.number for b in BRIEFS if request.turn.startswith(b.brief.text()))


def poet(said: Callable[[int], str | Exception]) -> Scripted:
    return Scripted(lambda request: said(number(request)))


def cut() -> BackendError:
    return BackendError("cut at 1024 tokens", kind="truncated")


def measured(said: Callable[[int], str | Exception], **options: Any) -> Report:
    return evaluate(poet=poet(said), **{"limit": 10, "samples": 1, "progress": False, **options})


def verdict(request: Request, choose: Callable[[str, str], str]) -> str:
    """A comparison whose winner is chosen from the first lines of the two poems."""
    a, b = (teacher.lines_of(request.turn, tag) for tag in ("poem_a", "poem_b"))
    winner = choose(a[0], b[0])
    answer = json.loads(teacher.answer(request.turn))
    loser = b if winner == "A" else a
    return json.dumps({**answer, "winner": winner, "loser_best": {"quote": loser[0]}})


def critic(choose: Callable[[str, str], str], critique: Callable[[str], str]) -> Scripted:
    def answer(request: Request) -> str:
        if request.meta["task"] == "comparison":
            return verdict(request, choose)
        return critique(request.turn)

    return Scripted(answer)


GOOD_FIRST_LINES = {m.good.text.split("\n")[0] for m in make_matches(20)}


def knows(a: str, b: str) -> str:
    return "A" if a in GOOD_FIRST_LINES else "B"


def reads(**options: Any) -> Report:
    options = {"educator": critic(knows, teacher.answer), "progress": False, **options}
    return evaluate(**{"matches": make_matches(10), **options})


# The poet.


def test_a_poet_that_leaks_in_three_of_ten_is_measured_so() -> None:
    report = measured(lambda n: LEAK if n < 3 else CLEAN)
    leaks = report.figure("leak rate")
    assert leaks.value == pytest.approx(0.3)
    assert leaks.low is not None
    assert leaks.high is not None
    assert leaks.low < 0.3 < leaks.high
    assert (leaks.n, leaks.counted, leaks.basis) == (10, "briefs", "3 of 10 answers")
    assert report.figure("kind purity").value == pytest.approx(0.7)
    assert report.figure("leak: label").value == pytest.approx(0.3)
    assert report.figure("end rate").value == 1


def test_a_first_answer_counts_and_nothing_is_asked_twice() -> None:
    asked: list[str] = []

    def once(request: Request) -> str:
        asked.append(request.turn)
        return "" if len(asked) % 2 else LEAK

    report = evaluate(poet=Scripted(once), limit=6, samples=2, progress=False)
    assert len(asked) == 12
    assert report.figure("leak rate").value == 1
    assert report.figure("without text").value == pytest.approx(0.5)
    assert report.figure("without text").n == 6, "samples of a brief are resampled together"


def test_an_answer_that_is_cut_has_not_ended_and_is_no_pure_poem() -> None:
    no = BackendError("it declined", kind="refusal")
    report = measured(lambda n: cut() if n < 4 else LEAK if n == 4 else no if n == 5 else CLEAN)
    assert report.figure("end rate").value == pytest.approx(5 / 9), "a refusal is no end"
    assert report.figure("kind purity").value == pytest.approx(0.4)
    assert report.figure("leak rate").value == pytest.approx(1 / 5), "of those with text"
    assert report.figure("without text").value == pytest.approx(1 / 6), "of those that ended"
    assert report.unanswered == 0


def test_who_says_nothing_avoids_nothing() -> None:
    no = BackendError("it declined", kind="refusal")
    report = measured(lambda n: no if n % 2 else "", limit=4)
    assert {f.name: f.value for f in report.figures} == {"kind purity": 0, "without text": 1}


def test_what_fails_for_other_reasons_is_left_out_and_noted() -> None:
    down = BackendError("the server is down", kind="http")
    report = measured(lambda n: down if n < 2 else CLEAN)
    assert report.figure("end rate").n == 8
    assert report.unanswered == 2
    assert report.items["poems"] == 8
    assert any("2 without an answer (http)" in note for note in report.notes)
    with pytest.raises(BadInput, match="Nothing could be measured"):
        measured(lambda n: down)


def test_a_poem_that_begins_again_is_a_restart_and_a_refrain_is_none() -> None:
    forms = [b.brief.form.name for b in BRIEFS]
    triolet = "One kettle\nserves the landing\nfor a year.\nOne kettle,\nfilled and handed\n"
    triolet += "up the stair.\nOne kettle\nserves the landing"

    def said(n: int) -> str:
        return triolet if forms[n] == "triolet" else f"{CLEAN}\n\n{CLEAN}" if n == 0 else CLEAN

    report = measured(said)
    assert forms[:10].count("triolet") == 1
    assert report.figure("restart rate").value == pytest.approx(0.1)


def test_what_a_brief_avoids_is_missed_in_the_poem() -> None:
    avoided = BRIEFS[3].brief.avoid[0].upper()
    report = measured(lambda n: f"{CLEAN}\nand {avoided}" if n == 3 else CLEAN)
    assert report.figure("avoidance").value == pytest.approx(0.9)


def test_forms_are_held_to_their_clauses_and_rhymes_to_their_scheme() -> None:
    pytest.importorskip("pronouncing")
    forms = [b.brief.form for b in BRIEFS]
    quatrains = next(n for n, f in enumerate(forms) if f.name == "quatrains")

    def said(n: int) -> str:
        return f"{CLEAN}\n\n{CLEAN.replace('ferry', 'steamer')}" if n == quatrains else CLEAN

    report = measured(said, limit=quatrains + 1)
    lines = report.figure("form: lines")
    fits = sum(
        f.lines[0] <= (16 if n == quatrains else 8) <= f.lines[1]
        for n, f in enumerate(forms[: quatrains + 1])
        if f.name != "prose-poem"
    )
    assert lines.value == pytest.approx(fits / lines.n)
    assert 0 < report.figure("rhyme").value < 1


def test_without_the_extra_form_is_left_out_and_the_report_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(*_: Any) -> Any:
        raise MissingExtra("Telling rhymes", "prosody")

    monkeypatch.setattr("versecraft.canaries.check", missing)
    report = measured(lambda n: CLEAN)
    assert not [f for f in report.figures if f.name.startswith(("form", "rhyme"))]
    assert any("'versecraft[prosody]'" in note for note in report.notes)


def test_what_was_learnt_by_heart_is_found_with_its_source() -> None:
    poems = [make_poem(n, "good", lines=8) for n in range(30)]
    corpus = Corpus(good=tuple(poems), bad=(), dropped=())
    report = measured(lambda n: poems[n].text if n < 5 else CLEAN, corpus=corpus)
    words = len(re.findall(r"\S+", poems[0].text))
    assert report.figure("verbatim").value > 0.4
    assert report.figure("longest run").value == pytest.approx(
        sum(Memory(poems).recall(p.text).longest for p in poems[:5]) / 10
    )
    assert Memory(poems).recall(poems[3].text.upper()).where == poems[3]
    assert Memory(poems).recall(poems[3].text).longest >= words
    assert Memory(poems).recall(CLEAN) == (len(re.findall(r"\w+", CLEAN)) - 4, 0, 0, None, "")


def test_poets_by_name_stand_beside_the_base_of_the_same_name_and_the_corpus() -> None:
    corpus = Corpus(
        good=tuple(make_poem(n, "good", lines=20) for n in range(40)), bad=(), dropped=()
    )
    seen: list[tuple[str, int]] = []

    def ask(name: str, text: str) -> Scripted:
        backend = Scripted(lambda r: (seen.append((name, number(r))), text)[1])
        backend.id = f"scripted:{name}"
        return backend

    long = "\n".join(CLEAN.replace("lemons", f"lemons {n}") for n in range(3))
    leak = f"{LEAK}\n{long}"
    report = evaluate(
        poet={"greedy": ask("greedy", long), "T=0.8": ask("warm", leak)},
        base={"greedy": ask("base", leak), "T=0.8": ask("warm base", leak)},
        corpus=corpus,
        limit=4,
        samples=3,
        progress=False,
    )
    assert list(report.parts) == ["poet, greedy", "poet, T=0.8"]
    counts = {name: sum(n == name for n, _ in seen) for name, _ in seen}
    assert counts == {"greedy": 4, "warm": 12, "base": 4, "warm base": 12}
    assert report.figure("leak rate", "poet, greedy").baselines == {"base": 1.0}
    assert report.figure("leak rate", "poet, greedy").baseline == 1
    assert set(report.figure("slop").baselines) == {"base", "corpus"}
    assert report.figure("distinct-2").baselines["corpus"] > report.figure("distinct-2").value


def test_a_base_that_would_stand_beside_nobody_is_refused() -> None:
    said = poet(lambda n: CLEAN)
    with pytest.raises(BadInput, match=r"'llama' stands beside nobody.*known: greedy, educator"):
        evaluate(poet={"greedy": said}, base={"llama": said}, limit=1, progress=False)
    with pytest.raises(BadInput, match="known: educator"):
        evaluate(poet=said, base={"llama": said}, limit=1, progress=False)


def test_the_canary_briefs_are_briefs_that_the_brief_task_would_accept() -> None:
    assert len(BRIEFS) >= 12
    assert 0 < sum(b.famous for b in BRIEFS) < len(BRIEFS) / 2
    assert len({b.brief.text() for b in BRIEFS}) == len(BRIEFS)
    for canary in BRIEFS:
        assert loose_brief(canary.brief) is None
        assert len(canary.brief.text()) / 3.5 < 300


def test_the_canary_briefs_ask_for_their_forms_as_these_are() -> None:
    for form in (canary.brief.form for canary in BRIEFS):
        contract = CONTRACTS[form.name]
        lengths, rhymed = FIXED_FORMS.get(form.name, (range(1, 200), False))
        assert set(form.lines) <= set(lengths)
        assert form.scheme != "none" or not rhymed
        for lines in form.lines if form.scheme != "none" else ():
            assert partners(laid_out(form.scheme, lines)) in [
                partners(laid_out(scheme, lines, contract.carried)) for scheme in contract.schemes
            ], form


# The educator.


def test_a_critic_that_always_says_a_is_right_half_of_the_time_and_never_consistent() -> None:
    report = reads(educator=critic(lambda a, b: "A", teacher.answer))
    assert report.figure("critic accuracy").value == 0.5
    assert report.figure("consistency").value == 0
    assert report.figure("first position").value == 1
    assert report.figure("consistency").n == 10


def test_a_critic_that_knows_is_always_right() -> None:
    report = reads()
    assert report.figure("critic accuracy").value == 1
    assert report.figure("critic accuracy").low == pytest.approx(0.025 ** (1 / 10))
    assert report.figure("consistency").value == 1
    assert report.figure("first position").value == 0.5
    assert report.figure("quotes: comparison").value == 1


def test_approval_is_counted_apart_for_good_and_for_bad_poems() -> None:
    good = {m.good.text.split("\n")[0] for m in make_matches(10)}
    wrong = make_matches(10)[0].bad.text.split("\n")[0]
    praise = {"location": {"quote": ""}, "effect": "Here somebody is seen doing one exact thing."}

    def critique(turn: str) -> str:
        first = teacher.lines_of(turn, "poem")[0]
        if first in good or first == wrong:
            return json.dumps(
                {"strengths": [{**praise, "location": {"quote": first}}], "issues": []}
            )
        return teacher.answer(turn)

    report = reads(educator=critic(knows, critique))
    assert report.figure("approval of good").value == 1
    assert report.figure("approval of bad").value == pytest.approx(0.1)
    assert report.figure("issue types").value == 0, "it only ever says abstraction"
    assert [s.text.split("\n")[0] for s in report.specimens if "approved" in s.about] == [wrong]


def test_first_answers_are_held_against_schema_poem_and_direction() -> None:
    bad = [m.bad.text.split("\n")[0] for m in make_matches(10)]

    def critique(turn: str) -> str:
        first = teacher.lines_of(turn, "poem")[0]
        answer = json.loads(teacher.answer(turn))
        if first == bad[0]:
            return "It is a fine poem."
        if first == bad[1]:
            answer["issues"][0]["location"]["quote"] = "words that nobody wrote"
        if first == bad[2]:
            answer["issues"][0]["direction"] = "It could be somewhat more vivid in places."
        return json.dumps(answer)

    report = reads(educator=critic(knows, critique))
    assert report.figure("schema: critique").value == pytest.approx(19 / 20)
    assert report.figure("quotes: critique").value == pytest.approx(37 / 38)
    assert report.figure("actionable").value == pytest.approx(37 / 38)
    assert report.figure("schema: comparison").value == 1


def test_period_words_that_tell_the_pairs_are_a_baseline_and_a_warning() -> None:
    def old(n: int) -> Poem:
        text = f"O thou who hast the {n} keys\nand art unto thyself a door"
        return Poem(text=text, quality="good")

    pairs = [
        Match(bad=make_poem(n), good=old(n), similarity=0.5, shares_topic=False) for n in range(12)
    ]
    report = evaluate(
        educator=critic(lambda a, b: "A", teacher.answer), matches=pairs, progress=False
    )
    period = report.figure("accuracy by period words")
    assert period.value == 1
    assert report.figure("critic accuracy").baselines == {"period words": 1.0}
    assert any("Old words alone" in note for note in report.notes)
    fair = reads()
    assert fair.figure("accuracy by period words").value == 0.5
    assert not any("Old words alone" in note for note in fair.notes)


def test_old_words_are_found_whatever_stands_beside_them() -> None:
    text = "I love thee; and thou! hast thine? (ye) 'tis o'er"
    assert archaic(text) == {"thee", "thou", "hast", "thine", "ye", "tis", "o'er"}


def test_pairs_that_share_a_bad_poem_are_one_thing_and_what_is_left_out_is_said() -> None:
    pairs = [
        Match(bad=make_poem(n % 2), good=make_poem(n, "good"), similarity=0.5, shares_topic=False)
        for n in range(9)
    ]
    report = reads(educator=critic(knows, teacher.answer), matches=pairs)
    for name in ("critic accuracy", "consistency", "schema: comparison"):
        assert (report.figure(name).n, report.figure(name).counted) == (2, "bad poems"), name
    assert report.figure("critic accuracy").basis == "18 of 18 verdicts"
    assert report.figure("consistency").basis == "9 of 9 pairs in both orders"
    assert report.figure("schema: critique").n == 11
    pairs = [pair for pair in pairs if pair.bad == make_poem(0)]
    report = reads(educator=critic(knows, teacher.answer), matches=pairs)
    assert not [f for f in report.figures if f.name == "accuracy by period words"]
    pairs.append(Match(bad=make_poem(1), good=make_poem(1, "good"), similarity=0.5,
                       shares_topic=False))  # fmt: skip
    found = [period_words(pairs, (), "educator", seed=seed) for seed in range(9)]
    assert any("2 left none of one kind to learn from" in f.basis for f in found if f)


def test_without_matches_pairs_come_from_the_corpus() -> None:
    good, bad = ([make_poem(n, q) for n in range(12)] for q in ("good", "bad"))
    corpus = Corpus(good=tuple(good), bad=tuple(bad), dropped=())
    educator = critic(knows, teacher.answer)
    report = evaluate(educator=educator, corpus=corpus, limit=5, progress=False)
    assert report.items["pairs"] == 5
    with pytest.raises(BadInput, match="there are none"):
        evaluate(educator=educator, progress=False)
    with pytest.raises(BadInput, match="nothing to evaluate"):
        evaluate()


# The loop.


def _round(must_fix: bool, approved: bool, changes: Changes | None = None) -> Round:
    issue = Issue(
        type="abstraction",
        location=Loc(quote="without its bell", line=1),
        diagnosis="Here a feeling is named and nothing is there to be seen.",
        direction="Cut the named feeling and let one object carry it.",
        severity="must_fix" if must_fix else "should_fix",
    )
    critique = Critique(strengths=(), issues=(issue,), approved=approved)
    return Round(draft=CLEAN, critique=critique, changes=changes)


def test_an_approval_with_something_left_to_fix_is_counted() -> None:
    change = Changes(lines=8, named=(1, 2), changed=(1, 5), lost=("scheme: broken",))
    fine = Session(
        request="a ferry", rounds=(_round(True, False), _round(False, True, change)),
        best=2, stopped="approved",
    )  # fmt: skip
    false = fine.model_copy(update={"rounds": (_round(True, True),), "best": 1})
    report = evaluate(sessions=[fine, false])
    assert report.figure("approved with open defects").value == 0.5
    assert report.figure("approvals contradicted").value == 0.5
    assert report.figure("targeted change").value == 0.5
    assert report.figure("collateral change").value == pytest.approx(1 / 6)
    assert report.figure("regression").value == 1
    # Two of eight lines changed: at random a quarter of the named, and of the others.
    for name in ("targeted change", "collateral change"):
        assert report.figure(name).baselines == {"at random": 0.25}
    assert report.figure("approvals contradicted").baselines == {"approving all": 0}
    assert evaluate(sessions=[fine]).figure("approved with open defects").value == 0


# The same, again, and no more than once.


def test_the_same_answers_give_the_same_report() -> None:
    one, other = (measured(lambda n: LEAK if n % 3 else CLEAN, samples=2) for _ in range(2))
    assert one == other
    assert Report.model_validate_json(one.model_dump_json()) == one
    again = measured(lambda n: LEAK if n % 3 else CLEAN, samples=2, seed=8)
    assert again.figure("leak rate").value == one.figure("leak rate").value


def test_an_evaluation_goes_on_where_it_stopped(tmp_path: Path) -> None:
    asked: list[int] = []

    def said(n: int) -> str | Exception:
        asked.append(n)
        if n == 2 and asked.count(2) == 1:
            return BackendError("the server is down", kind="http")
        return cut() if n == 1 and asked.count(1) == 1 else CLEAN

    first = measured(said, limit=4, into=tmp_path)
    assert sorted(asked) == [0, 1, 2, 3]
    assert first.figure("end rate").basis == "2 of 3 answers"
    report = measured(said, limit=6, into=tmp_path)
    assert sorted(asked) == [0, 1, 2, 2, 3, 4, 5], "an answer that was cut is one; none is none"
    assert report.figure("end rate").basis == "5 of 6 answers"
    assert measured(said, limit=6, into=tmp_path) == report
    assert len(asked) == 7


def test_the_bill_comes_before_the_first_request() -> None:
    def stop(plans: Sequence[Any]) -> None:
        assert [plan.to_ask for plan in plans] == [10]
        raise KeyboardInterrupt

    def never(n: int) -> str:
        raise AssertionError("asked")

    with pytest.raises(KeyboardInterrupt):
        measured(never, before=stop)


def test_answers_are_kept_where_an_evaluation_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(lambda n: CLEAN, limit=3, before=stop)
    assert not [*tmp_path.iterdir()], "nothing was answered"
    with monkeypatch.context() as torn:
        torn.setattr("versecraft.evaluating.Memory", stop)
        corpus = Corpus(good=(make_poem(1, "good"),), bad=(), dropped=())
        with pytest.raises(KeyboardInterrupt) as stopped:
            measured(lambda n: CLEAN, limit=3, corpus=corpus)
    (folder,) = tmp_path.iterdir()
    assert str(folder) in stopped.value.__notes__[0]
    (folder / "poem.jsonl").read_bytes().index(b"ferry")
    measured(stop, limit=3, into=folder)
    measured(lambda n: CLEAN, limit=3)
    assert [*tmp_path.iterdir()] == [folder]


# Intervals.


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.just(4)), min_size=1, max_size=30))
def test_a_share_lies_in_its_interval_and_the_interval_between_none_and_all(
    hits: list[tuple[int, int]],
) -> None:
    found = share(hits, seed=1)
    assert found is not None
    value, low, high = found
    assert low is not None
    assert high is not None
    assert value == pytest.approx(sum(h for h, _ in hits) / (4 * len(hits)))
    assert 0 <= low <= value + 1e-12
    assert value - 1e-12 <= high <= 1
    assert share(hits, seed=1) == found


def test_nothing_in_ten_is_no_proof_of_nothing() -> None:
    assert share([(0, 1)] * 10, seed=1) == (0, 0, pytest.approx(0.3085, abs=1e-4))
    assert share([(1, 1)] * 10, seed=1) == (1, pytest.approx(0.6915, abs=1e-4), 1)
    assert rate([(0, 500)] * 4, seed=1) == (0, 0, pytest.approx(1000 * 3.689 / 2000, abs=1e-3))
    assert share([(1, 2)] * 10, seed=1) == (
        0.5, pytest.approx(0.1871, abs=1e-4), pytest.approx(0.8129, abs=1e-4)
    )  # fmt: skip
    assert rate([(3, 500)], seed=1) == (
        6, pytest.approx(1.237, abs=1e-3), pytest.approx(17.535, abs=1e-3)
    )  # fmt: skip
    assert mean([7], seed=1) == (7, None, None)
    assert share([(1, 2)], seed=1) == (0.5, 0, 1), "of one thing nothing is known"
    assert share([], seed=1) is None
    assert share([(0, 0)], seed=1) is None
    assert mean([], seed=1) is None


def test_a_bootstrap_interval_is_as_wide_as_theory_says() -> None:
    value, low, high = share([(n % 2, 1) for n in range(400)], seed=3) or (0, 0, 0)
    assert value == 0.5
    assert (low, high) == (pytest.approx(0.451, abs=0.006), pytest.approx(0.549, abs=0.006))


def test_entropy_is_none_for_one_type_and_most_for_all_alike() -> None:
    assert entropy([[3, 0, 0, 0]] * 5, seed=1) == (0, None, None)
    assert (entropy([[1, 1, 1, 1]] * 5, seed=1) or (0,))[0] == pytest.approx(2)
    assert entropy([[0, 0]], seed=1) is None


def test_the_interval_of_an_entropy_holds_its_value_and_reaches_up_to_the_truth() -> None:
    rows = [[int(n in (seen, seen + 1)) for n in range(16)] for seen in range(0, 16, 2)]
    value, low, high = entropy(rows * 2, seed=1) or (0, 0, 0)
    assert low is not None
    assert high is not None
    assert low <= value <= high <= 4
    few = entropy(rows[:6], seed=1) or (0, 0, 0)
    assert (few[2] or 0) > 3.9, "sixteen types, of which twelve were seen"


def test_poems_that_say_the_same_are_less_diverse_than_poems_that_do_not() -> None:
    same = [make_poem(1, lines=20).text.lower().split()] * 20
    other = [make_poem(n, lines=20).text.lower().split() for n in range(20)]
    alone = [[[poem] for poem in poems] for poems in (same, other, [["few", "words"]])]
    words = length_for(alone)
    assert words == sum(map(len, same)) // 2
    for name, better in (("distinct-2", 1), ("compression ratio", -1), ("cross-poem repeats", -1)):
        low, high = (at_length(poems, MEASURES[name], words, seed=1) for poems in alone[:2])
        assert better * low[0] < better * high[0], name
        assert low[1:] == (None, None), "halves that are all alike tell no interval"
    value, start, end = at_length(alone[1], MEASURES["distinct-2"], words, seed=1)
    assert start is not None
    assert end is not None
    assert start <= value <= end


def test_more_samples_of_a_brief_make_a_poet_no_duller() -> None:
    poems = [make_poem(n, lines=12).text for n in range(20)]
    once, thrice = (measured(lambda n: poems[n], limit=20, samples=n) for n in (1, 3))
    for name in MEASURES:
        assert once.figure(name).value == pytest.approx(thrice.figure(name).value, rel=0.05)
        assert (thrice.figure(name).n, thrice.figure(name).counted) == (20, "briefs")


# The page.


class Fetched(HTMLParser):
    """What a page would fetch, and what is in its verse."""

    def __init__(self) -> None:
        super().__init__()
        self.remote: list[str] = []
        self.tags: list[str] = []
        self.verse: list[str] = []
        self.within = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        self.remote += [v or "" for k, v in attrs if k in ("src", "href", "action", "data")]
        self.within = tag == "span" and named.get("class") == "text"
        if self.within:
            self.verse.append("")

    def handle_endtag(self, tag: str) -> None:
        self.within = False

    def handle_data(self, data: str) -> None:
        if self.within:
            self.verse[-1] += data


def page_of(report: Report, path: Path) -> tuple[str, Fetched]:
    text = report.html(path).read_text(encoding="utf-8")
    found = Fetched()
    found.feed(text)
    return text, found


def test_the_page_fetches_nothing_and_shows_verse_as_it_is(tmp_path: Path) -> None:
    report = measured(
        lambda n: f"{WIDE}\n<|im_end|>" if n == 0 else CLEAN, base=poet(lambda n: LEAK)
    )
    text, page = page_of(report, tmp_path / "reports" / "poet.html")
    assert page.remote == []
    assert not {"script", "link", "iframe", "img", "b"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import", text)
    assert "\n".join(f"{WIDE}\n<|im_end|>".split("\n")) in "\n".join(page.verse)
    assert "chat token" in text
    for figure in report.figures:
        assert figure.says(figure.value) in text
        assert figure.means, figure.name
    for said in (*report.lists, report.made, "prefers-color-scheme: dark", "@media print"):
        assert said in text


def test_a_page_survives_any_text(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>{% for x in y %}{{ config }}</style>'
    report = evaluate(sessions=[Session(request=evil, rounds=(_round(True, True),))]).model_copy(
        update={
            "models": {"loop": evil},
            "notes": (evil,),
            "specimens": (Specimen(rank="worst", of="loop", text=evil, about=evil, brief=evil),),
        }
    )
    text, page = page_of(report, tmp_path / "page.html")
    assert "script" not in page.tags
    assert page.verse == [evil]
    assert text.count("&lt;script&gt;") >= 4


def test_a_report_shows_as_a_table_and_says_which_figures_there_are() -> None:
    from rich.console import Console

    report = measured(lambda n: CLEAN)
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(report)
    assert "kind purity" in console.export_text()
    with pytest.raises(UnknownName, match="Did you mean 'leak rate'"):
        report.figure("leek rate")
    facts = Figure(name="slop", of="poet", value=12.3, low=0, high=44, n=3, counted="briefs",
                   unit="per 1,000 words")  # fmt: skip
    assert (facts.says(12.34), facts.end) == ("12.3", 50)


# The command line.


def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["versecraft", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_the_command_measures_held_out_pairs_and_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evalmodels.py").write_text(
        f"import teacher\ndef poet(request): return {CLEAN!r}\n"
        "def educator(request): return teacher.answer(request.turn)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def call(*words: str) -> tuple[int, str, str]:
        return called(monkeypatch, capsys, *words)

    assert call("init", ".", "--sample")[0] == 0
    assert call("match", "--strategy", "random")[0] == 0
    assert call("evaluate")[0] == 1
    models = ["--poet", "scripted:evalmodels:poet", "--educator", "scripted:evalmodels:educator"]
    code, out, err = call("evaluate", *models, "-n", "2", "--json", "--html", "reports/page.html")
    facts = json.loads(out)
    assert code == 0, err
    assert facts["items"]["pairs"] == 2
    assert "may have been trained" in facts["notes"][0]
    assert (tmp_path / "reports" / "page.html").is_file()
    assert (tmp_path / "runs" / "evaluation" / "poem.jsonl").is_file()
    assert "To ask: 0" in call("evaluate", *models, "-n", "2")[2]
    settings = tmp_path / "versecraft.toml"
    settings.write_text(settings.read_text("utf-8").replace("valid = 0.1", "valid = 0.3"), "utf-8")
    assert call("generate", "seed")[0] in (0, 3)
    assert call("balance", "--min-tasks", "1")[0] == 0
    trained = (tmp_path / "data" / "educator_training" / "train.jsonl").read_text("utf-8")
    code, out, err = call("evaluate", *models[2:], "--json")
    assert code == 0, err
    held = json.loads(out)
    assert "held out" in held["notes"][0]
    pairs = (tmp_path / "data" / "matches.jsonl").read_text("utf-8").splitlines()
    unseen = [p for p in map(json.loads, pairs) if p["bad"] not in trained]
    assert 0 < held["items"]["pairs"] <= len(unseen) < len(pairs)


def test_a_hosted_base_stands_beside_both_poets_and_a_broken_session_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, capsys, "init", ".", "--sample")[0] == 0
    (tmp_path / "sessions" / "torn").mkdir(parents=True)
    (tmp_path / "sessions" / "torn" / "session.json").write_text("{")
    asked: dict[str, Any] = {}

    def measure(**options: Any) -> Report:
        asked.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr("versecraft.evaluating.evaluate", measure)
    (tmp_path / "poet.gguf").write_bytes(b"GGUF" + bytes(64))
    models = ["--poet", "gguf:poet.gguf", "--base", "replay:runs/sample.jsonl"]
    code, _, err = called(monkeypatch, capsys, "evaluate", *models)
    assert code == 130, err
    assert list(asked["poet"]) == ["greedy", "T=0.8"]
    assert {name: b.id for name, b in asked["base"].items()} == dict.fromkeys(
        ("educator", "greedy", "T=0.8"), asked["base"]["educator"].id
    )
    assert asked["sessions"] == []
    assert "torn is left out" in err


@pytest.mark.slow
def test_the_embedded_model_can_be_measured() -> None:
    pytest.importorskip("llama_cpp")
    report = evaluate(
        poet={"greedy": get_backend("embedded", temperature=0.0)},
        limit=1,
        poem_tokens=16,
        progress=False,
    )
    assert report.figure("end rate").value == 0
    assert "@" in report.models["poet, greedy"]
