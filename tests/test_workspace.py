"""A workspace: what it holds, what its settings say when wrong, and what a reset never touches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from versecraft.errors import BadInput, VersecraftError
from versecraft.workspace import Settings, Workspace, plan_reset, reset, undo_reset


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.is_symlink()
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for path in (
        "data/raw/good/a.txt",
        "data/raw/bad/b.txt",
        "data/processed/all.json",
        "data/annotated/old.jsonl",
        "data/educator_training/train.jsonl",
        "persona/educator.txt",
        "notes/mine.txt",
    ):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path, encoding="utf-8")
    return tmp_path


def test_a_reset_moves_the_listed_paths_and_undo_brings_them_back(project: Path) -> None:
    before = snapshot(project)
    moves = plan_reset(project, Settings().reset.paths)
    assert snapshot(project) == before
    trash = reset(project, moves)
    assert not (project / "data/annotated").exists()
    assert not (project / "persona").exists()
    assert (project / "notes/mine.txt").exists()
    assert (trash / "files/data/annotated/old.jsonl").exists()
    assert [m.path for m in undo_reset(project)] == [m.path for m in moves if not m.leave]
    assert snapshot(project) == before
    with pytest.raises(BadInput, match="no reset to undo"):
        undo_reset(project)


def test_a_path_inside_another_goes_with_it(project: Path) -> None:
    before = snapshot(project)
    paths = ("data/annotated/old.jsonl", "data/annotated", "data/annotated/")
    moves = plan_reset(project, paths)
    assert sum(m.leave is None for m in moves) == 1
    reset(project, moves)
    undo_reset(project)
    assert snapshot(project) == before


def test_a_file_named_like_the_manifest_comes_back_too(project: Path) -> None:
    (project / "moved.json").write_text("[]", encoding="utf-8")
    before = snapshot(project)
    reset(project, plan_reset(project, ("moved.json", "persona")))
    undo_reset(project)
    assert snapshot(project) == before


def test_what_a_link_in_processed_data_leads_to_stays(project: Path) -> None:
    os.symlink("../../notes", project / "data/processed/notes")
    assert plan_reset(project, ("notes",))[0].leave


def test_an_absolute_path_is_moved_and_brought_back(project: Path) -> None:
    before = snapshot(project)
    reset(project, plan_reset(project, ("notes",)))
    reset(project, plan_reset(project, (str(project / "persona"),)))
    assert not (project / "persona").exists()
    undo_reset(project)
    undo_reset(project)
    assert snapshot(project) == before


def test_undo_does_not_overwrite_what_was_made_since(project: Path) -> None:
    reset(project, plan_reset(project, ("persona",)))
    (project / "persona").mkdir()
    with pytest.raises(BadInput, match="exist again"):
        undo_reset(project)


@pytest.mark.parametrize(
    "path",
    [
        "data/raw", "data/raw/", "data/raw/good", "data/raw/good/a.txt", "data", ".", "",
        "../other", "./data/../data/raw", "notes/../data/raw", "data/annotated/../raw",
        "data/raw/..", "/etc", "data/processed", "link-to-raw/../raw", "link-to-raw/..",
        "link-to-raw", "link-to-raw/good", "link-to-data", "link-out", "link-out/x", "absolute-raw",
    ],
)  # fmt: skip
def test_raw_and_processed_data_are_never_moved(project: Path, path: str) -> None:
    os.symlink("data/raw", project / "link-to-raw")
    os.symlink(project / "data", project / "link-to-data")
    os.symlink(project / "data/raw", project / "absolute-raw")
    outside = project.parent / f"{project.name}-outside"
    outside.mkdir(exist_ok=True)
    (outside / "x").write_text("not ours", encoding="utf-8")
    os.symlink(outside, project / "link-out")
    before, other = snapshot(project), snapshot(outside)
    moves = plan_reset(project, (path,))
    if path != "link-out":  # a link that leads out is itself inside, and may go
        assert moves[0].leave
    reset(project, moves)
    assert snapshot(project) | {} == {**before, **snapshot_of_trash(project)}
    assert snapshot(outside) == other


def snapshot_of_trash(project: Path) -> dict[str, bytes]:
    return {k: v for k, v in snapshot(project).items() if k.startswith(".trash")}


def test_raw_data_that_is_a_link_into_a_cleared_folder_is_safe(tmp_path: Path) -> None:
    (tmp_path / "data/annotated/poems").mkdir(parents=True)
    (tmp_path / "data/annotated/poems/a.txt").write_text("a poem", encoding="utf-8")
    os.symlink(tmp_path / "data/annotated/poems", tmp_path / "data/raw")
    assert plan_reset(tmp_path, ("data/annotated",))[0].leave


PARTS = st.sampled_from(
    ["data", "raw", "processed", "annotated", "good", "..", ".", "link", "to-raw", "a.txt"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(paths=st.lists(st.lists(PARTS, min_size=1, max_size=6).map("/".join), max_size=4))
def test_no_path_whatever_moves_raw_data(project: Path, paths: list[str]) -> None:
    if not (project / "link").is_symlink():
        os.symlink("data", project / "link")
        os.symlink("data/raw", project / "to-raw")
        (project / "raw").mkdir()  # what `to-raw/../raw` is not, though it reads so
        (project / "annotated").mkdir()
    raw = snapshot(project / "data/raw")
    processed = snapshot(project / "data/processed")
    reset(project, plan_reset(project, tuple(paths)))
    assert snapshot(project / "data/raw") == raw
    assert snapshot(project / "data/processed") == processed
    undo_reset(project)


def test_the_settings_file_that_init_writes_holds_every_default(tmp_path: Path) -> None:
    workspace = Workspace.init(tmp_path / "new")
    assert workspace.settings == Settings()
    text = (tmp_path / "new" / "versecraft.toml").read_text(encoding="utf-8")
    for name in Settings.model_fields:
        assert name in text


def test_init_changes_nothing_that_is_there(tmp_path: Path) -> None:
    Workspace.init(tmp_path)
    with pytest.raises(BadInput, match="is a workspace already"):
        Workspace.init(tmp_path)
    (tmp_path / "b" / "data" / "raw" / "bad").mkdir(parents=True)
    (tmp_path / "b" / "data" / "raw" / "bad" / "mine.txt").write_text("O", encoding="utf-8")
    with pytest.raises(BadInput, match="holds poems already"):
        Workspace.init(tmp_path / "b", sample=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sede = 3", "did you mean 'seed'"),
        ("[balance]\nbad_shar = 0.3", "balance.bad_shar is no setting, did you mean 'bad_share'"),
        ("[balance]\nbad_share = 1.3", "balance.bad_share"),
        ("[roles\n", "is not TOML"),
        ("[quotas]\ngood_critiques = 'many'", "quotas.good_critiques"),
    ],
)
def test_a_wrong_setting_is_named_with_the_right_one(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "versecraft.toml").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"versecraft\.toml") as caught:
        Workspace.open(tmp_path)
    assert says in str(caught.value)


def test_a_folder_without_settings_is_no_workspace(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="versecraft init"):
        Workspace.open(tmp_path)


def test_paths_stay_inside_the_workspace(tmp_path: Path) -> None:
    workspace = Workspace.init(tmp_path / "in")
    (tmp_path / "out").mkdir()
    os.symlink(tmp_path / "out", workspace.root / "leak")
    for path in ("../x", "leak/x", "/etc/passwd", "runs/../../x"):
        with pytest.raises(BadInput, match="leads out"):
            workspace.inside(path)
    assert workspace.inside("runs/a.jsonl").is_relative_to(workspace.root)


def test_a_role_may_be_any_backend_and_a_price_may_be_given(tmp_path: Path) -> None:
    workspace = Workspace.init(tmp_path / "w", sample=True)
    assert workspace.backend("opus").id == "replay:sample.jsonl"
    file = workspace.root / "versecraft.toml"
    text = file.read_text(encoding="utf-8") + '\n[prices."claude-next"]\ninput = 1\noutput = 2\n'
    file.write_text(text, encoding="utf-8")
    again = Workspace.open(workspace.root)
    assert again.backend("claude:claude-next").price.output == 2  # type: ignore[attr-defined]
    with pytest.raises(VersecraftError, match="add"):
        again.backend("claude:claude-unheard-of")
