"""The command line as a user meets it: results, JSON, exit codes and messages."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conftest import ModelServer
from sources import make_poem
from versecraft.cli import app, main
from versecraft.records import Quality


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Said]


@pytest.fixture
def versecraft(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    """Runs the command line in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["versecraft", *words])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        return Said(exit_.value.code if isinstance(exit_.value.code, int) else 1, out, err)

    return call


@pytest.fixture
def sample(versecraft: Call) -> Call:
    """The command line in a workspace with the sample, matched at random."""
    assert versecraft("init", ".", "--sample").code == 0
    return versecraft


def poems(folder: Path, good: int = 2, bad: int = 1) -> None:
    sides: list[tuple[Quality, int]] = [("good", good), ("bad", bad)]
    for quality, count in sides:
        for n in range(count):
            file = folder / "data" / "raw" / quality / f"{n}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(make_poem(n, quality).text, encoding="utf-8")


def test_every_command_helps_with_an_example(versecraft: Call) -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        said = versecraft(name, "--help")
        assert said.code == 0
        assert "Example: versecraft" in said.out, name


def test_tasks_and_backends_are_listed(versecraft: Call) -> None:
    tasks = {t["name"]: t for t in versecraft("tasks", "--json").json}
    assert tasks["poem"]["role"] == "poet"
    assert tasks["brief"]["backend"] == "local"
    schemes = {b["scheme"] for b in versecraft("backends", "--json").json}
    assert schemes >= {"claude", "openai", "replay", "scripted"}
    assert "critique" in versecraft("tasks").out


def test_the_sample_goes_from_poems_to_a_balanced_set(sample: Call, tmp_path: Path) -> None:
    assert sample("corpus", "--json").json["bad"] == 16
    report = sample("match", "--json").json
    assert (report["matches"], report["partners"]) == (16, 16)
    [critique, comparison, revision] = sample("plan", "seed", "--json").json
    assert (critique["to_ask"], comparison["to_ask"], revision["to_ask"]) == (64, 16, 0)
    for phase in ("seed", "interim", "poet"):
        said = sample("generate", phase, "--json")
        assert said.code == 0, said
        assert all(run["failed"] == run["refused"] == 0 for run in said.json)
    status = sample("status", "--json").json
    answered = {(s["phase"], s["task"]): s["answered"] for s in status["steps"]}
    assert answered["seed", "critique"] == 64
    assert answered["seed", "revision_brief"] == 16
    said = sample("balance", "--json")
    assert said.code == 0, said
    assert abs(said.json["mixture"]["bad_share"]["got"] - 0.40) <= 0.005
    assert sample("balance", "--role", "poet").code == 0
    for role in ("educator", "poet"):
        folder = tmp_path / "data" / f"{role}_training"
        assert {p.name for p in folder.iterdir()} >= {
            "train.jsonl", "valid.jsonl", "dropped.jsonl", "README.md",
        }  # fmt: skip
    again = sample("generate", "seed", "--json").json
    assert all(run["answered"] == 0 for run in again)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["plan", "critque"], 1, "Did you mean 'critique'?"),
        (["generate", "critique", "-b", "cluade:opus"], 1, "Did you mean 'claude'"),
        (["plan", "critique", "-b", "claude:claude-opus-55"], 1, "Did you mean 'claude-opus-5-5'"),
        (["plan", "critique", "--backend", "replay:nowhere.jsonl"], 1, "There is no ledger"),
        (["plan", "critique", "--backend", "openai:nowhere"], 1, "needs an address and a model"),
        (["plan", "critique", "-b", "scripted:no.such"], 1, "scripted:package.module:function"),
        (["plan", "comparison"], 1, "versecraft match"),
        (["balance"], 1, "versecraft generate"),
        (["balance", "--role", "painter"], 2, "painter"),
        (["nonsense"], 2, "No such command"),
    ],
)  # fmt: skip
def test_a_mistake_gets_a_message_with_the_next_step(
    sample: Call, words: list[str], code: int, says: str
) -> None:
    said = sample(*words)
    assert said.code == code
    assert says in said.err
    assert "Traceback" not in said.err


