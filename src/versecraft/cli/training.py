"""Commands that make models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .app import HERE, INTERRUPTED, JsonOption, WorkspaceOption, app, project_in, say, show


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
    from ..training_data import read_split
    from ..xray import xray as look

    place = project_in(workspace).workspace
    found = look(
        read_split(place.data_set(role)), base=place.base(base or place.settings.training.base)
    )
    if html:
        found.html(html)
    show(found.report() if as_json else found, as_json)
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
    project = project_in(workspace)
    name = name or f"{role}-v1"
    try:
        found = project.train(role, name, trainer=trainer, base=base, steps=steps)
    except KeyboardInterrupt:
        say("Stopped. Run it again: it goes on from the last checkpoint.")
        raise typer.Exit(INTERRUPTED) from None
    show(found.report() if as_json else found, as_json)
    if not as_json:
        show(f"Make a GGUF of it with: versecraft export models/{name}")


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
    project = project_in(workspace)
    file = project.export(checkpoint, quantization=quantization)
    if as_json:
        show({"file": str(file), "bytes": file.stat().st_size}, True)
        return
    show(f"Wrote {file}, {file.stat().st_size / 1e6:,.1f} MB.")
    place = file.relative_to(project.workspace.root).as_posix()
    show(f'Use it with --backend gguf:{place}, or as local = "gguf:{place}" in versecraft.toml.')
