"""The review page: who is let in, what is shown, and that decisions are kept and honoured."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from versecraft.balancing import Balancer
from versecraft.cli import app
from versecraft.decisions import Decision, decided, read_decisions, write_decision
from versecraft.errors import BadInput, LedgerError, UnknownName, VersecraftError
from versecraft.generating import generate
from versecraft.ledger import Ledger, read_rows
from versecraft.matching import Matches
from versecraft.project import Project, steps
from versecraft.quoting import places
from versecraft.records import Match
from versecraft.reviewing import Review, listen, review_app
from versecraft.standing import standing
from versecraft.workspace import Workspace

TASKS = ("critique", "comparison", "revision_brief", "autopsy", "brief", "lesson", "poem")
TOKEN = "a-token-for-tests"


@pytest.fixture(scope="module")
def _answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample with a part of its answers, made once."""
    place = Workspace.init(tmp_path_factory.mktemp("answered") / "demo", sample=True)
    project = Project(place)
    poems = {poem.id: poem for poem in project.corpus.poems}
    pairs = [
        sorted((poems[i] for i in row.poem_ids), key=lambda poem: poem.quality)
        for row in read_rows(place.root / "runs" / "sample.jsonl")[0]
        if row.task == "comparison"
    ]
    found = [Match(bad=b, good=g, similarity=0.9, shares_topic=True) for b, g in pairs]
    Matches(tuple(found)).write(place.matches)
    for name in TASKS:
        (step, *_) = steps(name)
        generate(project.plan(step, limit=64 if name == "critique" else 20))
    return place.root


@pytest.fixture
def project(_answered: Path, tmp_path: Path) -> Project:
    return Project(Workspace.open(shutil.copytree(_answered, tmp_path / "demo")))


def shortened(review: Review, key: str) -> dict[str, Any]:
    """A critique with its first strength left out."""
    output: dict[str, Any] = json.loads(json.dumps(review.row(key)["output"]))
    output["strengths"] = output["strengths"][1:]
    return output


# Decisions and what they do to the data.


def test_the_last_decision_on_a_row_holds_and_a_cut_line_costs_only_itself(tmp_path: Path) -> None:
    file = tmp_path / "decisions.jsonl"
    assert read_decisions(file) == {}
    for key, verdict in (
        ("a", "accepted"),
        ("a", "rejected"),
        ("b", "accepted"),
        ("c", "rejected"),
    ):
        write_decision(file, Decision(key=key, answer="x", decision=verdict, when=1.0))
    write_decision(file, Decision(key="c", answer="x", decision="undecided", when=2.0))
    with file.open("ab") as cut:
        cut.write(b'{"key":"d","answer":"x","deci')
    write_decision(file, Decision(key="e", answer="x", decision="accepted", when=3.0))
    with pytest.warns(RuntimeWarning, match=r"1 line\(s\) that are no decisions \(line 6\)"):
        found = read_decisions(file)
    assert {key: d.decision for key, d in found.items()} == {
        "a": "rejected", "b": "accepted", "e": "accepted",
    }  # fmt: skip


def test_a_decision_is_refused_while_another_process_writes(tmp_path: Path) -> None:
    file = tmp_path / "decisions.jsonl"
    with Ledger(file), pytest.raises(LedgerError, match="Another process"):
        write_decision(file, Decision(key="a", answer="x", decision="accepted", when=1.0))


def test_rejected_rows_make_no_examples_and_edited_rows_make_them_as_edited(
    project: Project,
) -> None:
    ledgers = {f: f.read_bytes() for f in (project.workspace.root / "runs").rglob("*.jsonl")}
    before = {e.meta["key"]: e for e in project.examples("critique")}
    review = Review(project, "critique")
    first, second, third, *_ = [row["key"] for row in review.rows()]
    assert review.decide(first, "rejected") == []
    assert review.decide(second, "edited", shortened(review, second)) == []
    assert review.decide(third, "accepted") == []

    after = {e.meta["key"]: e for e in project.examples("critique")}
    assert before.keys() - after.keys() == {first}
    assert after[third] == before[third]
    assert (after[second].meta["edited"], after[third].meta["edited"]) == ("yes", None)
    target = json.loads(after[second].messages[-1].content)
    wanted = json.loads(before[second].messages[-1].content)
    assert target == {**wanted, "strengths": wanted["strengths"][1:]}
    assert after[second].messages[:-1] == before[second].messages[:-1]
    assert {f: f.read_bytes() for f in ledgers} == ledgers  # the answers themselves stay


