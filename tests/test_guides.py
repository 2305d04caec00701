"""The teacher's guides lead to answers that pass, and the lists that ship are fit for use."""

import gzip
import json
import re
from collections import Counter
from importlib import resources
from typing import get_args

import pytest

from corpora import CORPORA, needs_corpora
from versecraft.answers import FAILURE_TYPES, FormName, plain
from versecraft.prompting import Prompt
from versecraft.records import (
    BriefItem,
    PairItem,
    Poem,
    PoemItem,
    QuestionItem,
    RequestItem,
    RevisionItem,
)
from versecraft.tasks.autopsy import autopsy
from versecraft.tasks.brief import brief
from versecraft.tasks.comparison import comparison
from versecraft.tasks.critique import critique
from versecraft.tasks.lesson import lesson
from versecraft.tasks.poem import poem
from versecraft.tasks.revision_brief import revision_brief

TASKS = {t.name: t for t in (critique, comparison, autopsy, brief, revision_brief, lesson, poem)}
BRIEF_CHARS = 1100  # about 300 tokens of any tokenizer in use

every_task = pytest.mark.parametrize("name", TASKS)


def examples(name):
    """The exemplars of a guide, each as a dict of its tags."""
    blocks = re.findall(
        r"<example>\n(.*?)\n</example>", Prompt.load(name).render_guide(), re.DOTALL
    )
    return [dict(re.findall(r"<(\w+)>\n(.*?)\n</\1>", b, re.DOTALL)) for b in blocks]


def verse(numbered):
    """A poem out of a guide, which shows it with its lines numbered as the turn does."""
    text = "\n".join(line[5:] for line in numbered.split("\n"))
    shown = critique.prompt.render_turn(PoemItem(poem=Poem(text=text, quality="bad")).variables())
    assert f"<poem>\n{numbered}\n</poem>" in shown
    return Poem(text=text, quality="bad")


def answered(name):
    """Item and answer of each exemplar, read and accepted by the task itself."""
    task = TASKS[name]
    for tags in examples(name):
        item = ITEMS[name](tags)
        result = task.read(item, tags["answer"])
        assert task.accept(item, result) is None
        yield item, result


def critique_of(text):
    return next(r for i, r in answered("critique") if i.poem.text == text)


def revision_item(tags):
    draft = verse(tags["poem"])
    item = RevisionItem(poem=draft, critique=critique_of(draft.text))
    assert item.critique.text() == tags["critique"]
    return item


def brief_item(tags):
    briefs = [r for name in ("brief", "revision_brief") for _, r in answered(name)]
    draft = Poem(text=tags["draft"], quality="bad") if "draft" in tags else None
    return BriefItem(brief=next(b for b in briefs if b.text() == tags["brief"]), draft=draft)


ITEMS = {
    "critique": lambda tags: PoemItem(poem=verse(tags["poem"])),
    "autopsy": lambda tags: PoemItem(poem=verse(tags["poem"])),
    "comparison": lambda tags: PairItem(
        a=verse(tags["poem_a"]), b=verse(tags["poem_b"]), shares_topic=True
    ),
    "brief": lambda tags: RequestItem(request=tags["request"]),
    "revision_brief": revision_item,
    "lesson": lambda tags: QuestionItem(question=tags["question"]),
    "poem": brief_item,
}


