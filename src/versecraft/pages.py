"""Poems on a page: plain text, Markdown and HTML, with what the page says about them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import NamedTuple


class Page(NamedTuple):
    """A poem as it stands on a page, the line it begins on, and its title, author and so on."""

    line: int
    about: dict[str, str]
    text: str


_RULER = re.compile(r"[ \t]*(?:([-*_~=#•·—])(?:[ \t]*\1){2,}|⁂)[ \t]*")
_FIELD = re.compile(
    r"\s*(title|author|poet|by|year|date|source|licen[cs]e|rights|form|genre|tags)\s*:\s*(\S.*)",
    re.IGNORECASE,
)
_BY = re.compile(r"\s*[Bb][Yy]\s+((?=[^\Wa-z]).{2,80}?)(?<![,;:!?])(?<![a-z]{3}\.)\s*")
_YAML = re.compile(r"(\w[\w -]*):(.*)|\s+\S.*|-\s.*|#.*|\s*")
_LONGEST_FRONT = 60  # lines; beyond, `---` was a ruler


def read_text(text: str) -> list[Page]:
    """The poems of a plain text, parted by rulers that stand between blank lines.

    A title or author is taken only where it is marked: front matter, `Title:` or `By`, at the
    head of the file or of a poem. Front matter without a title speaks for the whole file. Where
    only the first piece has a title, the pieces are sections of one poem.
    """
    lines = text.split("\n")
    pages = [_page(at, piece) for at, piece in _pieces(lines)]
    if "title" in pages[0].about and not any("title" in page.about for page in pages[1:]):
        return [_page(1, lines)]
    shared, _ = _front_matter(lines)
    if "title" in shared:
        shared = {}
    return [page._replace(about={**shared, **page.about}) for page in pages]


def read_markdown(text: str) -> list[Page]:
    """The poems of a Markdown file; none without front matter: it is a page about something.

    A first heading is the title, unless front matter gives another.
    """
    if not _front_matter(text.split("\n"))[1]:
        return []
    pages = []
    for page in read_text(text):
        heading, _, rest = page.text.lstrip("\n").partition("\n")
        title = heading.lstrip("#").strip()
        if heading.startswith("#") and page.about.get("title", title) == title:
            page = page._replace(about={**page.about, "title": title}, text=rest)
        pages.append(page)
    return pages


def _pieces(lines: list[str]) -> list[tuple[int, list[str]]]:
    def blank(n: int) -> bool:
        return not 0 <= n < len(lines) or not lines[n].strip()

    cuts = [(0, 0)]  # where a piece ends, and where the next begins
    for n, line in enumerate(lines):
        if n and blank(n - 1) and _front_matter(lines[n : n + _LONGEST_FRONT])[1]:
            cuts.append((n, n))
        elif blank(n - 1) and blank(n + 1) and _RULER.fullmatch(line):
            cuts.append((n, n + 1))
    ends = [end for end, _ in cuts[1:]] + [len(lines)]
    spans = [(begin, end) for (_, begin), end in zip(cuts, ends, strict=True)]
    pieces = [(begin + 1, lines[begin:end]) for begin, end in spans]
    return [(at, piece) for at, piece in pieces if any(map(str.strip, piece))] or [(1, [])]


def _page(at: int, lines: list[str]) -> Page:
    """The poem of a piece, without the lines at its head that are marked as being about it."""
    skipped = next((n for n, line in enumerate(lines) if line.strip()), len(lines))
    lines = lines[skipped:]
    about, n = _front_matter(lines)
    if not n:
        about, n = _marked(lines)
    return Page(at + skipped, about, "\n".join(lines[n:]))


def _marked(lines: list[str]) -> tuple[dict[str, str], int]:
    """Fields such as `Title:` at the top, or a title over a line that begins with `By`."""
    about: dict[str, str] = {}
    n = 0
    while n < len(lines) and (match := _FIELD.fullmatch(lines[n])):
        about[match[1].lower()] = match[2]
        n += 1
    if about:
        if n < len(lines) and (by := _BY.fullmatch(lines[n])):
            about["by"] = by[1]
            n += 1
        return (about, n) if about.keys() & {"title", "author", "poet", "by"} else ({}, 0)
    head = [n for n, line in enumerate(lines[:3]) if line.strip()][:2]
    if len(head) == 2 and (by := _BY.fullmatch(lines[head[1]])):
        end = head[1] + 1
        if end < len(lines) and not lines[end].strip():
            return {"title": lines[0], "by": by[1]}, end
    return {}, 0


def _front_matter(lines: list[str]) -> tuple[dict[str, str], int]:
    """The fields between two lines of `---` at the top, and how many lines that takes (or 0)."""
    about: dict[str, str] = {}
    if not lines or lines[0].rstrip() != "---":
        return about, 0
    for n, line in enumerate(lines[1:_LONGEST_FRONT], start=1):
        if line.rstrip() in ("---", "..."):
            return about, n + 1 if about else 0
        match = _YAML.fullmatch(line)
        if not match:
            break
        if match[1]:
            about[match[1].lower()] = match[2].strip().strip("\"'")
    return {}, 0


_UNCLOSED = re.compile(r"</?[A-Za-z][^<>]*(?:<|\Z)")
_HEADINGS = frozenset("title h1 h2 h3".split())
_BLOCKS = frozenset("p div pre blockquote section article main header body h1 h2 h3".split())
_INLINE = frozenset(
    "html head title meta link style br hr span i em b strong a u small sup".split()
)


def read_html(text: str) -> Page:
    """The poem of a plain page: `<pre>`, or `<br>` for line ends and `<p>` for stanzas.

    A heading above the poem is its title, else the page's title is; its author may stand in a
    `<meta name="author">`.

    Raises:
        ValueError: The page holds anything else, such as a script or a table, or is broken.
    """
    if _UNCLOSED.search(text):  # on many of these html.parser takes minutes
        raise ValueError("holds a tag that is not closed")
    parser = _Parser()
    parser.feed(text)
    parser.close()
    title = parser.heading or parser.about.pop("page", "")
    return Page(1, {**parser.about, "title": title}, "".join(parser.parts))


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.about: dict[str, str] = {}
        self.heading = ""
        self.parts: list[str] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _BLOCKS | _INLINE:
            raise ValueError(f"holds <{tag}>: only pages of <pre>, <br> and <p> are read as poems")
        named = dict(attrs)
        if tag == "meta" and named.get("name") == "author":
            self.about["author"] = named.get("content") or ""
        if tag in _BLOCKS:
            self._new_block()
        if tag == "br":
            self.parts.append("\n")
        elif tag in _HEADINGS or tag in ("style", "pre"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            self._inside.remove(tag)
        if tag in _BLOCKS:
            self._new_block()

    def _new_block(self) -> None:
        while self.parts and not self.parts[-1].strip("\n"):
            self.parts.pop()
        if self.parts:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        fresh = not self.parts or self.parts[-1].endswith("\n")
        if "title" in self._inside:
            self.about["page"] = self.about.get("page", "") + data
        elif not self.parts and _HEADINGS.intersection(self._inside):
            self.heading += data
        elif "pre" in self._inside:
            self.parts.append(data.removeprefix("\n") if fresh else data)
        elif "style" not in self._inside:
            flat = re.sub(r"[ \t\n]+", " ", data)
            self.parts.append(flat.lstrip(" ") if fresh else flat)
            if not self.parts[-1]:
                self.parts.pop()