def test_the_mixture_counts_what_was_rejected(project: Project) -> None:
    review = Review(project, "lesson")
    for row in review.rows()[:3]:
        review.decide(row["key"], "rejected")
    mixture, data = project.mix("educator", min_tasks=1, bad_share=0.5)
    gone = [d for d in mixture.dropped if d.reason == "rejected"]
    assert len(gone) == 3
    assert all(d.detail.startswith("lesson: ") for d in gone)
    assert mixture.report()["dropped"]["rejected"] == 3
    assert data.card["dropped"]["rejected"] == 3


def test_a_bad_poem_that_is_short_of_tasks_says_what_was_rejected(project: Project) -> None:
    review = Review(project, "critique")
    review.decide(review.rows()[0]["key"], "rejected")
    runs = list(project.runs("critique"))
    gone = [d for run in runs for d in run.dropped]
    with pytest.warns(RuntimeWarning, match="revision_brief are not used: .* 1 to other items"):
        examples = [e for e in project.examples() if e.task != "comparison"]
    with pytest.raises(VersecraftError, match="critique: 1 dropped, rejected"):
        Balancer().balance(examples, dropped=gone)


def test_what_is_made_from_an_answer_follows_the_decision_on_it(project: Project) -> None:
    (briefs,), (poems,) = steps("brief"), steps("poem")
    asked = len(project.items(poems))
    review = Review(project, "brief")
    key = review.rows()[0]["key"]
    review.decide(key, "rejected")
    assert len(project.items(poems)) == asked - 1
    review.decide(key, "undecided")
    assert len(project.items(poems)) == asked
    assert project.plan(briefs).to_ask == project.plan(briefs).items - asked  # not asked again


def test_a_decision_does_not_hold_for_another_answer_to_the_same_request(project: Project) -> None:
    review = Review(project, "critique")
    key = review.rows()[0]["key"]
    review.decide(key, "rejected")
    decisions = read_decisions(project.workspace.decisions)
    row = next(
        r for r in read_rows(project.workspace.ledger("seed", "critique"))[0] if r.key == key
    )
    assert decided(row, decisions) is None
    again = row.model_copy(update={"output": shortened(review, key)})
    assert decided(again, decisions) is again


def test_an_edit_that_the_task_refuses_is_not_saved_and_one_that_changes_nothing_accepts(
    project: Project,
) -> None:
    review = Review(project, "critique")
    key = review.rows()[0]["key"]
    output = json.loads(json.dumps(review.row(key)["output"]))
    output["issues"][0]["location"]["quote"] = "words that no poem of the sample has"
    (problem,) = review.decide(key, "edited", output)
    assert problem["at"] == []
    assert "is not in the poem" in problem["says"]
    output["issues"][0]["diagnosis"] = "short"
    problems = review.problems(key, output)
    assert [tuple(p["at"]) for p in problems] == [("issues", 0, "diagnosis")]
    assert not project.workspace.decisions.exists()
    assert review.decide(key, "edited", review.row(key)["output"]) == []
    assert review.line(key)["decision"] == "accepted"


def test_status_says_how_many_are_decided(project: Project) -> None:
    project.workspace.matches.unlink()  # else status finds that they must be made anew
    review = Review(project, "lesson")
    for row in review.rows()[:2]:
        review.decide(row["key"], "accepted")
    counts = {s["task"]: s["decided"] for s in standing(project).steps if s["phase"] != "seed"}
    assert (counts["lesson"], counts["autopsy"]) == (2, 0)
    said = CliRunner().invoke(app, ["status", "-w", str(project.workspace.root)])
    assert re.search(r"Decided: 2 of \d+ answers", said.stdout)


# What is shown.


def test_every_task_of_the_sample_is_shown_without_problems(project: Project) -> None:
    review = Review(project)
    assert {row["task"] for row in review.rows()} == set(TASKS)
    for line in review.rows():
        row = review.row(line["key"])
        assert row["problems"] == []
        assert row["label"]
        verse = [n for n, part in enumerate(row["parts"]) if part["verse"]]
        if row["task"] in ("critique", "comparison", "autopsy", "revision_brief"):
            quotes = len(re.findall(r'quote": ', json.dumps(row["output"])))
            assert len(row["places"]) == quotes
            assert {place["part"] for place in row["places"].values()} == set(verse)


