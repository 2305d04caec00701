"""Poem: a brief turned into a poem and nothing but a poem."""

from __future__ import annotations

from collections.abc import Iterable

from ..answers import Verse
from ..hookspecs import hookimpl
from ..kinds import Kind, classify
from ..prompting import Prompt
from ..records import BriefItem
from . import PromptTask, Task


def _check(item: BriefItem, result: Verse) -> str | None:
    # Of a revision brief the quoted lines are left out: keeping them is what it asks for.
    report = classify(result.text, f"{item.brief.angle}\n{item.brief.imagery}")
    if report.clean:
        return None
    if not report.lines:
        return "the answer is empty; write the poem"
    first = report.lines[0]
    return (
        f"line {first.number} is not poem ({first.rule}: {first.text.strip()[:60]!r}); "
        "answer with the poem alone"
    )


poem = PromptTask(
    name="poem",
    kind=Kind.POEM,
    role="poet",
    prompt=Prompt.load("poem", persona="poet"),
    input=BriefItem,
    output=Verse,
    check=_check,
    typical_tokens=350,
)


@hookimpl
def versecraft_tasks() -> Iterable[Task[BriefItem, Verse]]:
    """Registers `poem`."""
    return [poem]
