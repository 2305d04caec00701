"""The files that poems come in: one small reader for each suffix.

Nothing is repaired here, and nothing judged but the shape of the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from .errors import MissingExtra
from .pages import Page, read_html, read_markdown, read_text
from .records import Dropped
from .repairs import LINE_END

NAMES = {
    "text": "text lines poem_text content poem_content poem body verse verses stanzas",
    "title": "title poem_title name poem_name",
    "author": "author poet author_name poet_name by writer",
    "year": "year date published publication_year publication_date",
    "source": "source url link collection book",
    "licence": "licence license rights",
}
"""What a column or key may be called, the likeliest first; case and spaces do not matter."""

PROSE_POEM = re.compile(r"(?<![a-z])prose[ _-]?poem", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """A text in a file, before repair.

    Attributes:
        about: Title, author, year, source and licence as they stand there.
        prose_poem: Whether any field calls it a prose poem.
        line: Where it begins in the file, from 1.
        item: Its number, or the name it has in the file.
    """

    text: str
    about: Mapping[str, Any]
    prose_poem: bool
    line: int | None
    item: str | None


class _Flaw(NamedTuple):
    reason: str
    detail: str


class _Entry(NamedTuple):
    """A record, a bare text or a flaw, and its place in the file."""

    record: Any
    line: int | None = None
    item: str | None = None


def read_file(path: Path, name: str) -> Iterator[Found | Dropped]:
    """What a file holds, in its order.

    Args:
        path: The file.
        name: What to call it where something is dropped.

    Raises:
        MissingExtra: The file needs pyarrow, which is not installed.
    """
    for record, line, item in _entries(path):
        found = record if isinstance(record, _Flaw) else _found(record, line, item)
        if isinstance(found, _Flaw):
            reason, detail = found
            yield Dropped(file=name, reason=reason, detail=detail, line=line, item=item)
        else:
            yield found


def _entries(path: Path) -> Iterator[_Entry]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = "".join((suffixes[:-1] if packed else suffixes)[-1:])
    try:
        if _ASIDE.fullmatch(path.name):
            yield _Entry(_Flaw("junk", "a file about the poems, by its name"))
        elif kind in _TABLES and not packed:
            yield from _table(path)
        elif kind not in _TEXTS:
            what = f"{kind} files" if kind else "files without a suffix"
            yield _Entry(_Flaw("junk", f"{what} are not read"))
        else:
            data = path.read_bytes()
            text = decode(gzip.decompress(data) if packed else data)
            flaw = _Flaw("junk", "binary, not text")
            yield from [_Entry(flaw)] if text is None else _TEXTS[kind](text)
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        yield _Entry(_Flaw("broken", f"cannot be read: {error}"))


def decode(data: bytes) -> str | None:
    r"""Bytes as text with `\n` line ends: UTF-8, UTF-16 with a mark, else Windows or Latin-1.

    Returns:
        The text, or None when the bytes are no text.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            undefined = re.search(rb"[\x81\x8d\x8f\x90\x9d]", data)
            text = data.decode("latin-1" if undefined else "cp1252")
    controls = len(re.findall(r"[\x01-\x08\x0e-\x1f]", text))
    return None if "\x00" in text or controls * 200 > len(text) else LINE_END.sub("\n", text)


# Pages.


def _txt(text: str) -> Iterator[_Entry]:
    return _poems(read_text(text))


def _md(text: str) -> Iterator[_Entry]:
    pages = read_markdown(text)
    flaw = _Flaw("junk", "Markdown without front matter is not taken for a poem")
    return _poems(pages) if pages else iter([_Entry(flaw)])


def _html(text: str) -> Iterator[_Entry]:
    try:
        return _poems([read_html(text)])
    except (ValueError, AssertionError) as error:  # the latter from html.parser
        return iter([_Entry(_Flaw("junk", str(error)))])


def _poems(pages: Sequence[Page]) -> Iterator[_Entry]:
    for n, page in enumerate(pages, start=1):
        item = str(n) if len(pages) > 1 else None
        yield _Entry({**page.about, "text": page.text}, page.line, item)


# JSON and JSON Lines.


def _json(text: str) -> Iterator[_Entry]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno == 2:  # JSON Lines under another name
            yield from _jsonl(text)
        else:
            yield _Entry(_Flaw("broken", f"not JSON: {error.msg}"), error.lineno)
        return
    yield from _nested(data)


def _jsonl(text: str) -> Iterator[_Entry]:
    for n, line in enumerate(text.split("\n"), start=1):
        try:
            if line := line.strip().lstrip("\ufeff"):
                yield _Entry(json.loads(line), n)
        except json.JSONDecodeError as error:
            yield _Entry(_Flaw("broken", f"not JSON: {error.msg}, column {error.colno}"), n)


