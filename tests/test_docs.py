"""The docs say what is so: their code runs, their output is real, and nothing public is left out.

How a page is read, from top to bottom, in one temporary folder and one namespace:

* a `python` block runs; an `output` block after it is what it printed;
* of a `console` block each `$ versecraft …` and `$ cd …` runs; the lines below it are what it
  printed. It ends with exit code 0 unless a comment says `# exit 1`. No other `$` line runs;
* `…` in shown output stands for anything; any run of blanks and line ends counts as one blank;
* where code needs an extra that is not installed, the rest of the page is skipped.
"""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from typer.main import get_command

import versecraft
from versecraft import cli, errors, hookspecs
from versecraft.plugins import list_tasks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
SLOW = {ROOT / "README.md", DOCS / "quickstart.md", DOCS / "guides" / "train.md"}  # load models
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
COMMAND = "import sys; sys.argv[0] = 'versecraft'; from versecraft.cli import main; main()"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        yield Block(found[1], found[2], text.count("\n", 0, found.start(2)) + 1)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def same(shown: str, real: str) -> bool:
    """Whether the real output is what is shown; where lines are wrapped does not count."""
    pattern = re.escape(f" {' '.join(shown.split())} ").replace(r"\ …\ ", " (?:.* )?")
    return re.fullmatch(pattern.replace("…", ".*"), f" {' '.join(real.split())} ") is not None


class Session:
    """A page being read: its folder, its namespace, and what its last code printed."""

    def __init__(self, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.page = page
        self.monkeypatch = monkeypatch
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.printed = ""
        for name in ("VERSECRAFT_PLUGINS", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"COLUMNS": "80", "NO_COLOR": "1", "PYTHONPATH": "."}.items():
            monkeypatch.setenv(name, value)

    def read(self, block: Block) -> None:
        if block.language == "python":
            self.run(block.text, block.line)
        elif block.language == "output":
            self.compare(block.text, block.line, self.printed)
        elif block.language == "console":
            self.type(block)

    def run(self, code: str, line: int) -> None:
        printed = io.StringIO()
        source = compile("\n" * (line - 1) + code, str(self.page), "exec", dont_inherit=True)
        with redirect_stdout(printed):
            try:
                exec(source, self.namespace)
            except errors.MissingExtra as error:
                pytest.skip(str(error))
        self.printed = printed.getvalue()

    def type(self, block: Block) -> None:
        for found in re.finditer(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
            command, shown = found[1], found[2]
            words = shlex.split(command, comments=True)
            if words[0] == "cd":
                self.monkeypatch.chdir(words[1])
            if words[0] != "versecraft":
                continue
            line = block.line + block.text.count("\n", 0, found.start())
            done = subprocess.run(
                [sys.executable, "-c", COMMAND, *words[1:]],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, encoding="utf-8", check=False,
            )  # fmt: skip
            if "needs the extra" in done.stdout:
                pytest.skip(done.stdout)
            ends = re.search(r"# exit (\d+)$", command)
            where = f"{name_of(self.page)}:{line}: {command}\n{done.stdout}"
            assert done.returncode == (int(ends[1]) if ends else 0), where
            if shown.strip():
                self.compare(shown, line, done.stdout)

    def compare(self, shown: str, line: int, real: str) -> None:
        assert same(shown, real), f"{name_of(self.page)}:{line} prints\n{real}"


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW)) for page in PAGES],
    ids=name_of,
)
def test_the_code_of_a_page_runs_and_prints_what_it_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session = Session(page, monkeypatch)
    for block in blocks(page):
        session.read(block)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_notebook_runs_and_holds_no_output(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    monkeypatch.chdir(tmp_path)
    session = Session(notebook, monkeypatch)
    for number, cell in enumerate(cells, start=1):
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), f"cell {number}"
            session.run("".join(cell["source"]), 1)


def test_what_is_shown_is_compared_with_what_is_printed() -> None:
    assert same("items   5\n…\ndone", "items 5\none\ntwo\ndone\n")
    assert same("a\n…\nb", "a\nb")
    assert same("took … s", "took 0.3 s")
    assert not same("items 5", "items 6")
    assert not same("items 5", "items 5\nand more")
    assert not same("a\n…\nb", "a\nc")


# Nothing public is left out, and nothing is linked to that is not there.


def headings(page: Path) -> set[str]:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    return {found.strip() for found in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def test_the_reference_is_what_the_code_says() -> None:
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert page.split() == made.reference().split(), "run: python docs/make_reference.py"


def test_each_command_error_and_hook_has_a_heading_and_each_name_an_entry() -> None:
    commands = {f"versecraft {name}" for name in get_command(cli.app).commands}  # type: ignore[attr-defined]
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.VersecraftError)
    }
    hooks = {name for name in vars(hookspecs) if name.startswith("versecraft_")}
    assert commands | classes | hooks <= headings(DOCS / "reference.md")
    assert hooks <= headings(DOCS / "plugins.md")
    entries = re.findall(r"^\* `(\w+)", (DOCS / "reference.md").read_text("utf-8"), re.MULTILINE)
    assert set(versecraft.__all__) <= set(entries)


def test_each_command_is_explained_outside_the_reference() -> None:
    pages = [page for page in PAGES if page != DOCS / "reference.md"]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    for name in get_command(cli.app).commands:  # type: ignore[attr-defined]
        assert f"versecraft {name}" in text, f"no page says what versecraft {name} is for"


def test_each_task_error_kind_and_setting_is_explained() -> None:
    concepts = (DOCS / "concepts.md").read_text(encoding="utf-8")
    generate = (DOCS / "guides" / "generate.md").read_text(encoding="utf-8")
    workspace = (DOCS / "guides" / "workspace.md").read_text(encoding="utf-8")
    for task in list_tasks():
        if "/" not in task.name:
            assert f"\n| `{task.name}` |" in concepts, task.name
    for kind in get_args(errors.ErrorKind):
        assert f"\n| `{kind}` |" in generate, kind
    shipped = ROOT / "src" / "versecraft" / "data" / "versecraft.toml"
    for name in setting_names(tomllib.loads(shipped.read_text(encoding="utf-8"))):
        assert f"\n| `{name}` |" in workspace, name


def setting_names(table: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from setting_names(value, f"{above}{name}.")
        else:
            yield above + name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\((?!https?://)([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            places = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings(target)}
            assert anchor in places, link


def test_every_page_is_on_the_map() -> None:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    linked = {(DOCS / link).resolve() for link in re.findall(r"\]\(([^)#]+)", text)}
    assert set(PAGES) - {DOCS / "index.md", ROOT / "README.md"} <= linked
