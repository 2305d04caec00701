"""`versecraft check` tells a poet what a poem is, and a script whether it passes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from versecraft.answers import Brief, Critique
from versecraft.cli import app
from versecraft.errors import BadInput, UnknownName
from versecraft.plugins import get_task
from versecraft.records import Poem, PoemItem

pytest.importorskip("pronouncing", reason="needs the extra 'prosody'")

QUATRAIN = """\
The kettle ticks, the window fills with grey,
The neighbour's radio begins to speak;
My mother folds another shirt away
And counts the working mornings of the week.
"""


def run(*args: str, code: int = 0, stdin: str | None = None) -> str:
    result = CliRunner().invoke(app, ["check", *args], input=stdin, env={"COLUMNS": "160"})
    assert result.exit_code == code, result.output
    return result.stdout


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_a_poem_is_shown_with_its_syllables_letters_and_form(tmp_path: Path) -> None:
    shown = run(write(tmp_path, "a.txt", QUATRAIN))
    assert "A poem and nothing but a poem." in shown
    assert "Scheme: ABAB" in shown
    assert "Metre: iambic, 5 feet, 100% of lines" in shown
    assert "quatrains" in shown
    table = [line.split()[-2:] for line in shown.splitlines() if line.split()[-2:-1] == ["10"]]
    assert table == [["10", letter] for letter in "ABAB"]


def test_what_is_not_poem_or_worn_is_marked_where_it_stands() -> None:
    # Square brackets are a poem's own, not markup.
    text = f"Here is the poem:\n\n{QUATRAIN}as cold\nas ice, in a tapestry [b]of[/b] light\n"
    shown = run("-", code=3, stdin=text)
    assert "Not a poem alone: " in shown
    lines = [line.split() for line in shown.splitlines()]
    assert next(line for line in lines if line[:1] == ["1"])[-3:-1] == ["not", "poem"]
    assert "cliché: cold / as ice" in shown
    assert "machine verse: a tapestry" in shown
    assert "[b]of[/b]" in shown


def test_several_files_are_shown_one_after_another_and_json_has_all(tmp_path: Path) -> None:
    files = [write(tmp_path, f"{n}.txt", QUATRAIN) for n in "ab"]
    shown = run(*files)
    assert 0 < shown.index("a.txt") < shown.index("b.txt")
    facts = json.loads(run(*files, "--json"))
    assert [fact["file"] for fact in facts] == files
    first = facts[0]
    assert first["kind"]["clean"] is True
    assert first["form"]["form"] == "quatrains"
    assert first["syllables"] == [10, 10, 10, 10]
    assert first["meter"]["foot"] == "iambic"
    assert first["lists"][1].startswith("slop/")


def test_a_form_that_is_asked_and_broken_is_exit_code_3(tmp_path: Path) -> None:
    file = write(tmp_path, "a.txt", QUATRAIN)
    assert "common metre" in run(file, "--form", "common-metre", code=3)
    run(file, "--form", "quatrains")


def test_without_the_extra_the_rest_is_shown_and_an_asked_form_is_exit_code_1(
    tmp_path: Path,
) -> None:
    cold = QUATRAIN.replace("fills with grey", "is as cold").replace("The neighbour", "As ice; the")
    file = write(tmp_path, "a.txt", cold.replace("the's", "the"))
    command = (
        "import sys; sys.argv[0] = 'versecraft'; sys.modules['pronouncing'] = None; "
        "from versecraft.cli import main; main()"
    )
    for form, code in (((), 0), (("--form", "quatrains"), 1)):
        done = subprocess.run(
            [sys.executable, "-c", command, "check", file, *form],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code
        assert "versecraft[prosody]" in done.stderr
        assert "cliché: cold / as ice" in done.stdout
        assert "A poem and nothing but a poem." in done.stdout


def test_front_matter_belongs_to_the_file_and_not_to_the_poem(tmp_path: Path) -> None:
    file = write(tmp_path, "a.txt", f"---\ntitle: Grey\nlicence: MIT\n---\n{QUATRAIN}")
    assert json.loads(run(file, "--json"))[0]["scheme"] == "ABAB"


def test_other_encodings_are_read_and_what_is_no_text_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("A café\r\nnear the bay\r\n".encode("cp1252"))
    assert "A café" in run(str(file))
    file.write_bytes(b"\x00\x01\x02")
    result = CliRunner().invoke(app, ["check", str(file)])
    assert isinstance(result.exception, BadInput)


def test_an_empty_text_is_no_poem(tmp_path: Path) -> None:
    assert "Not a poem alone: it is empty." in run(write(tmp_path, "a.txt", "\n"), code=3)


def test_a_missing_file_and_an_unknown_form_are_errors_with_the_next_step(tmp_path: Path) -> None:
    command = "import sys; sys.argv[0] = 'versecraft'; from versecraft.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "check", str(tmp_path / "nope.txt")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "There is no file" in done.stderr
    assert "Traceback" not in done.stderr
    file = write(tmp_path, "a.txt", QUATRAIN)
    result = CliRunner().invoke(app, ["check", file, "--form", "sonet"])
    assert isinstance(result.exception, UnknownName)


def claim(quote: str) -> Critique:
    issue = {
        "type": "form_breach",
        "location": {"quote": quote},
        "diagnosis": "The rhyme that the form has promised does not come here.",
        "direction": "Cut the line and end it on a word that answers line 1.",
        "severity": "must_fix",
    }
    return Critique.model_validate({"strengths": [], "issues": [issue]})


def brief(scheme: str) -> Brief:
    return Brief.model_validate(
        {
            "angle": "Somebody who is up early watches another person get ready for work, unseen.",
            "avoid": ["early bird", "daily bread", "rise and shine", "grey dawn", "hard work"],
            "imagery": "Kettles, shirts, calendars and the radio of other people.",
            "form": {
                "name": "quatrains", "lines": [4, 8], "scheme": scheme,
                "meter": "iambic", "feet": 5,
            },
        }
    )  # fmt: skip


def verdict(text: str, scheme: str, quote: str) -> str | None:
    task = get_task("critique")
    item = PoemItem(poem=Poem(text=text, quality="bad"), brief=brief(scheme))
    return task.accept(item, task.read(item, json.dumps(claim(quote).model_dump(mode="json"))))


def test_a_breach_is_refused_where_the_form_is_measurably_kept() -> None:
    reason = verdict(QUATRAIN, "ABAB", "folds another shirt away")
    assert reason is not None
    assert "4 of 4 lines rhyme as asked" in reason


def test_a_breach_stands_where_a_clause_is_broken_or_the_line_is_amiss() -> None:
    assert verdict(QUATRAIN, "AABB", "folds another shirt away") is None
    assert verdict(f"{QUATRAIN}And then.\n", "ABAB", "And then.") is None
    longer = QUATRAIN + QUATRAIN.replace("speak", "sing").replace("grey", "smoke")
    assert verdict(longer, "ABAB", "begins to sing") is None
