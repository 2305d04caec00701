"""Where the quotations of an answer stand in the poems it is about, to the character."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from .answers import locate

__all__ = ["places"]


def places(output: Any, parts: list[dict[str, Any]], path: str = "") -> Iterator[tuple[str, Any]]:
    """Where the quotations of an output stand: path in the output, and part, line and offsets."""
    children = output.items() if isinstance(output, dict) else enumerate(output)
    for name, value in children:
        at = f"{path}.{name}" if path else str(name)
        if isinstance(value, (dict, list)):
            yield from places(value, parts, at)
        elif isinstance(value, str) and str(name).endswith("quote"):
            owner = str(name).removesuffix("quote").rstrip("_")  # a_quote is of the poem a
            for n, part in enumerate(parts):
                line = locate(value, part["text"]) if part["verse"] else None
                if line and owner in ("", part["name"]) and (span := _span(value, part["text"])):
                    yield at, {"part": n, "line": line, "start": span[0], "end": span[1]}
                    break


def _span(quote: str, text: str) -> tuple[int, int] | None:
    """Where the words of a quotation begin and end in a text, in UTF-16 units, as browsers count.

    Punctuation, case, and where lines break do not count.
    """
    wanted = [word for word, _, _ in _words(quote)]
    words = list(_words(text))
    line = locate(quote, text)
    numbers = _line_numbers(text)
    for first in range(len(words) - len(wanted) + 1):
        run = words[first : first + len(wanted)]
        if wanted and [w for w, _, _ in run] == wanted and numbers[run[0][1]] == line:
            return _units(text[: run[0][1]]), _units(text[: run[-1][2]])
    return None


def _words(text: str) -> Iterator[tuple[str, int, int]]:
    for found in re.finditer(r"[^\W_]+", text):
        yield unicodedata.normalize("NFKC", found[0]).lower(), found.start(), found.end()


def _line_numbers(text: str) -> list[int]:
    """For each character the number of its line, blank lines not counted, as `locate` has it."""
    numbers, n = [], 0
    for line in text.split("\n"):
        n += bool(line.strip())
        numbers += [n] * (len(line) + 1)
    return numbers


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
