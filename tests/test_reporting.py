"""The report of a run: what is there is shown as it is, what is not is named with its command."""

from __future__ import annotations

import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

import versecraft as vc
from versecraft.backends import Request
from versecraft.cards import curve, readme
from versecraft.cli import app
from versecraft.errors import BadInput, WorkshopError
from versecraft.phases import RUNS, Budget, Project
from versecraft.quickstart import RECORDED
from versecraft.testing import Scripted
from versecraft.workspace import Workspace

COMMANDS = {
    "pairs": "versecraft match",
    "the educator's data set": "versecraft balance --role educator",
    "the poet's data set": "versecraft balance --role poet",
    "costs": "versecraft run seed",
    "losses": "versecraft run interim",
    "evaluation": "versecraft run final",
    "workshop": 'versecraft write "a sonnet about rust"',
}
POEM = """\
The latch has lost its argument with rain.
    A flake of it
        comes off on the thumb,

and under the flake
  a smaller latch is starting."""
FACTS = {
    "finished": True, "role": "poet", "trainer": "trl", "base": "embedded", "data": "d",
    "data_card": "c", "rows": {"train": 43, "valid": 5, "dropped": 2}, "steps": 4, "best_step": 4,
    "seconds": 61.0, "device": "cpu", "settings": {"max_length": 640}, "loss": 2.5,
    "valid_loss_before": 3.1, "valid_loss": 2.6, "peak_mb": 900, "versions": {},
}  # fmt: skip


class Page(HTMLParser):
    """What a page shows and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.poems: list[str] = []
        self.text = ""
        self._verse = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.add(tag)
        self.ids.add(named.get("id") or "")
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "data", "action")]
        kind = named.get("class") or ""
        if kind == "verse":
            self.poems.append("")
        self._verse = tag == "span" and kind == "text"
        if self._verse:
            self.poems[-1] += "\n"

    def handle_endtag(self, tag: str) -> None:
        self._verse = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._verse:
            self.poems[-1] += data


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample after the seed phase. Its pairs are drawn at random, which needs no model, so the
    recorded comparisons are of other pairs, and the replay of them fails."""
    place = Workspace.init(tmp_path_factory.mktemp("seeded") / "demo", sample=True)
    config = place.root / "versecraft.toml"
    text = config.read_text(encoding="utf-8").replace('"topical"', '"random"')
    config.write_text(text, encoding="utf-8")
    list(RUNS["seed"](Project(Workspace.open(place.root)), Budget()))
    return place.root


@pytest.fixture
def demo(seeded: Path, tmp_path: Path) -> Workspace:
    return Workspace.open(shutil.copytree(seeded, tmp_path / "demo"))


def test_an_empty_workspace_has_a_report_that_names_what_makes_each_part(tmp_path: Path) -> None:
    found = vc.report(Workspace.init(tmp_path / "new"))
    assert COMMANDS.items() <= found.missing.items()
    page = Page(found.html())
    for command in found.missing.values():
        assert command in page.text


def test_a_report_on_the_seed_shows_what_is_there(demo: Workspace) -> None:
    found = vc.report(demo.root)
    assert found.missing.keys() == COMMANDS.keys() - {"pairs", "costs"}
    assert (found.corpus["good"], found.corpus["bad"], found.matched) == (48, 16, 16)
    answered = {bill.task: (bill.answered, bill.failed) for bill in found.costs}
    assert answered == {
        "critique (seed)": (64, 0), "comparison (seed)": (1, 15), "revision brief (seed)": (16, 0),
    }  # fmt: skip
    page = Page(found.html())
    sections = "corpus pairs mix costs purity losses evaluation workshop left".split()
    assert set(sections) <= page.ids
    assert {one.place for one in found.purity if one.share is None} == {
        "poems as they are generated", "data sets", "what carries loss", "the trained poet",
        "the workshop",
    }  # fmt: skip


def test_ten_pairs_stand_side_by_side_as_they_were_written(demo: Workspace) -> None:
    found = vc.report(demo)
    page = Page(found.html())
    written = [p.text for match in found.pairs for p in (match.bad, match.good)]
    assert len(written) == 20
    assert [poem.removeprefix("\n") for poem in page.poems] == written
    assert found.pairs == vc.report(demo).pairs


def test_the_mix_the_losses_and_all_that_was_left_out_are_shown(demo: Workspace) -> None:
    project = Project(demo)
    _, data = project.mix_seed()
    data.write(demo.data_set("educator"))
    model = demo.root / "models" / "poet-v1"
    model.mkdir(parents=True)
    (model / "README.md").write_text(readme(FACTS), encoding="utf-8")
    losses = [{"step": 0, "eval_loss": 3.1}, {"step": 2, "loss": 2.9}, {"step": 4, "loss": 2.5}]
    curve([*losses, {"step": 4, "eval_loss": 2.6}], model)
    found = vc.report(demo)
    (mix,) = found.sets
    assert mix.asked == 0.4
    assert mix.got == pytest.approx(0.4, abs=0.005)
    assert sum(bad + rest for _, bad, rest in mix.bars) == len(data.train) + len(data.valid)
    (line,) = found.curves
    assert line.train == ((2, 2.9), (4, 2.5))
    assert line.valid == ((0, 3.1), (4, 2.6))
    assert all(0 <= x <= 350 and 0 <= y <= 140 for x, y in line.points("valid", 350, 140))
    left = {(one.place, one.reason): one.count for one in found.left}
    reasons = {("educator's data set", reason): n for reason, n in data.card["dropped"].items()}
    assert left == {("seed: comparison", "http"): 15, **reasons}
    page = Page(found.html())
    assert "holds no answer to comparison" in page.text
    assert "2.6 after" in page.text
    assert {"svg", "polyline", "rect"} <= page.tags


