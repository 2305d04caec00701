"""What survives when a run dies, is interrupted, or runs out of disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ModelServer
from messages_server import answer
from sources import make_plan
from versecraft.backends.claude import Claude
from versecraft.backends.scripted import Scripted
from versecraft.errors import LedgerError
from versecraft.generating import generate
from versecraft.ledger import read_rows

HERE = Path(__file__).parent
WINDOW = 16
COUNT = 300
CHILD = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from sources import make_plan
from versecraft.backends.claude import Claude
from versecraft.generating import generate
backend = Claude("claude-opus-5-5", concurrency={WINDOW}, cache=None)
plan = make_plan(Path(sys.argv[1]), backend, {COUNT})
print("go", flush=True)
run = generate(plan)
print(run.answered, run.cached)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "go\n"
    return child


def end(child: subprocess.Popen[str]) -> None:
    child.communicate()  # which closes its pipes


def until(server: ModelServer, what: str, count: int) -> None:
    """Waits until the server has counted so many."""
    end_of_patience = time.monotonic() + 60
    while server.stats().get(what, 0) < count:
        assert time.monotonic() < end_of_patience
        time.sleep(0.02)


@pytest.mark.slow
def test_kill_9_loses_no_answer_and_asks_again_only_what_was_in_flight(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.faults(latency=0.1)
    for answers in (37, 105, 202):
        child = start(tmp_path)
        until(model_server, "answered", answers)
        child.send_signal(signal.SIGKILL)
        end(child)
    killed, broken = read_rows(tmp_path / "runs" / "critique.jsonl")
    assert 0 < len(killed) < COUNT
    assert broken == []
    plan = make_plan(tmp_path, Claude("claude-opus-5-5", concurrency=WINDOW), COUNT)
    assert plan.cached == len(killed)
    run = generate(plan, progress=False)
    assert (run.answered, run.cached) == (COUNT - len(killed), len(killed))
    rows, broken = read_rows(plan.ledger)
    assert len({r.key for r in rows}) == len(rows) == COUNT
    stats = model_server.stats()
    assert stats["answered"] == COUNT
    # Three kills, each with at most a window of answers that nobody was there to write down.
    assert stats["answered_again"] <= 3 * WINDOW


def test_ctrl_c_keeps_the_answers_under_way(tmp_path: Path, model_server: ModelServer) -> None:
    model_server.faults(latency=0.4)
    child = start(tmp_path)
    until(model_server, "requests", WINDOW + 4)
    child.send_signal(signal.SIGINT)
    end(child)
    assert child.returncode != 0
    rows, broken = read_rows(tmp_path / "runs" / "critique.jsonl")
    assert broken == []
    assert len(rows) == model_server.stats()["answered"] > 0
    assert all(row.output for row in rows)


def test_a_second_ctrl_c_drops_them(tmp_path: Path, model_server: ModelServer) -> None:
    model_server.faults(phang=1.0)
    child = start(tmp_path)
    until(model_server, "requests", WINDOW)
    child.send_signal(signal.SIGINT)
    assert child.stderr is not None
    assert any(line.startswith("Stopping") for line in child.stderr)
    child.send_signal(signal.SIGINT)
    started = time.monotonic()
    end(child)
    assert time.monotonic() - started < 20
    rows, _ = read_rows(tmp_path / "runs" / "critique.jsonl")
    assert [row.error and row.error.kind for row in rows] == ["cancelled"] * WINDOW


def test_a_full_disk_stops_the_run_with_every_earlier_row_intact(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    plan = make_plan(tmp_path, Scripted(lambda r: answer(r.turn), concurrency=1), 30)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, before[1]))
    try:
        with pytest.raises(LedgerError, match="make room and call generate again"):
            generate(plan, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    rows, broken = read_rows(plan.ledger)
    assert 0 < len(rows) < 30
    assert broken == []
    assert generate(plan, progress=False).answered == 30 - len(rows)


def test_a_ledger_in_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(LedgerError, match="Cannot write"):
        generate(make_plan(tmp_path, Scripted(lambda r: answer(r.turn)), 1), progress=False)


def test_a_ledger_row_is_whole_json_on_one_line(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, Scripted(lambda r: answer(r.turn)), 5)
    generate(plan, progress=False)
    lines = plan.ledger.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 5
    assert all(json.loads(line)["task"] == "critique" for line in lines)
    assert os.path.getsize(plan.ledger) > 0
