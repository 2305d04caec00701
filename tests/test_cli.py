"""The command line as a user meets it: results, JSON, exit codes and messages."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
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


# By the batch

BATCH = ("--backend", "claude-batch:claude-opus-5-5")


@pytest.fixture
def left(versecraft: Call, tmp_path: Path, model_server: ModelServer) -> Call:
    """The command line after Ctrl-C while a batch of 24 critiques was under way."""
    versecraft("init", ".")
    poems(tmp_path, good=16, bad=8)
    model_server.faults(batch_seconds=1.0)

    def press() -> None:
        patience = time.monotonic() + 60
        while not model_server.stats().get("batches") and time.monotonic() < patience:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    said = versecraft("generate", "critique", *BATCH, "--yes")
    thread.join()
    assert said.code == 130
    assert "Leaving 24 requests at work at the provider" in said.err
    assert "run it again to go on or to collect" in said.err
    return versecraft


def test_a_batch_left_at_work_shows_in_status_and_plan_and_is_collected_later(
    left: Call, model_server: ModelServer
) -> None:
    [step] = [s for s in left("status", "--json").json["steps"] if s["under_way"]]
    assert (step["task"], step["under_way"], step["answered"]) == ("critique", 24, 0)
    said = left("status").out
    assert "24 requests in batch msgbatch_" in said
    assert "versecraft generate TASK" in said
    [bill] = left("plan", "critique", *BATCH, "--json").json
    assert (bill["to_ask"], bill["under_way"], bill["dollars"]) == (0, 24, 0.0)
    assert "under way by the batch" in left("plan", "critique", *BATCH).out
    said = left("generate", "critique", *BATCH, "--json")  # asks nothing, so there is no question
    assert (said.code, said.json[0]["answered"]) == (0, 24)
    assert model_server.stats()["batches"] == 1
    [step] = [s for s in left("status", "--json").json["steps"] if s["answered"]]
    assert (step["answered"], step["under_way"], step["batches"]) == (24, 0, [])
    assert step["dollars"] == pytest.approx(said.json[0]["cost"], abs=1e-4)


def test_a_cancelled_batch_is_collected_without_asking_anew(
    left: Call, model_server: ModelServer
) -> None:
    said = left("cancel", "critique", *BATCH)
    assert said.code == 0
    assert "Asked to cancel msgbatch_" in said.out
    assert "versecraft generate critique --backend claude-batch:claude-opus-5-5 --bud" in said.out
    said = left("generate", "critique", *BATCH, "--budget", "0", "--json")
    [run] = said.json
    assert said.code == 3
    assert 0 < run["answered"] < 24
    assert run["errors"] == {"cancelled": 24 - run["answered"]}
    assert "No batches are under way" in left("cancel", "critique", *BATCH).out
    assert model_server.stats()["batches"] == 1
    said = left("generate", "critique", *BATCH, "--yes", "--json")
    assert (said.code, said.json[0]["answered"]) == (0, 24 - run["answered"])


# Money


class Keyboard(io.StringIO):
    """A terminal at which somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "code", "answered"), [("y", 0, 3), ("n", 1, 0), ("", 1, 0)])
def test_at_a_terminal_a_bill_over_the_threshold_is_asked_about(
    versecraft: Call, tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch,
    typed: str, code: int, answered: int,
) -> None:  # fmt: skip
    versecraft("init", ".")
    poems(tmp_path)
    config = tmp_path / "versecraft.toml"
    text = config.read_text(encoding="utf-8").replace("confirm_over = 1.0", "confirm_over = 0.01")
    config.write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", Keyboard(f"{typed}\n"))
    said = versecraft("generate", "critique")
    assert said.code == code
    assert "This may cost about $0.0" in said.out + said.err
    assert "Go on?" in said.out + said.err
    assert model_server.stats()["answered"] == answered


def test_a_bill_under_the_threshold_is_not_asked_about(
    versecraft: Call, tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    versecraft("init", ".")
    poems(tmp_path)
    monkeypatch.setattr(sys, "stdin", Keyboard(""))
    said = versecraft("generate", "critique")
    assert said.code == 0
    assert "Go on?" not in said.out + said.err


def test_a_budget_that_is_used_up_gives_exit_code_3_and_says_what_is_left(
    versecraft: Call, tmp_path: Path, model_server: ModelServer
) -> None:
    versecraft("init", ".")
    poems(tmp_path, good=12, bad=8)
    said = versecraft("generate", "critique", "--budget", "0.25", "--json")
    [run] = said.json
    assert said.code == 3
    assert run["cost"] <= 0.25
    assert 0 < run["answered"] < 20
    assert run["errors"] == {"budget": 20 - run["answered"]}
    assert f"Items without an answer yet: {20 - run['answered']}, about $" in said.err
    said = versecraft("generate", "critique", "--json", "--yes")
    assert (said.code, said.json[0]["answered"]) == (0, 20 - run["answered"])


def test_a_spend_limit_gives_exit_code_1_and_the_reason(
    versecraft: Call, tmp_path: Path, model_server: ModelServer
) -> None:
    versecraft("init", ".")
    poems(tmp_path)
    model_server.faults(pspend=1.0)
    said = versecraft("generate", "critique", "--yes")
    assert said.code == 1
    assert "Raise the spend limit in the console" in " ".join((said.out + said.err).split())
    assert model_server.stats()["requests"] == 1, "the others wait for the first"


def test_the_bill_of_a_phase_shows_all_four_ways(
    versecraft: Call, tmp_path: Path, model_server: ModelServer
) -> None:
    versecraft("init", ".")
    poems(tmp_path, good=4, bad=4)
    versecraft("match", "--strategy", "random")
    said = versecraft("plan", "seed").out
    assert "Live $" in said
    assert "with the guides cached $" in said
    assert "by the batch $" in said
    assert "counted by the provider" in said
    assert model_server.stats().get("sent", 0) == 0
    dollars = [
        bill["dollars"]
        for backend in ("claude", "claude-batch")
        for bill in versecraft(
            "plan", "critique", "-b", f"{backend}:claude-opus-5-5", "--json"
        ).json
    ]
    assert dollars[0] > dollars[1] > dollars[0] / 3


def test_a_price_of_ones_own_makes_a_model_known(
    versecraft: Call, tmp_path: Path, model_server: ModelServer
) -> None:
    versecraft("init", ".")
    poems(tmp_path)
    said = versecraft("plan", "critique", "-b", "claude:claude-next")
    assert said.code == 1
    assert 'add [prices."claude-next"] with input and output to versecraft.toml' in said.err
    with (tmp_path / "versecraft.toml").open("a", encoding="utf-8") as config:
        config.write('\n[prices."claude-next"]\ninput = 1000.0\noutput = 2000.0\n')
    for scheme in ("claude", "claude-batch"):
        said = versecraft("plan", "critique", "-b", f"{scheme}:claude-next", "--json")
        assert said.code == 0, said
        [bill] = said.json
        tokens, cost = bill["tokens"], bill["cost"]
        expected = (tokens["input"] * 1000 + tokens["output"] * 2000) / 1e6
        assert cost["live"] == pytest.approx(expected) == 2 * cost["batch"]
