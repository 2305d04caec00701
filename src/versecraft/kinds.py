"""What a text is: which lines of a supposed poem are not poem, and what says so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

from .answers import words_of
from .records import Kind as Kind
from .records import Record

CHAT_TOKEN = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
)
"""Marks by which chat templates separate turns (ChatML, Llama, Mistral, Gemma)."""

CHAT_SETTINGS: Mapping[str, Any] = {
    "enable_thinking": False,
    "date_string": "26 Jul 2024",  # what the templates of Llama 3 write where nobody gives a date
}
"""What chat templates are given, in training and in serving: no thinking, and always one day."""


def undated(template: str) -> str:
    """A chat template that asks for today's date, with the date of `CHAT_SETTINGS` instead."""
    return re.sub(
        r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""",
        lambda asked: repr(datetime(2024, 7, 26).strftime(asked[2])),
        template,
    )


_LABELS = (
    r"angle|avoid|imagery|critique|diagnosis|commentary"
    r"|(?:revised|final|new) (?:poem|draft|version)"
)
_SOFT = r"form|keep|change|strengths?|issues?|direction|severity|approved"
_RULES: tuple[tuple[str, str, re.Pattern[str]], ...] = tuple(
    (rule, where, re.compile(pattern))
    for rule, where, pattern in (
        ("chat_token", "anywhere", CHAT_TOKEN.pattern),
        ("fence", "anywhere", r"^\s*```"),
        ("json", "anywhere", r'^\s*\{\s*"\w+"\s*:.*\}\s*,?\s*$'),
        ("heading", "anywhere", r"^\s*#{2,6}\s"),
        ("cut", "anywhere", r"(?i)\[truncated\]"),
        ("heading", "first", r"^\s*#\s+[^\W\d]"),
        ("label", "ends", rf"(?i)^\W*(?:{_LABELS})\W*:"),
        # What a poem may hold once ("Keep: left", a bracket) counts beside another foreign line.
        ("label", "beside", rf"(?i)^\W*(?:{_LABELS}|{_SOFT})\W*:"),
        ("json", "beside", r'^\s*[{\[]\s*"|"\w+"\s*:\s*["\d\[{]|^\s*[{}\[\]]\s*,?\s*$'),
    )
)
_ECHO = 7  # words in a row shared with the brief


class LineReport(Record):
    """A line that is not poem, and which layer and rule said so."""

    number: int
    text: str
    layer: Literal["rules"]
    rule: str
    confidence: float


class KindReport(Record):
    """What a text is, and the lines in it that are something else."""

    kind: Kind | None
    clean: bool
    lines: tuple[LineReport, ...]
    confidence: float


def classify(text: str, brief: str | None = None) -> KindReport:
    """Tells whether a text is a poem and nothing but a poem.

    Only what is certain counts: chat tokens, code fences, JSON, headings, `[truncated]`, labels of
    a brief or critique, and seven words in a row taken from the brief. A line that might stand in
    a poem (a label such as "Keep:", a lone bracket) counts beside another foreign line only.

    Args:
        text: What a poet answered.
        brief: The brief as the poet read it, to find an echo of it. What it says to avoid, keep
            and change is passed over: keeping words of the draft is no echo.

    Returns:
        A report whose `clean` is true when no line is foreign and the text is not empty.
    """
    found = tuple(_foreign(text, brief))
    clean = bool(text.strip()) and not found
    return KindReport(kind=Kind.POEM if clean else None, clean=clean, lines=found, confidence=1.0)


def _foreign(text: str, brief: str | None) -> Iterator[LineReport]:
    echo = _grams(_own_words(brief)) if brief else frozenset()
    lines = {n: line for n, line in enumerate(text.split("\n"), start=1) if line.strip()}
    ends = [*lines][:1] + [*lines][-1:]
    places = {"first": ends[:1], "ends": ends}
    found = []
    for n, line in lines.items():
        rules = (r for r in _RULES if n in places.get(r[1], lines) and r[2].search(line))
        rule, where, _ = next(rules, ("", "", None))
        if where in ("", "beside") and echo and _grams(line) & echo:
            rule, where = "brief_echo", "anywhere"
        if rule:
            found.append((n, line, rule, where))
    if [where for *_, where in found] == ["beside"]:
        return
    for n, line, rule, _ in found:
        yield LineReport(number=n, text=line, layer="rules", rule=rule, confidence=1.0)


def _own_words(brief: str) -> str:
    """A brief without what it says to avoid, keep and change."""
    head = re.split(r"^(?:Keep|Change): ", brief, maxsplit=1, flags=re.MULTILINE)[0]
    return re.sub(r"^Avoid: .*$", "", head, flags=re.MULTILINE)


def _grams(text: str) -> frozenset[tuple[str, ...]]:
    words = words_of(text)
    return frozenset(tuple(words[i : i + _ECHO]) for i in range(len(words) - _ECHO + 1))


_QUOTE_END = re.compile(r"(?<=[\w.,;:!?])[\"”'’](?!\w)")


def holds_verse(text: str) -> bool:
    """Whether an educator's prose holds a run of three or more lines of verse.

    A run is three short lines in a row, or three or more pieces set apart by ` / `.
    """
    if "\n" not in text and " / " not in text:
        return False
    run = 0
    for line in text.split("\n"):
        run = run + 1 if 0 < len(line.strip()) <= 80 else 0
        if run >= 3:
            return True
    # Within one quotation only: two separate quotes of two lines each are no run.
    return any(
        len(re.findall(r"[^\W\d]\W* / \W*[^\W\d]", part)) >= 2 for part in _QUOTE_END.split(text)
    )


def verse_in(value: Any, path: str = "answer") -> tuple[str, str] | None:
    """The first string of an educator's answer that holds verse, quotations left out.

    Args:
        value: The answer as JSON values: strings, mappings, sequences.
        path: What to call it.

    Returns:
        Where the string stands, such as "answer.issues[0].diagnosis", and the string; or None.
    """
    if isinstance(value, str):
        return (path, value) if not path.endswith("quote") and holds_verse(value) else None
    if isinstance(value, dict):
        parts = ((part, f"{path}.{key}") for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        parts = ((part, f"{path}[{n}]") for n, part in enumerate(value))
    else:
        return None
    return next((found for part, where in parts if (found := verse_in(part, where))), None)
