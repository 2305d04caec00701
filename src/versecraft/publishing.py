"""A folder ready for the Hugging Face Hub: the rows as Parquet, and a card that says licences."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from .errors import BadInput, MissingExtra
from .records import Corpus, Example, Poem, Record, digest
from .training_data import Split, counted, data_card, data_files, refuse_raw

__all__ = ["Terms", "publish", "terms_of"]

_MARK = "<!-- published by versecraft {} -->"
_SIDES = {name: f"data/{name}-00000-of-00001.parquet" for name in ("train", "validation")}
_FILES = {"README.md", *_SIDES.values()}

_NOT_KNOWN = frozenset({"", "?", "n/a", "nan", "none", "null", "unknown", "unspecified"})

_HUB = frozenset(
    "cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0"
    " cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0"
    " cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 apache-2.0 mit isc unlicense wtfpl artistic-2.0 bsd-2-clause"
    " bsd-3-clause cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 etalab-2.0 eupl-1.1"
    " gpl-2.0 gpl-3.0 agpl-3.0 lgpl-2.1 lgpl-3.0 mpl-2.0 osl-3.0".split()
)
"""Licences that may stand in a header by name: https://hf.co/docs/hub/repositories-licenses."""

_SIZES = {1e3: "n<1K", 1e4: "1K<n<10K", 1e5: "10K<n<100K", 1e6: "100K<n<1M", 1e7: "1M<n<10M"}


class Terms(Record):
    """The poems of a data set that are from one source and under one licence.

    Attributes:
        licence: As the corpus has it; of two poems that only stand together, the licences of both.
        source: As the corpus has it; empty where it has none.
        poems: How many poems.
        rows: How many rows have one of them in them.
    """

    licence: str
    source: str
    poems: int
    rows: int

    @property
    def known(self) -> bool:
        """Whether the licence is."""
        return _known(self.licence)


def publish(
    data: Split,
    into: Path | str,
    *,
    corpus: Corpus | None = None,
    allow_unknown_licences: bool = False,
) -> Path:
    """Writes a folder that can be pushed to the Hugging Face Hub as it is; nothing is sent.

    In it are `data/train-….parquet`, `data/validation-….parquet` where rows are held out, and
    `README.md`: the data card with the Hub's header and a section on licences. It is built aside
    and moved into place as a whole; the same set makes the same bytes.

    Args:
        data: What to publish.
        into: The folder. One that is there is replaced if `publish` wrote all that is in it.
        corpus: Where the poems are from: for their sources and file names. Licences are those of
            the rows, in `meta`.
        allow_unknown_licences: Publish poems of which no licence is known; the card says so.

    Returns:
        The folder.

    Raises:
        BadInput: A licence is not known, or the folder is somebody else's or cannot be written.
        MissingExtra: Parquet needs the extra `tables`.
    """
    folder = Path(into).resolve()
    refuse_raw(folder)
    _refuse_foreign(folder)
    known = {poem.id: poem for poem in corpus.poems} if corpus else {}
    if not allow_unknown_licences:
        _refuse_unknown(data, known)
    card = _card(data, terms_of(data, corpus))
    train, valid = data.on_disk()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as aside:
            new = Path(aside, "new")
            (new / "data").mkdir(parents=True)
            for name, rows in zip(_SIDES.values(), (train, valid), strict=True):
                if rows:
                    _write_parquet(new / name, rows)
            (new / "README.md").write_text(card, encoding="utf-8", newline="\n")
            _swap(new, folder, Path(aside, "old"))
    except OSError as error:
        raise BadInput(
            f"The data set cannot be published to {folder}: {error.strerror or error}. What was "
            "there is as it was. Make room or close what holds the files, and publish again, or "
            "choose another folder."
        ) from error
    return Path(into)


def terms_of(data: Split, corpus: Corpus | None = None) -> tuple[Terms, ...]:
    """What licences the poems in a data set have, by source, as the rows and the corpus say it."""
    rows = (*data.train, *data.valid)
    licences = _licences(rows)
    sources = {poem.id: poem.source or "" for poem in corpus.poems} if corpus else {}
    poems = Counter((licence, sources.get(poem, "")) for poem, licence in licences.items())
    holding: Counter[tuple[str, str]] = Counter()
    for row in rows:
        named = {(licences[poem], sources.get(poem, "")) for poem in row.poem_ids}
        holding.update(named or {(said, "") for said in _unnamed(row)})
    return tuple(
        Terms(licence=licence, source=source, poems=poems[licence, source], rows=count)
        for (licence, source), count in sorted(holding.items())
    )


