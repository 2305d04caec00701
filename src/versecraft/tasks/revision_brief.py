"""Revision brief: a critique turned into a brief for the next draft."""

from __future__ import annotations

from collections.abc import Iterable

from ..answers import RevisionBrief, placed, says
from ..hookspecs import hookimpl
from ..kinds import Kind
from ..prompting import Prompt
from ..records import RevisionItem
from . import PromptTask, Task, loose_brief, missing_quote, repeated, vague


def _check(item: RevisionItem, result: RevisionBrief) -> str | None:
    places = [*result.keep, *(c.location for c in result.change)]
    if reason := missing_quote(places, item.poem.text) or loose_brief(result):
        return reason
    if reason := repeated(place.quote for place in places):
        return reason
    for change in result.change:
        if any(says(kept.quote, change.location.quote) for kept in result.keep):
            return (
                f"{change.location.quote!r} is both kept and changed; keep fewer words, or leave "
                "the change out"
            )
    return next((reason for c in result.change if (reason := vague(c.change))), None)


revision_brief = PromptTask(
    name="revision_brief",
    kind=Kind.REVISION_BRIEF,
    prompt=Prompt.load("revision_brief"),
    input=RevisionItem,
    output=RevisionBrief,
    check=_check,
    finish=lambda item, result: placed(result, item.poem.text),
    typical_tokens=500,
)


@hookimpl
def versecraft_tasks() -> Iterable[Task[RevisionItem, RevisionBrief]]:
    """Registers `revision_brief`."""
    return [revision_brief]
