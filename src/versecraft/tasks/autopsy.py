"""Autopsy: the clichés of a poem, why each is dead, and what it was reaching for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from ..answers import Answer, Loc, placed, plain
from ..hookspecs import hookimpl
from ..kinds import Kind
from ..phrases import cliches
from ..prompting import Prompt
from ..records import PoemItem
from . import PromptTask, Task, false_quote, missing_quote, repeated

_SMALL = frozenset(
    "the and that with from into over like your their there this have been were what when "
    "where which them they then than his her its our you are was for but not all one out who had "
    "still after".split()
)


class Finding(Answer):
    """One cliché, taken apart."""

    cliche: Loc
    why_dead: Annotated[str, Field(min_length=20, max_length=240)]
    reaching_for: Annotated[str, Field(min_length=15, max_length=200)]
    replacement: Annotated[str, Field(min_length=10, max_length=200)]


class Autopsy(Answer):
    """The clichés of a poem, in the order of their lines."""

    items: Annotated[tuple[Finding, ...], Field(min_length=1, max_length=8)]

    def text(self) -> str:
        """The autopsy in prose."""
        return "\n\n".join(
            f"“{f.cliche.quote}”: {f.why_dead} It was reaching for {f.reaching_for.rstrip('. ')}. "
            f"Instead: {f.replacement}"
            for f in self.items
        )


def _content(text: str) -> set[str]:
    return {w for w in re.findall(r"[a-z']{3,}", plain(text)) if w not in _SMALL}


def _check(item: PoemItem, result: Autopsy) -> str | None:
    places = [f.cliche for f in result.items]
    poem = item.poem.text
    if reason := missing_quote(places, poem) or repeated(p.quote for p in places):
        return reason
    if reason := false_quote((f.why_dead for f in result.items), poem):
        return reason
    for finding in result.items:
        old, new = _content(finding.cliche.quote), _content(finding.replacement)
        if old and len(old & new) / len(old) >= 0.5:
            return f"the replacement {finding.replacement!r} repeats its cliché; find another image"
        if known := cliches(finding.replacement):
            worn = known[0].phrase
            return f"the replacement {finding.replacement!r} is itself a cliché ({worn!r})"
    return None


autopsy = PromptTask(
    name="autopsy",
    kind=Kind.AUTOPSY,
    prompt=Prompt.load("autopsy"),
    input=PoemItem,
    output=Autopsy,
    backend="local",
    check=_check,
    finish=lambda item, result: placed(result, item.poem.text),
    typical_tokens=600,
)


@hookimpl
def versecraft_tasks() -> Iterable[Task[PoemItem, Autopsy]]:
    """Registers `autopsy`."""
    return [autopsy]
