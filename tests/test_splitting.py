"""What a data set promises: no poem on both sides, one kind of text, nothing cut, all readable."""

from __future__ import annotations

import errno
import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from versecraft.dataset import build_dataset
from versecraft.errors import BadInput
from versecraft.grouping import poem_texts
from versecraft.records import Example, Message, Poem
from versecraft.training_data import Mixture, Split, read_examples

STEADY = settings(deadline=None, derandomize=True, max_examples=60)
REST = "at the stove\nit holds its water\na spoon lies by\nthe lid is off\nno one has come"
PAGES = "ladder kettle gravel orchard pigeon lantern saddle teacup puddle railing hammer".split()
SYLLABLES = [a + b for a in "bdfgklmnprst" for b in "aeiou"]


def mixed(rows: Sequence[Example]) -> Mixture:
    """The rows as a mixture of which nothing was left out."""
    return Mixture(kept=tuple(rows), dropped=(), bad_share=0.4, min_tasks=3, seed=7)


def educator(rows: Sequence[Example], **options: Any) -> Split:
    return build_dataset(mixed(rows), role="educator", **options)


def poet(rows: Sequence[Example], **options: Any) -> Split:
    return build_dataset(mixed(rows), role="poet", **options)


def saying(row: Example, answer: str) -> Example:
    return row.model_copy(
        update={"messages": (*row.messages[:-1], Message(role="assistant", content=answer))}
    )


def ids(rows: Sequence[Example]) -> set[str]:
    return {poem for row in rows for poem in row.poem_ids}


def reasons(split: Split) -> Counter[str]:
    return Counter(dropped.reason for dropped in split.dropped)


def stanza(seed: int, words: int = 60) -> str:
    draw = random.Random(seed)
    text = [draw.choice(PAGES) + "".join(draw.choices(SYLLABLES, k=2)) for _ in range(words)]
    return "\n".join(" ".join(text[n : n + 6]) for n in range(0, words, 6))


@st.composite
def linked(draw: st.DrawFn) -> list[Example]:
    """Rows of poems that share partners, alone and in pairs, and rows without poems."""
    poems = [make_poem(n, "bad" if n < 8 else "good") for n in range(30)]
    pairs = draw(st.lists(st.tuples(st.integers(0, 7), st.integers(8, 29)), max_size=12))
    rows = [comparison(poems[a], poems[b]) for a, b in pairs]
    rows += [critique(poems[n]) for n in draw(st.sets(st.integers(0, 29), min_size=6))]
    rows += [autopsy(poems[n]) for n in draw(st.sets(st.integers(0, 7)))]
    rows += [revision_brief(poems[n]) for n in draw(st.sets(st.integers(0, 29)))]
    rows += [brief(f"a poem about the number {n}") for n in range(draw(st.integers(0, 9)))]
    rows += [lesson(f"What is line {n} for?") for n in range(draw(st.integers(0, 9)))]
    return rows


@STEADY
@given(linked(), st.sampled_from((0.1, 0.3, 0.5)))
def test_no_poem_and_no_request_is_on_both_sides(rows: list[Example], valid: float) -> None:
    split = educator(rows, valid=valid)
    assert not ids(split.train) & ids(split.valid)
    assert not {row.item_id for row in split.train} & {row.item_id for row in split.valid}
    assert len(split.train) + len(split.valid) == len(rows)
    assert split.train


