"""A teacher of small means: its answers pass the built-in tasks' checks, whatever the poem."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any


def share(*parts: object) -> float:
    """A number in [0, 1) that the parts decide."""
    found = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(found, "big") / 2**64


def lines_of(turn: str, tag: str) -> list[str]:
    """The lines of a numbered poem in a turn."""
    found = re.search(rf"<{tag}>\n(.*?)\n</{tag}>", turn, re.DOTALL)
    rows = re.findall(r"^ *\d+  (.*)$", found[1], re.MULTILINE) if found else []
    return [r.strip() for r in rows if len(re.sub(r"\W", "", r)) > 3] or ["nothing here"]


def quote(line: str) -> str:
    return line[:150].rsplit(" ", 1)[0] if len(line) > 150 else line


FORM = {"name": "free-verse", "lines": [3, 20], "scheme": "none", "meter": "none", "feet": 0}
AVOID = ["heart of gold", "sands of time", "tears like rain", "silent night", "broken dreams"]
BRIEF = {
    "angle": "Begin with one object on a table and stay with it until somebody comes to fetch it.",
    "avoid": AVOID,
    "imagery": "Kitchen things, weights and measures, a drawer that sticks.",
    "form": FORM,
}


def issue(line: str, severity: str) -> dict[str, Any]:
    return {
        "type": "abstraction",
        "location": {"quote": quote(line)},
        "diagnosis": "Here a feeling is named and nothing is there to be seen.",
        "direction": "Cut the named feeling and let one object in the room carry it.",
        "severity": severity,
    }


def answer(turn: str) -> str:
    """An answer to a turn of one of the built-in tasks."""
    task = re.match(r"Task: ([a-z ]+)\.", turn)
    name = task[1] if task else "poem"
    poem = lines_of(turn, "poem")
    if name == "critique":
        first = [issue(poem[0], "must_fix")]
        more = [issue(poem[-1], "should_fix")] if quote(poem[-1]) != quote(poem[0]) else []
        return json.dumps({"strengths": [], "issues": first + more})
    if name == "comparison":
        a, b = lines_of(turn, "poem_a"), lines_of(turn, "poem_b")
        point = {
            "dimension": "image",
            "finding": "its nouns can be picked up and turned over in the hand",
        }
        points = [
            {**point, "a_quote": quote(a[0]), "b_quote": quote(b[0])},
            {**point, "dimension": "ending", "a_quote": quote(a[-1]), "b_quote": quote(b[-1])},
        ]
        winner = "A" if share(*sorted((a[0], b[0]))) < 0.5 else "B"
        winner = winner if a[0] <= b[0] else {"A": "B", "B": "A"}[winner]
        loser = b if winner == "A" else a
        return json.dumps(
            {
                "winner": winner,
                "margin": "clear",
                "points": points,
                "loser_best": {"quote": quote(loser[0])},
                "loser_failure": "the point where it explains what it has shown",
                "lesson": "An image that is trusted needs nobody to explain it afterwards.",
            }
        )
    if name == "autopsy":
        item = {
            "cliche": {"quote": quote(poem[0])},
            "why_dead": "It has been said so often that nobody hears it any more.",
            "reaching_for": "the weight of a thing that is missed",
            "replacement": "a teaspoon left standing upright in the sugar",
        }
        return json.dumps({"items": [item]})
    if name == "brief":
        return json.dumps(BRIEF)
    if name == "revision brief":
        change = {
            "type": "abstraction",
            "location": {"quote": quote(poem[0])},
            "change": "Cut the opening and begin at the object.",
        }
        return json.dumps({**BRIEF, "keep": [], "change": [change]})
    if name == "lesson":
        return json.dumps(
            {
                "topic": "images",
                "claim": "An image works when the reader could draw it from memory.",
                "explanation": "Take the thing itself and leave out what it means. A reader who is "
                "shown a cup asks whose it is; a reader who is told of loss nods and turns the "
                "page. So name what lies there, and where, and what it weighs, and "
                "stop before you say why.",
                "examples": [
                    {
                        "quote": "a cup with two handles",
                        "source": "made for this lesson",
                        "shows": "A small oddity makes the cup this one and no other.",
                    }
                ],
                "exercise": "Write down ten things on your table; strike the nine you expected.",
            }
        )
    if turn == "Name a thing that floats, as JSON.":  # versecraft.testing.check_backend
        return '{"thing": "cork"}'
    return "The drawer sticks.\nInside it the scales\nkeep level without us."
