"""Reading poems from disk: repaired, sorted out, and each that is left out with its reason."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from .checkpoints import write_whole
from .duplicates import near_duplicates
from .errors import BadInput
from .formats import PROSE_POEM, Found, read_file
from .kinds import CHAT_TOKEN
from .records import Corpus, Dropped, Poem, Quality
from .repairs import repair

LONGEST = 60_000
"""Most characters of a poem: some 1,500 lines. The longest of 19,548 poems has 25,510."""

_LONG_LINE = 250  # characters; no poem of the 19,548 has more than 5 % of its text in longer ones
_WRAPPED = 55  # characters to which prose is wrapped at the least
_KNOWN = {"good", "bad", "requests.txt", "questions.txt"}  # the latter two feed other tasks
_READERS = ("answers", "corpus", "duplicates", "formats", "kinds", "records", "repairs")
_NO_TEXT = frozenset(
    "nan none null n/a na undefined unknown placeholder [removed] [deleted]".split()
)


@dataclass(frozen=True)
class _Placed:
    """A poem, its text as it stood on disk, and the place in its file."""

    poem: Poem
    raw: str
    line: int | None
    item: str | None

    def __str__(self) -> str:
        line = f", line {self.line}" if self.line else ""
        return f"{self.poem.file}{line}{f', item {self.item}' if self.item else ''}"

    def dropped(self, reason: str, detail: str) -> Dropped:
        return Dropped(
            file=self.poem.file, reason=reason, detail=detail, line=self.line, item=self.item
        )


def read_corpus(
    path: str | Path, *, quality: Quality | None = None, cache: Path | None = None
) -> Corpus:
    """The good and bad poems on disk, and all that was left out. Nothing is written there, ever.

    Args:
        path: A folder that holds `good/` and `bad/`, nested as you like; with `quality`, one
            file or folder whose poems are all of that quality.
        quality: "good" or "bad", where the path does not say.
        cache: A file, elsewhere, that keeps what was found. While no byte of what is read has
            changed, and versecraft has not, it is taken from there. Safe to delete.

    Returns:
        A corpus whose poems stand in the order of their paths. Each text that was not taken is
        in `dropped` with file, line, item, reason and detail. The reasons are empty, junk,
        broken, prose, chat_token, too_long, duplicate, near_duplicate, conflict, link_loop,
        link_outside and beside.

    Raises:
        BadInput: There is no such path, no `good/` or `bad/`, or no poem in one of them.
        MissingExtra: There are Parquet or Arrow files, and pyarrow is not installed.
    """
    top = Path(path).expanduser()
    if quality not in (None, *get_args(Quality)):
        raise BadInput(f"quality is {quality!r}. Say 'good' or 'bad'.")
    if not top.exists():
        raise BadInput(f"{top} does not exist. Give a folder that holds good/ and bad/.")
    sides = {quality: top} if quality else _sides(top)
    if cache is None:
        return _found(top, sides, quality)
    state = _state(top, sides)
    if (kept := _kept(cache, state)) is None:
        kept = _found(top, sides, quality)
        with suppress(OSError, ValueError):  # a file's name may be no text; then nothing is kept
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_whole(cache, f"{state}\n{kept.model_dump_json()}")
    return kept


def _state(top: Path, sides: dict[Quality, Path]) -> str:
    """A digest of all that a corpus is made from: names and bytes of the files, and our code."""
    state = hashlib.sha256()
    for name in _READERS:
        state.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    for side, where in sides.items():
        files = _files(where, top.resolve(), ()) if where.is_dir() else [(where, None)]
        for path, refused in files:
            state.update(repr((side, path.relative_to(top).as_posix(), refused)).encode())
            try:
                state.update(b"" if refused else hashlib.sha256(path.read_bytes()).digest())
            except OSError as error:
                state.update(repr(error).encode())
    state.update(repr([one.file for one in _beside(top)] if top.is_dir() else []).encode())
    return state.hexdigest()


def _kept(cache: Path, state: str) -> Corpus | None:
    """What the cache holds, if it was made from this very state."""
    try:
        made_from, _, corpus = cache.read_text(encoding="utf-8").partition("\n")
        return Corpus.model_validate_json(corpus) if made_from == state else None
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def _found(top: Path, sides: dict[Quality, Path], quality: Quality | None) -> Corpus:
    """The poems of each side, and what was left out."""
    read = [thing for side, where in sides.items() for thing in _read(top, where, side)]
    placed = [thing for thing in read if isinstance(thing, _Placed)]
    dropped = [thing for thing in read if isinstance(thing, Dropped)]
    if not quality:
        dropped += _beside(top)
    kept = _sift(placed, dropped)
    poems = {side: tuple(p.poem for p in kept if p.poem.quality == side) for side in sides}
    for side, found in poems.items():
        if not found:
            prefix = "" if quality else f"{side}/"
            raise BadInput(_nothing(sides[side], [d for d in dropped if d.file.startswith(prefix)]))
    return Corpus(
        good=poems.get("good", ()),
        bad=poems.get("bad", ()),
        dropped=tuple(sorted(dropped, key=lambda d: (d.file, d.line or 0))),
    )


def _sides(top: Path) -> dict[Quality, Path]:
    """The folder of each quality; the bad one first, for its poems are few and stay."""
    if not top.is_dir():
        raise BadInput(f"{top} is a file. Say quality='good' or quality='bad'.")
    if not any(top.iterdir()):
        raise BadInput(f"{top} is empty. Put good poems in {top / 'good'}, bad in {top / 'bad'}.")
    sides: dict[Quality, Path] = {"bad": top / "bad", "good": top / "good"}
    for side, folder in sides.items():
        if not folder.is_dir():
            raise BadInput(
                f"{top} has no folder {side}/. Make it and put the {side} poems there, or say "
                "quality='good' or quality='bad' for all of a folder."
            )
        if not folder.resolve().is_relative_to(top.resolve()):
            raise BadInput(
                f"{folder} is a link that leads out of {top}, and such links are not followed. "
                "Put the poems themselves there."
            )
    return sides


def _beside(top: Path) -> Iterator[Dropped]:
    for name in sorted(path.name for path in top.iterdir()):
        if name not in _KNOWN:
            detail = "stands beside good/ and bad/; not read for poems"
            yield Dropped(file=name, reason="beside", detail=detail)


def _nothing(where: Path, dropped: Sequence[Dropped]) -> str:
    if not dropped:
        return f"{where} is empty. Put poems there: .txt, .json, .jsonl, .csv or .parquet files."
    counts = Counter(d.reason for d in dropped)
    first = dropped[0]
    line = f", line {first.line}" if first.line else ""
    return (
        f"No poem was found in {where}; left out: "
        f"{', '.join(f'{n} {reason}' for reason, n in counts.items())}. "
        f"The first, {first.file}{line}: {first.detail}. Mend that, or put other poems there."
    )


# Files.


def _read(top: Path, where: Path, quality: Quality) -> Iterator[_Placed | Dropped]:
    files = _files(where, top.resolve(), ()) if where.is_dir() else [(where, None)]
    for path, refused in files:
        name = path.relative_to(top).as_posix() if path != top else path.name
        if refused:
            yield Dropped(file=name, reason=refused[0], detail=refused[1])
            continue
        for found in read_file(path, name):
            yield found if isinstance(found, Dropped) else _judged(found, name, quality)


def _files(
    folder: Path, root: Path, above: tuple[Path, ...]
) -> Iterator[tuple[Path, tuple[str, str] | None]]:
    """Each file under a folder, in order, and the reason and detail if it is not to be read."""
    above = (*above, folder.resolve())
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        refused = _refused(path, root, above)
        if refused or not path.is_dir():
            yield path, refused
        else:
            yield from _files(path, root, above)


def _refused(path: Path, root: Path, above: tuple[Path, ...]) -> tuple[str, str] | None:
    if path.name.startswith("."):
        return "junk", "hidden"
    try:
        target = path.resolve(strict=True)
        if path.is_dir():
            next(path.iterdir(), None)
    except FileNotFoundError:
        return "broken", "a link to nothing"
    except PermissionError as error:
        return "broken", f"cannot be read: {error}"
    except (OSError, RuntimeError):  # Python 3.11 and 3.12 raise the latter
        return "link_loop", "a link that leads to itself"
    if not target.is_relative_to(root):
        return "link_outside", f"a link to {target}, out of the folder"
    if target in above:
        return "link_loop", "a link to a folder that it stands in"
    if not (path.is_file() or path.is_dir()):
        return "junk", "not a file"
    return None


# Texts.


def _judged(found: Found, name: str, quality: Quality) -> _Placed | Dropped:
    text = repair(found.text)
    flaw = _flaw(text, found.prose_poem or bool(PROSE_POEM.search(f"{name}\n{text[:80]}")))
    if flaw:
        return Dropped(file=name, reason=flaw[0], detail=flaw[1], line=found.line, item=found.item)
    about = found.about
    poem = Poem(
        text=text,
        quality=quality,
        title=_one_line(about["title"]),
        author=_one_line(about["author"]),
        year=_year(about["year"]),
        source=_one_line(about["source"]),
        licence=_one_line(about["licence"]),
        file=name,
    )
    return _Placed(poem, found.text, found.line, found.item)


def _flaw(text: str, prose_poem: bool) -> tuple[str, str] | None:
    """Why a text is not taken for a poem, as reason and detail."""
    if not text:
        return "empty", "no text"
    if len(text) > LONGEST:
        return "too_long", f"{len(text):,} characters; a poem has {LONGEST:,} at most"
    if text.lower() in _NO_TEXT or not re.search(r"[^\W\d_]", text):
        return "junk", f"stands for no text: {text[:20]!r}"
    if "\ufffd" in text or re.search(r"[\ud800-\udfff]", text):
        return "broken", "holds characters that were lost when it was saved"
    if token := CHAT_TOKEN.search(text):
        return "chat_token", f"holds {token[0]}, a mark of chat templates"
    if not prose_poem and _is_prose(text):
        return "prose", "paragraphs, not lines; kept if title, form or tags say 'prose poem'"
    return None


def _is_prose(text: str) -> bool:
    """Whether most of a text stands in long lines, or in lines that were filled and wrapped.

    A wrapped line is full when the next line's first word would not have fitted. Verse with
    lines that full begins them with capitals. Two of 19,548 poems are found so, and are prose.
    """
    lines = [line.strip() for line in text.split("\n")]
    written = [line for line in lines if line]
    if 2 * sum(len(line) for line in written if len(line) > _LONG_LINE) > len(text):
        return True
    width = max(map(len, written))
    pairs = [(a, b) for a, b in pairwise(lines) if a and b]
    full = sum(len(a) + 1 + len(b.split()[0]) > width for a, b in pairs)
    lower = sum(b[0].islower() for _, b in pairs)
    if len(pairs) < 6 or width < _WRAPPED:
        return False
    return full > 0.85 * len(pairs) and lower > 0.5 * len(pairs)


def _one_line(value: Any) -> str | None:
    if isinstance(value, list):
        value = ", ".join(str(part) for part in value if part is not None)
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        return None
    line = " ".join(repair(str(value)).split()).encode(errors="replace").decode()
    return None if line.lower() in _NO_TEXT else line or None


def _year(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.search(r"\b(?:1\d{3}|20\d\d)\b", str(value))
    return int(match[0]) if match else None


# Poems that are there more than once.


def _sift(placed: Sequence[_Placed], dropped: list[Dropped]) -> list[_Placed]:
    """The poems without copies, the first of each staying; what is not kept goes to `dropped`."""
    first: dict[tuple[Quality, str], _Placed] = {}
    for p in placed:
        first.setdefault((p.poem.quality, p.poem.id), p)
    unlike: list[_Placed] = []
    for p in placed:
        other: Quality = "bad" if p.poem.quality == "good" else "good"
        if twin := first.get((other, p.poem.id)):
            dropped.append(p.dropped("conflict", f"the same poem is {other} in {twin}"))
        elif (twin := first[p.poem.quality, p.poem.id]) is p:
            unlike.append(p)
        elif p.raw == twin.raw:
            dropped.append(p.dropped("duplicate", f"the same as {twin}"))
        else:
            detail = f"the same as {twin} but for white space or typography"
            dropped.append(p.dropped("near_duplicate", detail))
    out: set[int] = set()
    for pair in near_duplicates([p.poem.text for p in unlike]):
        if out.isdisjoint((pair.first, pair.second)):
            out.add(pair.second)
            p, twin = unlike[pair.second], unlike[pair.first]
            detail = f"shares {pair.jaccard:.0%} of three-word runs with {twin}"
            if p.poem.quality != twin.poem.quality:
                dropped.append(p.dropped("conflict", f"{detail}, which is bad and stays"))
            else:
                dropped.append(p.dropped("near_duplicate", detail))
    return [p for n, p in enumerate(unlike) if n not in out]