def test_blind_hides_quality_author_title_and_model(project: Project) -> None:
    review = Review(project, "critique", blind=True)
    shown = [review.row(line["key"]) for line in review.rows()]
    said = json.dumps([review.rows(), [{**row, "schema": None} for row in shown]])
    for word in ("quality", "qualities", "author", "title", "licence", "model", "phase", "source"):
        assert f'"{word}": ' not in said
    model = read_rows(project.workspace.ledger("seed", "critique"))[0][0].model
    assert model
    assert model not in said
    plain = Review(project, "critique").rows()
    assert [r["quality"] for r in plain] == sorted(r["quality"] for r in plain)  # bad ones first
    order = {r["key"]: r["quality"] for r in plain}
    blind = [order[r["key"]] for r in review.rows()]
    assert blind != sorted(blind)


@given(
    lines=st.lists(st.text("abcdé 😀—'", min_size=1, max_size=20), min_size=1, max_size=6),
    data=st.data(),
)
def test_a_quotation_is_found_where_its_words_stand(lines: list[str], data: st.DataObject) -> None:
    text = "\n".join(lines)
    line = data.draw(st.sampled_from(lines))
    start = data.draw(st.integers(0, len(line)))
    quote = line[start : data.draw(st.integers(start, len(line)))]
    for _, place in places({"quote": quote}, [{"name": "poem", "verse": True, "text": text}]):
        units = text.encode("utf-16-le")
        found = units[2 * place["start"] : 2 * place["end"]].decode("utf-16-le")
        words = re.compile(r"[^\W_]+")
        assert words.findall(found) == words.findall(quote)
        before = units[: 2 * place["start"]].decode("utf-16-le").split("\n")
        assert place["line"] == sum(bool(x.strip()) for x in before[:-1]) + 1


def test_without_answers_or_with_a_wrong_name_the_message_says_what_to_do(tmp_path: Path) -> None:
    project = Project(Workspace.init(tmp_path / "w", sample=True))
    with pytest.raises(BadInput, match="versecraft generate seed"):
        Review(project)
    with pytest.raises(UnknownName, match="Did you mean 'critique'"):
        Review(project, "critque")


# Over HTTP.


@pytest.fixture
def client(project: Project) -> Any:
    """A browser's side of the page, on this machine and without the token."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    from starlette.testclient import TestClient

    return TestClient(review_app(Review(project), TOKEN), base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize("path", ["", "page.js", "rows", "rows/x/check"])
@pytest.mark.parametrize("token", ["", "/", "/another-token/", f"/{TOKEN}x/", "/é/"])
def test_without_the_token_nothing_is_told(client: Any, token: str, path: str) -> None:
    for said in (client.get(f"{token}{path}"), client.post(f"{token}{path}", json={})):
        assert said.status_code == 403
        assert "versecraft review printed" in said.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200), ("localhost:8000", 200), ("evil.example", 403), ("", 403),
        ("127.0.0.1.evil.example:8000", 403), ("evil.example:127.0.0.1", 403), ("[::1", 403),
    ],
)  # fmt: skip
def test_another_name_for_this_machine_is_refused(client: Any, host: str, status: int) -> None:
    assert client.get(f"/{TOKEN}/rows", headers={"Host": host}).status_code == status


@pytest.mark.parametrize("path", [f"/{TOKEN}/", f"/{TOKEN}/rows", f"/{TOKEN}/page.js", "/no"])
def test_every_answer_tells_the_browser_to_be_strict(client: Any, path: str) -> None:
    headers = client.get(path, headers={"Origin": "https://evil.example"}).headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


def test_the_page_needs_nothing_from_elsewhere_and_makes_no_markup_from_data() -> None:
    page = Path(str(resources.files("versecraft"))) / "data" / "review"
    for file in page.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"^\s*//.*|(?<=\s)// .*", "", text, flags=re.MULTILINE), file
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert way not in text, file


def test_edits_are_tried_and_saved_over_http(client: Any, project: Project) -> None:
    base = f"/{TOKEN}/rows"
    said = client.get(base).json()
    assert said["blind"] is False
    key = next(row["key"] for row in said["rows"] if row["task"] == "poem")
    row = client.get(f"{base}/{key}").json()
    wrong = {"output": {"text": "Here is your poem:\n\n" + row["output"]["text"]}}
    (problem,) = client.post(f"{base}/{key}/check", json=wrong).json()["problems"]
    assert "is not poem" in problem["says"] or "lines" in problem["says"]
    refused = client.post(f"{base}/{key}/decision", json={"decision": "edited", **wrong})
    assert (refused.status_code, refused.json()["problems"]) == (422, [problem])
    assert not project.workspace.decisions.exists()
    poem = row["output"]["text"].replace(" the ", " that ", 1)
    right = {"decision": "edited", "output": {"text": poem}}
    assert client.post(f"{base}/{key}/check", json=right).json() == {"problems": []}
    saved = client.post(f"{base}/{key}/decision", json=right)
    assert (saved.status_code, saved.json()["decision"]) == (200, "edited")
    again = client.get(f"{base}/{key}").json()
    assert (again["output"]["text"], again["original"]) == (poem, row["output"])
    assert read_decisions(project.workspace.decisions)[key].output == {"text": poem}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("no-such-key/decision", {"decision": "accepted"}, 404),
        ("KEY/decision", {"decision": "burnt"}, 400),
        ("KEY/decision", {"decision": "edited"}, 400),
        ("KEY/decision", {"decision": "accepted", "more": 1}, 400),
        ("KEY/check", {"output": {}}, 200),
    ],
)
def test_a_wrong_request_changes_nothing(
    client: Any, project: Project, path: str, body: dict[str, Any], status: int
) -> None:
    key = client.get(f"/{TOKEN}/rows").json()["rows"][0]["key"]
    said = client.post(f"/{TOKEN}/rows/{path.replace('KEY', key)}", json=body)
    assert said.status_code == status
    assert "says" in said.json() or said.json()["problems"]
    assert not project.workspace.decisions.exists()


# The command, and the page in a browser.

COMMAND = "import sys; sys.argv[0] = 'versecraft'; from versecraft.cli import main; main()"


@pytest.fixture
def address(project: Project) -> Iterator[str]:
    """What `versecraft review` prints; it runs until Ctrl-C."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    words = ["review", "--no-browser", "-w", str(project.workspace.root)]
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", line)
            assert found, line + (process.stderr.read() if process.stderr else "")
            yield found[0]
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0


