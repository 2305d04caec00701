"""The command that goes the whole way with the sample."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from typing import Annotated

import typer

from .app import INTERRUPTED, app, say, show


@app.command()
def quickstart(
    folder: Annotated[Path, typer.Argument(help="Where; made when missing.")] = Path(
        "versecraft-quickstart"
    ),
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of each training.", show_default="12")
    ] = None,
) -> None:
    """See the whole way on the sample, offline: from poems to two models and a report.

    Pairs, replayed answers of a teacher, educator v1, its own answers, the balanced set, educator
    v2 and poet v2, their evaluation, two sessions of the workshop, report.html. Says what happens
    and why. Takes about nine minutes on two cores; run it again to go on after a stop.

    Example: versecraft quickstart --steps 2
    """
    from ..quickstart import NEXT, Stage, said
    from ..quickstart import quickstart as walk

    begun = time.monotonic()
    try:
        for one in walk(folder, steps):
            clock = f"[{time.monotonic() - begun:4.0f} s]"
            if isinstance(one, Stage):
                why = textwrap.indent(textwrap.fill(one.why, 78), " " * len(clock) + " ")
                show(f"\n{clock} {one.title}\n{why}")
            else:
                show(f"{clock}   {one if isinstance(one, str) else said(one)}")
    except KeyboardInterrupt:
        say("Stopped. What was made is kept; run it again to go on.")
        raise typer.Exit(INTERRUPTED) from None
    show(f"\n{NEXT}")