# Licences. A row says those of all its poems at once, sorted and joined.


def _said(row: Example) -> str:
    return " ".join((row.meta.get("licence") or "").split())


def _unnamed(row: Example) -> set[str]:
    """The licence of a row that says one although it names no poem."""
    return set() if row.poem_ids else {_said(row)} - {""}


def _known(licence: str) -> bool:
    return not any(p.strip().casefold() in _NOT_KNOWN for p in licence.strip("; ").split(";"))


def _licences(rows: Sequence[Example]) -> dict[str, str]:
    """The licence of each poem; `unknown` where nothing is said.

    A row about one poem says it outright. In a row about two, the licence of the other is what is
    left over; where both are only ever seen together, each is listed with the licences of both.
    """
    alone: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if len(set(row.poem_ids)) == 1:
            alone[row.poem_ids[0]].add(_said(row) or "unknown")
    found = {poem: "; ".join(sorted(said)) for poem, said in alone.items()}
    rest: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for poem in row.poem_ids:
            if poem not in found:
                others = [found[other] for other in row.poem_ids if other in found]
                rest[poem].add(_left_over(_said(row) or "unknown", others))
    return found | {poem: "; ".join(sorted(said)) for poem, said in rest.items()}


def _left_over(joined: str, others: Sequence[str]) -> str:
    if len(others) != 1:
        return joined
    return joined.removeprefix(f"{others[0]}; ").removesuffix(f"; {others[0]}")


def _refuse_unknown(data: Split, known: Mapping[str, Poem]) -> None:
    rows = (*data.train, *data.valid)
    missing = {poem for poem, licence in _licences(rows).items() if not _known(licence)}
    count = sum(
        not (missing.isdisjoint(row.poem_ids) and all(map(_known, _unnamed(row)))) for row in rows
    )
    if not count:
        return
    names = sorted({(known[p].file if p in known else "") or f"poem {p}" for p in missing})
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    raise BadInput(
        f"The licence of {len(missing):,} poems in {count:,} of {len(rows):,} rows is not "
        f"known{': ' if names else ''}{', '.join(names[:3])}{more}. Write it beside each poem "
        "(`licence:` at the top of its file, or a column of its table), or take the poems out, "
        "then run versecraft balance and publish again. If you may publish them all the same, "
        "say so: --allow-unknown-licences (allow_unknown_licences=True); the card will tell."
    )


# The card.


def _card(data: Split, terms: Sequence[Terms]) -> str:
    sides = {name: _SIDES[name] for name in ("train", "validation")[: 1 + bool(data.valid)]}
    rows = len(data.train) + len(data.valid)
    head = [
        f"pretty_name: Poetry, training data for the {data.role}",
        "language:\n- en",
        *_license(terms),
        f"size_categories:\n- {next((s for n, s in _SIZES.items() if rows < n), 'n>10M')}",
        "task_categories:\n- text-generation",
        "tags:\n- poetry\n- synthetic\n- versecraft",
        data_files(sides),
    ]
    licences: Counter[str] = Counter()
    for entry in terms:
        licences[entry.licence] += entry.rows
    text = data_card(
        data.model_copy(update={"card": {**data.card, "licences": dict(licences)}}),
        head="\n".join(head),
        mark=_MARK.format("-"),
        where="They are not published.",
        load='"this folder, or its name on the Hub"',
        terms=_section(data, terms),
    )
    return text.replace(_MARK.format("-"), _MARK.format(digest(text)), 1)


def _license(terms: Sequence[Terms]) -> list[str]:
    """The header's lines on the licence: one that the Hub knows, else `other` and what it is."""
    names = {_slug(entry.licence) for entry in terms}
    if len(names) == 1 and names <= _HUB:
        return [f"license: {names.pop()}"]
    licences: Counter[str] = Counter()
    for entry in terms:
        licences[entry.licence] += entry.poems
    told = ", ".join(f"{licence} ({n:,})" for licence, n in licences.most_common(5))
    more = f" and {len(licences) - 5:,} more" if len(licences) > 5 else ""
    details = f"Poems: {told}{more}. " if terms else "No row has a poem of a corpus in it. "
    known = {entry.known for entry in terms}
    if not terms:
        name = "none-stated"
    elif False in known:
        name = "partly-unknown" if True in known else "unknown"
    else:
        name = names.pop() if len(names) == 1 else "mixed"
    # A JSON string is a YAML string; what cannot be printed is not let through.
    details = "".join(c if c.isprintable() else " " for c in f"{details}See Licences in the card.")
    quoted = json.dumps(details, ensure_ascii=False)
    return ["license: other", f"license_name: {name}", f"license_details: {quoted}"]


