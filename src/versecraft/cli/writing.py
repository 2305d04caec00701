"""The command that writes a poem."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
)

if TYPE_CHECKING:
    from ..sessions import Round
    from ..workshop import Step
    from ..workspace import Workspace


@app.command()
def write(
    request: Annotated[str, typer.Argument(help="What the poem is to be about.")],
    educator: Annotated[
        str | None,
        typer.Option(help="Who briefs and reads: a role or a backend.", show_default="local"),
    ] = None,
    poet: Annotated[
        str | None,
        typer.Option(
            help="Who writes: a role or a backend.",
            show_default="the newest models/poet-v*.gguf, else opus",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Drafts at most.")] = 3,
    budget: Annotated[
        float | None,
        typer.Option(min=0, help="Dollars that may be spent.", show_default="confirm_over"),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            help="The session's folder; one that is there goes on.", show_default="a new one"
        ),
    ] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write a poem: brief, draft, critique, revision, until nothing must be mended.

    Each step is shown as it comes, then the drafts side by side; the poem comes last. Exit code 3
    when the budget ended it.

    Example: versecraft write "a sonnet about rust" --rounds 2
    """
    from ..workshop import Workshop

    place = project_in(workspace).workspace
    reader, writer = educator or "local", poet or _newest_poet(place)
    shop = Workshop(
        educator=place.backend(reader),
        poet=place.backend(writer),
        educator_system=_system(place, reader),
        poet_system=_system(place, writer),
    )
    say(f"The educator is {shop.educator.id}, the poet {shop.poet.id}.")
    folder = place.inside(into or f"sessions/{_name(request)}")
    relative = folder.relative_to(place.root).as_posix()
    teller = _Teller(silent=as_json)
    try:
        with teller:
            session = shop.write(
                request,
                rounds,
                into=folder,
                budget=place.settings.confirm_over if budget is None else budget,
                on_step=teller.tell,
            )
    except KeyboardInterrupt:
        say(f"Stopped. Go on with the same words and --into {relative}")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        facts = {"final": session.final, "approved": session.approved, "folder": relative}
        show({**session.model_dump(mode="json", exclude_none=True), **facts}, True)
    else:
        if len(session.drafts) > 1:
            show("\n── The drafts side by side ──")
            show(session.diff())
        cost = f", ${session.cost:,.2f}" if session.cost else ""
        show(f"\n{session.why_stopped}\nThe session is in {relative}{cost}.\n\n{session.final}")
    if session.stopped == "budget":
        raise typer.Exit(FAILED_ROWS)


def _system(place: Workspace, spec: str) -> Literal["guide", "persona"] | None:
    """What the settings say of a model; None where its GGUF says what it has learnt."""
    roles = place.settings.roles
    return roles.local_system if spec == "local" and not roles.local.startswith("gguf:") else None


def _newest_poet(place: Workspace) -> str:
    """The newest poet that was trained here; where there is none, the role opus."""
    found = [
        (int(number[1]), file)
        for file in place.root.glob("models/poet-v*.gguf")
        if (number := re.fullmatch(r"poet-v(\d+)\.gguf", file.name))
    ]
    return f"gguf:{max(found)[1].relative_to(place.root).as_posix()}" if found else "opus"


def _name(request: str) -> str:
    """A folder's name: the time, and a few words of the request."""
    words = re.findall(r"[a-z0-9]+", request.lower())
    return "-".join([datetime.now().strftime("%Y%m%d-%H%M%S"), *words[:5]])


class _Teller:
    """Shows each step as it comes, and what is waited for on stderr."""

    def __init__(self, *, silent: bool) -> None:
        from rich.console import Console

        self.silent = silent
        self.console = Console(stderr=True)
        self.status = self.console.status("")

    def __enter__(self) -> _Teller:
        return self

    def __exit__(self, *_: object) -> None:
        self.status.stop()

    def tell(self, step: Step) -> None:
        from rich.markup import escape

        title = {
            "brief": "Brief",
            "poem": f"Draft {step.number}",
            "critique": f"Critique of draft {step.number}",
            "revision_brief": f"Brief for the revision of draft {step.number}",
        }[step.task]
        if step.session is None:
            waiting = f"{title}: asking {step.by} …"
            if self.console.is_terminal:
                self.status.update(escape(waiting))
                self.status.start()
            else:
                say(waiting)
            return
        self.status.stop()
        if self.silent:
            return
        show(f"\n── {title} ──\n{step.text()}")
        if step.task == "poem":
            for line in _measured(step.session.rounds[-1]):
                show(line)


def _measured(draft: Round) -> list[str]:
    """What was measured of a draft, in lines."""
    from ..revisions import said_of

    lines = [f"(Form: {said_of(clause)}.)" for clause in draft.breaches or ()]
    if change := draft.changes:
        shares = [
            f"{share:.0%} of the {what}"
            for share, what in ((change.targeted, "lines named"), (change.collateral, "others"))
            if share is not None
        ]
        lost = f"; lost: {', '.join(change.lost)}" if change.lost else ""
        lines.append(f"(Changed: {', '.join(shares)}{lost}.)")
    return lines
