"""Worn phrases are found word by word, over line ends, and each list says its version."""

from __future__ import annotations

import gzip
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora import CORPORA, needs_corpora
from test_guides import entries
from versecraft.answers import plain, says
from versecraft.phrases import CLICHE_LIST, SLOP_LIST, cliches, slop


def test_the_lists_say_name_version_and_digest() -> None:
    assert re.fullmatch(r"cliches/\d+ \([0-9a-f]{8}…\)", CLICHE_LIST)
    assert re.fullmatch(r"slop/\d+ \([0-9a-f]{8}…\)", SLOP_LIST)


def test_a_hit_has_its_line_its_words_and_its_entry() -> None:
    [hit] = cliches("The river ran on.\n\nHis hands were Cold\nas ice, he said.")
    assert (hit.line, hit.text, hit.phrase) == (2, "cold / as ice", "cold as ice")


def test_words_match_whole_whatever_stands_between_them() -> None:
    assert [hit.line for hit in cliches("“Till we—meet\n  again!”\n\n\n…Cold,\nas—ice")] == [1, 3]
    assert cliches("scold as ice") == cliches("cold as iceland") == ()
    assert slop("neonate") == ()


def test_marks_of_emphasis_hide_nothing() -> None:
    for marked in ("_cold as ice_", "*cold as ice*", "__cold__ as _ice_"):
        assert [hit.phrase for hit in cliches(f"Her hand was {marked}.")] == ["cold as ice"]
        assert says(f"Her hand was {marked}.", "cold as ice")


def test_a_star_stands_for_an_ending() -> None:
    found = {hit.text: hit.phrase for hit in slop("Tapestries whispered secrets, resilient")}
    assert found == {
        "tapestries": "tapestr*",
        "whispered secrets": "whispered secrets",
        "resilient": "resilien*",
    }
    assert slop("the resilientism") == ()


def test_of_two_entries_in_one_place_the_longer_counts() -> None:
    assert [hit.phrase for hit in slop("in the tapestry")] == ["in the tapestry"]
    assert [hit.phrase for hit in slop("a tapestry")] == ["a tapestry"]


def test_plain_verse_has_none() -> None:
    text = "The bus was late. She read the card again\nand put it in the pocket with the key."
    assert cliches(text) == slop(text) == ()


@given(st.text())
def test_any_text_can_be_searched(text: str) -> None:
    lines = len([line for line in text.split("\n") if line.strip()])
    assert all(1 <= hit.line <= lines for hit in (*cliches(text), *slop(text)))


def test_the_list_of_machine_verse_is_long_enough_and_holds_nothing_twice() -> None:
    found = entries("slop.txt")
    assert len(found) >= 150
    assert len({plain(line) for line in found}) == len(found)
    assert all(re.fullmatch(r"[a-z' *-]+", line) and line == plain(line) for line in found)
    assert found == sorted(found, key=lambda line: line.replace("*", ""))


@pytest.mark.slow
@needs_corpora
def test_machine_verse_stands_apart_from_people_s() -> None:
    def rate(poems: list[str]) -> float:
        words = sum(len(poem.split()) for poem in poems)
        return 1000 * sum(len(slop(poem)) for poem in poems) / words

    with gzip.open(CORPORA / "good.jsonl.gz", "rt", encoding="utf-8") as file:
        people = [json.loads(line)["text"] for line in file][::20]
    with gzip.open(CORPORA / "bad.jsonl.gz", "rt", encoding="utf-8") as file:
        bad = [json.loads(line) for line in file]
    machine = [poem["text"] for poem in bad if "trajectories" in poem["source"]]
    assert rate(people) < 0.6
    assert rate(machine) > 10 * rate(people)
