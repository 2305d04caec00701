"""Comparison: which of two poems is stronger, point by point, both quoted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from ..answers import Answer, Loc, placed
from ..hookspecs import hookimpl
from ..kinds import Kind
from ..prompting import Prompt
from ..records import PairItem
from . import PromptTask, Task, false_quote, missing_quote

_LETTER = re.compile(r"\b[Pp]oem [AB]\b")

Quote = Annotated[str, Field(min_length=3, max_length=160)]


class Point(Answer):
    """One ground for the verdict, with words from both poems."""

    dimension: Literal[
        "image", "sound", "line", "form", "diction", "feeling", "ending", "voice", "structure",
        "thought",
    ]  # fmt: skip
    a_quote: Quote
    b_quote: Quote
    finding: Annotated[
        str,
        Field(
            min_length=20,
            max_length=280,
            description="A clause that completes 'It is stronger because …'.",
        ),
    ]


class Comparison(Answer):
    """A verdict on two poems; it reads 'Poem A is stronger because … Poem B fails at …'."""

    winner: Literal["A", "B"]
    margin: Literal["clear", "slight"]
    points: Annotated[tuple[Point, ...], Field(min_length=2, max_length=4)]
    loser_best: Loc
    loser_failure: Annotated[
        str,
        Field(
            min_length=15,
            max_length=240,
            description="Words that complete 'It fails at …', said of the weaker poem.",
        ),
    ]
    lesson: Annotated[str, Field(min_length=20, max_length=280)]

    def text(self) -> str:
        """The verdict as a teacher would say it."""
        loser = "B" if self.winner == "A" else "A"
        grounds = "; ".join(p.finding.rstrip(". ") for p in self.points)
        return (
            f"Poem {self.winner} is stronger because {grounds}. "
            f"Poem {loser} fails at {self.loser_failure.rstrip('. ')}. "
            f"Its best moment is “{self.loser_best.quote}”. {self.lesson}"
        )


def _check(item: PairItem, result: Comparison) -> str | None:
    loser = item.b if result.winner == "A" else item.a
    said = [*(p.finding for p in result.points), result.loser_failure, result.lesson]
    if any(_LETTER.search(text) for text in said):
        return "speak of the poems without their letters; 'It is stronger because …' says which"
    if len({p.dimension for p in result.points}) < len(result.points):
        return "two points have the same dimension; merge them, or judge another one"
    return (
        missing_quote((p.a_quote for p in result.points), item.a.text)
        or missing_quote((p.b_quote for p in result.points), item.b.text)
        or missing_quote([result.loser_best], loser.text)
        or false_quote(said, item.a.text, item.b.text)
    )


def _finish(item: PairItem, result: Comparison) -> Comparison:
    loser = item.b if result.winner == "A" else item.a
    return placed(result, loser.text)


comparison = PromptTask(
    name="comparison",
    kind=Kind.COMPARISON,
    prompt=Prompt.load("comparison"),
    input=PairItem,
    output=Comparison,
    check=_check,
    finish=_finish,
    meta=lambda item, result: {"winner": (item.a if result.winner == "A" else item.b).id},
    typical_tokens=800,
)


@hookimpl
def versecraft_tasks() -> Iterable[Task[PairItem, Comparison]]:
    """Registers `comparison`."""
    return [comparison]
