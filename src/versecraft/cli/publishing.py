"""The command that makes a data set ready for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .app import HERE, JsonOption, WorkspaceOption, app, project_in, show


@app.command()
def publish(
    role: Annotated[Literal["educator", "poet"], typer.Argument(help="Whose training set.")],
    into: Annotated[
        Path | None, typer.Option(help="The folder.", show_default="published/ROLE")
    ] = None,
    allow_unknown_licences: Annotated[
        bool,
        typer.Option(
            "--allow-unknown-licences",
            help="Publish poems whose licence is not known; the card says so.",
        ),
    ] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write a folder with the balanced set that can be pushed to the Hugging Face Hub.

    Nothing is sent. Refuses while the licence of a poem is not known.

    Example: versecraft publish educator
    """
    from ..publishing import publish as write
    from ..publishing import terms_of
    from ..training_data import read_split

    project = project_in(workspace)
    data = read_split(project.workspace.data_set(role))
    folder = write(
        data,
        into or project.workspace.inside(f"published/{role}"),
        corpus=project.corpus,
        allow_unknown_licences=allow_unknown_licences,
    )
    terms = terms_of(data, project.corpus)
    if as_json:
        rows = {"train": len(data.train), "validation": len(data.valid)}
        show(
            {
                "folder": str(folder),
                "rows": rows,
                "licences": [entry.model_dump() for entry in terms],
            },
            True,
        )
        return
    show(f"{len(data.train):,} rows to train on and {len(data.valid):,} held out.")
    for entry in terms:
        source = f", from {entry.source}" if entry.source else ""
        show(f"{entry.licence}{source}: {entry.poems:,} poems in {entry.rows:,} rows")
    show(f"Written to {into or f'published/{role}'}. Nothing is sent; read its README.md first.")
