"""An earlier project: its poems can be kept, each row is accounted for, it stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sources import make_poem
from teacher import answer
from versecraft.cli import app
from versecraft.errors import BadInput
from versecraft.importing import look_at, take_over
from versecraft.plugins import get_task
from versecraft.records import PoemItem
from versecraft.workspace import Workspace

VERSE = "Rust eats the hinge,\nthe gate leans out\nand lets the goats decide."
BRIEF = (
    "Angle: Stay with the hinge.\nAvoid: heart of gold; sands of time; silent night; broken dreams;"
    " tears like rain\nImagery: Iron, goats, a field.\nForm: free verse, 3 to 20 lines"
)


def chat(asked: str, said: str) -> dict[str, object]:
    return {
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    }


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A project laid out as before versecraft."""
    root = tmp_path / "old"
    for quality in ("good", "bad"):
        folder = root / "data" / "raw" / quality
        folder.mkdir(parents=True)
        for n in range(3):
            text = make_poem(n, quality).text
            (folder / f"{n}.txt").write_text(text, encoding="utf-8")
    (root / "data/raw/requests.txt").write_text("a poem about rust\n", encoding="utf-8")
    (root / "data/processed").mkdir()
    (root / "data/processed/all.txt").write_text(make_poem(1, "good").text, encoding="utf-8")
    (root / "persona").mkdir()
    write(
        root / "data/poet_training/pairs.jsonl",
        chat("Write about rust.", VERSE),
        chat("Write about rust.", "**Angle:** rust\n- avoid clichés\n- use iron imagery"),
        chat("Write about rust.", f"{VERSE} [truncated]"),
    )
    poem = make_poem(1).text
    task = get_task("critique")
    turn = task.prompt.render_turn(PoemItem(poem=make_poem(1)).variables())
    write(
        root / "data/annotated/critiques.jsonl",
        {"poem": poem, "critique": "The image is strong, but the ending explains it."},
        {"prompt": turn, "response": answer(turn), "poem": poem},
        {"prompt": f"Please. {turn}", "response": answer(turn), "poem": poem},
        {"prompt": turn, "response": answer(turn), "poem": VERSE},
        {"note": "nothing"},
    )
    with (root / "data/annotated/critiques.jsonl").open("a", encoding="utf-8") as file:
        file.write('\n{"poem": "cut off\n')
    return root


def write(path: Path, *rows: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def content(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_poems_are_counted_and_every_old_row_has_its_reason(old: Path) -> None:
    before = content(old)
    found = look_at(old)
    assert content(old) == before
    assert found.poems == {"good": 3, "bad": 3}
    assert found.processed == {"texts": 1, "in raw": 1}
    assert found.leave == ("data/poet_training", "data/annotated", "persona")
    critiques, pairs = sorted(found.files, key=lambda f: f.file)
    assert (critiques.lines, critiques.passing) == (6, 1)
    assert critiques.refused == {
        "prose, or JSON that no task answers today": 1,
        "asked with another prompt than today's": 1,
        "does not pass the checks of critique": 1,
        "no answer that can be told by its key": 1,
        "no JSON": 1,
    }
    assert (pairs.lines, pairs.passing) == (3, 0)
    assert pairs.refused == {
        "the brief is not in today's form": 1,
        "the answer is not a poem alone": 1,
        "truncated": 1,
    }
    for file in found.files:
        assert file.passing + sum(file.refused.values()) == file.lines


def test_poems_are_copied_with_yes_alone_and_never_over_others(old: Path, tmp_path: Path) -> None:
    before = content(old)
    place = Workspace.init(tmp_path / "new")
    mine = place.raw / "bad" / "0.txt"
    mine.write_text("mine", encoding="utf-8")
    words = ["import", str(old), "--workspace", str(place.root)]
    said = CliRunner().invoke(app, words)
    assert "Nothing was changed. Copy 7 files" in said.output
    assert len(list(place.raw.rglob("*.txt"))) == 1
    said = CliRunner().invoke(app, [*words, "--yes"])
    assert "data/raw/bad/0.txt: left, a file of that name is there" in said.output
    assert "Copied 6 files" in said.output
    assert mine.read_text(encoding="utf-8") == "mine"
    assert (place.raw / "requests.txt").is_file()
    assert content(old) == before


def test_a_project_is_not_copied_into_itself(old: Path) -> None:
    place = Workspace.init(old)
    with pytest.raises(BadInput, match="versecraft reset"):
        take_over(look_at(old), old, place)


def test_a_folder_without_poems_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "data/raw/poems").mkdir(parents=True)
    trouble = look_at(tmp_path).trouble
    assert trouble is not None
    assert "Make it and put the" in trouble
    with pytest.raises(BadInput, match="is no folder"):
        look_at(tmp_path / "nowhere")
