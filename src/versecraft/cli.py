"""The command line: each command parses, calls one function and prints its result."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from .errors import VersecraftError

if TYPE_CHECKING:
    from .phases import Project, Step
    from .runs import Plan

app = typer.Typer(
    name="versecraft",
    help="Contrastive training data and small fine-tuned models for poetry.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", help="The workspace.", show_default="this folder")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BackendOption = Annotated[
    str | None,
    typer.Option("--backend", "-b", help="Ask this backend in place of the role's."),
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", "-n", min=1, help="Only the first N items of each task."),
]
Name = Annotated[str, typer.Argument(metavar="TASK|PHASE", help="A task, or seed, interim, poet.")]
HERE = Path(".")
FAILED_ROWS = 3
INTERRUPTED = 130


def main() -> NoReturn:
    """Runs the command line; errors of versecraft become a message and exit code 1."""
    with warnings.catch_warnings(record=False):
        warnings.showwarning = _show_warning
        try:
            app()
        except VersecraftError as error:
            _say(f"Error: {error}")
            sys.exit(1)
        except OSError as error:
            _say(f"Error: {error}. Make room or mend the path, then run it again; nothing is lost.")
            sys.exit(1)
    sys.exit(0)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _say(f"Warning: {message}")


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


def _print(value: Any, as_json: bool = False) -> None:
    if as_json:
        print(json.dumps(value, ensure_ascii=False, indent=1))  # noqa: T201
        return
    if isinstance(value, str):
        print(value)  # noqa: T201
        return
    from rich.console import Console

    # Not as markup: a poem's or a model's text may hold square brackets.
    Console(markup=False).print(value)


def _project(folder: Path) -> Project:
    from .phases import Project
    from .workspace import Workspace

    return Project(Workspace.open(folder))


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
    from .workspace import Workspace

    workspace = Workspace.init(folder, sample=sample)
    _print(f"Made {workspace.root} with versecraft.toml, data/raw/good and data/raw/bad.")
    if sample:
        _print("The sample is in it; both roles replay answers written for it, at no cost.")
        _print("Next: versecraft match, then versecraft generate seed --yes (both with -w).")
    else:
        _print("Put your poems into data/raw/good and data/raw/bad. Next: versecraft corpus")


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
    from . import workspace as rooms

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
        _print({"moved": taken, "left": left, "done": done, "trash": trash and str(trash)}, True)
        return
    for move in moves:
        verb = "brought back" if undo else "moved" if trash else "would move"
        _print(f"{move.path}: {'left, it ' + move.leave if move.leave else verb}")
    if trash:
        _print(f"Moved to {trash}. Bring it back with: versecraft reset --undo")
    elif taken and not undo:
        _print("Nothing was changed. Do it with --yes.")


@app.command()
def corpus(
    path: Annotated[
        Path | None,
        typer.Argument(help="A folder with good/ and bad/.", show_default="data/raw"),
    ] = None,
    quality: Annotated[
        Literal["good", "bad"] | None, typer.Option(help="Of all poems, where PATH does not say.")
    ] = None,
    dropped: Annotated[
        bool, typer.Option("--dropped", help="List everything that was not taken, and why.")
    ] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Read the poems and say what was taken and what was not.

    Example: versecraft corpus data/raw --dropped
    """
    from .corpus import read_corpus

    found = read_corpus(path, quality=quality) if path else _project(workspace).corpus
    if as_json:
        left = [d.model_dump(exclude_none=True) for d in found.dropped]
        _print({**found.report(), **({"left_out": left} if dropped else {})}, True)
        return
    _print(found)
    if dropped:
        for d in found.dropped:
            where = ":".join(str(part) for part in (d.file, d.line, d.item) if part is not None)
            _print(f"{where}: {d.reason}: {d.detail}")


