"""The quickstart: the sample through all four phases, offline, to a workshop and a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from .errors import BadInput, MissingExtra, WorkshopError
from .figures import Report
from .generating import generate
from .matching import Matches
from .phases import RUNS, Budget, Made, Project, steps
from .reporting import report
from .runs import Run
from .sessions import FILE, Session
from .trainers import Checkpoint
from .training_data import Mixture, Split
from .workshop import Workshop
from .workspace import CONFIG, Workspace

__all__ = ["NEXT", "STEPS", "Stage", "quickstart", "said"]

STEPS = 12
"""Steps of each of the three trainings: about nine minutes on two cores for all that is done."""

REQUEST = "a short poem about rust on a garden gate"
RECORDED = (
    "a poem for Maureen, who drove the 14 bus for thirty years and retires on Friday. "
    "rhymed please, nothing soppy"
)
"""The request of the session that comes with the sample."""

NEXT = """\
Next, with poems of your own:

  versecraft init project        then put poems into project/data/raw/good and data/raw/bad
  cd project
  versecraft corpus              what was read, and what was not and why
  versecraft run all --dry-run   what each phase would ask, make and cost
  versecraft run seed            with a key in ANTHROPIC_API_KEY; the rest goes on from there
"""

_MARK = "# Made by versecraft quickstart.\n"
_OWN = 2  # autopsies, and lessons, that educator v1 answers itself
_SETTINGS = {
    # Short rows and small steps: what two cores do in minutes. Longer rows are left out and listed.
    "# steps = 200          # in place of": "steps = N  # in place of",
    "# options = {learning_rate = 1e-3, max_length = 1024}": (
        "options = {learning_rate = 1e-3, max_length = 640, accumulate = 2, eval_every = N}"
    ),
    "canaries = 20 ": "canaries = 2 ",
    # With as many threads as cores, one other program that works makes each wait for the slowest.
    "# [backends.gguf]\n# gpu_layers = 99\n": "[backends.gguf]\nthreads = 1\n# gpu_layers = 99\n",
}
"""Lines of the settings that ship, and what the quickstart has in their place; N is the steps."""


@dataclass(frozen=True)
class Stage:
    """A part of the quickstart, as it begins.

    Attributes:
        title: What happens.
        why: What it is good for.
    """

    title: str
    why: str


def quickstart(folder: str | Path, steps: int | None = None) -> Iterator[Stage | Made | str]:
    """Goes the whole way with the sample; yields each stage, what is made, and what is to be said.

    Call it again with the same folder to go on after a stop: what is there is kept.

    Args:
        folder: The workspace; made when missing.
        steps: How long each model is trained; `STEPS` if None.

    Raises:
        BadInput: The folder holds something else, or was begun with other steps.
        MissingExtra: What trains, reads or runs models is not installed.
    """
    for module in ("sentence_transformers", "trl", "llama_cpp"):
        if find_spec(module) is None:
            raise MissingExtra("The quickstart", "all")
    project = Project(_workspace(Path(folder), steps))
    for phase in RUNS:
        yield _STAGES[phase]
        for made in RUNS[phase](project, Budget()):
            yield made
            if isinstance(made.what, Run) and made.what.stopped:
                raise BadInput(f"{made.what.stopped} Run versecraft quickstart again to go on.")
        if phase == "interim":
            yield _STAGES["own"]
            yield from _own_answers(project)
    yield _STAGES["workshop"]
    yield from _sessions(project.workspace)
    yield _STAGES["report"]
    page = report(project.workspace).write(project.workspace.root / "report.html")
    yield f"The page is {page}"


_STAGES = {
    "seed": Stage(
        "Seed: what a teacher says of the poems",
        "Each bad poem is paired with a good one on its topic. A strong model's critiques, "
        "comparisons and revision briefs are the lessons; here they are replayed, so nothing is "
        "spent.",
    ),
    "interim": Stage(
        "Interim: educator v1",
        "A small model learns to answer as the teacher did, and becomes one GGUF file. Then "
        "briefs, autopsies and lessons are added (replayed too), and the set is balanced: 40 % "
        "from bad poems, 60 % from good ones.",
    ),
    "own": Stage(
        "Educator v1 answers for itself",
        "On a real corpus it does all the easy tasks, at no cost. Here it tries a few; what passes "
        "the checks takes the place of the teacher's answer, what does not is refused with a "
        "reason.",
    ),
    "poet": Stage(
        "Poet: a poem to each brief",
        "Pairs of brief and poem are all that the poet learns from. Each poem passes the role "
        "firewall, which lets nothing through but verse.",
    ),
    "final": Stage(
        "Final: educator v2 and poet v2",
        "Both learn from all there is and become GGUF files. Then the poet writes to briefs that "
        "it has not seen, and nobody corrects it: does it write poems and nothing else?",
    ),
    "workshop": Stage(
        "Workshop: brief, draft, critique, revision",
        "First the session that comes with the sample, to see what one is. Then the two models "
        "that were trained just now; so small, and after so few steps, they may well fail.",
    ),
    "report": Stage("Report", "All of it on one page."),
}


def _workspace(folder: Path, steps: int | None) -> Workspace:
    """The quickstart's workspace: the sample, with settings that two cores can keep up with."""
    config = folder / CONFIG
    if config.is_file():
        if not config.read_text(encoding="utf-8").startswith(_MARK):
            raise BadInput(
                f"{folder} is a workspace of yours. Give the quickstart another folder, or run "
                "versecraft run all in this one."
            )
        place = Workspace.open(folder)
        begun = place.settings.training.steps
        if steps not in (None, begun):
            raise BadInput(
                f"The quickstart in {folder} was begun with {begun} steps. Go on without --steps, "
                "or give another folder."
            )
        return place
    place = Workspace.init(folder, sample=True)
    text = config.read_text(encoding="utf-8")
    for old, new in _SETTINGS.items():
        if old not in text:  # the file that ships was changed and this was not
            raise BadInput(f"{config} has no line {old!r}. Report this as a bug of versecraft.")
        text = text.replace(old, new.replace("N", str(steps or STEPS)))
    config.write_text(_MARK + text, encoding="utf-8")
    return Workspace.open(folder)