@STEADY
@given(linked(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_changes_nothing(rows: list[Example], draw: random.Random) -> None:
    assert educator(draw.sample(rows, len(rows))) == educator(rows)


def test_another_seed_holds_out_other_poems() -> None:
    rows = full_set(20, 40, 20)
    assert ids(educator(rows, seed=7).valid) != ids(educator(rows, seed=8).valid)


@pytest.mark.parametrize("valid", [0.1, 0.25])
def test_the_held_out_share_is_met_in_rows_poems_and_tasks(valid: float) -> None:
    rows = full_set(114, 400, 80)
    split = educator(rows, valid=valid)
    assert abs(len(split.valid) / len(rows) - valid) < 0.01
    bad = {row.poem_ids[0] for row in split.valid if row.task == "autopsy"}
    assert abs(len(bad) / 114 - valid) < 0.01
    for row in split.card["counts"]:
        assert abs(row["valid"] / (row["train"] + row["valid"]) - valid) < 0.02
    assert abs(split.card["bad_share"]["valid"] - split.card["bad_share"]["train"]) < 0.03


def test_each_task_and_quality_is_on_both_sides_even_of_a_small_set() -> None:
    split = educator(full_set(4, 8, 3))
    assert all(row["train"] and row["valid"] for row in split.card["counts"])


def test_a_set_that_hangs_together_is_not_torn() -> None:
    partner = make_poem(1, "good")
    split = educator([comparison(make_poem(n), partner) for n in range(9)])
    assert len(split.train) == 9
    assert split.groups == 1
    assert "Nothing is held out" in split.card["notes"][0]


def test_valid_zero_holds_nothing_out_and_says_nothing() -> None:
    split = educator(full_set(4, 8), valid=0)
    assert (split.valid, split.card["notes"]) == ((), [])


@STEADY
@given(st.integers(0, 10**6), st.integers(20, 90), st.data())
def test_near_copies_of_a_poem_are_on_one_side(seed: int, length: int, data: st.DataObject) -> None:
    words = stanza(seed, length).split(" ")
    words[data.draw(st.integers(0, len(words) - 1))] = "elsewhere"
    copy = " ".join(words)
    poems = [Poem(text=stanza(seed, length), quality="bad"), Poem(text=copy, quality="good")]
    others = [Poem(text=stanza(seed + n, length), quality="good") for n in range(1, 12)]
    split = educator([critique(poem) for poem in (*poems, *others)], valid=0.5)
    assert split.groups == 12
    assert len(ids(split.valid) & {poem.id for poem in poems}) in {0, 2}


@STEADY
@given(
    st.lists(
        st.text(st.sampled_from("ab 1 2 \t'<>/|poem"), max_size=12).filter(
            lambda line: line == line.rstrip() and "<" not in line
        ),
        min_size=1,
        max_size=12,
    ).filter(lambda lines: any(lines))
)
def test_a_poem_is_read_back_from_its_turn_as_it_was(lines: list[str]) -> None:
    poem = Poem(text="\n".join(lines), quality="good")
    assert poem_texts([critique(poem)]) == {poem.id: poem.text}


def test_both_poems_of_a_comparison_are_read_back() -> None:
    one, other = make_poem(1), make_poem(2, "good")
    expected = {one.id: one.text, other.id: other.text}
    assert poem_texts([comparison(other, one)]) == expected


def test_a_draft_stays_with_the_brief_it_came_from() -> None:
    first = [verse(f"the {n} steps", stanza(n)) for n in range(12)]
    draft = [Poem(text=row.messages[-1].content, quality="good") for row in first]
    second = [verse(f"again {n}", stanza(n + 100), draft[n]) for n in range(12)]
    split = poet([*first, *second], valid=0.3)
    assert split.groups == 12
    kept = {row.messages[-1].content for row in split.valid}
    assert all((stanza(n) in kept) == (stanza(n + 100) in kept) for n in range(12))


def test_poems_that_two_briefs_led_to_alike_stay_together() -> None:
    text = stanza(1)
    alike = [verse("one way", text), verse("another way", text.replace("\n", "\n\n", 1))]
    assert poet([*alike, verse("a third way", stanza(2))]).groups == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Here it is <|im_end|>\nthe kettle waits", "chat_token"),
        ("the kettle waits [TRUNCATED]", "truncated"),
        ("the kettle waits\n\n## Critique\nIt waits too long.", "not_poem"),
        ("", "not_poem"),
        ("Begin inside the room, with the hands at work", "not_poem"),
    ],
)
def test_a_poet_row_that_is_not_a_poem_is_dropped(answer: str, reason: str) -> None:
    rows = [verse(f"the {n} steps", stanza(n)) for n in range(9)]
    split = poet([saying(rows[0], answer), *rows[1:]])
    assert reasons(split) == {reason: 1}
    assert split.card["kind_purity"] == 8 / 9
    assert answer not in {row.messages[-1].content for row in (*split.train, *split.valid)}


def test_a_poem_may_keep_what_its_revision_brief_quotes() -> None:
    line = "the long blue kettle on the stove at night"
    draft = Poem(text=f"{line}\nand so on", quality="good")
    assert reasons(poet([verse("again", f"{line}\n{REST}", draft)])) == {}


def test_a_row_of_the_poet_may_hold_what_the_check_on_poems_lets_stand() -> None:
    text = f"the kettle waits\nKeep: left\n{REST}"
    assert reasons(poet([verse("the steps", text)])) == {}


def test_a_poem_that_says_what_its_brief_avoids_is_dropped_but_is_no_leak() -> None:
    avoided = "broken heart, tears like rain, sands of time"
    row = verse("the steps", f"the kettle waits\n{avoided}\n{REST}")
    split = poet([row, verse("other steps", stanza(2))])
    assert reasons(split) == {"avoided_said": 1}
    assert split.card["kind_purity"] == 1


