"""Poem: a brief turned into a poem and nothing but a poem."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..answers import Change, Form, RevisionBrief, Verse, says, words_of
from ..hookspecs import hookimpl
from ..kinds import Kind, classify
from ..prompting import Prompt
from ..records import BriefItem
from . import PromptTask, Task

_MOVE = re.compile(r"\W*(?:move|bring|lift|shift|break|join|enjamb)\b", re.IGNORECASE)


def _check(item: BriefItem, result: Verse) -> str | None:
    report = classify(result.text, item.brief.text())
    if report.lines:
        first = report.lines[0]
        return (
            f"line {first.number} is not poem ({first.rule}: {first.text.strip()[:60]!r}); "
            "answer with the poem alone"
        )
    if not report.clean:
        return "the answer is empty; write the poem"
    if reason := _wrong_length(item.brief.form, result.text):
        return reason
    for phrase in item.brief.avoid:
        if says(result.text, phrase):
            return f"{phrase!r} stands in the poem, but the brief avoids it; find other words"
    return _unrevised(item.brief, result.text) if isinstance(item.brief, RevisionBrief) else None


def _wrong_length(form: Form, text: str) -> str | None:
    count = form.count(text)
    low, high = form.lines
    if low <= count <= high:
        return None
    prose = form.name == "prose-poem"
    unit = "paragraphs, parted by blank lines" if prose else "lines that are not blank"
    return f"the poem has {count} {unit}; the form asks for {low} to {high}: write as many"


def _unrevised(brief: RevisionBrief, text: str) -> str | None:
    for kept in brief.keep:
        if not says(text, kept.quote):
            return f"{kept.quote!r} is to be kept and is gone; bring the words back as they stand"
    for change in brief.change:
        quote = change.location.quote
        standing = len(words_of(quote)) > 3 and says(text, quote)
        stays = _stays(change) or any(says(kept.quote, quote) for kept in brief.keep)
        if standing and not stays:
            return f"{quote!r} still stands word for word; carry out its change: {change.change}"
    return None


def _stays(change: Change) -> bool:
    """Whether the words may stay where the change is made: they move, or break elsewhere."""
    return change.type == "line_break" or bool(_MOVE.match(change.change))


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