def entries(name):
    text = resources.files("versecraft").joinpath("data", name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def grams(text, n=5):
    words = re.findall(r"[a-z']+", plain(text))
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def lines(text):
    return [line for line in text.split("\n") if line.strip()]


@every_task
def test_a_guide_is_the_same_bytes_each_time_and_long_enough_to_be_cached(name):
    guide = Prompt.load(name).render_guide()
    assert guide == Prompt.load(name).render_guide() != Prompt.load(name).render_persona()
    assert 900 * 4 <= len(guide) <= 2500 * 4


@every_task
def test_each_exemplar_passes_the_checks_of_its_task(name):
    assert len(list(answered(name))) >= 2


@every_task
def test_each_turn_names_its_task(name):
    item, _ = next(answered(name))
    turn = TASKS[name].prompt.render_turn(item.variables())
    if name == "poem":
        assert turn.endswith("Write the poem. Output ONLY the poem. Do not repeat the brief.")
    else:
        assert turn.startswith(f"Task: {name.replace('_', ' ')}.\n")


@pytest.mark.parametrize("name", ["critique", "comparison", "revision_brief", "lesson"])
def test_guides_that_name_failures_define_all_of_them(name):
    guide = Prompt.load(name).render_guide()
    assert all(meaning in guide for meaning in FAILURE_TYPES.values())


def test_critique_exemplars_show_a_refusal_an_approval_and_one_with_a_reservation():
    results = [result for _, result in answered("critique")]
    assert sorted((r.approved, bool(r.issues)) for r in results) == [
        (False, True),
        (True, False),
        (True, True),
    ]
    for result in results:
        ranks = [issue.severity for issue in result.issues]
        assert ranks == sorted(ranks)  # must_fix comes before should_fix


def test_comparison_exemplars_let_each_side_win_and_hold_with_the_letters_swapped():
    results = list(answered("comparison"))
    assert Counter(r.winner for _, r in results) == {"A": 1, "B": 1}
    for item, result in results:
        assert result.text().startswith(f"Poem {result.winner} is stronger because ")
        said = [p.finding for p in result.points] + [result.loser_failure, result.lesson]
        assert not re.search(r"\bpoem [ab]\b|\bfirst poem|\bsecond poem", " ".join(said).lower())
        assert all(p.finding[0].islower() and p.finding[-1] != "." for p in result.points)
        mirror = result.model_copy(
            update={
                "winner": "B" if result.winner == "A" else "A",
                "points": tuple(
                    p.model_copy(update={"a_quote": p.b_quote, "b_quote": p.a_quote})
                    for p in result.points
                ),
            }
        )
        swapped = PairItem(a=item.b, b=item.a, shares_topic=True)
        assert comparison.accept(swapped, mirror) is None


@pytest.mark.parametrize("name", ["brief", "revision_brief"])
def test_brief_exemplars_are_short(name):
    assert all(len(result.text()) <= BRIEF_CHARS for _, result in answered(name))


def test_poem_exemplars_keep_the_contract_and_copy_nothing_from_the_brief():
    for item, result in answered("poem"):
        low, high = item.brief.form.lines
        assert low <= len(lines(result.text)) <= high
        assert not any(plain(phrase) in plain(result.text) for phrase in item.brief.avoid)
        assert not grams(item.brief.text()) & grams(result.text) or item.draft


def test_the_revised_exemplar_keeps_and_changes_what_its_brief_names():
    (item, result), *_ = [(i, r) for i, r in answered("poem") if i.draft]
    assert all(plain(loc.quote) in plain(result.text) for loc in item.brief.keep)
    assert not any(plain(c.location.quote) in plain(result.text) for c in item.brief.change)


@pytest.mark.parametrize(
    ("name", "least"), [("cliches.txt", 400), ("requests.txt", 110), ("questions.txt", 66)]
)
def test_a_list_is_long_enough_and_holds_nothing_twice(name, least):
    found = entries(name)
    assert len(found) >= least
    assert len({plain(line) for line in found}) == len(found)
    first = resources.files("versecraft").joinpath("data", name).read_text(encoding="utf-8")
    assert first.startswith(f"# versecraft {name.removesuffix('.txt')} 1\n")


def test_cliches_are_bare_lower_case_phrases():
    for phrase in entries("cliches.txt"):
        assert phrase == plain(phrase)
        assert re.fullmatch(r"'?[a-z' -]+", phrase), phrase
        assert len(phrase.split()) > 1 or "-" in phrase, f"{phrase!r} is a plain word"


def test_requests_and_questions_fit_their_items_and_name_every_form_twice():
    requests = [RequestItem(request=line).request.lower() for line in entries("requests.txt")]
    questions = [QuestionItem(question=line).question.lower() for line in entries("questions.txt")]
    for form in get_args(FormName):
        word = form.removesuffix("-stanza").replace("-", " ")
        assert sum(word in line for line in requests) >= 2, form
        assert any(word in line for line in questions), form


def test_no_exemplar_answers_a_request_or_question_that_ships():
    asked = {
        plain(t.get("request") or t["question"]) for n in ("brief", "lesson") for t in examples(n)
    }
    assert not asked & {plain(q) for f in ("requests.txt", "questions.txt") for q in entries(f)}


@pytest.mark.slow
@needs_corpora
def test_good_poems_hardly_use_a_phrase_of_the_cliche_list():
    phrases = {tuple(re.findall(r"[a-z']+", phrase)) for phrase in entries("cliches.txt")}
    lengths = {len(phrase) for phrase in phrases}
    with gzip.open(CORPORA / "good.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(row)["text"] for row in file][::4]
    hits = Counter(p for text in texts for n in lengths for p in grams(text, n) & phrases)
    assert max(hits.values()) < 0.001 * len(texts), hits.most_common(20)
    assert sum(hits.values()) < 0.05 * len(texts)
