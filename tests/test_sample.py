"""The sample that ships is whole: every answer passes its task's own checks."""

from __future__ import annotations

import json
from collections import Counter
from importlib import resources
from pathlib import Path

from versecraft.corpus import read_corpus
from versecraft.ledger import read_rows
from versecraft.planning import items
from versecraft.plugins import get_task
from versecraft.records import BriefItem, Item, PairItem, RevisionItem

SAMPLE = Path(str(resources.files("versecraft"))) / "sample"
ROWS, BROKEN = read_rows(SAMPLE / "answers.jsonl")
CORPUS = read_corpus(SAMPLE / "raw")
POEMS = {p.id: p for p in CORPUS.poems}


def lines(name: str) -> list[str]:
    text = (SAMPLE / "raw" / f"{name}.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


def sample_items() -> dict[tuple[str, str], Item]:
    """Every item that the sample has an answer to, rebuilt from its poems and lists."""
    answers = {(r.task, r.item_id): r.output for r in ROWS}

    def read(task: str, item: Item) -> object:
        return get_task(task).output.model_validate(answers[task, item.item_id])

    found: list[tuple[str, Item]] = []
    critiques = items(get_task("critique"), CORPUS.poems)
    found += [("critique", item) for item in critiques]
    found += [("autopsy", item) for item in items(get_task("autopsy"), CORPUS.bad)]
    briefs = items(get_task("brief"), lines("requests"))
    found += [("brief", item) for item in briefs]
    found += [("poem", BriefItem(brief=read("brief", item))) for item in briefs]
    found += [("lesson", item) for item in items(get_task("lesson"), lines("questions"))]
    for item in critiques[: len(CORPUS.bad)]:
        poem = item.poems[0]
        revision = RevisionItem(poem=poem, critique=read("critique", item))
        found += [("revision_brief", revision)]
        found += [("poem", BriefItem(brief=read("revision_brief", revision), draft=poem))]
    for row in ROWS:
        if row.task == "comparison":
            a, b = (POEMS[i] for i in row.poem_ids)
            found.append(("comparison", PairItem(a=a, b=b, shares_topic=True)))
    return {(task, item.item_id): item for task, item in found}


def test_the_poems_are_all_read_and_none_is_dropped() -> None:
    assert (len(CORPUS.bad), len(CORPUS.good), CORPUS.dropped) == (16, 48, ())
    assert {p.licence for p in CORPUS.poems} == {"MIT"}


def test_every_answer_belongs_to_an_item_and_passes_the_checks_of_its_task() -> None:
    assert BROKEN == []
    known = sample_items()
    assert {(r.task, r.item_id) for r in ROWS} == set(known)
    assert len(ROWS) == len(known)
    for row in ROWS:
        task, item = get_task(row.task), known[row.task, row.item_id]
        answer = row.output["text"] if task.output.bare else json.dumps(row.output)  # type: ignore[index]
        result = task.read(item, answer)
        assert task.accept(item, result) is None, (row.task, row.turn)
        assert result.model_dump(mode="json") == row.output


def test_each_row_says_what_its_answer_is() -> None:
    assert {r.model for r in ROWS} == {"written-for-the-sample"}
    assert {r.cost for r in ROWS} == {0.0}


def test_no_bad_poem_is_approved_and_every_failure_type_occurs() -> None:
    critiques = {r.item_id: r.output for r in ROWS if r.task == "critique" and r.output}
    assert not any(critiques[p.id]["approved"] for p in CORPUS.bad)
    types = Counter(i["type"] for c in critiques.values() for i in c["issues"])
    assert len(types) == 18, types


def test_each_comparison_stands_in_both_orders_with_one_winner() -> None:
    winners: dict[frozenset[str], set[str]] = {}
    for row in ROWS:
        if row.task == "comparison" and row.output:
            winner = row.poem_ids["AB".index(row.output["winner"])]
            winners.setdefault(frozenset(row.poem_ids), set()).add(winner)
    assert all(len(found) == 1 for found in winners.values())
    assert {POEMS[w].quality for found in winners.values() for w in found} == {"good"}
    assert 2 * len(winners) == sum(r.task == "comparison" for r in ROWS)
