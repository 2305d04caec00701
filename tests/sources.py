"""Poems made for tests, and a plan over them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from versecraft.backends import Backend
from versecraft.planning import plan
from versecraft.plugins import get_task
from versecraft.records import Match, Poem, Quality
from versecraft.runs import Plan

_NOUNS = (
    "kettle ladder orchard ferry pocket engine lantern harbour needle cellar gravel saddle "
    "window barrel meadow hammer button chimney pigeon teacup puddle railing suitcase candle"
).split()
_VERBS = "holds loses turns carries forgets mends follows empties opens counts".split()


def make_poem(number: int, quality: Quality = "bad", lines: int = 6) -> Poem:
    """A poem that no other number has."""
    draw = random.Random(f"{quality}{number}")
    text = "\n".join(
        f"The {draw.choice(_NOUNS)} {draw.choice(_VERBS)} the {draw.choice(_NOUNS)} {number}.{n}"
        for n in range(lines)
    )
    return Poem(text=text, quality=quality, author=f"{quality} author {number}")


def make_matches(count: int) -> list[Match]:
    """Matches of poems by number."""
    return [
        Match(
            bad=make_poem(n), good=make_poem(n, "good"), similarity=1 - n / count, shares_topic=True
        )
        for n in range(count)
    ]


def make_plan(folder: Path, backend: Backend, count: int = 20, **options: Any) -> Plan:
    """A plan of `count` critiques with a ledger in `folder`."""
    poems = [make_poem(n) for n in range(count)]
    return plan(
        get_task("critique"), poems, backend, ledger=folder / "runs" / "critique.jsonl", **options
    )
