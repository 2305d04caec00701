"""The cases of the kind detector: hand-written leaks, clean poems, and leaks put together."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A text, the numbers of its lines that are not poem (none when it is clean), and its shape."""

    text: str
    foreign: frozenset[int] = frozenset()
    shape: str = ""
    subtle: bool = False
    origin: str = ""

    @property
    def leak(self) -> bool:
        return bool(self.foreign)


def fraction(name: str) -> float:
    """A number from 0 to 1 that a name always has."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32


def held_out(shape: str) -> bool:
    """Whether a shape belongs to the third that nothing is trained or tuned on."""
    return int(hashlib.sha256(shape.encode()).hexdigest()[:8], 16) % 3 == 0


def rows(pattern: str) -> list[dict]:
    """The rows of the files of bench/kinds that match, in order."""
    return [
        json.loads(line)
        for path in sorted(HERE.glob(pattern))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]


def corpus(path: Path) -> list[str]:
    """The poems of a JSONL file, packed or not."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def written() -> list[Case]:
    """Whole texts written by hand, each a leak tied to its poem."""
    return [
        Case(r["text"], frozenset(r["foreign"]), r["shape"], r.get("subtle", False), "texts")
        for r in rows("texts_*.jsonl")
    ]


def pairs() -> list[tuple[Case, Case]]:
    """A clean poem and a leak that differ in the foreign lines only."""
    found = []
    for r in rows("pairs_*.jsonl"):
        clean, leak = r["clean"].split("\n"), r["leak"].split("\n")
        steps = difflib.SequenceMatcher(None, clean, leak, autojunk=False).get_opcodes()
        foreign = {
            n + 1
            for tag, _, _, begin, end in steps
            if tag != "equal"
            for n in range(begin, end)
            if leak[n].strip()
        } or {len(leak)}
        found.append(
            (
                Case(r["clean"], shape=r["shape"], origin="pairs"),
                Case(r["leak"], frozenset(foreign), r["shape"], True, "pairs"),
            )
        )
    return found


def clean_poems() -> list[Case]:
    """Poems written by hand: plain ones, without a shape, and those that look like leaks."""
    plain = [Case(r["text"], origin="poems") for r in rows("poems_*.jsonl")]
    return plain + [Case(r["text"], shape=r["shape"], origin="lookalikes") for r in rows("look*")]


def pieces() -> list[dict]:
    """Foreign text to be put before, after, into or around a poem, or in place of one."""
    return rows("pieces_*.jsonl")


def excerpt(poem: str, draw: random.Random) -> str:
    """Some stanzas of a long poem, so that length tells nothing."""
    lines = poem.strip("\n").split("\n")
    if len(lines) <= 30 and draw.random() < 0.7:
        return "\n".join(lines)
    breaks = [0] + [n + 1 for n, line in enumerate(lines) if not line.strip()] + [len(lines) + 1]
    begin = draw.choice(breaks[:-1])
    ends = [n - 1 for n in breaks if begin + 2 < n <= begin + 33]
    return "\n".join(lines[begin : draw.choice(ends) if ends else begin + 24]).strip("\n")


def composed(piece: dict, poem: str, draw: random.Random) -> Case:
    """A piece put where it belongs, with or without a blank line between."""
    text, where = piece["text"].strip("\n"), piece["where"]
    lines, new = poem.strip("\n").split("\n"), text.split("\n")
    gap = [""] if draw.random() < 0.65 else []
    if where == "whole":
        out, marks = new, range(len(new))
    elif where == "before":
        out, marks = new + gap + lines, range(len(new))
    elif where == "after":
        out = lines + gap + new
        marks = range(len(out) - len(new), len(out))
    elif where == "wrap":
        last = piece.get("after", "").strip("\n").split("\n")
        gap = gap if draw.random() < 0.4 else []
        out = new + gap + lines + gap + last
        marks = [*range(len(new)), *range(len(out) - len(last), len(out))]
    else:
        breaks = [n for n, line in enumerate(lines) if not line.strip()]
        if breaks and draw.random() < 0.7:
            at = draw.choice(breaks)
            out = lines[:at] + gap + new + (gap or [""]) + lines[at + 1 :]
            at += len(gap)
        else:
            at = draw.randint(1, max(1, len(lines) - 1))
            gap = gap if draw.random() < 0.4 else []
            out = lines[:at] + gap + new + gap + lines[at:]
            at += len(gap)
        marks = range(at, at + len(new))
    foreign = frozenset(n + 1 for n in marks if out[n].strip())
    return Case("\n".join(out), foreign, piece["shape"], piece.get("subtle", False), "pieces")
