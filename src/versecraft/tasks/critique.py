"""Critique: what works, what does not, why, and which way to take it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..answers import Critique, Form, placed
from ..errors import MissingExtra
from ..hookspecs import hookimpl
from ..kinds import Kind
from ..prompting import Prompt
from ..prosody import check
from ..records import PoemItem
from . import PromptTask, Task, false_quote, missing_quote, repeated, vague

_SCORE = re.compile(
    r"(?<!lines )(?<!line )\b\d+(?:\.\d+)?\s*(?:/|out of)\s*(?:10|100)\b(?! lines?)", re.IGNORECASE
)


def _check(item: PoemItem, result: Critique) -> str | None:
    places = [s.location for s in result.strengths] + [i.location for i in result.issues]
    remarks = [s.effect for s in result.strengths] + [i.diagnosis for i in result.issues]
    poem = item.poem.text
    if reason := missing_quote(places, poem) or false_quote(remarks, poem):
        return reason
    if result.approved and not result.strengths:
        return "an approval needs at least one quoted strength"
    if reason := repeated(issue.location.quote for issue in result.issues):
        return reason
    for issue in result.issues:
        if reason := vague(issue.direction):
            return reason
        if _SCORE.search(f"{issue.diagnosis} {issue.direction}"):
            return "no marks out of ten; say what happens in the line"
        if issue.type == "form_breach" and item.brief:
            kept = _kept(poem, item.brief.form, issue.location.line)
            if kept:
                return f"the form is kept ({kept}); name another failure, or leave the issue out"
    return None


def _kept(poem: str, form: Form, line: int | None) -> str | None:
    """What was measured of a form, where all of it is kept, at the line too; else None.

    Where the extra `prosody` is missing, and where rhyme cannot be told, a claim stands.
    """
    try:
        report = check(poem, form)
    except MissingExtra:
        return None
    clauses = [clause for clause in report.clauses if clause.name != "meter"]
    if report.broken or any(c.holds is None or line in c.lines for c in clauses):
        return None
    return "; ".join(f"{c.name}: {c.found} for {c.asked}" for c in clauses)


def _finish(item: PoemItem, result: Critique) -> Critique:
    approved = all(issue.severity != "must_fix" for issue in result.issues)
    return placed(result, item.poem.text).model_copy(update={"approved": approved})


critique = PromptTask(
    name="critique",
    kind=Kind.CRITIQUE,
    prompt=Prompt.load("critique"),
    input=PoemItem,
    output=Critique,
    check=_check,
    finish=_finish,
    typical_tokens=900,
)


@hookimpl
def versecraft_tasks() -> Iterable[Task[PoemItem, Critique]]:
    """Registers `critique`."""
    return [critique]
