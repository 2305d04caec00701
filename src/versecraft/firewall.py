"""What a row of a data set may not hold: each check answers with a reason to leave it out, or None.

A poet's row is a brief and a poem, nothing else, and what its brief promises is true of the poem:
a poet that is taught otherwise learns that a brief is optional. An educator's row holds no verse.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

from .answers import Brief, Form, says, shared_run
from .errors import BadInput, MissingExtra
from .kinds import CHAT_TOKEN, classify, verse_in
from .prompting import Prompt
from .prosody import check
from .records import Example
from .training_data import Why, answer_of, turn_of

__all__ = ["LEAKS", "foreign", "long_brief", "untrue_brief"]

LEAKS = ("chat_token", "truncated", "not_poem", "educator_template", "verse")
"""Reasons which say that a row is not what its role may write; kind purity is one minus these."""

_REVISION_EXTRA = 100  # tokens that a revision brief may have beyond a brief: 400 to 300
_COPIED = 5  # words in a row that a brief may not share with its poem
_ESTIMATED = ("meter", "syllables")


def foreign(row: Example) -> Why | None:
    """Chat tokens, marks of a cut, and what the role of a row may not write."""
    for message in row.messages:
        if found := CHAT_TOKEN.search(message.content):
            return "chat_token", f"{found[0]!r} stands in the {message.role} turn"
        if "[truncated]" in message.content.lower():
            return "truncated", f"'[truncated]' stands in the {message.role} turn"
    return _in_educator(row) if row.role == "educator" else _in_poet(row)


def _in_educator(row: Example) -> Why | None:
    answer = answer_of(row)
    if "\\" not in answer and "\n" not in answer and " / " not in answer:
        return None  # one line of JSON without a mark by which it could hold verse
    try:
        value = json.loads(answer)
    except ValueError:
        value = answer
    found = verse_in(value)
    return ("verse", f"{found[0]} holds verse: {found[1][:60]!r}") if found else None


def _in_poet(row: Example) -> Why | None:
    if turn_of(row).startswith("Task: ") or any(
        _educator_persona() in message.content for message in row.messages
    ):
        return "educator_template", "it is asked as the educator is"
    report = classify(answer_of(row), _brief(row)[0])
    if report.clean:
        return None
    if not report.lines:
        return "not_poem", "the answer is empty"
    line = report.lines[0]
    return "not_poem", f"line {line.number} is {line.rule}: {line.text.strip()[:60]!r}"


@cache
def _educator_persona() -> str:
    return Prompt(turn="", persona="educator").render_persona()


def _brief(row: Example) -> tuple[str, bool]:
    """The brief in a poet's turn, and whether a draft goes with it."""
    brief, draft, rest = turn_of(row).partition("\n\n<draft>\n")
    return (brief if draft else brief.rpartition("\n\n")[0] or brief), bool(draft and rest)


def long_brief(row: Example, count: Callable[[str], int], cap: int) -> Why | None:
    """A brief of more than `cap` tokens; a revision brief may have 100 more."""
    brief, revision = _brief(row)
    cap += _REVISION_EXTRA if revision else 0
    tokens = count(brief)
    return ("brief_too_long", f"{tokens:,} tokens, {cap:,} allowed") if tokens > cap else None


def untrue_brief(row: Example) -> Why | None:
    """A brief that gives words of the poem away, or that the poem does not keep to.

    Of the form, lines are counted; stanzas, rhymes and refrains are measured where the extra
    `prosody` is installed. Metre is an estimate and is not held against a poem.
    """
    said, revision = _brief(row)
    poem = answer_of(row)
    try:
        brief = Brief.read(said)
    except BadInput as error:  # a plugin's poet may be asked in another way
        return ("brief_unread", str(error)) if row.task == "poem" else None
    if not revision and (copied := shared_run(f"{brief.angle}\n{brief.imagery}", poem, _COPIED)):
        return "brief_copied", f"{copied!r} stands in the brief and in the poem"
    if avoided := next((p for p in brief.avoid if says(poem, p)), None):
        return "avoided_said", f"{avoided!r} stands in the poem, but its brief avoids it"
    broken = _broken(poem, brief.form)
    return ("form_untrue", broken) if broken else None


def _broken(poem: str, form: Form) -> str | None:
    try:
        broken = check(poem, form).broken
    except MissingExtra:  # lines can be counted all the same
        low, high = form.lines
        count = form.count(poem)
        return None if low <= count <= high else f"lines: {low} to {high} asked, {count} found"
    for clause in broken:
        if clause.name not in _ESTIMATED:
            return f"{clause.name}: {clause.asked} asked, {clause.found} found"
    return None
