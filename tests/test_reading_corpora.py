"""Poems are read as they were meant, and whatever is not taken says where it stood and why."""

import csv
import gzip
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import CORPORA, needs_corpora
from versecraft.corpus import read_corpus
from versecraft.duplicates import near_duplicates
from versecraft.errors import BadInput, MissingExtra
from versecraft.records import Corpus

KETTLE = """The kettle ticks. A moth
walks the rim of the lamp
  and thinks it the moon's.

I have its patience, none
    of its mistake."""
FERRY = """Low water, and the ferry
lies down in its own rope.
A boy sells tickets to nobody."""
ORCHARD = """Nine crates of windfalls stand
where the ladder gave up the tree.

We eat the bruises first.
We say that they are sweeter."""
BAD = """My heart is like a red, red flame
That burns for you in endless shame,
And every tear that falls like rain
Reminds me of eternal pain."""


def reading(folder: Path, files: dict[str, str | bytes]) -> Corpus:
    """The poems of files that are written into a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_corpus(folder, quality="bad")


def texts(corpus: Corpus) -> list[str]:
    return [poem.text for poem in corpus.bad]


def reasons(corpus: Corpus) -> dict[str, str]:
    return {dropped.file: dropped.reason for dropped in corpus.dropped}


def test_what_was_read_is_kept_while_no_byte_has_changed(tmp_path: Path) -> None:
    raw, cache = tmp_path / "raw", tmp_path / "cache" / "corpus.json"
    files = {"good/a.txt": KETTLE, "bad/b.txt": BAD, "bad/empty.txt": " ", "notes.txt": "no poem"}
    for name, text in files.items():
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_text(text, encoding="utf-8")
    first = read_corpus(raw)
    assert read_corpus(raw, cache=cache) == first
    kept = cache.read_bytes()
    assert read_corpus(raw, cache=cache) == first
    assert cache.read_bytes() == kept

    def changed() -> Corpus:
        found = read_corpus(raw, cache=cache)
        assert found == read_corpus(raw)
        return found

    stamp = (raw / "good/a.txt").stat()
    (raw / "good/a.txt").write_text(KETTLE.replace("moth", "wasp"), encoding="utf-8")
    os.utime(raw / "good/a.txt", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as if untouched
    assert "wasp" in changed().good[0].text
    (raw / "bad/b.txt").rename(raw / "bad/c.txt")
    assert [poem.file for poem in changed().bad] == ["bad/c.txt"]
    (raw / "notes.txt").unlink()
    assert [one.file for one in changed().dropped] == ["bad/empty.txt"]
    (raw / "good/d.txt").write_text(FERRY, encoding="utf-8")
    assert len(changed().good) == 2
    cache.write_bytes(kept[:-20])
    changed()


# A poem survives every format.


def as_csv(text: str, delimiter: str = ",", line_end: str = "\r\n") -> str:
    cells = io.StringIO(newline="")
    writer = csv.writer(cells, delimiter=delimiter)
    writer.writerows([["", "Title", "Poem"], ["7", "One", text.replace("\n", line_end)]])
    return cells.getvalue()


def as_table(text: str, kind: str) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"content": [text], "title": ["One"]})
    stream = io.BytesIO()
    if kind == "parquet":
        parquet.write_table(table, stream)
    else:
        with pyarrow.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
    return stream.getvalue()


def as_html(text: str) -> str:
    stanzas = text.replace("  ", "&nbsp; ").split("\n\n")
    lines = [stanza.replace("\n", "<br>\n") for stanza in stanzas]
    return "<html><body>\n" + "\n".join(f"<p>{stanza}</p>" for stanza in lines) + "</body></html>"


FORMATS: dict[str, Callable[[str], str | bytes]] = {
    "a.txt": lambda t: t,
    "a.TXT": lambda t: t.replace("\n", "\r\n") + "\r\n\r\n",
    "mac.txt": lambda t: t.replace("\n", "\r"),
    "bom.txt": lambda t: b"\xef\xbb\xbf" + t.encode(),
    "utf16.txt": lambda t: t.encode("utf-16"),
    "nbsp.txt": lambda t: t.replace("  ", "\xa0\xa0"),
    "indented.txt": lambda t: "\n".join(f"   {line}  " for line in t.split("\n")),
    "front.md": lambda t: f"---\ntitle: One\n---\n\n# One\n\n{t}\n",
    "pre.html": lambda t: f"<html><title>One</title><body><pre>\n{t}\n</pre></body></html>",
    "lines.html": as_html,
    "text.json": lambda t: json.dumps([{"text": t}]),
    "lines.json": lambda t: json.dumps({"poems": [{"title": "One", "lines": t.split("\n")}]}),
    "stanzas.json": lambda t: json.dumps([{"text": [s.split("\n") for s in t.split("\n\n")]}]),
    "columns.json": lambda t: json.dumps({"title": ["One"], "poem": [t]}),
    "a.jsonl": lambda t: json.dumps({"content": t.replace("\n", "\r\n")}) + "\n",
    "lines-in.json": lambda t: json.dumps({"content": t}) + "\n" + json.dumps({"content": ""}),
    "a.jsonl.gz": lambda t: gzip.compress(json.dumps({"poem": t}).encode()),
    "a.txt.gz": lambda t: gzip.compress(t.encode()),
    "a.csv": as_csv,
    "doubled.csv": lambda t: as_csv(t, line_end="\r\r\n"),
    "br.csv": lambda t: as_csv(t, line_end="<br/>"),
    "escaped.csv": lambda t: as_csv(t, line_end="\\n"),
    "a.tsv": lambda t: as_csv(t, "\t", "\n"),
    "semicolon.csv": lambda t: as_csv(t, ";", "\n"),
    "a.csv.gz": lambda t: gzip.compress(as_csv(t).encode()),
    "a.parquet": lambda t: as_table(t, "parquet"),
    "a.arrow": lambda t: as_table(t, "arrow"),
}

WORD = st.text("abcdeghiklmnorstuwé’", min_size=2, max_size=7)
FIRST = st.lists(WORD, min_size=1, max_size=5).map(" ".join)
LINE = st.builds(lambda indent, line: " " * indent + line, st.sampled_from([0, 2, 4, 8]), FIRST)
STANZA = st.builds(lambda first, rest: "\n".join([first, *rest]), FIRST, st.lists(LINE, min_size=1))
POEMS = st.lists(STANZA, min_size=1, max_size=4).map("\n\n".join)


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=15)
@given(poem=POEMS)
def test_lines_stanzas_and_indentation_survive_each_format(name: str, poem: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert texts(reading(Path(folder), {name: FORMATS[name](poem)})) == [poem]


@settings(deadline=None, max_examples=25)
@given(poems=st.lists(POEMS, min_size=2, max_size=8), names=st.permutations(list(FORMATS)))
def test_reading_twice_gives_the_same_corpus(poems: list[str], names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        files = {n: FORMATS[n](p) for n, p in zip(names, poems, strict=False)}
        first = reading(Path(one), files)
        again = reading(Path(two), dict(reversed(files.items())))
        assert first == again
        assert first == read_corpus(one, quality="bad")
        assert len(first.bad) + len([d for d in first.dropped if d.reason != "empty"]) == len(files)


@settings(deadline=None, max_examples=150)
@given(
    data=st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode(errors="replace")),
    suffix=st.sampled_from([".txt", ".md", ".html", ".json", ".jsonl", ".csv", ".tsv", ".txt.gz"]),
)
def test_no_content_stops_the_reading(data: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        corpus = reading(Path(folder), {"z.txt": FERRY, f"a{suffix}": data})
        assert FERRY in texts(corpus)


# What a file says about its poems.


def test_titles_and_authors_are_taken_where_they_are_marked(tmp_path: Path) -> None:
    about = {
        "front.txt": f'---\ntitle: "Ferry"\nauthor: Ann Oak\nyear: 1911\n---\n\n{FERRY}',
        "fields.txt": f"Title: Ferry\nAuthor: Ann Oak\nLicence: CC0\n\n{FERRY}",
        "by.txt": f"Ferry\nby Ann Oak\n\n{FERRY}",
        "cell.csv": f'Poem Name,POET,Date,Content\n\n" Ferry ",Ann Oak,c. 1911,"{FERRY}"',
        "page.html": '<html><head><title>Site</title><meta name="author" content="Ann Oak"></head>'
        f"<body><h1>Ferry</h1><pre>{FERRY}</pre></body></html>",
        "record.json": json.dumps({"name": "Ferry", "poet": ["Ann Oak"], "text": FERRY}),
    }
    for name, content in about.items():
        (poem,) = reading(tmp_path / name.partition(".")[0], {name: content}).bad
        assert (poem.text, poem.title, poem.author, poem.file) == (FERRY, "Ferry", "Ann Oak", name)
        assert poem.year in (1911, None)


def test_a_title_that_is_not_marked_stays_in_the_text(tmp_path: Path) -> None:
    corpus = reading(
        tmp_path, {"a.txt": f"FERRY\n\n{FERRY}", "b.txt": f"Down\nby the mill\n\n{BAD}"}
    )
    assert texts(corpus) == [f"FERRY\n\n{FERRY}", f"Down\nby the mill\n\n{BAD}"]
    assert {poem.title for poem in corpus.bad} == {None}


def test_source_licence_and_year_are_kept(tmp_path: Path) -> None:
    row = {"text": FERRY, "year": 1911, "source": "a book", "license": "CC0", "title": "nan"}
    (poem,) = reading(tmp_path, {"a.jsonl": json.dumps(row)}).bad
    assert (poem.year, poem.source, poem.licence, poem.title) == (1911, "a book", "CC0", None)


@pytest.mark.parametrize("ruler", ["* * *", "***", "---", "  -----", "~~~", "⁂"])
def test_a_ruler_between_blank_lines_parts_the_poems_of_a_file(tmp_path: Path, ruler: str) -> None:
    content = f"{KETTLE}\n\n{ruler}\n\n\n{FERRY}\n\n{ruler}\n"
    corpus = reading(tmp_path, {"a.txt": content})
    assert texts(corpus) == [KETTLE, FERRY]
    assert "\n***\n".join([KETTLE, FERRY]) in texts(
        reading(tmp_path / "inside", {"a.txt": "\n***\n".join([KETTLE, FERRY])})
    )


def test_each_poem_of_a_file_has_its_own_heading(tmp_path: Path) -> None:
    poems = {"Ferry": FERRY, "Kettle": KETTLE}
    marked = "\n\n***\n\n".join(f"Title: {title}\n\n{text}" for title, text in poems.items())
    front = "\n".join(f"---\ntitle: {title}\n---\n{text}\n" for title, text in poems.items())
    for n, content in enumerate((marked, front)):
        corpus = reading(tmp_path / str(n), {"a.txt": content})
        assert {poem.title: poem.text for poem in corpus.bad} == poems


def test_front_matter_without_a_title_speaks_for_all_poems_of_a_file(tmp_path: Path) -> None:
    corpus = reading(tmp_path, {"a.txt": f"---\nauthor: Ann\n---\n\n{FERRY}\n\n***\n\n{KETTLE}"})
    assert [poem.author for poem in corpus.bad] == ["Ann", "Ann"]


def test_a_titled_poem_keeps_the_rulers_between_its_sections(tmp_path: Path) -> None:
    corpus = reading(tmp_path, {"a.txt": f"Title: Two\n\n{FERRY}\n\n* * *\n\n{KETTLE}"})
    assert texts(corpus) == [f"{FERRY}\n\n* * *\n\n{KETTLE}"]


# Repairs.


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("caf\xe9 \x96 closed\nrain".encode("latin-1"), "café – closed\nrain"),
        (b"\xef\xbb\xbf\xef\xbb\xbfcalm\nsea", "calm\nsea"),
        ("calm&nbsp;sea &amp; &quot;sky&quot; &#8212; &amp;eacute;", 'calm sea & "sky" — é'),
        ("salt &c. &no\nAT&T", "salt &c. &no\nAT&T"),
        ("<p>calm<br />\nsea<br>\n<br>\nsky</p><p><i>land</i></p>", "calm\nsea\n\nsky\n\nland"),
        ("calm <3 sea\na < b > c", "calm <3 sea\na < b > c"),
        ("cal\u200bm\u00ad\vsea\u2028sky", "calm\nsea\nsky"),
        ("    calm\n      sea\n\n    sky", "calm\n  sea\n\nsky"),
        ("calm\n\n\nsea", "calm\n\n\nsea"),
        ("  calm   \n sea   \n    \n sky", "calm\nsea\n\nsky"),
    ],
)
def test_damage_is_repaired(tmp_path: Path, written: str | bytes, meant: str) -> None:
    assert texts(reading(tmp_path, {"a.txt": written})) == [meant]


def test_double_spacing_is_undone_only_where_it_is_clear(tmp_path: Path) -> None:
    lines = [f"the {word} of it" for word in "salt rope tide gull mud net bell".split()]
    short, twice = "\n\n".join(lines[:3]), "\n\n".join(lines)
    assert texts(reading(tmp_path / "short", {"a.txt": short})) == [short]
    assert texts(reading(tmp_path / "all", {"a.txt": twice})) == ["\n".join(lines)]
    stanzas = "\n\n".join(lines[:3]) + "\n\n\n\n" + "\n\n".join(lines[3:])
    single = "\n".join(lines[:3]) + "\n\n" + "\n".join(lines[3:])
    assert texts(reading(tmp_path / "stanzas", {"a.txt": stanzas})) == [single]
    couplets = "\n\n".join(f"{line}\nand more" for line in lines)
    assert texts(reading(tmp_path / "couplets", {"a.txt": couplets})) == [couplets]


def test_a_template_in_a_poem_is_left_as_it_is(tmp_path: Path) -> None:
    assert texts(reading(tmp_path, {"a.txt": "I count {{ 7*7 }}\n{% and %} rest"})) == [
        "I count {{ 7*7 }}\n{% and %} rest"
    ]


# What is left out.

PROSE = (
    "The harbour office opens at nine and closes when the last boat has been seen, which in "
    "winter means four in the afternoon. Nobody is known to have complained of it, since the "
    "clerk is also the mayor, and the mayor also keeps the only inn that serves on Sundays."
)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", " \n\t\n", "empty"),
        ("a.txt", b"\x89PNG\r\n\x00\x00", "junk"),
        ("a.txt", b"\x01\x02\x03\x04 text", "junk"),
        ("a.txt", "nan", "junk"),
        ("a.txt", "* 12 *", "junk"),
        ("a.docx", FERRY, "junk"),
        ("noname", FERRY, "junk"),
        ("a.md", f"# Poems\n{FERRY}", "junk"),
        ("README.md", f"---\nlicense: mit\n---\n{FERRY}", "junk"),
        ("LICENSE", "do what you like", "junk"),
        (".hidden.txt", FERRY, "junk"),
        (".git/a.txt", FERRY, "junk"),
        ("a.html", f"<html><script>1</script><pre>{FERRY}</pre></html>", "junk"),
        ("a.html", f"<pre>{FERRY}</pre><p x", "junk"),
        ("a.csv", f'Name,Verdict\na,"{FERRY}"', "junk"),
        ("a.json", json.dumps({"count": 3}), "junk"),
        ("a.json", json.dumps([{"text": 12}]), "junk"),
        ("a.json", "[" * 100_000, "broken"),
        ("a.json", '[{"text": "cut', "broken"),
        ("a.jsonl", '{"text": "cut', "broken"),
        ("a.jsonl", '{"text": "half \\ud83d of it"}', "broken"),
        ("a.csv", 'Poem,Poet\n"never closed,Ann', "broken"),
        ("a.csv", "Poem,Poet\na line, and more, Ann", "broken"),
        ("a.csv", "Poet,Poem\nno second cell", "broken"),
        ("a.txt.gz", b"not gzip", "broken"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a\\nb"}')[:-4], "broken"),
        ("a.parquet", b"PAR1 and no more", "broken"),
        ("a.txt", f"{FERRY}<|im_end|>", "chat_token"),
        ("a.txt", f"{FERRY}\n&lt;|im_end|&gt;", "chat_token"),
        ("a.txt", "a line of verse\n" * 140_000, "too_long"),
        ("a.csv", "Poem\n" + "word " * 400_000, "too_long"),
        ("a.txt", PROSE, "prose"),
        ("a.txt", PROSE.replace(" ", "\n", 1) + "\n\n" + PROSE, "prose"),
    ],
)
def test_what_is_no_poem_is_left_out(
    tmp_path: Path, name: str, content: str | bytes, reason: str
) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    corpus = reading(tmp_path, {name: content, "z.txt": KETTLE})
    assert texts(corpus) == [KETTLE]
    (dropped,) = corpus.dropped
    assert (dropped.file, dropped.reason) == (name.removesuffix("/a.txt"), reason)
    assert dropped.detail


def test_prose_wrapped_at_a_column_is_prose_and_long_verse_is_not(tmp_path: Path) -> None:
    import textwrap

    wrapped = "\n".join(textwrap.wrap(f"{PROSE} {PROSE}", 70))
    long = "\n".join(
        f"{start} the city, and all that the river carries, and what it leaves to the gulls"
        for start in ("Out of", "Into", "Over", "Under", "Along", "Beyond", "Before", "After")
    )
    corpus = reading(tmp_path, {"long.txt": long, "wrapped.txt": wrapped})
    assert (texts(corpus), reasons(corpus)) == ([long], {"wrapped.txt": "prose"})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps({"title": "Office", "tags": ["prose poem"], "text": PROSE})),
        ("a.txt", f"---\ntitle: Office\nform: prose-poem\n---\n{PROSE}"),
        ("prose_poems/a.txt", PROSE),
        ("a.txt", f"Office (a prose poem)\n\n{PROSE}"),
    ],
)
def test_a_prose_poem_that_says_so_is_kept(tmp_path: Path, name: str, content: str) -> None:
    corpus = reading(tmp_path, {name: content})
    assert len(corpus.bad) == 1
    assert PROSE in corpus.bad[0].text


def test_each_dropped_item_names_its_line(tmp_path: Path) -> None:
    lines = [json.dumps({"text": FERRY}), "", "{broken", json.dumps({"text": ""})]
    rows = f'Title,Poem\r\nOne,"{KETTLE}"\r\n,\r\nTwo,nan\r\nThree,"{KETTLE}"\r\n'
    corpus = reading(
        tmp_path,
        {
            "a.jsonl": "\n".join(lines),
            "b.csv": rows,
            "c.txt": f"{BAD}\n\n***\n\n<s>\nend\n\n***\n\nnan",
        },
    )
    assert [(d.file, d.line, d.item, d.reason) for d in corpus.dropped] == [
        ("a.jsonl", 3, None, "broken"),
        ("a.jsonl", 4, None, "empty"),
        ("b.csv", 8, None, "empty"),
        ("b.csv", 9, None, "junk"),
        ("b.csv", 10, None, "duplicate"),
        ("c.txt", 8, "2", "chat_token"),
        ("c.txt", 13, "3", "junk"),
    ]
    assert corpus.dropped[4].detail == "the same as b.csv, line 2"


def test_items_of_json_are_named_by_where_they_stand(tmp_path: Path) -> None:
    nested = {"meta": {"count": 2}, "data": {"poems": [{"text": FERRY}, {"text": ""}]}}
    corpus = reading(tmp_path, {"a.json": json.dumps(nested)})
    assert ("data.poems[2]", "empty") in [(d.item, d.reason) for d in corpus.dropped]


# Copies.


def test_copies_are_dropped_and_the_first_stays(tmp_path: Path) -> None:
    corpus = reading(
        tmp_path,
        {
            "a.txt": KETTLE,
            "b.txt": KETTLE,
            "c.txt": KETTLE.upper().replace("'", "’") + "\n",
            "d.txt": KETTLE.replace("patience", "hunger"),
            "e.txt": FERRY,
        },
    )
    assert texts(corpus) == [KETTLE, FERRY]
    assert reasons(corpus) == {
        "b.txt": "duplicate", "c.txt": "near_duplicate", "d.txt": "near_duplicate"
    }  # fmt: skip


def test_texts_with_a_common_refrain_are_not_copies() -> None:
    refrain = "Row, brothers, row, the tide is going out."
    stanzas = [
        f"The rope lies on the post and the net lies in the boat,\n{refrain}",
        f"A gull has left the mast and the salt is on our bread,\n{refrain}",
    ]  # fmt: skip
    assert near_duplicates(stanzas) == []
    (pair,) = near_duplicates([stanzas[0], "", stanzas[0].upper()])
    assert pair == (0, 2, 1.0)


def shelves(folder: Path, good: dict[str, str], bad: dict[str, str]) -> Path:
    for side, files in (("good", good), ("bad", bad)):
        (folder / side).mkdir(parents=True)
        for name, text in files.items():
            (folder / side / name).write_text(text, encoding="utf-8")
    return folder


def test_a_poem_on_both_shelves_is_dropped_from_both(tmp_path: Path) -> None:
    folder = shelves(
        tmp_path, {"a.txt": KETTLE, "b.txt": FERRY}, {"x.txt": FERRY + "\n", "y.txt": BAD}
    )
    corpus = read_corpus(folder)
    assert [p.text for p in corpus.good] == [KETTLE]
    assert [p.text for p in corpus.bad] == [BAD]
    assert reasons(corpus) == {"good/b.txt": "conflict", "bad/x.txt": "conflict"}


def test_nearly_the_same_poem_on_both_shelves_stays_among_the_bad(tmp_path: Path) -> None:
    other = ORCHARD.replace("sweeter", "better")
    corpus = read_corpus(shelves(tmp_path, {"a.txt": KETTLE, "b.txt": ORCHARD}, {"x.txt": other}))
    assert [p.text for p in corpus.bad] == [other]
    assert reasons(corpus) == {"good/b.txt": "conflict"}


# Folders and links.


def test_folders_are_read_in_order_at_any_depth(tmp_path: Path) -> None:
    folder = shelves(tmp_path, {"b.txt": FERRY}, {"x.txt": BAD})
    deep = folder / "good" / "a" / "deeper"
    deep.mkdir(parents=True)
    (deep / "k.txt").write_text(KETTLE)
    (folder / "notes.txt").write_text("not read")
    (folder / "requests.txt").write_text("a poem about rust")
    corpus = read_corpus(folder)
    assert [p.file for p in corpus.good] == ["good/a/deeper/k.txt", "good/b.txt"]
    assert [(p.file, p.quality) for p in corpus.bad] == [("bad/x.txt", "bad")]
    assert reasons(corpus) == {"notes.txt": "beside"}
    assert corpus.poems == corpus.bad + corpus.good


def test_links_are_followed_inside_the_folder_only(tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text(ORCHARD)
    folder = shelves(tmp_path / "raw", {"a.txt": KETTLE}, {"x.txt": BAD})
    (folder / "pool").mkdir()
    (folder / "pool" / "f.txt").write_text(FERRY)
    good = folder / "good"
    (good / "inside").symlink_to(folder / "pool")
    (good / "outside.txt").symlink_to(tmp_path / "outside.txt")
    (good / "up").symlink_to(good)
    (good / "self").symlink_to(good / "self")
    (good / "lost").symlink_to(good / "nowhere")
    corpus = read_corpus(folder)
    assert [p.file for p in corpus.good] == ["good/a.txt", "good/inside/f.txt"]
    assert reasons(corpus) == {
        "good/outside.txt": "link_outside", "good/up": "link_loop", "good/self": "link_loop",
        "good/lost": "broken", "pool": "beside",
    }  # fmt: skip


def test_nothing_is_written(tmp_path: Path) -> None:
    folder = shelves(tmp_path, {"a.txt": KETTLE, "a.json": "[]"}, {"x.txt": BAD})
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(folder.rglob("*"))}
    for path in before:
        os.chmod(path, 0o555 if path.is_dir() else 0o444)
    read_corpus(folder)
    for path in before:
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
    assert {
        p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(folder.rglob("*"))
    } == before


def test_one_file_is_read_with_its_quality(tmp_path: Path) -> None:
    path = tmp_path / "poems.csv"
    path.write_text(f'Poem\n"{KETTLE}"\n"{FERRY}"\n')
    corpus = read_corpus(str(path), quality="good")
    assert [(p.text, p.file) for p in corpus.good] == [(KETTLE, "poems.csv"), (FERRY, "poems.csv")]
    assert corpus.bad == ()


@pytest.mark.slow
def test_a_data_set_folder_is_read_as_datasets_saves_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"title": ["Kettle", "Ferry", ""], "poem": [KETTLE, FERRY, ""]}
    datasets.disable_progress_bars()
    saved = datasets.Dataset.from_dict(rows).shuffle(seed=3)
    datasets.DatasetDict({"train": saved}).save_to_disk(tmp_path)
    corpus = read_corpus(tmp_path, quality="good")
    assert {p.title: p.text for p in corpus.good} == {"Kettle": KETTLE, "Ferry": FERRY}
    assert {d.reason for d in corpus.dropped} == {"empty", "junk"}


def test_a_table_without_its_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'versecraft\[tables\]'"):
        read_corpus(tmp_path, quality="good")


# What cannot be read at all.


def test_each_error_says_what_to_do(tmp_path: Path) -> None:
    def message(path: Path, **options: str) -> str:
        with pytest.raises(BadInput) as error:
            read_corpus(path, **options)
        return str(error.value)

    assert "does not exist" in message(tmp_path / "nowhere")
    assert "is empty. Put good poems in" in message(tmp_path)
    assert "Put poems there" in message(tmp_path, quality="good")
    assert "Say 'good' or 'bad'" in message(tmp_path, quality="ugly")
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.txt").write_text(KETTLE)
    assert "quality='good'" in message(tmp_path / "good" / "a.txt")
    assert "no folder bad/" in message(tmp_path)
    (tmp_path / "bad").mkdir()
    assert f"{tmp_path / 'bad'} is empty" in message(tmp_path)
    (tmp_path / "bad" / "a.txt").write_text(KETTLE)
    assert "1 conflict. The first, bad/a.txt, line 1: the same poem is good" in message(tmp_path)
    (tmp_path / "bad" / "a.txt").unlink()
    (tmp_path / "bad" / "a.json").write_text("{")
    assert "left out: 1 broken. The first, bad/a.json, line 1: not JSON" in message(tmp_path)
    (tmp_path / "bad" / "a.json").unlink()
    (tmp_path / "bad").rmdir()
    (tmp_path / "bad").symlink_to(tmp_path.parent)
    assert "leads out of" in message(tmp_path)


# Real corpora.


@needs_corpora
def test_the_messy_corpus_gives_what_is_expected_of_it() -> None:
    folder = CORPORA / "raw_messy"
    expected = json.loads((folder / "EXPECTED.json").read_text())
    corpus = read_corpus(folder)
    for side, poems in (("good", corpus.good), ("bad", corpus.bad)):
        want = expected[side]
        assert len(poems) == want["unique_total"]
        here = [d for d in corpus.dropped if d.file.startswith(f"{side}/")]
        count = {
            "duplicate": want["csv_dup_exact"] + want["json_dup"],
            "near_duplicate": want["csv_dup_near"],
            "empty": want["csv_empty"] + want["json_empty"] + 1,
            "broken": want["jsonl_broken"],
            "junk": want["csv_junk"] + 2,
        }
        assert {r: sum(d.reason == r for d in here) for r in {d.reason for d in here}} == count
        assert {f"{side}/{name}" for name in want["not_poems"]} <= {d.file for d in here}


@pytest.mark.slow
@needs_corpora
def test_good_poems_are_not_taken_for_anything_else(tmp_path: Path) -> None:
    for side in ("good", "bad"):
        (tmp_path / side).mkdir()
        data = (CORPORA / f"{side}.jsonl.gz").read_bytes()
        (tmp_path / side / "all.jsonl.gz").write_bytes(data)
    counts = read_corpus(tmp_path).report()
    assert (counts["good"], counts["bad"]) == (19_354, 114)
    assert counts["dropped"] == {"conflict": 2, "near_duplicate": 76, "prose": 2}