def test_the_evaluation_is_the_evaluation_page_itself(demo: Workspace) -> None:
    poet = Scripted(lambda _: f"Here is your poem:\n\n{POEM}")
    measured = vc.evaluate(poet=poet, limit=2, samples=1, progress=False)
    demo.root.joinpath("reports").mkdir()
    file = demo.root / "reports" / "evaluation.json"
    file.write_text(measured.model_dump_json(), encoding="utf-8")
    found = vc.report(demo)
    assert found.evaluation == measured
    (pure,) = [one for one in found.purity if one.place == "the trained poet"]
    assert pure.share == measured.figure("kind purity").value == 0
    text = found.html()
    for figure in measured.figures:
        assert html.escape(figure.means, quote=False) in text.replace("&#39;", "'")
    file.write_text("{}", encoding="utf-8")
    assert "evaluation" in vc.report(demo).missing


def test_a_session_is_shown_with_what_its_revisions_changed(demo: Workspace) -> None:
    shop = vc.Workshop(educator=demo.backend("opus"), poet=demo.backend("opus"))
    session = shop.write(RECORDED, into=demo.root / "sessions" / "recorded")
    found = vc.report(demo)
    assert [one.session for one in found.sittings] == [session]
    text = found.html()
    assert session.diff().html() in text
    assert "\n" + str(session.final) in Page(text).poems
    (pure,) = [one for one in found.purity if one.place == "the workshop"]
    assert pure.share == 1


def test_a_session_that_came_to_no_end_says_why(demo: Workspace) -> None:
    def prattles(_: Request) -> str:
        return "Here is the brief you asked for: a poem about a gate, in four lines."

    shop = vc.Workshop(educator=demo.backend("opus"), poet=Scripted(prattles))
    with pytest.raises(WorkshopError):
        shop.write(RECORDED, into=demo.root / "sessions" / "stuck")
    found = vc.report(demo)
    (one,) = found.sittings
    assert "asked 3 times" in one.trouble
    assert ("workshop: poem", "rejected") in {(left.place, left.reason) for left in found.left}
    assert "The session came to no end" in Page(found.html()).text


def test_whatever_stands_in_a_text_is_text(demo: Workspace) -> None:
    evil = '"><script>alert(1)</script>{{ config }}</style><img src=http://x.example/y>'
    bad = demo.raw / "bad" / "evil.txt"
    bad.write_text(f"Title: {evil}\nBy: {evil}\n\n{evil}\n  a second line\n", encoding="utf-8")
    text = (demo.raw / "good" / "courtesy.txt").read_text(encoding="utf-8")
    (demo.raw / "good" / "twin.txt").write_text(f"{text}\n{evil}\n", encoding="utf-8")
    matches = vc.Matcher(strategy="random", seed=3)
    corpus = vc.read_corpus(demo.raw)
    matches.fit(corpus.good).match(corpus.bad).write(demo.matches)
    drawn = [m for m in Project(demo).matches() if evil in m.bad.text]
    found = vc.report(demo).model_copy(update={"pairs": tuple(drawn), "notes": (evil,)})
    page = Page(found.html())
    assert not {"script", "img", "link", "iframe", "object"} & page.tags
    assert "\n" + drawn[0].bad.text in page.poems


def test_nothing_is_fetched_from_elsewhere(demo: Workspace) -> None:
    text = vc.report(demo).html()
    assert all(link.startswith("#") for link in Page(text).links)
    assert not re.search(r"https?:|url\(|@import", text)
    for said in ("prefers-color-scheme: dark", "@media print", "white-space: pre-wrap"):
        assert said in text


def test_a_notebook_shows_the_page_in_a_frame_and_a_terminal_a_table(demo: Workspace) -> None:
    found = vc.report(demo)
    shown = re.fullmatch(r'<iframe srcdoc="([^"]*)"[^>]*></iframe>', found._repr_html_())
    assert shown
    assert html.unescape(shown[1]) == found.html()
    assert found.report()["missing"] == found.missing


def test_the_command_writes_the_page_and_asks_nobody(demo: Workspace) -> None:
    done = CliRunner().invoke(app, ["report", "-w", str(demo.root)])
    assert done.exit_code == 0, done.output
    assert "Missing, evaluation: versecraft run final" in done.stdout
    assert (demo.root / "report.html").read_text(encoding="utf-8") == vc.report(demo).html()
    out = demo.root / "pages" / "r.html"
    done = CliRunner().invoke(app, ["report", "--out", str(out), "--json", "-w", str(demo.root)])
    assert json.loads(done.stdout)["corpus"]["bad"] == 16
    assert out.is_file()


def test_a_folder_that_is_no_workspace_and_a_file_that_cannot_be_written(demo: Workspace) -> None:
    with pytest.raises(BadInput, match="versecraft init"):
        vc.report(demo.root / "data")
    with pytest.raises(BadInput, match="Choose another file"):
        vc.report(demo).write(demo.root)
