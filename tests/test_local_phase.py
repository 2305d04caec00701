"""From the sample's answers to a model of its own, by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from versecraft.cli import app
from versecraft.ledger import read_rows
from versecraft.phases import Project, steps
from versecraft.workspace import Workspace

pytest.importorskip("llama_cpp")
pytest.importorskip("trl")


def versecraft(folder: Path, *arguments: str) -> str:
    """Runs a command in a workspace and returns what it prints."""
    done = CliRunner().invoke(app, [*arguments, "--workspace", str(folder)])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """The sample's workspace with its critiques answered and balanced."""
    place = Workspace.init(tmp_path / "demo", sample=True)
    config = place.root / "versecraft.toml"
    text = config.read_text(encoding="utf-8")
    # Critiques alone: a bad poem is then in one task only.
    config.write_text(text.replace("min_tasks = 3", "min_tasks = 1"), encoding="utf-8")
    versecraft(place.root, "generate", "critique", "--yes")
    versecraft(place.root, "balance")
    return place.root


@pytest.mark.slow
def test_the_sample_is_looked_at_trained_on_exported_and_the_model_answers(sample: Path) -> None:
    seen = json.loads(versecraft(sample, "xray", "--html", str(sample / "x.html"), "--json"))
    assert seen["failures"] == {}
    assert (sample / "x.html").is_file()
    card = json.loads(versecraft(sample, "train", "educator", "--steps", "1", "--json"))
    assert (sample / "models" / "educator-v1" / "README.md").is_file()
    assert card
    made = json.loads(versecraft(sample, "export", "models/educator-v1", "--json"))
    assert Path(made["file"]) == sample / "models" / "educator-v1.gguf"
    assert made["bytes"] > 100e6

    project = Project(Workspace.open(sample))
    for name, learnt in (("critique", True), ("brief", False)):
        plan = project.plan(steps(name)[0], "gguf:models/educator-v1.gguf", limit=1)
        prompt = plan.task.prompt
        assert plan.system == (prompt.render_persona() if learnt else prompt.render_guide())

    CliRunner().invoke(
        app,
        ["generate", "brief", "-b", "gguf:models/educator-v1.gguf", "-n", "1", "-w", str(sample)],
    )
    (row,) = read_rows(sample / "runs" / "interim" / "brief.jsonl")[0]
    assert row.model is not None
    assert row.model.startswith("educator-v1.gguf")
    assert row.output or row.error  # a model of one step may answer anything, but it answers


def test_a_model_that_is_not_there_is_an_error_with_the_next_step(sample: Path) -> None:
    done = CliRunner().invoke(app, ["export", "models/educator-v1", "-w", str(sample)])
    assert "Train into it first" in str(done.exception)
