"""Commands that make the data: poems, pairs, answers, mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .app import (
    HERE,
    INTERRUPTED,
    BackendOption,
    JsonOption,
    LimitOption,
    Name,
    WorkspaceOption,
    app,
    confirm,
    end,
    project_in,
    say,
    show,
)

if TYPE_CHECKING:
    from ..phases import Project, Step
    from ..runs import Plan


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
    from ..corpus import read_corpus

    found = read_corpus(path, quality=quality) if path else project_in(workspace).corpus
    if as_json:
        left = [d.model_dump(exclude_none=True) for d in found.dropped]
        show({**found.report(), **({"left_out": left} if dropped else {})}, True)
        return
    show(found)
    if dropped:
        for d in found.dropped:
            where = ":".join(str(part) for part in (d.file, d.line, d.item) if part is not None)
            show(f"{where}: {d.reason}: {d.detail}")


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
    project = project_in(workspace)
    matches = project.match(strategy=strategy, k=k, seed=seed)
    if plot:
        matches.plot(plot)
    show(matches.report() if as_json else matches, as_json)


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
    from ..phases import steps

    project = project_in(workspace)
    plans = [(step, project.plan(step, backend, limit=limit)) for step in steps(name)]
    if as_json:
        show([p.report() for _, p in plans], True)
        return
    _show_bill(project, plans, limit)


def _show_bill(project: Project, plans: Sequence[tuple[Step, Plan]], limit: int | None) -> float:
    """Prints the bill of a phase and returns its dollars, those of what is still to come too."""
    from ..runs import Cost
    from ..standing import forecast

    ways = Cost()
    dollars = 0.0
    for step, plan in plans:
        show(plan)
        count, cost = forecast(project, step, plan, limit)
        if count:
            show(
                f"{step.task} is made from answers to {step.after}: up to {count:,} more, "
                f"about ${plan.of(cost):,.2f}."
            )
        ways += plan.cost + cost
        dollars += plan.dollars + plan.of(cost)
    if len(plans) > 1:
        show(f"Together about ${dollars:,.2f}, this way.")
        show(
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
    from ..phases import Budget, ask, steps
    from ..runs import Run
    from ..standing import forecast

    project = project_in(workspace)
    options: dict[str, Any] = {"concurrency": concurrency} if concurrency else {}
    # All are planned before the first is asked: what is missing shows while nothing is spent.
    todo = [(step, project.plan(step, backend, limit=limit, **options)) for step in steps(name)]
    if as_json:
        cost = sum(
            bill.dollars + bill.of(forecast(project, step, bill, limit)[1]) for step, bill in todo
        )
    else:
        cost = _show_bill(project, todo, limit)
    confirm(cost, project.workspace.settings.confirm_over, yes or budget is not None)
    runs: list[Run] = []
    before = None if as_json else show
    options |= {"backend": backend, "limit": limit}
    try:
        for made in ask(project, steps(name), Budget(budget), before=before, **options):
            if isinstance(made.what, Run):
                runs.append(made.what)
            if not as_json:
                show(made.what)
                show(f"Answers in {made.path.relative_to(project.workspace.root)}")
    except KeyboardInterrupt:
        say("Stopped. What was answered is kept; run it again to go on or to collect.")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        show([run.report() for run in runs], True)
    end(runs)


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
    from ..batching import cancel as drop
    from ..phases import steps

    project = project_in(workspace)
    plans = [project.plan(step, backend) for step in steps(name)]
    batches = [batch for plan in plans for batch in drop(plan)]
    for batch in batches:
        show(f"Asked to cancel {batch}.")
    by = f" --backend {backend}" if backend else ""
    if batches:
        show(f"Collect what was answered with: versecraft generate {name}{by} --budget 0")
    elif any(plan.under_way for plan in plans):
        show(
            "The provider's id of a batch is not known yet. Find it with: "
            f"versecraft generate {name}{by} --budget 0"
        )
    else:
        show("No batches are under way.")


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
    project = project_in(workspace)
    mixture, data = project.balance(role, bad_share=bad_share, min_tasks=min_tasks, seed=seed)
    if as_json:
        show({"mixture": mixture.report(), "card": dict(data.card)}, True)
        return
    if role == "educator":
        show(mixture)
    show(data)
    show(f"Written to data/{role}_training. Look at it with: versecraft xray --role {role}")