def test_outside_a_workspace_the_message_says_how_to_make_one(versecraft: Call) -> None:
    said = versecraft("status")
    assert said.code == 1
    assert "versecraft init" in said.err


def test_an_empty_corpus_says_where_to_put_poems(versecraft: Call) -> None:
    versecraft("init", ".")
    said = versecraft("corpus")
    assert said.code == 1
    assert "Put poems there" in said.err


def test_without_a_key_nothing_is_asked_and_the_variable_is_named(
    versecraft: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    versecraft("init", ".")
    poems(tmp_path)
    assert versecraft("plan", "critique").code == 0
    said = versecraft("generate", "critique", "--yes")
    assert said.code == 1
    assert "ANTHROPIC_API_KEY" in said.err


def test_spending_over_the_threshold_needs_a_yes(
    versecraft: Call, tmp_path: Path, model_server: ModelServer
) -> None:
    versecraft("init", ".")
    poems(tmp_path)
    config = tmp_path / "versecraft.toml"
    text = config.read_text(encoding="utf-8").replace("confirm_over = 1.0", "confirm_over = 0.0")
    config.write_text(text, encoding="utf-8")
    said = versecraft("generate", "critique")
    assert (said.code, "Say --yes" in said.err) == (1, True)
    assert model_server.stats().get("requests", 0) == 0
    said = versecraft("generate", "critique", "--yes", "--json")
    assert said.code == 0
    assert said.json[0]["answered"] == 3
    assert (tmp_path / "data/annotated/critiques_seed.jsonl").is_file()


def test_failed_rows_give_exit_code_3_and_a_second_call_asks_only_them(
    versecraft: Call, tmp_path: Path, model_server: ModelServer
) -> None:
    versecraft("init", ".")
    poems(tmp_path, good=12, bad=4)
    model_server.faults(ptruncated=0.4)
    said = versecraft("generate", "critique", "--json", "--yes")
    failed = said.json[0]["failed"]
    assert said.code == 3
    assert failed
    model_server.faults()
    said = versecraft("generate", "critique", "--json", "--yes")
    assert (said.code, said.json[0]["answered"]) == (0, failed)


def test_reset_shows_then_moves_then_brings_back(versecraft: Call, tmp_path: Path) -> None:
    (tmp_path / "persona").mkdir()
    said = versecraft("reset")
    assert "persona: would move" in said.out
    assert "data/annotated: left" in said.out
    assert (tmp_path / "persona").exists()
    assert versecraft("reset", "--yes", "--json").json["moved"] == ["persona"]
    assert not (tmp_path / "persona").exists()
    assert versecraft("reset", "--undo").code == 0
    assert (tmp_path / "persona").exists()
    said = versecraft("reset", "data/raw", "--yes")
    assert said.code == 0
    assert "left" in said.out


def test_a_limit_leaves_earlier_answers_where_they_are(sample: Call, tmp_path: Path) -> None:
    assert sample("generate", "critique", "--json").code == 0
    assert sample("generate", "critique", "--limit", "3", "--json").code == 0
    file = tmp_path / "data/annotated/critiques_seed.jsonl"
    assert len(file.read_text(encoding="utf-8").splitlines()) == 64


def test_a_step_that_waits_for_another_is_billed_before_it_is_asked(
    versecraft: Call, tmp_path: Path, model_server: ModelServer
) -> None:
    versecraft("init", ".")
    poems(tmp_path, good=8, bad=8)
    versecraft("match", "--strategy", "random")
    said = versecraft("plan", "seed")
    assert "up to 16 more" in said.out  # no more than there are critiques to come
    assert "up to 3 more" in versecraft("plan", "seed", "--limit", "3").out
    said = versecraft("generate", "seed", "--budget", "5")
    assert said.code == 0
    assert "Plan: revision_brief" in said.out[said.out.index("Run: comparison") :]
    assert "more" not in versecraft("plan", "seed").out


def test_a_limit_and_another_backend_can_be_asked_for(
    sample: Call, tmp_path: Path, model_server: ModelServer
) -> None:
    spec = f"openai:{model_server.url}/v1#local"
    said = sample("generate", "autopsy", "--backend", spec, "--limit", "3", "--json")
    assert said.json[0]["items"] == said.json[0]["answered"] == 3
