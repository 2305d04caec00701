"""What the commands share: the application, its options, and how things are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import VersecraftError

if TYPE_CHECKING:
    from ..phases import Project
    from ..runs import Run

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


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one line on stderr."""
    say(f"Warning: {message}")


def say(text: str) -> None:
    """Prints beside the result: on stderr."""
    print(text, file=sys.stderr)  # noqa: T201


def show(value: Any, as_json: bool = False) -> None:
    """Prints a result on stdout."""
    if as_json:
        print(json.dumps(value, ensure_ascii=False, indent=1))  # noqa: T201
        return
    if isinstance(value, str):
        print(value)  # noqa: T201
        return
    from rich.console import Console

    # Not as markup: a poem's or a model's text may hold square brackets.
    Console(markup=False).print(value)


def project_in(folder: Path) -> Project:
    """The project of the workspace in a folder."""
    from ..phases import Project
    from ..workspace import Workspace

    return Project(Workspace.open(folder))


def table_of(title: str, rows: Iterable[dict[str, Any]]) -> Any:
    """Plain records as a table, a column for each name."""
    from rich.table import Table

    rows = list(rows)
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ():
        right = isinstance(rows[0][name], (int, float))
        table.add_column(name.replace("_", " "), justify="right" if right else "left")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table


def confirm(cost: float, threshold: float, agreed: bool) -> None:
    """Asks before so many dollars are spent; where nobody can answer, that is an error."""
    if agreed or cost <= threshold:
        return
    if not sys.stdin.isatty():
        raise VersecraftError(
            f"This may cost about ${cost:,.2f}. Say --yes to spend it, or set a --budget."
        )
    typer.confirm(f"This may cost about ${cost:,.2f}. Go on?", abort=True)


def end(runs: Sequence[Run]) -> None:
    """Ends a command that has asked: says why runs stopped, and exits unless all is answered."""
    stopped = [run for run in runs if run.stopped]
    for run in stopped:
        say(f"Stopped: {run.stopped}")
    if any("budget" not in run.errors() for run in stopped):
        raise typer.Exit(1)
    if any(run.failed or run.refused for run in runs):
        raise typer.Exit(FAILED_ROWS)
