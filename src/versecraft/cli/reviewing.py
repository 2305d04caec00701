"""The command that opens the review page."""

from __future__ import annotations

import secrets
import sys
import webbrowser
from typing import Annotated

import typer

from .app import HERE, WorkspaceOption, app, project_in, say, show


@app.command()
def review(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[TASK|PHASE]", help="One task or phase.", show_default="all"),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    blind: Annotated[
        bool,
        typer.Option("--blind", help="Hide quality, author, title and who answered."),
    ] = False,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address and open nothing.")
    ] = False,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Read the answers on a local page; accept, reject and edit them.

    The page is for this machine alone, and its address holds a secret that is new each time.
    Decisions are kept in runs/decisions.jsonl; what is rejected makes no training rows, what is
    edited makes them as edited. Stop with Ctrl-C.

    Example: versecraft review critique --blind
    """
    from ..reviewing import Review, listen, review_app, serve

    found = Review(project_in(workspace), name, blind=blind)
    token = secrets.token_urlsafe(24)
    page = review_app(found, token)
    with listen(port) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/{token}/"
        show(f"{len(found):,} answers to read at {url}")
        sys.stdout.flush()
        say("Stop with Ctrl-C; decisions are kept in runs/decisions.jsonl.")
        if not no_browser:
            webbrowser.open(url)
        try:
            serve(page, listening)
        except KeyboardInterrupt:
            say("Stopped.")
