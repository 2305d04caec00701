"""The command that measures models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import (
    FAILED_ROWS,
    HERE,
    INTERRUPTED,
    JsonOption,
    WorkspaceOption,
    app,
    confirm,
    project_in,
    say,
    show,
)

if TYPE_CHECKING:
    from ..phases import Project
    from ..records import Match
    from ..runs import Plan
    from ..sessions import Session
    from ..workspace import Workspace


@app.command()
def evaluate(
    poet: Annotated[
        str | None, typer.Option(help="The poet: a role, a backend, or a GGUF as gguf:PATH.")
    ] = None,
    educator: Annotated[str | None, typer.Option(help="The educator, likewise.")] = None,
    base: Annotated[
        str | None, typer.Option(help="The model before training, to stand beside.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="So many briefs, and so many pairs.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Answers to each brief.")] = 3,
    poem_tokens: Annotated[int, typer.Option(min=1, help="Longest answer of a poet.")] = 1024,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file.")] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="Dollars that may be spent.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before spending.")] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Measure a poet, an educator, and the sessions of both. Run it again to go on.

    A model in this process writes each poem greedily and at temperature 0.8. Pairs are those of
    data/matches.jsonl of which no poem is in the educator's training set. Answers are kept in
    runs/evaluation. Exit code 3 when some items have no answer.

    Example: versecraft evaluate --poet gguf:models/poet-v2.gguf --html reports/poet.html
    """
    from ..evaluating import evaluate as measure

    project = project_in(workspace)
    place = project.workspace
    matches, note = _pairs(project) if educator else (None, "")
    poets = place.poets(poet) if poet else None
    bases: Any = place.backend(base) if base else None
    if base and isinstance(poets, dict):
        named = place.poets(base)
        same = named if isinstance(named, dict) else dict.fromkeys(poets, named)
        bases = {"educator": bases, **same}

    def agree(plans: Sequence[Plan]) -> None:
        cost = sum(plan.dollars for plan in plans)
        say(f"To ask: {sum(plan.to_ask for plan in plans):,}, about ${cost:,.2f}.")
        confirm(cost, place.settings.confirm_over, yes or budget is not None)

    try:
        report = measure(
            poet=poets,
            educator=place.backend(educator) if educator else None,
            base=bases,
            corpus=project.corpus,
            matches=matches,
            sessions=_sessions(place),
            system={
                "poet": place.system(poet or "", "poem"),
                "educator": place.system(educator or "", "critique"),
            },
            into=place.inside("runs/evaluation"),
            limit=limit,
            samples=samples,
            poem_tokens=poem_tokens,
            budget=budget,
            before=agree,
            seed=place.settings.seed,
        )
    except KeyboardInterrupt:
        say("Stopped. What was answered is kept; run it again to go on.")
        raise typer.Exit(INTERRUPTED) from None
    if note:
        report = report.model_copy(update={"notes": (note, *report.notes)})
    show(report.report() if as_json else report, as_json)
    if html:
        report.html(html)
        say(f"The page is {html}")
    if report.unanswered:
        raise typer.Exit(FAILED_ROWS)


def _sessions(place: Workspace) -> list[Session]:
    """The sessions that can be read; the others are left out with a warning."""
    from ..errors import BadInput
    from ..sessions import Session

    found = []
    for file in sorted(place.root.glob("sessions/*/session.json")):
        try:
            found.append(Session.read(file))
        except (BadInput, OSError) as error:
            say(f"Warning: {file.parent.name} is left out. {error}")
    return found


def _pairs(project: Project) -> tuple[list[Match] | None, str]:
    """The pairs that an educator was not trained on, and what the report says of them."""
    from ..errors import BadInput

    place = project.workspace
    if not place.matches.is_file():
        return None, "There are no matches, so pairs are drawn at random from the corpus."
    matches = list(project.matches())
    if not (place.data_set("educator") / "train.jsonl").is_file():
        return matches, "No data set is there: the educator may have been trained on these pairs."
    held = project.unseen()
    if not held:
        raise BadInput(
            "Each pair has a poem that is in the educator's training set. Hold more out: raise "
            "balance.valid in versecraft.toml, then run versecraft balance and train again."
        )
    return held, f"The pairs, {len(held):,} of {len(matches):,}, were held out of training."
