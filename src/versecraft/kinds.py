"""What a text is: which lines of a supposed poem are not poem, and what says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from .answers import plain
from .records import Kind as Kind
from .records import Record

CHAT_TOKEN = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
)
"""Marks by which chat templates separate turns (ChatML, Llama, Mistral, Gemma)."""

_LABEL = re.compile(
    r"^\W*(?:angle|avoid|imagery|form|keep|change|critique|strengths?|issues?|diagnosis|direction"
    r"|severity|approved|commentary|(?:revised|final|new) (?:poem|draft|version))\W*:",
    re.IGNORECASE,
)
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("chat_token", CHAT_TOKEN),
    ("fence", re.compile(r"^\s*```")),
    ("json", re.compile(r'^\s*[{\[]\s*"|"\w+"\s*:\s*["\d\[{]|^\s*[{}\[\]]\s*,?\s*$')),
    ("heading", re.compile(r"^\s*#{1,6}\s")),
    ("cut", re.compile(r"\[truncated\]", re.IGNORECASE)),
    ("label", _LABEL),
)
_ECHO = 7  # words in a row shared with the brief; poetics, "briefecho"


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

    Only rules that are certain speak: chat tokens, code fences, JSON, headings, `[truncated]`,
    labels of a brief or critique, and seven words in a row taken from the brief.

    Args:
        text: What a poet answered.
        brief: The brief it was given, to find an echo of it.

    Returns:
        A report whose `clean` is true when no line is foreign and the text is not empty.
    """
    found = tuple(_foreign(text, brief))
    clean = bool(text.strip()) and not found
    return KindReport(kind=Kind.POEM if clean else None, clean=clean, lines=found, confidence=1.0)


def _foreign(text: str, brief: str | None) -> Iterator[LineReport]:
    echo = _grams(brief) if brief else frozenset()
    for number, line in enumerate(text.split("\n"), start=1):
        rule = next((name for name, rx in _RULES if rx.search(line)), None)
        if rule is None and echo and _grams(line) & echo:
            rule = "brief_echo"
        if rule:
            yield LineReport(number=number, text=line, layer="rules", rule=rule, confidence=1.0)


def _grams(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"[\w']+", plain(text))
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
