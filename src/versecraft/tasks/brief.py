"""Brief: a request turned into something a poet can work from."""

from __future__ import annotations

from collections.abc import Iterable

from ..answers import Brief
from ..hookspecs import hookimpl
from ..kinds import Kind
from ..prompting import Prompt
from ..records import RequestItem
from . import PromptTask, Task, loose_brief


def _check(item: RequestItem, result: Brief) -> str | None:
    return loose_brief(result)


brief = PromptTask(
    name="brief",
    kind=Kind.BRIEF,
    prompt=Prompt.load("brief"),
    input=RequestItem,
    output=Brief,
    backend="local",
    check=_check,
    typical_tokens=350,
)


@hookimpl
def versecraft_tasks() -> Iterable[Task[RequestItem, Brief]]:
    """Registers `brief`."""
    return [brief]
