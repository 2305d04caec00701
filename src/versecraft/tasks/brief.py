"""Brief: a request turned into something a poet can work from."""

from __future__ import annotations

from collections.abc import Iterable

from ..answers import Brief, says, shared_run
from ..hookspecs import hookimpl
from ..kinds import Kind
from ..prompting import Prompt
from ..prosody import form_of
from ..records import RequestItem
from . import PromptTask, Task, loose_brief


def _check(item: RequestItem, result: Brief) -> str | None:
    return loose_brief(result) or (item.poem and _untrue(result, item.poem.text)) or None


def _untrue(brief: Brief, poem: str) -> str | None:
    """Why a brief could not stand before the poem that its request was made from, or None."""
    if copied := shared_run(f"{brief.angle}\n{brief.imagery}", poem, 5):
        return f"{copied!r} is taken from a poem; say it in words of your own"
    said = [phrase for phrase in brief.avoid if says(poem, phrase)]
    if said:
        return f"a good poem to this request says {said[0]!r}; avoid other phrases"
    return None


def _finish(item: RequestItem, result: Brief) -> Brief:
    """A brief made backwards has the form that its poem has; the form is measured, not asked."""
    if item.poem is None:
        return result
    kept = tuple(phrase for phrase in result.avoid if not says(item.poem.text, phrase))
    fewest = 5  # of phrases that a brief avoids
    return result.model_copy(
        update={
            "form": form_of(item.poem.text),
            "avoid": kept if len(kept) >= fewest else result.avoid,
        }
    )


brief = PromptTask(
    name="brief",
    kind=Kind.BRIEF,
    prompt=Prompt.load("brief"),
    input=RequestItem,
    output=Brief,
    backend="local",
    check=_check,
    finish=_finish,
    typical_tokens=350,
)


@hookimpl
def versecraft_tasks() -> Iterable[Task[RequestItem, Brief]]:
    """Registers `brief`."""
    return [brief]