def _own_answers(project: Project) -> Iterator[Made]:
    """Lets educator v1 answer a few items of each easy task in place of the teacher."""
    for step in steps("interim"):
        if step.task in ("autopsy", "lesson"):
            plan = project.plan(step, "gguf:models/educator-v1.gguf", limit=_OWN)
            run = generate(plan, retry_failed=False)
            yield Made("interim", run, project.leave(step))


def _sessions(place: Workspace) -> Iterator[str]:
    """The sample's session, and one of the models that were trained."""
    for name, request, educator, poet in (
        ("recorded", RECORDED, "opus", "opus"),
        ("trained", REQUEST, "gguf:models/educator-v2.gguf", "gguf:models/poet-v2.gguf"),
    ):
        folder = place.inside(f"sessions/{name}")
        done = Session.read(folder) if (folder / FILE).is_file() else None
        if done is None or not done.stopped:
            shop = Workshop(educator=place.backend(educator), poet=place.backend(poet))
            try:
                done = shop.write(request, rounds=3 if name == "recorded" else 2, into=folder)
            except WorkshopError as error:
                yield f"The session came to no end, and the report says so: {error}"
                continue
        yield f"“{request}”: {done.why_stopped}\n\n{done.final}\n"


def said(made: Made) -> str:
    """What was made, in a line."""
    what, name = made.what, made.path.name
    if isinstance(what, Matches):
        return f"{len(what)} pairs of a bad and a good poem"
    if isinstance(what, Run):
        lost = f", {what.failed + what.refused} refused or failed" if what.errors() else ""
        task = what.task.name.replace("_", " ")
        if not what.rows:
            return f"{task}: nothing to ask"
        return f"{task}: {what.answered + what.cached} of {len(what.rows)} answered{lost}"
    if isinstance(what, Mixture):
        share = what.report()["bad_share"]["got"]
        return f"{len(what.kept)} rows, {share:.1%} of them from bad poems"
    if isinstance(what, Split):
        return f"{what.role}'s data set: {len(what.train)} to train on, {len(what.valid)} held out"
    if isinstance(what, Checkpoint):
        card = what.card
        loss = (
            f"loss on held-out rows {card['valid_loss_before']} before, {card['valid_loss']} after"
        )
        length = f"{card['steps']} step{'s' if card['steps'] != 1 else ''}"
        return f"{name}: {length} in {card['seconds']:,.0f} s; {loss}"
    if isinstance(what, Report):
        found = [f for f in what.figures if f.name in ("kind purity", "critic accuracy")]
        return "; ".join(f"{f.of}: {f.name} {f.says(f.value)} ({f.basis})" for f in found)
    return f"{name}, {made.path.stat().st_size / 1e6:,.0f} MB"