def test_a_taken_port_is_an_error_that_says_what_to_do() -> None:
    with listen() as taken:
        host, port = taken.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(BadInput, match="Give another one"):
            listen(port)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("there is no chromium")
    with api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.slow
def test_a_poet_reads_accepts_rejects_edits_and_takes_back_by_the_keyboard(
    address: str, project: Project, browser: Any
) -> None:
    page = browser.new_page()
    trouble: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address + "#task=critique")
    page.wait_for_selector("article .verse")
    keys = page.eval_on_selector_all("#list button", "all => all.map(b => b.dataset.key)")
    poems = [poem.text for poem in (*project.corpus.bad, *project.good(0, 200))]

    def state(n: int) -> str:
        page.wait_for_selector("article")
        return str(
            page.locator(f'#list button[data-key="{keys[n]}"]').get_attribute("data-decision")
        )

    # The verse stands line for line as in its file, and a quotation lights up in it.
    indented = next(n for n, poem in enumerate(poems[: len(keys)]) if "\n  " in poem)
    for n in (indented, 0):
        page.locator(f'#list button[data-key="{keys[n]}"]').click()
        page.wait_for_function("key => location.hash.includes(key)", arg=keys[n])
        page.wait_for_selector(f'article[data-key="{keys[n]}"]')
        lines = page.eval_on_selector_all("article .line", "all => all.map(l => l.textContent)")
        assert [line.strip("\n") for line in lines] == poems[n].split("\n")
    page.locator("button.quote").first.hover()
    assert page.locator("mark.on").first.inner_text() in poems[0]

    page.keyboard.press("a")
    page.wait_for_selector(f'#list button[data-key="{keys[1]}"][aria-current]')
    page.keyboard.press("r")
    page.wait_for_selector(f'#list button[data-key="{keys[2]}"][aria-current]')
    page.wait_for_selector("article .verse")
    assert (state(0), state(1), state(2)) == ("accepted", "rejected", "undecided")

    page.keyboard.press("e")
    effect = page.get_by_label("Effect").first
    effect.fill("Too short")
    page.wait_for_selector(".problem:has-text('at least 20 characters')")
    assert page.get_by_role("button", name="Save").is_disabled()
    effect.fill("<b>Here</b> the verb arrives before anybody has expected it.")
    page.wait_for_selector("button.main:not(:disabled)")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".decision[data-decision=edited]")
    assert page.get_by_text("<b>Here</b> the verb").count() == 1  # as text, not as markup

    page.keyboard.press("u")
    page.wait_for_selector(".decision[data-decision=undecided]")
    page.keyboard.press("u")
    page.wait_for_selector(f'#list button[data-key="{keys[1]}"][data-decision=undecided]')
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    assert trouble == []
    assert all(url.startswith(address) for url in asked)
    found = read_decisions(project.workspace.decisions)
    assert {key: d.decision for key, d in found.items()} == {keys[0]: "accepted"}
    page.close()