def _nested(data: Any, at: str = "") -> Iterator[_Entry]:
    """The poems of a JSON value, each named by where it stands: arrays in objects at any depth."""
    if isinstance(data, list):
        for n, value in enumerate(data, start=1):
            yield _Entry(value, item=f"{at}[{n}]" if at else str(n))
    elif isinstance(data, dict) and _columnar(data):
        for n, row in enumerate(zip(*data.values(), strict=True), start=1):
            yield _Entry(dict(zip(data, row, strict=True)), item=str(n))
    elif isinstance(data, dict) and _pick(data, "text") is None:
        inner = {key: value for key, value in data.items() if isinstance(value, (list, dict))}
        for key, value in inner.items():
            yield from _nested(value, f"{at}.{key}" if at else key)
        if not inner:
            yield _Entry(data, item=at or None)
    else:
        yield _Entry(data, item=at or None)


def _columnar(data: dict[str, Any]) -> bool:
    """Whether an object holds columns of equal length, one of them of texts."""
    texts = _pick(data, "text")
    columns = [value for value in data.values() if isinstance(value, list)]
    even = len(columns) == len(data) and len({len(column) for column in columns}) == 1
    return (
        isinstance(texts, list) and even and (len(data) > 1 or any("\n" in str(t) for t in texts))
    )


# Tables.


def _csv(text: str) -> Iterator[_Entry]:
    top = text.partition("\n")[0]
    headers = {mark: next(csv.reader([top], delimiter=mark), []) for mark in ",;\t|"}
    marks = [
        mark for mark, names in headers.items() if _pick(dict.fromkeys(names, ""), "text") == ""
    ]
    if not marks:
        yield _Entry(_no_text(headers[","]), 1)
        return
    header = headers[marks[0]]
    for line, row in _rows(text, marks[0])[1:]:
        if isinstance(row, _Flaw):
            yield _Entry(row, line)
        elif len(row) < len(header) or any(cell.strip() for cell in row[len(header) :]):
            detail = f"{len(row)} cells under {len(header)} headings"
            yield _Entry(_Flaw("broken", detail), line)
        else:
            yield _Entry(dict(zip(header, row, strict=False)), line)


def _rows(text: str, mark: str) -> list[tuple[int, list[str] | _Flaw]]:
    """The rows that are not blank, with the line each begins on."""
    rows: list[tuple[int, list[str] | _Flaw]] = []
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=mark, strict=True)
    limit = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        while True:
            line = reader.line_num + 1
            try:
                if row := next(reader):
                    rows.append((line, row))
            except csv.Error as error:
                rows.append((line, _Flaw("broken", f"{error}, up to line {reader.line_num}")))
    except StopIteration:
        return rows
    finally:
        csv.field_size_limit(limit)


def _table(path: Path) -> Iterator[_Entry]:
    """Parquet, and Arrow as `datasets` saves it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra(f"Reading {path.name}", "tables") from error
    batches: Iterable[Any]
    if path.suffix.lower() == ".parquet":
        batches = pyarrow.parquet.ParquetFile(path).iter_batches()
    else:
        batches = pyarrow.ipc.open_stream(path.read_bytes())
    records = (record for batch in batches for record in batch.to_pylist())
    for n, record in enumerate(records, start=1):
        yield _Entry(record, item=str(n))


_ASIDE = re.compile(
    r"(?:readme|licen[cs]e|copying|changelog)(?:\.\w+)?"
    r"|dataset_infos?\.json|dataset_dict\.json|state\.json|cache-.*\.arrow",  # of `datasets`
    re.IGNORECASE,
)
_TABLES = {".parquet", ".arrow"}
_TEXTS: dict[str, Callable[[str], Iterator[_Entry]]] = {
    ".txt": _txt,
    ".md": _md,
    ".markdown": _md,
    ".html": _html,
    ".htm": _html,
    ".json": _json,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".csv": _csv,
    ".tsv": _csv,
}


# What a record says.


def _found(record: Any, line: int | None, item: str | None) -> Found | _Flaw:
    if isinstance(record, (str, list)):
        record = {"text": record}
    if not isinstance(record, dict):
        return _Flaw("junk", f"not a poem: {record!r:.40}")
    text = _pick(record, "text")
    if text is None:
        return _no_text(record)
    about = {field: _pick(record, field) for field in NAMES if field != "text"}
    said = " ".join(str(value) for value in record.values() if value is not text)
    return Found(_joined(text), about, bool(PROSE_POEM.search(said)), line, item)


def _pick(record: Mapping[str, Any], field: str) -> Any:
    """The first value under a field's usual names that is not empty, else an empty one or None."""
    named = {_key(str(key)): value for key, value in record.items()}
    values = [named[name] for name in NAMES[field].split() if named.get(name) is not None]
    if field == "text":
        values = [value for value in values if _is_text(value)]
    return next((value for value in values if value), values[0] if values else None)


@cache
def _key(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()


def _is_text(value: Any) -> bool:
    """Whether a value is a string, a list of lines, or a list of stanzas."""
    if isinstance(value, list):
        return all(part is None or _is_text(part) for part in value)
    return isinstance(value, str)


def _joined(text: Any) -> str:
    if isinstance(text, str):
        return text
    stanzas = any(isinstance(part, list) for part in text)
    return ("\n\n" if stanzas else "\n").join(_joined(p) if p is not None else "" for p in text)


def _no_text(names: Iterable[str]) -> _Flaw:
    wanted = NAMES["text"].replace(" ", ", ")
    return _Flaw("junk", f"no field named {wanted}; it has: {', '.join(map(str, names))[:120]}")
