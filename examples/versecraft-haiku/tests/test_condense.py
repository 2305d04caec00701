"""The task keeps versecraft's promises, refuses what it should, and runs."""

import json
from pathlib import Path

import pytest
from versecraft_haiku.condense import SeasonItem, condense, syllables

from versecraft import Poem, generate, plan
from versecraft.testing import Scripted, check_task

POEM = Poem(
    text=(
        "All evening I have thought of calling you.\n"
        "The tap drips in the other room,\n"
        "and I am sad, the way a house is sad.\n"
        "\n"
        "Behind the fogged window\n"
        "snow takes the yard, the bicycle, the line."
    ),
    quality="good",
)
ANSWER = {
    "image": {"quote": "The tap drips"},
    "against": {"quote": "snow takes the yard"},
    "season": "winter",
    "season_word": {"quote": "snow"},
    "cut": "One small sound goes on while everything outside is being covered.",
    "leave_out": ["that anyone is sad", "the call that was not made"],
}


LONG = {"image": {"quote": "All evening I have thought of calling you"}}


def read(item, **changes):
    return condense.read(item, json.dumps({**ANSWER, **changes}))


@pytest.mark.parametrize("season", [None, "winter"])
def test_the_task_conforms(season):
    check_task(condense, SeasonItem(poem=POEM, season=season), json.dumps(ANSWER))


def test_lines_and_syllables_are_computed_and_never_trained_on():
    result = read(SeasonItem(poem=POEM))
    assert (result.image.line, result.against.line, result.syllables) == (2, 5, 7)
    assert json.loads(result.target()) == ANSWER
    assert result.text().startswith(
        "Keep “The tap drips” and set it against “snow takes the yard”."
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image": {"quote": "The rain drips"}}, "is not in the poem"),
        ({"against": {"quote": "in the other room"}}, "come from one line"),
        ({"against": {"quote": "snow takes the yard, the bicycle, the line"}, **LONG}, "syllables"),
        ({"season": "none"}, "null exactly where season is none"),
        ({"season_word": None}, "null exactly where season is none"),
        ({"season": "summer"}, "to be read in winter"),
        ({"cut": "The tap drips on / and snow takes all / the yard is white."}, "verse"),
    ],
)
def test_an_answer_that_breaks_a_rule_is_refused_with_the_reason(changes, reason):
    item = SeasonItem(poem=POEM, season="winter")
    assert reason in (condense.accept(item, read(item, **changes)) or "")


@pytest.mark.parametrize(
    ("words", "count"),
    [("snow takes the yard", 4), ("little apple", 4), ("Don’t leave houses", 4), ("fogged", 1)],
)
def test_syllables_are_counted_by_ear_as_far_as_letters_allow(words, count):
    assert syllables(words) == count


def test_the_guide_shows_an_answer_that_the_task_accepts():
    guide = condense.prompt.render_guide()
    numbered = guide.partition("<poem>\n")[2].partition("\n</poem>")[0]
    poem = Poem(text="\n".join(line[5:] for line in numbered.split("\n")), quality="good")
    check_task(condense, SeasonItem(poem=poem), guide.splitlines()[-1])


def test_a_run_asks_again_with_the_reason_and_gives_a_training_row(tmp_path: Path):
    answers = [json.dumps({**ANSWER, "image": {"quote": "The rain drips"}}), json.dumps(ANSWER)]
    teacher = Scripted(lambda request: answers[len(request.followups)])
    run = generate(plan(condense, [POEM], teacher, ledger=tmp_path / "l.jsonl"), progress=False)
    (example,) = run.examples()
    assert (run.answered, run.rows[0].attempts, example.quality) == (1, 2, "good")
    assert example.messages[-1].content == condense.read(run.items[0], answers[1]).target()