def test_a_poet_row_asked_as_the_educator_is_dropped() -> None:
    row = verse("the steps", stanza(1))
    wrong = row.model_copy(update={"messages": (lesson("Why?").messages[0], *row.messages[1:])})
    split = poet([wrong, verse("other steps", stanza(2))])
    assert reasons(split) == {"educator_template": 1}


@pytest.mark.parametrize(
    "verses", [r"the kettle\nthe stove\nthe door", "the kettle / the stove / the door / the night"]
)
def test_an_educator_row_with_verse_in_its_prose_is_dropped(verses: str) -> None:
    row = autopsy(make_poem(1))
    prose = json.loads(row.messages[-1].content)["items"][0]["why_dead"]
    leaking = saying(row, row.messages[-1].content.replace(prose, verses))
    assert reasons(educator([leaking, critique(make_poem(2))])) == {"verse": 1}


def test_a_quotation_is_not_the_educators_verse() -> None:
    poem = Poem(text="an owl / a mole / a vole / a hole", quality="bad")
    assert reasons(educator([critique(poem)])) == {}


def test_over_long_rows_and_briefs_are_dropped_and_none_is_cut() -> None:
    short, long = verse("the steps", stanza(1)), verse("more steps", stanza(2, 600))
    wordy = verse(f"the steps {'and again ' * 30}", stanza(3))
    split = poet([short, long, wordy], max_tokens=800, brief_tokens=120)
    assert reasons(split) == {"too_long": 1, "brief_too_long": 1}
    assert split.train == (short,)


def test_a_revision_brief_may_be_a_hundred_tokens_longer() -> None:
    plain, revised = verse("a", stanza(1)), verse("a", stanza(2), make_poem(1, "good"))
    assert reasons(poet([plain, revised], brief_tokens=100)) == {}
    assert reasons(poet([plain, revised], brief_tokens=20)) == {"brief_too_long": 1}


def test_tokens_are_counted_by_the_callers_own_tokenizer() -> None:
    def letters(text: str) -> int:
        return len(text)

    rows = full_set(3, 5)
    split = educator(rows, tokenizer=letters, max_tokens=10_000)
    assert split.card["tokens"]["by"] == "letters"
    longest = max(sum(len(m.content) + 8 for m in row.messages) for row in rows)
    assert split.card["tokens"]["longest"] == longest


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_tokenizer_file_counts_all_of_a_long_text(tmp_path: Path, as_folder: bool) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    model.enable_truncation(4)
    model.enable_padding(length=64)
    model.save(str(tmp_path / "tokenizer.json"))
    row = critique(make_poem(1))
    split = educator([row], tokenizer=tmp_path if as_folder else tmp_path / "tokenizer.json")
    words = sum(len(message.content.split()) + 8 for message in row.messages)
    assert split.card["tokens"]["longest"] == words
    assert "tokenizer.json" in split.card["tokens"]["by"]


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no tokenizer at .*tokenizer.json"):
        educator(full_set(3, 5), tokenizer=tmp_path)


def test_a_role_without_rows_is_an_error() -> None:
    with pytest.raises(BadInput, match="tasks of the poet first"):
        poet(full_set(3, 5))


def test_each_role_gets_its_own_rows() -> None:
    mixture = mixed([*full_set(3, 5), verse("the steps", stanza(1))])
    split = build_dataset(mixture, role="educator")
    assert {row.role for row in (*split.train, *split.valid)} == {"educator"}
    assert split.card["rows"]["other_role"] == 1


def test_rows_that_the_firewall_takes_from_the_mix_are_pointed_out() -> None:
    mixture = Balancer().balance(full_set(10, 60))
    rows = [
        saying(r, "the moon /\nthe sea\nthe tide") if r.task == "autopsy" else r
        for r in mixture.kept
    ]
    split = build_dataset(mixture.model_copy(update={"kept": tuple(rows)}), role="educator")
    notes = " ".join(split.card["notes"])
    assert "from 40.0% to 33.3%" in notes
    assert "bad poems" in notes


def test_a_set_that_tells_good_from_bad_by_old_words_says_so() -> None:
    old = [Poem(text=f"thou {stanza(n)}", quality="good") for n in range(30)]
    new = [Poem(text=stanza(n + 50), quality="bad") for n in range(30)]
    split = educator([critique(poem) for poem in (*old, *new)])
    assert "in 100% of cases" in split.card["notes"][0]


