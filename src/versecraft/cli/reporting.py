"""The command that writes the report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import HERE, JsonOption, WorkspaceOption, app, say, show


@app.command()
def report(
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write.", show_default="report.html in the workspace"),
    ] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write one page on all that is there: corpus, pairs, mix, costs, losses, poems, failures.

    Asks no model. What is not there yet is named with the command that makes it.

    Example: versecraft report --out report.html
    """
    from ..reporting import report as look
    from ..workspace import Workspace

    place = Workspace.open(workspace)
    found = look(place)
    page = found.write(out or place.root / "report.html")
    show(found.report() if as_json else found, as_json)
    say(f"The page is {page}")
