"""What a poet learns from: a brief that is true of its poem and gives none of it away."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import versecraft as vc
from versecraft.answers import Brief, Form, FormName
from versecraft.backends import Request
from versecraft.records import BriefItem, Example, Poem
from versecraft.testing import Scripted
from versecraft.training_data import Mixture, Split

FERRY = Poem(
    text="The ferry has been sold for scrap, they say,\n"
    "its bell unscrewed, its ledger shut and burned.\n"
    "I crossed on it to school on market day\n"
    "and kept the ticket for the fare returned.\n"
    "\n"
    "The river has not noticed. It goes by\n"
    "with timber, with a bottle, with a shoe.\n"
    "A heron stands as ever to supply\n"
    "the patience that the passengers once knew.",
    title="Decommissioned",
    quality="good",
    licence="CC0",
)
MOTH = Poem(text="a moth\nin the drawer with the spoons\nkeeps its one wool secret", quality="good")
BRIEF: dict[str, Any] = {
    "angle": "Someone who was carried across as a child hears that the boat is gone, and does the "
    "sums of what is left of it without complaint.",
    "avoid": ["river of time", "gone forever", "the old days", "a ticket", "sands", "teardrops"],
    "imagery": "Small change, brass fittings, what floats past, birds that are paid nothing.",
    "form": {"name": "free-verse", "lines": [1, 3], "scheme": "none", "meter": "none", "feet": 0},
}


def asked(tmp_path: Path, brief: dict[str, Any], *poems: Poem) -> vc.Run:
    task = vc.get_task("brief")
    turns: list[str] = []

    def say(request: Request) -> str:
        turns.append(request.turn)
        return json.dumps(brief)

    run = vc.generate(
        vc.plan(task, vc.items(task, poems), Scripted(say), ledger=tmp_path / "briefs.jsonl"),
        progress=False,
    )
    assert not any(poem.text.split("\n")[0] in turn for poem in poems for turn in turns)
    return run


def row(brief: dict[str, Any], text: str) -> Example:
    task = vc.get_task("poem")
    item = BriefItem(brief=Brief.model_validate(brief))
    return next(iter(task.examples(item, task.output.model_validate({"text": text}))))


def poet(*rows: Example) -> Split:
    mixture = Mixture(kept=rows, dropped=(), bad_share=0.4, min_tasks=3, seed=7)
    return vc.build_dataset(mixture, role="poet", valid=0)


def test_a_request_made_from_a_poem_names_its_form_title_and_words_but_quotes_no_line() -> None:
    first, second = vc.items(vc.get_task("brief"), [FERRY, MOTH])
    assert first.request.startswith("a poem of 8 lines (quatrains) called “Decommissioned”, with ")
    assert first.poem == FERRY
    assert second.request.startswith("a poem of 3 lines (haiku)")
    assert "poem" not in first.variables()


@pytest.mark.parametrize(
    "text", ["\n".join(f"one more bend in the road, number {n}" for n in range(201)), "a" * 8001]
)
def test_a_poem_of_which_no_brief_can_be_true_gets_none_and_is_counted(text: str) -> None:
    long = Poem(text=text, quality="good")
    with pytest.warns(RuntimeWarning, match="1 of 2 poems get no brief"):
        made = vc.items(vc.get_task("brief"), [long, MOTH])
    assert [item.poem for item in made] == [MOTH]


def test_a_brief_made_backwards_has_the_measured_form_and_avoids_nothing_the_poem_says(
    tmp_path: Path,
) -> None:
    run = asked(tmp_path, {**BRIEF, "avoid": [*BRIEF["avoid"][:5], "market day"]}, FERRY)
    ((_, brief),) = run.answers()
    assert brief.form.lines == (8, 8)
    assert brief.form.scheme == "ABAB"
    assert brief.avoid == tuple(BRIEF["avoid"][:5])


def test_a_brief_with_five_words_of_the_poem_or_a_wrong_avoid_is_asked_again(
    tmp_path: Path,
) -> None:
    copied = {**BRIEF, "angle": BRIEF["angle"] + " The river has not."}
    run = asked(tmp_path, copied, FERRY)
    assert run.answered == 1, "four words in a row may be chance"
    copied["angle"] += " With a bottle, with a shoe it goes."
    said = asked(tmp_path / "2", copied, FERRY).rows[0].error
    assert said
    assert "'with a bottle with a' is taken from a poem" in said.message
    avoids = {**BRIEF, "avoid": ["market day", "heron stands", "its bell", "the fare", "timber"]}
    said = asked(tmp_path / "3", avoids, FERRY).rows[0].error
    assert said
    assert "avoid other phrases" in said.message


def test_brief_and_poem_become_the_row_that_the_poet_is_trained_on(tmp_path: Path) -> None:
    run = asked(tmp_path, BRIEF, FERRY, MOTH)
    split = poet(*vc.pairs_of(run))
    assert Counter(split.card["dropped"]) == {}
    by_poem = {r.poem_ids[0]: r for r in split.train}
    assert by_poem.keys() == {FERRY.id, MOTH.id}
    system, user, assistant = (m.content for m in by_poem[FERRY.id].messages)
    assert system.startswith("You are a poet. You receive generation briefs and write poems.")
    assert user.startswith("Angle: Someone who was carried")
    assert user.endswith("Write the poem. Output ONLY the poem. Do not repeat the brief.")
    assert assistant == FERRY.text
    assert by_poem[FERRY.id].meta["licence"] == "CC0"
    assert split.card["kind_purity"] == 1


def formed(name: str, scheme: str, meter: str = "none", feet: int = 0) -> dict[str, Any]:
    form = {"name": name, "lines": [8, 8], "scheme": scheme, "meter": meter, "feet": feet}
    return {**BRIEF, "avoid": [*BRIEF["avoid"][:3], "teardrops", "sands"], "form": form}


@pytest.mark.parametrize(
    ("brief", "text", "reason"),
    [
        (BRIEF, MOTH.text, None),
        ({**BRIEF, "imagery": "A moth keeps its one wool secret in."}, MOTH.text, "brief_copied"),
        ({**BRIEF, "avoid": [*BRIEF["avoid"][:5], "wool"]}, MOTH.text, "avoided_said"),
        (BRIEF, FERRY.text, "form_untrue"),
        (formed("quatrains", "ABBA"), FERRY.text, "form_untrue"),
        # Metre is an estimate, and is not held against a poem.
        (formed("quatrains", "ABAB", "trochaic", 4), FERRY.text, None),
    ],
)
def test_a_row_of_which_the_brief_is_not_true_is_left_out_with_its_reason(
    brief: dict[str, Any], text: str, reason: str | None
) -> None:
    split = poet(row(brief, text), row(BRIEF, "a coat\non the hook\nholds its shoulders"))
    assert [d.reason for d in split.dropped] == ([reason] if reason else [])


FORMS = st.builds(
    Form,
    name=st.sampled_from(get_args(FormName)),
    lines=st.tuples(st.integers(1, 99), st.integers(100, 200)) | st.just((14, 14)),
    scheme=st.sampled_from(["none", "ABAB", "ABAB CDCD EFEF GG", "A1BA2 ABA1"]),
    meter=st.sampled_from(["iambic", "trochaic", "mixed"]),
    feet=st.integers(1, 8),
)
PHRASES = st.text("abcdefg '", min_size=3, max_size=40).map(str.strip).filter(lambda t: len(t) > 2)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(FORMS, st.lists(PHRASES, min_size=5, max_size=6), PHRASES, PHRASES)
def test_a_brief_is_read_back_from_what_the_poet_sees(
    form: Form, avoid: list[str], angle: str, imagery: str
) -> None:
    brief = Brief.model_construct(angle=angle, avoid=tuple(avoid), imagery=imagery, form=form)
    assert Brief.read(brief.text()).model_dump() == brief.model_dump()


def test_without_the_extra_lines_are_counted_all_the_same() -> None:
    code = (
        "import sys; sys.modules['pronouncing'] = None\n"
        "from versecraft.firewall import untrue_brief\n"
        "from versecraft.records import Example\n"
        "for line in sys.stdin: print(untrue_brief(Example.model_validate_json(line)))"
    )
    rows = [row(BRIEF, FERRY.text), row(formed("quatrains", "ABBA"), FERRY.text)]
    said = subprocess.run(
        [sys.executable, "-c", code],
        input="\n".join(r.model_dump_json() for r in rows),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.splitlines() == [
        "('form_untrue', 'lines: 1 to 3 asked, 8 found')",
        "None",
    ]
