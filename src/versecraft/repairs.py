"""Undoing what copying, exporting and saving does to a poem; its own shape is left alone."""

from __future__ import annotations

import html
import re
import textwrap
from itertools import pairwise

LINE_END = re.compile(r"\r+\n|\r")
"""Line ends of other systems, and the doubled one that some spreadsheets write."""

_BREAKS = re.compile(r"[\v\f\x85\u2028]")
_BR = re.compile(r"<br\s*/?>(?:[ \t]*\n)?", re.IGNORECASE)
_BLOCK = re.compile(r"(?:</?(?:p|div|blockquote|pre|h[1-6])(?:\s[^<>]*)?>\n*)+", re.IGNORECASE)
_INLINE = re.compile(
    r"</?(?:i|b|u|em|strong|span|font|a|small|sup|sub|center)(?:\s[^<>]*)?>", re.IGNORECASE
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]\w{1,30});")
_SPACE = re.compile(r"[\xa0\u2007\u202f]")
_NOTHING = re.compile(r"[\ufeff\u200b\u2060\xad\x00-\x08\x0e-\x1f\x7f]")
_DOUBLE_SPACED = 6  # lines; of 19,548 poems two are all one-line stanzas, of 3 and 5 lines
_VERSE = 90  # characters of a mean line; longer ones between blank lines are paragraphs


def repair(text: str) -> str:
    r"""A poem as it was meant: `\n` after each line, a blank line between stanzas.

    Mends line ends, HTML (`<br>`, `<p>`, inline tags, entities), escaped line ends, no-break
    spaces, byte-order marks and other marks without width, white space at line ends and around
    the poem, indentation that all lines share, and double spacing. Line breaks, stanza breaks
    and indentation of lines against each other stay.
    """
    text = _BREAKS.sub("\n", LINE_END.sub("\n", text)).replace("\u2029", "\n\n")
    if "\n" not in text:
        text = text.replace("\\r", "").replace("\\n", "\n")
    if "<" in text:
        text = _INLINE.sub("", _BLOCK.sub("\n\n", _BR.sub("\n", text)))
    if "&" in text:
        text = re.sub(r"&amp;(?=#?\w{2,31};)", "&", text)
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    text = _NOTHING.sub("", _SPACE.sub(" ", text))
    lines = [line.rstrip() for line in _unpadded(text).split("\n")]
    return textwrap.dedent("\n".join(_single_spaced(lines)).strip("\n"))


def _unpadded(text: str) -> str:
    """The text without the blanks that some exports put around every line end and before all."""
    lines = text.split("   \n ")
    padded = re.match(r"  \S", text) and text[-1] != " " and not any("\n" in line for line in lines)
    return "\n".join([lines[0][2:], *lines[1:]]) if padded else text


def _single_spaced(lines: list[str]) -> list[str]:
    """The lines without the blank one after each, where every line has one and they are verse."""
    if any(a and b for a, b in pairwise(lines)):
        return lines
    written = [line for line in lines if line]
    if len(written) < _DOUBLE_SPACED or sum(map(len, written)) > _VERSE * len(written):
        return lines
    single: list[str] = []
    gap = 0
    for line in lines:
        if line:
            single += [""] * (single != [] and gap > 1) + [line]
        gap = 0 if line else gap + 1
    return single
