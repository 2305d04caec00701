"""Commands about a workspace as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .app import (
    FAILED_ROWS,
    HERE,
    INTERRUPTED,
    JsonOption,
    WorkspaceOption,
    app,
    project_in,
    say,
    show,
    table_of,
)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where; made when missing.")],
    sample: Annotated[
        bool, typer.Option("--sample", help="With the sample: poems and recorded answers.")
    ] = False,
) -> None:
    """Make a workspace.

    Example: versecraft init demo --sample
    """
    from ..workspace import Workspace

    workspace = Workspace.init(folder, sample=sample)
    show(f"Made {workspace.root} with versecraft.toml, data/raw/good and data/raw/bad.")
    if sample:
        show("The sample is in it; both roles replay answers written for it, at no cost.")
        show("Next: versecraft match, then versecraft generate seed --yes (both with -w).")
    else:
        show("Put your poems into data/raw/good and data/raw/bad. Next: versecraft corpus")


@app.command()
def reset(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="What to clear away.", show_default="[reset] paths"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Bring back what the last one took.")
    ] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Clear away earlier generated data; data/raw and data/processed are never touched.

    Prints what it would do. With --yes it moves the paths to .trash, from where --undo
    brings them back. Works in any folder, also in one that is no workspace yet.

    Example: versecraft reset data/annotated --yes
    """
    from .. import workspace as rooms

    root = workspace.resolve()
    if undo:
        moves = rooms.undo_reset(root)
    else:
        config = (root / rooms.CONFIG).is_file()
        settings = rooms.Workspace.open(root).settings if config else rooms.Settings()
        moves = rooms.plan_reset(root, tuple(paths or settings.reset.paths))
    taken = [m.path for m in moves if m.leave is None]
    trash = rooms.reset(root, moves) if yes and taken and not undo else None
    if as_json:
        left = {m.path: m.leave for m in moves if m.leave}
        done = undo or trash is not None
        show({"moved": taken, "left": left, "done": done, "trash": trash and str(trash)}, True)
        return
    for move in moves:
        verb = "brought back" if undo else "moved" if trash else "would move"
        show(f"{move.path}: {'left, it ' + move.leave if move.leave else verb}")
    if trash:
        show(f"Moved to {trash}. Bring it back with: versecraft reset --undo")
    elif taken and not undo:
        show("Nothing was changed. Do it with --yes.")


@app.command()
def run(
    phase: Annotated[Literal["interim"], typer.Argument(help="The phase.")],
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Run a whole phase; again to go on after a stop.

    interim: educator v1 is trained on the seed's answers and made a GGUF, and with it come
    briefs, autopsies, lessons and more critiques, on this machine; then the set is balanced.

    Exit code 3 when some items have no answer.

    Example: versecraft run interim
    """
    from ..phases import interim

    try:
        runs = {"interim": interim}[phase](project_in(workspace))
    except KeyboardInterrupt:
        say("Stopped. Run it again to go on.")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        show([{**r.report(), "validity": r.validity()} for r in runs], True)
    else:
        for r in runs:
            shares = r.validity()
            show(r)
            show(
                f"Fit the schema: {shares['schema']:.1%}; quotations in the poem: "
                f"{shares['quotes']:.1%}."
            )
    for r in runs:
        if r.stopped:
            say(f"Stopped: {r.stopped}")
            raise typer.Exit(1)
    if any(r.failed or r.refused for r in runs):
        raise typer.Exit(FAILED_ROWS)


@app.command()
def status(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Show what each phase has answered, what failed, and what was spent.

    Example: versecraft status
    """
    project = project_in(workspace)
    place = project.workspace
    found = project.status()
    sets = [
        str(p.relative_to(place.root))
        for p in sorted((place.root / "data").glob("*_training/train.jsonl"))
    ]
    if as_json:
        show({"steps": found, "matches": place.matches.is_file(), "data_sets": sets}, True)
        return
    batches = [(step["task"], batch) for step in found for batch in step.pop("batches")]
    for step in found:
        step["lines lost"] = step.pop("broken_lines")
    show(table_of("Status", found))
    for task, batch in batches:
        show(f"{task}: {batch}")
    if batches:
        show("Collect with versecraft generate TASK, or versecraft cancel TASK.")
    show("Matches: " + ("made" if place.matches.is_file() else "none; versecraft match"))
    show("Data sets: " + (", ".join(sets) or "none; versecraft balance"))


@app.command()
def tasks(as_json: JsonOption = False) -> None:
    """List the tasks, those of plugins among them.

    Example: versecraft tasks --json
    """
    from ..plugins import list_tasks

    found = [
        {
            "name": t.name,
            "kind": t.kind.value,
            "role": t.role,
            "backend": t.backend,
            "input": t.input.__name__,
            "output": t.output.__name__,
        }
        for t in list_tasks()
    ]
    show(found if as_json else table_of("Tasks", found), as_json)


@app.command()
def backends(as_json: JsonOption = False) -> None:
    """List the backends by the scheme that begins their spec.

    Example: versecraft backends
    """
    from ..plugins import list_backends

    found = [
        {"scheme": scheme, "what": (make.__doc__ or "").strip().partition("\n")[0]}
        for scheme, make in list_backends().items()
    ]
    show(found if as_json else table_of("Backends", found), as_json)