@app.command()
def match(
    strategy: Annotated[
        Literal["topical", "random"] | None,
        typer.Option(help="How partners are found.", show_default="versecraft.toml"),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("--k", min=1, help="Partners of each bad poem."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Write a plot of the report to this file."),
    ] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Pair each bad poem with a good one and write data/matches.jsonl.

    Example: versecraft match --k 2 --plot reports/matches.png
    """
    project = _project(workspace)
    matches = project.match(strategy=strategy, k=k, seed=seed)
    if plot:
        matches.plot(plot)
    _print(matches.report() if as_json else matches, as_json)


@app.command()
def plan(
    name: Name,
    backend: BackendOption = None,
    limit: LimitOption = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show what would be asked and what it would cost. Nothing is bought.

    With a key, Claude is sent a few of the requests to count their tokens, which is free.

    Example: versecraft plan seed
    """
    from .phases import steps

    project = _project(workspace)
    plans = [(step, project.plan(step, backend, limit=limit)) for step in steps(name)]
    if as_json:
        _print([p.report() for _, p in plans], True)
        return
    _show_bill(project, plans, limit)


def _show_bill(project: Project, plans: Sequence[tuple[Step, Plan]], limit: int | None) -> float:
    """Prints the bill of a phase and returns its dollars, those of what is still to come too."""
    from .runs import Cost

    ways = Cost()
    dollars = 0.0
    for step, plan in plans:
        _print(plan)
        count, cost = project.forecast(step, plan, limit)
        if count:
            _print(
                f"{step.task} is made from answers to {step.after}: up to {count:,} more, "
                f"about ${plan.of(cost):,.2f}."
            )
        ways += plan.cost + cost
        dollars += plan.dollars + plan.of(cost)
    if len(plans) > 1:
        _print(f"Together about ${dollars:,.2f}, this way.")
        _print(
            f"Live ${ways.live:,.2f}, with the guides cached ${ways.live_cached:,.2f}; by the "
            f"batch ${ways.batch:,.2f}, with the guides cached ${ways.batch_cached:,.2f}."
        )
    return dollars


@app.command()
def generate(
    name: Name,
    backend: BackendOption = None,
    budget: Annotated[
        float | None,
        typer.Option(min=0, help="Dollars that may be spent."),
    ] = None,
    limit: LimitOption = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Requests in flight."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before spending.")] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Ask what has no answer yet, and keep every answer. Run it again to go on.

    Exit code 3 when some items have no answer.

    Example: versecraft generate seed --budget 20 --yes
    """
    from .generating import generate as ask
    from .phases import steps

    project = _project(workspace)
    options = {"concurrency": concurrency} if concurrency else {}
    # All are planned before the first is asked: what is missing shows while nothing is spent.
    todo = [(step, project.plan(step, backend, limit=limit, **options)) for step in steps(name)]
    if as_json:
        cost = sum(
            bill.dollars + bill.of(project.forecast(step, bill, limit)[1]) for step, bill in todo
        )
    else:
        cost = _show_bill(project, todo, limit)
    _confirm(cost, project.workspace.settings.confirm_over, yes or budget is not None)
    runs = []
    for step, bill in todo:
        if step.after:  # its items may have come into being just now
            bill = project.plan(step, backend, limit=limit, **options)
            if not as_json:
                _print(bill)
        try:
            run = ask(bill, budget=budget)
        except KeyboardInterrupt:
            _say("Stopped. What was answered is kept; run it again to go on or to collect.")
            raise typer.Exit(INTERRUPTED) from None
        budget = None if budget is None else max(0.0, budget - run.cost - run.held)
        file = project.leave(step)
        runs.append(run)
        if not as_json:
            _print(run)
            _print(f"Answers in {file.relative_to(project.workspace.root)}")
        if run.stopped:
            _say(f"Stopped: {run.stopped}")
        # Without money the steps that follow can still collect what they have handed in.
        if run.stopped and "budget" not in run.errors():
            break
    if as_json:
        _print([run.report() for run in runs], True)
    if any(run.stopped and "budget" not in run.errors() for run in runs):
        raise typer.Exit(1)
    if any(run.failed or run.refused for run in runs):
        raise typer.Exit(FAILED_ROWS)


@app.command()
def cancel(
    name: Name,
    backend: BackendOption = None,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Cancel the batches that are under way.

    What the provider has answered by then is paid for. Collect it, and ask nothing anew, with
    versecraft generate TASK --budget 0.

    Example: versecraft cancel critique
    """
    from .batching import cancel as drop
    from .phases import steps

    project = _project(workspace)
    plans = [project.plan(step, backend) for step in steps(name)]
    batches = [batch for plan in plans for batch in drop(plan)]
    for batch in batches:
        _print(f"Asked to cancel {batch}.")
    by = f" --backend {backend}" if backend else ""
    if batches:
        _print(f"Collect what was answered with: versecraft generate {name}{by} --budget 0")
    elif any(plan.under_way for plan in plans):
        _print(
            "The provider's id of a batch is not known yet. Find it with: "
            f"versecraft generate {name}{by} --budget 0"
        )
    else:
        _print("No batches are under way.")


def _confirm(cost: float, threshold: float, agreed: bool) -> None:
    if agreed or cost <= threshold:
        return
    if not sys.stdin.isatty():
        raise VersecraftError(
            f"This may cost about ${cost:,.2f}. Say --yes to spend it, or set a --budget."
        )
    typer.confirm(f"This may cost about ${cost:,.2f}. Go on?", abort=True)


@app.command()
def balance(
    role: Annotated[
        Literal["educator", "poet"], typer.Option(help="Whose training set.")
    ] = "educator",
    bad_share: Annotated[
        float | None,
        typer.Option(help="Share of rows from bad poems.", show_default="versecraft.toml"),
    ] = None,
    min_tasks: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tasks that each bad poem must be in.", show_default="versecraft.toml"
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed.")] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Mix what the ledgers hold, split it by poem, and write a data set folder.

    The seed alone, before there are autopsies, takes --min-tasks 1.

    Example: versecraft balance --role educator
    """
    project = _project(workspace)
    mixture, data = project.balance(role, bad_share=bad_share, min_tasks=min_tasks, seed=seed)
    if as_json:
        _print({"mixture": mixture.report(), "card": dict(data.card)}, True)
        return
    if role == "educator":
        _print(mixture)
    _print(data)
    _print(f"Written to data/{role}_training. Look at it with: versecraft xray --role {role}")


@app.command()
def xray(
    role: Annotated[
        Literal["educator", "poet"], typer.Option(help="Whose training set.")
    ] = "educator",
    base: Annotated[
        str | None,
        typer.Option(help="The model to be trained.", show_default="versecraft.toml"),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file.")] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show what of each row the loss sees, and find what must not be trained on.

    Exit code 1 when something is found; train would refuse as well.

    Example: versecraft xray --role poet --html reports/xray.html
    """
    from .training_data import read_split
    from .xray import xray as look

    place = _project(workspace).workspace
    found = look(
        read_split(place.data_set(role)), base=place.base(base or place.settings.training.base)
    )
    if html:
        found.html(html)
    _print(found.report() if as_json else found, as_json)
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def train(
    role: Annotated[Literal["educator", "poet"], typer.Argument(help="Which model.")],
    trainer: Annotated[
        str | None, typer.Option(help="trl or unsloth.", show_default="versecraft.toml")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="The model to train further.", show_default="versecraft.toml"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="How many steps.", show_default="versecraft.toml")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The folder in models/.", show_default="ROLE-v1")
    ] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Train on the balanced set. Run it again to go on after a stop.

    Example: versecraft train educator --steps 200
    """
    project = _project(workspace)
    name = name or f"{role}-v1"
    try:
        found = project.train(role, name, trainer=trainer, base=base, steps=steps)
    except KeyboardInterrupt:
        _say("Stopped. Run it again: it goes on from the last checkpoint.")
        raise typer.Exit(INTERRUPTED) from None
    _print(found.report() if as_json else found, as_json)
    if not as_json:
        _print(f"Make a GGUF of it with: versecraft export models/{name}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Its folder, such as models/educator-v1.")],
    quantization: Annotated[
        str | None,
        typer.Option(help="Such as Q8_0 or F16.", show_default="versecraft.toml"),
    ] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write a trained model as one GGUF file beside its folder.

    Example: versecraft export models/educator-v1
    """
    project = _project(workspace)
    file = project.export(checkpoint, quantization=quantization)
    if as_json:
        _print({"file": str(file), "bytes": file.stat().st_size}, True)
        return
    _print(f"Wrote {file}, {file.stat().st_size / 1e6:,.1f} MB.")
    place = file.relative_to(project.workspace.root).as_posix()
    _print(f'Use it with --backend gguf:{place}, or as local = "gguf:{place}" in versecraft.toml.')


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
    from .phases import interim

    try:
        runs = {"interim": interim}[phase](_project(workspace))
    except KeyboardInterrupt:
        _say("Stopped. Run it again to go on.")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        _print([{**r.report(), "validity": r.validity()} for r in runs], True)
    else:
        for r in runs:
            shares = r.validity()
            _print(r)
            _print(
                f"Fit the schema: {shares['schema']:.1%}; quotations in the poem: "
                f"{shares['quotes']:.1%}."
            )
    for r in runs:
        if r.stopped:
            _say(f"Stopped: {r.stopped}")
            raise typer.Exit(1)
    if any(r.failed or r.refused for r in runs):
        raise typer.Exit(FAILED_ROWS)


@app.command()
def status(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Show what each phase has answered, what failed, and what was spent.

    Example: versecraft status
    """
    project = _project(workspace)
    place = project.workspace
    found = project.status()
    sets = [
        str(p.relative_to(place.root))
        for p in sorted((place.root / "data").glob("*_training/train.jsonl"))
    ]
    if as_json:
        _print({"steps": found, "matches": place.matches.is_file(), "data_sets": sets}, True)
        return
    batches = [(step["task"], batch) for step in found for batch in step.pop("batches")]
    for step in found:
        step["lines lost"] = step.pop("broken_lines")
    _print(_table("Status", found))
    for task, batch in batches:
        _print(f"{task}: {batch}")
    if batches:
        _print("Collect with versecraft generate TASK, or versecraft cancel TASK.")
    _print("Matches: " + ("made" if place.matches.is_file() else "none; versecraft match"))
    _print("Data sets: " + (", ".join(sets) or "none; versecraft balance"))


@app.command()
def tasks(as_json: JsonOption = False) -> None:
    """List the tasks, those of plugins among them.

    Example: versecraft tasks --json
    """
    from .plugins import list_tasks

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
    _print(found if as_json else _table("Tasks", found), as_json)


@app.command()
def backends(as_json: JsonOption = False) -> None:
    """List the backends by the scheme that begins their spec.

    Example: versecraft backends
    """
    from .plugins import list_backends

    found = [
        {"scheme": scheme, "what": (make.__doc__ or "").strip().partition("\n")[0]}
        for scheme, make in list_backends().items()
    ]
    _print(found if as_json else _table("Backends", found), as_json)


def _table(title: str, rows: Iterable[dict[str, Any]]) -> Any:
    from rich.table import Table

    rows = list(rows)
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ():
        right = isinstance(rows[0][name], (int, float))
        table.add_column(name.replace("_", " "), justify="right" if right else "left")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table
