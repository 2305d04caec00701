"""The quickstart: what it sets up, what it refuses, and what it says on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tiny import write_tiny_gguf
from versecraft.cli import app
from versecraft.errors import BadInput
from versecraft.figures import Figure, Report
from versecraft.ledger import read_rows
from versecraft.phases import LEAVES, RUNS, Made, Project
from versecraft.quickstart import _STAGES, NEXT, STEPS, Stage, quickstart, said
from versecraft.reporting import report
from versecraft.sessions import Session
from versecraft.standing import standing
from versecraft.trainers import Checkpoint
from versecraft.training_data import read_split
from versecraft.workspace import Workspace

for module in ("llama_cpp", "trl", "sentence_transformers"):
    pytest.importorskip(module)


def begun(folder: Path, steps: int | None = None) -> Workspace:
    """The workspace as it is when the first stage begins."""
    assert isinstance(next(quickstart(folder, steps)), Stage)
    return Workspace.open(folder)


def test_it_begins_with_the_sample_and_settings_for_two_cores(tmp_path: Path) -> None:
    settings = begun(tmp_path / "q").settings
    assert settings.training.steps == STEPS
    assert settings.training.options["accumulate"] == 2
    assert settings.quotas.canaries == 2
    assert settings.backends == {"gguf": {"threads": 1}}
    assert settings.roles.opus == settings.roles.local == "replay:runs/sample.jsonl"
    assert begun(tmp_path / "short", 3).settings.training.steps == 3


def test_it_goes_on_in_its_own_folder_with_its_own_steps_only(tmp_path: Path) -> None:
    place = begun(tmp_path / "q", 3)
    config = place.root / "versecraft.toml"
    text = config.read_text(encoding="utf-8")
    begun(place.root)
    begun(place.root, 3)
    assert config.read_text(encoding="utf-8") == text
    with pytest.raises(BadInput, match="begun with 3 steps"):
        begun(place.root, 4)


def test_a_workspace_of_somebody_is_left_alone(tmp_path: Path) -> None:
    place = Workspace.init(tmp_path / "mine", sample=True)
    before = sorted(place.root.rglob("*"))
    with pytest.raises(BadInput, match="another folder"):
        begun(place.root)
    assert sorted(place.root.rglob("*")) == before
    done = CliRunner().invoke(app, ["quickstart", str(place.root)])
    assert done.exit_code == 1


@pytest.mark.slow
def test_the_seed_is_paired_and_replayed_in_whole(tmp_path: Path) -> None:
    lines: list[str] = []
    for one in quickstart(tmp_path / "q", 1):
        if isinstance(one, Stage) and lines:
            break
        if isinstance(one, Made):
            lines.append(said(one))
    assert lines == [
        "16 pairs of a bad and a good poem",
        "critique: 64 of 64 answered",
        "comparison: 16 of 16 answered",
        "revision brief: 16 of 16 answered",
    ]


def test_what_was_made_is_said_in_a_line(tmp_path: Path) -> None:
    card = {"steps": 4, "seconds": 61.2, "valid_loss_before": 3.1, "valid_loss": 2.6}
    made = Checkpoint(path=tmp_path, base="embedded", card=card)
    line = said(Made("final", made, tmp_path / "models" / "poet-v2"))
    assert line == "poet-v2: 4 steps in 61 s; loss on held-out rows 3.1 before, 2.6 after"
    gguf = tmp_path / "poet-v2.gguf"
    gguf.write_bytes(b"GGUF" * 500_000)
    assert said(Made("final", None, gguf)) == "poet-v2.gguf, 2 MB"
    pure = Figure(
        name="kind purity", of="poet", value=0.75, low=0.3, high=1.0, n=4, counted="briefs",
        basis="3 of 4 answers",
    )  # fmt: skip
    report = Report(made="2026-01-01", seed=7, models={}, lists=(), items={}, figures=(pure,))
    line = said(Made("final", report, tmp_path))
    assert line == "poet: kind purity 75.0 % (3 of 4 answers)"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of answers that are of no use
def test_the_whole_way_leads_to_models_a_report_and_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All stages, with one step of each training and a base of one layer, which has no skill."""
    monkeypatch.setattr("versecraft.quickstart._OWN", 1)
    place = begun(tmp_path / "q", 1)
    write_tiny_gguf(place.root / "tiny.gguf")
    config = place.root / "versecraft.toml"
    text = config.read_text(encoding="utf-8").replace('base = "embedded"', 'base = "tiny.gguf"')
    config.write_text(text.replace("canaries = 2 ", "canaries = 1 "), encoding="utf-8")
    done = CliRunner().invoke(app, ["quickstart", str(place.root)])
    assert done.exit_code == 0, done.output
    for stage in _STAGES.values():
        assert stage.title in done.output
    assert done.stdout.endswith(f"{NEXT}\n")
    place = Workspace.open(place.root)

    for phase in RUNS:
        for file in LEAVES[phase]:
            assert (place.root / file).is_file(), file
    for name in ("educator-v1", "educator-v2", "poet-v2"):
        with (place.root / "models" / f"{name}.gguf").open("rb") as model:
            assert model.read(4) == b"GGUF"
    educator, poet = (read_split(place.data_set(role)) for role in ("educator", "poet"))
    rows = [*educator.train, *educator.valid]
    assert sum(row.quality == "bad" for row in rows) == 0.4 * len(rows) == 64
    assert len(poet.train) + len(poet.valid) == 48
    autopsies = read_rows(place.ledger("interim", "autopsy"))[0]
    own = [row for row in autopsies if "educator-v1.gguf" in row.backend]
    assert len(own) == 1  # answered or refused with a reason, but asked and written down
    assert "refused or failed" in done.stdout or own[0].output

    session = Session.read(place.root / "sessions" / "recorded")
    assert session.approved
    assert str(session.final) in done.stdout
    found = report(place)
    assert found.missing == {}
    assert [curve.model for curve in found.curves] == ["educator-v1", "educator-v2", "poet-v2"]
    assert {role.role: round(role.got, 3) for role in found.sets} == {"educator": 0.4, "poet": 0.0}
    assert not any(one.share is None for one in found.purity)
    page = (place.root / "report.html").read_text(encoding="utf-8")
    for section in "corpus pairs mix costs purity losses evaluation workshop left".split():
        assert f'<section id="{section}">' in page
    assert standing(Project(place)).stale == []
