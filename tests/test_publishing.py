"""What a published folder promises: the same rows, known licences, nobody's files replaced."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rows import autopsy, comparison, critique, full_set, lesson, verse
from sources import make_poem
from versecraft.cli import app
from versecraft.corpus import read_corpus
from versecraft.dataset import build_dataset
from versecraft.errors import BadInput, MissingExtra
from versecraft.publishing import publish, terms_of
from versecraft.records import Corpus, Example, Message, Poem, Role
from versecraft.training_data import Mixture, Split, read_split
from versecraft.workspace import Workspace

parquet = pytest.importorskip("pyarrow.parquet")
yaml = pytest.importorskip("yaml")

VERSE = (
    "the kettle\n    waits, indented,\n\n\n\tand a tab | a bar <b>\n  \ntrailing  \n“quoted” é 🫖"
)


def split_of(rows: Sequence[Example], role: Role = "educator", valid: float = 0.2) -> Split:
    mixture = Mixture(kept=tuple(rows), dropped=(), bad_share=0.4, min_tasks=1, seed=7)
    return build_dataset(mixture, role=role, valid=valid)


def under(row: Example, licence: str | None) -> Example:
    return row.model_copy(update={"meta": {**row.meta, "licence": licence}})


def with_odd_verse(data: Split) -> Split:
    """The data set with white space and marks in its answers that must not get lost."""

    def odd(rows: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(
            row.model_copy(
                update={"messages": (*row.messages[:-1], Message(role="assistant", content=VERSE))}
            )
            for row in rows
        )

    return data.model_copy(update={"train": odd(data.train), "valid": odd(data.valid)})


def header(folder: Path) -> Any:
    return yaml.safe_load((folder / "README.md").read_text("utf-8").split("---\n")[1])


def card(folder: Path) -> str:
    return " ".join((folder / "README.md").read_text("utf-8").split())


def rows_in(folder: Path, side: str) -> list[Example]:
    table = parquet.read_table(folder / "data" / f"{side}-00000-of-00001.parquet")
    return [Example.model_validate(row) for row in table.to_pylist()]


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def publish_one(folder: Path, licence: str | None, **options: Any) -> Path:
    return publish(split_of([under(critique(make_poem(1)), licence)]), folder, **options)


def test_rows_read_back_are_the_rows_of_the_data_set(tmp_path: Path) -> None:
    data = with_odd_verse(split_of(full_set(4, 8, 3)))
    folder = publish(data, tmp_path / "hub" / "educator")
    read = read_split(data.write(tmp_path / "set"))
    assert rows_in(folder, "train") == list(read.train)
    assert rows_in(folder, "validation") == list(read.valid)
    assert set(files(folder)) == {
        "README.md",
        "data/train-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
    }
    assert [path.name for path in folder.parent.iterdir()] == ["educator"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = st.sampled_from(("model", "winner", "licence", "my own"))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.lists(st.tuples(TEXTS, st.dictionaries(KEYS, TEXTS)), min_size=1, max_size=4))
def test_any_text_comes_back_as_it_was(texts: list[tuple[str, dict[str, str]]]) -> None:
    row = lesson("How long is a line?")
    rows = tuple(
        row.model_copy(
            update={
                "messages": (Message(role="user", content=text),),
                "quality": None,
                "meta": meta,
            }
        )
        for text, meta in texts
    )
    data = split_of([row]).model_copy(update={"train": rows})
    with TemporaryDirectory() as into:
        folder = publish(data, Path(into, "set"), allow_unknown_licences=True)
        assert rows_in(folder, "train") == data.on_disk()[0]
        assert header(folder)["license"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("valid", [0.2, 0.0])
def test_a_published_folder_loads_with_datasets(tmp_path: Path, valid: float) -> None:
    datasets = pytest.importorskip("datasets")
    data = with_odd_verse(split_of(full_set(4, 8, 3), valid=valid))
    folder = publish(data, tmp_path / "set")
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    sides = {"train": data.train, "validation": data.valid}
    assert set(loaded) == ({*sides} if valid else {"train"})
    for name, part in loaded.items():
        turns = [[message.model_dump() for message in row.messages] for row in sides[name]]
        assert part["messages"][:] == turns


def test_the_header_says_what_the_hub_asks_for(tmp_path: Path) -> None:
    told = header(publish(split_of(full_set(4, 8, 3)), tmp_path / "set"))
    assert told["license"] == "mit"
    assert "license_name" not in told
    assert told["language"] == ["en"]
    assert told["size_categories"] == ["n<1K"]
    assert told["task_categories"] == ["text-generation"]
    assert {"poetry", "synthetic"} <= set(told["tags"])
    [config] = told["configs"]
    assert {part["split"]: part["path"] for part in config["data_files"]} == {
        "train": "data/train-00000-of-00001.parquet",
        "validation": "data/validation-00000-of-00001.parquet",
    }


@pytest.mark.parametrize(
    ("licence", "license", "name"),
    [
        ("MIT", "mit", None),
        ("MIT License", "mit", None),
        ("CC BY-SA 4.0", "cc-by-sa-4.0", None),
        ("CC0", "cc0-1.0", None),
        ("Public domain", "other", "public-domain"),
        ('By "leave"\tof the\nestate: \\ # {x} ', "other", "by-leave-of-the-estate-x"),
        ("公有领域", "other", "custom"),
    ],
)
def test_a_licence_that_all_share_stands_in_the_header(
    tmp_path: Path, licence: str, license: str, name: str | None
) -> None:
    told = header(publish_one(tmp_path / "set", licence))
    assert (told["license"], told.get("license_name")) == (license, name)
    if name:
        assert f"{' '.join(licence.split())} (1)" in told["license_details"]


def test_licences_that_differ_are_told_by_source_with_their_counts(tmp_path: Path) -> None:
    a, b, c = (
        make_poem(n).model_copy(update={"source": source})
        for n, source in enumerate(("Mill | Press", "Mill | Press", None))
    )
    rows = [under(critique(a), "MIT"), under(autopsy(a), "MIT"), under(critique(b), "MIT")]
    rows += [under(critique(c), "CC0-1.0"), under(lesson("Why a line?"), None)]
    data = split_of(rows)
    corpus = Corpus(good=(), bad=(a, b, c))
    terms = terms_of(data, corpus)
    assert [(t.licence, t.source, t.poems, t.rows) for t in terms] == [
        ("CC0-1.0", "", 1, 1), ("MIT", "Mill | Press", 2, 3)
    ]  # fmt: skip
    folder = publish(data, tmp_path / "set", corpus=corpus)
    told = header(folder)
    assert (told["license"], told["license_name"]) == ("other", "mixed")
    assert told["license_details"].startswith("Poems: MIT (2), CC0-1.0 (1).")
    said = card(folder)
    assert r"| MIT | Mill \| Press | 2 | 3 |" in said
    assert "| CC0-1.0 | not stated | 1 | 1 |" in said
    assert "1 rows have no poem" in said
    assert "written for tests (5 rows)" in said
    assert "terms of a model's provider" in said


@pytest.mark.parametrize(
    ("joined", "licences"),
    [
        ("CC0-1.0; MIT", {"MIT": 1, "CC0-1.0": 1}),
        ("MIT", {"MIT": 2}),
        ("MIT; Public domain; translated by the editor", None),
        ("MIT; unknown", {"MIT": 1, "unknown": 1}),
    ],
)
def test_of_two_poems_the_other_has_what_is_left_over(
    joined: str, licences: dict[str, int] | None
) -> None:
    a, b = make_poem(1), make_poem(2, "good")
    data = split_of([under(critique(a), "MIT"), under(comparison(a, b), joined)])
    found = {entry.licence: entry.poems for entry in terms_of(data)}
    assert found == (licences or {"MIT": 1, "Public domain; translated by the editor": 1})


def test_poems_that_only_stand_together_have_the_licences_of_both() -> None:
    a, b = make_poem(1), make_poem(2, "good")
    [terms] = terms_of(split_of([under(comparison(a, b), "CC0-1.0; MIT")]))
    assert (terms.licence, terms.poems, terms.rows, terms.known) == ("CC0-1.0; MIT", 2, 1, True)
    [terms] = terms_of(split_of([under(comparison(a, b), "MIT; unknown")]))
    assert not terms.known


@pytest.mark.parametrize("licence", [None, "", "unknown", "Unknown", "n/a", " ", "MIT; unknown"])
def test_a_poem_without_a_known_licence_is_not_published(
    tmp_path: Path, licence: str | None
) -> None:
    with pytest.raises(BadInput, match=r"of 1 poems in 1 of 1 rows .*--allow-unknown-licences"):
        publish_one(tmp_path / "set", licence)
    assert list(tmp_path.iterdir()) == []


def test_poems_without_a_licence_are_named_by_file(tmp_path: Path) -> None:
    poems = [make_poem(n).model_copy(update={"file": f"bad/{n}.txt"}) for n in range(6)]
    rows = [under(critique(p), "unknown" if n else "MIT") for n, p in enumerate(poems)]
    rows.append(under(autopsy(poems[1]), "unknown"))
    with pytest.raises(BadInput, match=r"of 5 poems in 6 of 7 .* bad/1\.txt.* and 2 more"):
        publish(split_of(rows), tmp_path / "set", corpus=Corpus(good=(), bad=tuple(poems)))


def test_unknown_licences_are_published_when_told_so_and_the_card_tells(tmp_path: Path) -> None:
    rows = [under(critique(make_poem(n)), None if n else "MIT") for n in range(3)]
    folder = publish(split_of(rows), tmp_path / "set", allow_unknown_licences=True)
    assert "**The licence of 2 poems is not known.**" in card(folder)
    assert header(folder)["license_name"] == "partly-unknown"
    folder = publish_one(tmp_path / "other", None, allow_unknown_licences=True)
    assert header(folder)["license_name"] == "unknown"


def test_rows_without_a_poem_need_no_licence(tmp_path: Path) -> None:
    rows = [under(verse(f"the {n} steps", make_poem(n).text), None) for n in range(4)]
    folder = publish(split_of(rows, role="poet"), tmp_path / "set")
    assert header(folder)["license_name"] == "none-stated"
    assert "not known" not in card(folder).split("## Licences")[1].split("## Left out")[0]


def test_a_row_that_says_of_no_named_poem_that_its_licence_is_unknown_counts(
    tmp_path: Path,
) -> None:
    with pytest.raises(BadInput, match="in 1 of 1 rows"):
        publish(split_of([under(lesson("Why a line?"), "unknown")]), tmp_path / "set")


def test_the_same_set_makes_the_same_bytes(tmp_path: Path) -> None:
    rows = list(full_set(5, 10, 5))
    one = publish(split_of(rows), tmp_path / "one")
    before = files(one)
    assert files(publish(split_of(rows[::-1]), tmp_path / "other")) == before
    assert files(publish(split_of(rows), one)) == before


def test_what_was_published_before_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = publish(split_of(full_set(5, 10)), tmp_path / "set")
    publish(split_of(full_set(5, 10), valid=0), folder)
    assert set(files(folder)) == {"README.md", "data/train-00000-of-00001.parquet"}
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("notes.txt", r"holds notes\.txt"),
        (".git/config", r"holds \.git/config"),
        ("data/train.jsonl", r"holds data/train\.jsonl"),
        ("README.md", r"README\.md is missing, or is not as publish wrote it"),
    ],
)
@pytest.mark.parametrize("published", [True, False])
def test_files_of_somebody_else_are_never_replaced(
    tmp_path: Path, name: str, says: str, published: bool
) -> None:
    folder = tmp_path / "set"
    data = split_of(full_set(3, 5))
    if published:
        publish(data, folder)
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as mine:
        mine.write("My own words.\n")
    before = files(folder)
    with pytest.raises(BadInput, match=says):
        publish(data, folder)
    assert files(folder) == before


def test_a_data_set_folder_and_a_file_are_not_replaced_either(tmp_path: Path) -> None:
    data = split_of(full_set(3, 5))
    with pytest.raises(BadInput, match="which publish did not write"):
        publish(data, data.write(tmp_path / "set"))
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(BadInput, match="is a file"):
        publish(data, file)
    with pytest.raises(BadInput, match="did not write"):
        data.write(publish(data, tmp_path / "hub"))


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert files(publish(split_of(full_set(3, 5)), tmp_path / "set"))


@pytest.mark.parametrize("place", ["raw", "raw/bad", "processed"])
def test_raw_data_is_never_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "data" / "raw" / "bad").mkdir(parents=True)
    with pytest.raises(BadInput, match="never written"):
        publish(split_of(full_set(3, 5)), tmp_path / "data" / place / "set")


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_folder_that_cannot_be_replaced_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    folder = publish(split_of(full_set(3, 5)), tmp_path / "set")
    before = files(folder)
    rename, calls = os.rename, iter(range(1, 9))

    def failing(*where: Any) -> None:
        if next(calls) == fails_at:
            raise OSError(28, "No space left on device")
        rename(*where)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(BadInput, match=r"No space left .* is as it was"):
        publish(split_of(full_set(4, 9)), folder)
    assert files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=re.escape("versecraft[tables]")):
        publish(split_of(full_set(3, 5)), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_poems_that_are_answers_are_told_from_a_models(tmp_path: Path) -> None:
    text = (
        "The ferry has been sold for scrap, they say,\nits bell unscrewed, its ledger shut.\n"
        "I crossed on it to school on winter mornings\nand kept the ticket in a shoe.\n\n"
        "The river has not noticed. It goes by\nwith timber, with a bottle, with the ice."
    )
    poem = Poem(text=text, quality="good")
    meta = {"model": "author", "key": None, "licence": "CC0-1.0"}
    row = verse("the steps", poem.text).model_copy(
        update={"poem_ids": (poem.id,), "quality": "good", "meta": meta}
    )
    folder = publish(split_of([row], role="poet"), tmp_path / "set")
    assert header(folder)["license"] == "cc0-1.0"
    assert "author (1 rows). Answers of `author` are poems of the corpus" in card(folder)


def test_the_command_publishes_what_was_balanced(tmp_path: Path) -> None:
    workspace = Workspace.init(tmp_path)
    for n in range(4):
        head = f"title: {n}\nlicence: {'MIT' if n else 'unknown'}\nsource: Mill Press"
        file = workspace.raw / ("bad" if n < 3 else "good") / f"{n}.txt"
        file.write_text(f"---\n{head}\n---\n{make_poem(n).text}\n", encoding="utf-8")
    rows = [under(critique(p), p.licence) for p in read_corpus(workspace.raw).poems]
    split_of(rows).write(workspace.data_set("educator"))
    words = ["publish", "educator", "-w", str(tmp_path)]
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, BadInput)
    assert "known: bad/0.txt." in str(refused.exception)
    said = CliRunner().invoke(app, [*words, "--allow-unknown-licences", "--json"])
    told = json.loads(said.output)
    assert told["folder"] == str(tmp_path / "published" / "educator")
    assert [(t["licence"], t["source"], t["poems"]) for t in told["licences"]] == [
        ("MIT", "Mill Press", 3), ("unknown", "Mill Press", 1)
    ]  # fmt: skip
    into = tmp_path / "elsewhere"
    said = CliRunner().invoke(app, [*words, "--allow-unknown-licences", "--into", str(into)])
    assert "MIT, from Mill Press: 3 poems in 3 rows" in said.output
    assert files(into) == files(Path(told["folder"]))