def test_a_written_set_accounts_for_every_row(tmp_path: Path) -> None:
    rows = [*full_set(10, 60, 5), *full_set(10, 60, 5)[:3]]
    split = build_dataset(Balancer().balance(rows), role="educator", cost=1.25)
    folder = split.write(tmp_path / "data" / "educator_training")
    files = {path.name: path.read_text("utf-8").splitlines() for path in folder.iterdir()}
    assert set(files) == {"train.jsonl", "valid.jsonl", "dropped.jsonl", "README.md"}
    written = sum(len(files[f"{name}.jsonl"]) for name in ("train", "valid", "dropped"))
    assert written == len(rows)
    assert {json.loads(line)["reason"] for line in files["dropped.jsonl"]} == {"duplicate", "share"}
    card = "\n".join(files["README.md"])
    for words in ("written for tests (", "MIT (", "$1.25", "| autopsy | bad |", "* duplicate: 3"):
        assert words in card


def test_rows_read_back_are_the_rows_that_were_written(tmp_path: Path) -> None:
    split = educator(full_set(5, 10, 5))
    folder = split.write(tmp_path)
    back = list(read_examples(folder / "train.jsonl"))
    assert [row.messages for row in back] == [row.messages for row in split.train]
    assert {tuple(row.meta) for row in back} == {("licence", "model", "winner")}


def test_a_line_that_is_no_example_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(critique(make_poem(1)).model_dump_json() + '\n{"task": 1}')
    with pytest.raises(BadInput, match=r"rows\.jsonl, line 2, is not an example"):
        list(read_examples(tmp_path / "rows.jsonl"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("valid", [0.2, 0.0])
def test_a_written_set_loads_with_datasets(tmp_path: Path, valid: float) -> None:
    datasets = pytest.importorskip("datasets")
    poemless = [lesson(f"What is line {n} for?") for n in range(40)]
    folder = educator([*poemless, *full_set(3, 0)], valid=valid).write(tmp_path / "set")
    files = {"train": str(folder / "train.jsonl"), "validation": str(folder / "valid.jsonl")}
    files = files if valid else {"train": files["train"]}
    data = datasets.load_dataset("json", data_files=files, cache_dir=str(tmp_path / "cache"))
    by_card = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: part.num_rows for name, part in data.items()} == {
        name: part.num_rows for name, part in by_card.items()
    }
    assert all(part.features == data["train"].features for part in data.values())
    turns = data["train"][0]["messages"]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant"]


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("place", ["raw", "raw/bad", "processed"])
def test_raw_data_is_never_written(tmp_path: Path, place: str, link: bool) -> None:
    target = tmp_path / "data" / place
    target.mkdir(parents=True)
    if link:
        (tmp_path / "out").symlink_to(target)
        target = tmp_path / "out"
    with pytest.raises(BadInput, match="never written"):
        educator(full_set(3, 5)).write(target)
    assert list(target.iterdir()) == []


def test_a_workspace_may_lie_in_a_folder_called_data_raw(tmp_path: Path) -> None:
    workspace = tmp_path / "data" / "raw" / "me"
    folder = educator(full_set(3, 5)).write(workspace / "data" / "educator_training")
    assert (folder / "train.jsonl").is_file()
    with pytest.raises(BadInput, match="never written"):
        educator(full_set(3, 5)).write(workspace / "data" / "raw" / "good")


def test_files_of_somebody_else_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("My notes.")
    with pytest.raises(BadInput, match=r"README\.md, which versecraft did not write"):
        educator(full_set(3, 5)).write(tmp_path)
    assert (tmp_path / "README.md").read_text() == "My notes."


def test_a_set_that_cannot_be_replaced_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = educator(full_set(3, 5)).write(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full_disk)
        with pytest.raises(BadInput, match=r"No space left .* is as it was"):
            educator(full_set(4, 9)).write(tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    educator(full_set(4, 9)).write(tmp_path)
    assert {path.name for path in folder.iterdir()} == set(before)


def test_a_set_that_is_replaced_in_part_says_which(tmp_path: Path) -> None:
    folder = educator(full_set(3, 5)).write(tmp_path)
    card = (folder / "README.md").read_bytes()
    (folder / "valid.jsonl").unlink()
    (folder / "valid.jsonl").mkdir()  # the second of the files cannot be moved into place
    with pytest.raises(BadInput, match=r"New there: train\.jsonl; the rest is as it was"):
        educator(full_set(4, 9)).write(tmp_path)
    assert (folder / "README.md").read_bytes() == card
    assert len(list(folder.iterdir())) == 4


def test_the_same_input_writes_the_same_bytes(tmp_path: Path) -> None:
    rows = list(full_set(5, 10, 5))
    one = educator(rows).write(tmp_path / "one")
    other = educator(rows[::-1]).write(tmp_path / "other")
    assert all(path.read_bytes() == (other / path.name).read_bytes() for path in one.iterdir())


def test_a_split_shows_its_counts() -> None:
    html = educator(full_set(5, 10))._repr_html_()
    for words in ("Split for the educator", "kind purity", "revision_brief"):
        assert words in html
