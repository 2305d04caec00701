"""Lesson: a craft question answered with a claim, examples and an exercise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from ..answers import Answer
from ..hookspecs import hookimpl
from ..kinds import Kind
from ..prompting import Prompt
from ..records import QuestionItem
from . import PromptTask, Task

_MAX_QUOTED_LINES = 4


class Illustration(Answer):
    """A short quotation, where it is from, and what it shows."""

    quote: Annotated[str, Field(min_length=3, max_length=200)]
    source: Annotated[str, Field(min_length=3, max_length=80)]
    shows: Annotated[str, Field(min_length=20, max_length=240)]


class Lesson(Answer):
    """An answer to a craft question."""

    topic: Annotated[str, Field(min_length=3, max_length=60)]
    claim: Annotated[str, Field(min_length=20, max_length=240)]
    explanation: Annotated[str, Field(min_length=200, max_length=1500)]
    examples: Annotated[tuple[Illustration, ...], Field(min_length=1, max_length=3)]
    exercise: Annotated[str, Field(min_length=40, max_length=400)]

    def text(self) -> str:
        """The lesson as a page to read."""
        shown = "\n".join(f"“{e.quote}” ({e.source}): {e.shows}" for e in self.examples)
        return f"{self.claim}\n\n{self.explanation}\n\n{shown}\n\nTry this: {self.exercise}"


def _check(item: QuestionItem, result: Lesson) -> str | None:
    lines = sum(1 + e.quote.replace(" / ", "\n").count("\n") for e in result.examples)
    if lines > _MAX_QUOTED_LINES:
        return f"the examples quote {lines} lines; {_MAX_QUOTED_LINES} at most in the whole lesson"
    return None


lesson = PromptTask(
    name="lesson",
    kind=Kind.LESSON,
    prompt=Prompt.load("lesson"),
    input=QuestionItem,
    output=Lesson,
    backend="local",
    check=_check,
    typical_tokens=700,
)


@hookimpl
def versecraft_tasks() -> Iterable[Task[QuestionItem, Lesson]]:
    """Registers `lesson`."""
    return [lesson]