def _slug(licence: str) -> str:
    name = re.sub(r"[^a-z0-9.]+", "-", licence.casefold()).strip("-.")
    name = name.removesuffix("-license").removesuffix("-licence")
    return {"cc0": "cc0-1.0", "": "custom"}.get(name, name)


_TERMS = """\
## Licences

{table}

{bare:,} rows have no poem of a corpus in them; a row with two poems counts for both. Licences and
sources are what the corpus says of its poems; versecraft has not checked them. The licence in the
header is that of the poems. It does not speak for the answers.
{unknown}
**Who answered:** {models}.{author} The terms of a model's provider may restrict what may be done
with its answers, training other models on them above all. Read them before you train on this set or
pass it on.
"""
_UNKNOWN = """
**The licence of {poems:,} poems is not known.** Whoever published this set said that it may be
published all the same. Find out before you use these poems or pass them on.
"""
_AUTHOR = " Answers of `author` are poems of the corpus themselves; their briefs are a model's."


def _section(data: Split, terms: Sequence[Terms]) -> str:
    rows = (*data.train, *data.valid)
    models = counted(row.meta.get("model") for row in rows)
    lines = ["| licence | source | poems | rows |", "| --- | --- | ---: | ---: |"]
    lines += [
        f"| {_cell(t.licence)} | {_cell(t.source) or 'not stated'} | {t.poems:,} | {t.rows:,} |"
        for t in terms
    ]
    unknown = [entry.poems for entry in terms if not entry.known]
    return _TERMS.format(
        table="\n".join(lines) if terms else "No row has a poem of a corpus in it.",
        bare=sum(not row.poem_ids for row in rows),
        unknown=_UNKNOWN.format(poems=sum(unknown)) if unknown else "",
        models=", ".join(f"{_cell(model)} ({n:,} rows)" for model, n in models.items()),
        author=_AUTHOR if "author" in models else "",
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


# The folder.


def _write_parquet(path: Path, rows: Sequence[Example]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("Publishing", "tables") from error
    text = pa.string()
    turn = pa.struct([("role", text), ("content", text)])
    columns = [(name, text) for name in ("task", "role", "kind", "item_id")]
    columns += [("poem_ids", pa.list_(text)), ("quality", text), ("messages", pa.list_(turn))]
    if rows[0].meta:  # Parquet has no columns without fields
        columns.append(("meta", pa.struct([(key, text) for key in rows[0].meta])))
    dumped = [row.model_dump(mode="json") for row in rows]
    pq.write_table(pa.Table.from_pylist(dumped, schema=pa.schema(columns)), path)


def _swap(new: Path, folder: Path, old: Path) -> None:
    """Moves a folder into place; what was there goes aside, and comes back if that fails."""
    if not folder.exists():
        os.rename(new, folder)
        return
    try:
        os.rename(folder, old)
        os.rename(new, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        raise


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BadInput(f"{folder} is a file. Name a folder, such as published/educator.")
    files = (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
    names = (path.relative_to(folder).as_posix() for path in files)
    other = next((name for name in names if name not in _FILES), None)
    card = folder / "README.md"
    if other is None and (_as_written(card) or not any(folder.iterdir())):
        return
    raise BadInput(
        f"{folder} holds {other}, which publish did not write. Move it away, or choose another "
        "folder."
        if other
        else f"{card} is missing, or is not as publish wrote it. Move the folder away, or choose "
        "another one."
    )


def _as_written(card: Path) -> bool:
    text = card.read_bytes().decode("utf-8", errors="replace") if card.is_file() else ""
    mark = re.search(_MARK.format("([0-9a-f]{16})"), text)
    return mark is not None and digest(text.replace(mark[0], _MARK.format("-"), 1)) == mark[1]
