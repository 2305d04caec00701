"""Commands about a workspace as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .app import (
    HERE,
    INTERRUPTED,
    JsonOption,
    WorkspaceOption,
    app,
    confirm,
    end,
    project_in,
    say,
    show,
    table_of,
)

if TYPE_CHECKING:
    from ..phases import Made, Project


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


@app.command("import")
def import_(
    old: Annotated[Path, typer.Argument(help="The folder of the earlier project.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Copy the poems into the workspace's data/raw.")
    ] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Say what of an earlier project can be kept, and why the rest cannot.

    Reads OLD/data/raw and OLD/data/processed, and holds every old row (.jsonl) against today's
    checks. With --yes the files that hold poems are copied. OLD is never changed.

    Example: versecraft import ../old --yes
    """
    from ..importing import look_at, take_over
    from ..workspace import Workspace

    found = look_at(old)
    copied, left = take_over(found, old, Workspace.open(workspace)) if yes else ([], [])
    if as_json:
        show({**found.report(), "copied": copied, "left": left}, True)
        return
    show(found)
    for name in left:
        show(f"data/raw/{name}: left, a file of that name is there")
    if yes:
        show(f"Copied {len(copied):,} files into data/raw. Next: versecraft corpus")
    elif found.take:
        show(f"Nothing was changed. Copy {len(found.take):,} files into a workspace with --yes.")


@app.command()
def run(
    phase: Annotated[
        Literal["seed", "interim", "poet", "final", "all"], typer.Argument(help="The phase.")
    ] = "all",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be asked and made, and do nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before spending.")] = False,
    budget: Annotated[
        float | None, typer.Option(min=0, help="Dollars that may be spent, by all steps together.")
    ] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Run a phase, or all four; again to go on after a stop.

    seed: the poems are paired; critiques, comparisons and revision briefs are asked for.
    interim: educator v1 is trained on them and made a GGUF; briefs, autopsies, lessons and more
    critiques come from it; then the set is balanced.
    poet: a poem to each brief, and pairs made backwards from good poems.
    final: both sets, educator v2 and poet v2, their GGUFs, and a report on them.

    What is there is kept: no answer is asked for twice, and a model that has finished training is
    not trained again. Exit code 3 when some items have no answer.

    Example: versecraft run all --dry-run
    """
    from ..phases import RUNS, Budget
    from ..runs import Run

    project = project_in(workspace)
    names: list[str] = list(RUNS) if phase == "all" else [phase]
    dollars = _show_outlook(project, names, dry_run, as_json)
    if dry_run:
        return
    confirm(dollars, project.workspace.settings.confirm_over, yes or budget is not None)
    purse = Budget(budget)
    made = []
    try:
        for name in names:
            for one in RUNS[name](project, purse):
                made.append(one)
                if not as_json:
                    _show_made(one, project.workspace.root)
            stopped = [m.what.stopped for m in made if isinstance(m.what, Run) and m.what.stopped]
            if stopped:
                break
    except KeyboardInterrupt:
        say("Stopped. What was made is kept; run it again to go on.")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        show([one.report(project.workspace.root) for one in made], True)
    end([one.what for one in made if isinstance(one.what, Run)])


def _show_outlook(project: Project, names: list[str], dry_run: bool, as_json: bool) -> float:
    """Prints what phases would ask, make and cost; returns the dollars."""
    from ..phases import LEAVES
    from ..standing import outlook

    found = [one for name in names for one in outlook(project, name)]
    dollars = sum(one.dollars for one in found)
    makes = {name: LEAVES[name] for name in names}
    if as_json:
        if dry_run:
            rows = [one.model_dump() for one in found]
            show({"steps": rows, "makes": makes, "dollars": dollars}, True)
        return dollars
    if found:
        columns = ("phase", "task", "items", "answered", "to_ask", "later", "dollars")
        rows = [{name: getattr(one, name) for name in columns} for one in found]
        for row in rows:
            row["dollars"] = f"{row['dollars']:,.2f}"
        show(table_of("To ask", rows))
        for who in sorted({f"{one.backend}" for one in found}):
            tasks = sorted({one.task for one in found if one.backend == who})
            show(f"{who}: {', '.join(tasks)}")
        if any(one.later for one in found):
            show("Later: so many more at most, once what they are made from is there.")
    if dry_run:
        for name, files in makes.items():
            show(f"{name} leaves {', '.join(files)}")
    show(f"Together about ${dollars:,.2f} at most.")
    return dollars


def _show_made(one: Made, root: Path) -> None:
    from ..runs import Run

    if one.what is not None:
        show(one.what)
    if isinstance(one.what, Run):
        names = {"schema": "answers that fit the schema", "quotes": "quotations in the poem"}
        shares = one.what.validity().items()
        told = [f"{names[name]}: {share:.1%}" for name, share in shares if share is not None]
        if told:
            show("; ".join(told).capitalize())
    show(f"{one.phase}: {one.path.relative_to(root)}")


@app.command()
def status(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Show what each phase has answered, what was spent, and what is stale. Asks no model.

    Stale is what would come out otherwise today, since something before it has changed; each such
    thing is shown with the command that makes it anew.

    Example: versecraft status
    """
    from ..standing import standing

    project = project_in(workspace)
    place = project.workspace
    found = standing(project)
    sets = [
        str(p.relative_to(place.root))
        for p in sorted((place.root / "data").glob("*_training/train.jsonl"))
    ]
    models = [str(p.relative_to(place.root)) for p in sorted(place.root.glob("models/*.gguf"))]
    reports = [str(p.relative_to(place.root)) for p in sorted(place.root.glob("reports/*.html"))]
    if as_json:
        show(
            {
                "steps": found.steps,
                "matches": place.matches.is_file(),
                "data_sets": sets,
                "models": models,
                "reports": reports,
                "stale": [stale.model_dump() for stale in found.stale],
            },
            True,
        )
        return
    columns = ("phase", "task", "answered", "failed", "to_ask", "unused", "dollars")
    rows = [{name: step[name] for name in columns} for step in found.steps]
    show(table_of("Status", [{**row, "to_ask": _known(row["to_ask"])} for row in rows]))
    for step in found.steps:
        for batch in step["batches"]:
            show(f"{step['task']}: {batch}")
        if step["broken_lines"]:
            show(f"{step['task']}: {step['broken_lines']} lines of the ledger cannot be read")
    if decided := sum(step["decided"] for step in found.steps):
        answered = sum(step["answered"] for step in found.steps)
        show(f"Decided: {decided:,} of {answered:,} answers, in versecraft review")
    if any(step["batches"] for step in found.steps):
        show("Collect with versecraft generate TASK, or versecraft cancel TASK.")
    show("Matches: " + ("made" if place.matches.is_file() else "none; versecraft match"))
    show("Data sets: " + (", ".join(sets) or "none; versecraft balance"))
    show("Models: " + (", ".join(models) or "none; versecraft run interim"))
    show("Reports: " + (", ".join(reports) or "none; versecraft run final"))
    for stale in found.stale:
        asks = f" ({stale.asks:,} to ask again)" if stale.asks else ""
        show(f"Stale: {stale.what}: {stale.why}{asks}. Renew: {stale.renew}")


def _known(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


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
