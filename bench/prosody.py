"""Rhyme, form, metre and worn phrases, measured on poems whose answers are known.

    python bench/prosody.py ../shared/corpora            # all figures
    python bench/prosody.py ../shared/corpora rhyme form  # some

The folder holds `prosody_gold.jsonl.gz` (poems with rhyme schemes by stanza, form or metre labels)
and `good.jsonl.gz`, `bad.jsonl.gz` (poems). Nothing of them is part of the project.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from versecraft.kinds import classify
from versecraft.phrases import CLICHE_LIST, SLOP_LIST, cliches, slop
from versecraft.prosody import check, detect_form, meter, rhyme, scheme, syllables
from versecraft.sounds import end_word

SONNETS = ("shakespearean-sonnet", "petrarchan-sonnet")


def read(file: Path) -> list[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def stanzas(poems: list[dict[str, Any]]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Author, lines and gold letters of each stanza."""
    for poem in poems:
        parts, golds = poem["text"].split("\n\n"), poem.get("stanza_schemes") or []
        if len(parts) == len(golds):
            for part, gold in zip(parts, golds, strict=True):
                lines = part.split("\n")
                if gold and len(gold) == len(lines):
                    yield poem["author"], lines, list(gold)


def rhymes(gold: list[dict[str, Any]]) -> None:
    """Pairs of lines up to four lines apart, in stanzas of 3 to 20 lines, and by halves."""
    counts: dict[str, Counter[tuple[str, bool]]] = defaultdict(Counter)
    authors = sorted({poem["author"] for poem in gold})
    for author, lines, letters in stanzas(gold):
        if not 3 <= len(lines) <= 20 or "*" in letters:
            continue
        words = [end_word(line) for line in lines]
        half = "poets A" if authors.index(author) % 2 else "poets B"
        for i, j in combinations(range(len(lines)), 2):
            if j - i <= 4 and words[i] != words[j]:
                key = rhyme(words[i], words[j]), letters[i] == letters[j]
                counts["all"][key] += 1
                counts[half][key] += 1
    for name, found in counts.items():
        real = sum(n for (_, is_rhyme), n in found.items() if is_rhyme)
        print(f"\nrhyme, {name}: {sum(found.values()):,} pairs, {real:,} rhymes")
        right = wrong = 0
        for grade in ("perfect", "eye", "slant"):
            hit, false = found[grade, True], found[grade, False]
            right, wrong = right + hit, wrong + false
            print(
                f"  {grade:8} alone P {hit / (hit + false):.3f} R {hit / real:.3f}   "
                f"with those above P {right / (right + wrong):.4f} R {right / real:.4f}"
            )


def schemes(gold: list[dict[str, Any]]) -> None:
    """Whole stanzas whose scheme is found letter by letter."""
    right: Counter[tuple[str, bool]] = Counter()
    misses: Counter[tuple[str, str]] = Counter()
    for _, lines, letters in stanzas(gold):
        if len(lines) > 1:
            names: dict[str, int] = {}
            wanted = [names.setdefault(letter, len(names)) for letter in letters]
            names = {}
            found = [names.setdefault(letter, len(names)) for letter in scheme("\n".join(lines))]
            size = next(n for n in (4, 8, 14, 999) if len(lines) <= n)
            right[f"up to {size} lines", found == wanted] += 1
            if found != wanted and len(lines) == 4:
                misses["".join(letters), scheme("\n".join(lines))] += 1
    print("\nscheme, by stanza")
    total = sum(n for (_, ok), n in right.items() if ok)
    for size in sorted({size for size, _ in right}, key=len):
        n = right[size, True] + right[size, False]
        print(f"  {size:14} {right[size, True]:5,} of {n:5,} = {right[size, True] / n:.3f}")
    print(
        f"  {'all':14} {total:5,} of {sum(right.values()):5,} = {total / sum(right.values()):.3f}"
    )
    print(
        "  quatrains missed:", ", ".join(f"{a} as {b} {n}" for (a, b), n in misses.most_common(6))
    )


def forms(gold: list[dict[str, Any]]) -> None:
    """The form found against the form labelled; fourteen-line stanzas with their gold scheme."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    fourteen: Counter[bool] = Counter()
    for poem in gold:
        if label := poem.get("form"):
            found = detect_form(poem["text"])
            table[label][str(found)] += 1
            if label == "sonnet" and len([x for x in poem["text"].split("\n") if x.strip()]) == 14:
                fourteen[found in SONNETS] += 1
    names = sorted({form for row in table.values() for form in row})
    print("\nform: label by row, found by column")
    print(" " * 28 + " ".join(f"{name[:9]:>9}" for name in names))
    for label, row in sorted(table.items(), key=lambda item: -sum(item[1].values())):
        print(f"  {label[:25]:26}" + " ".join(f"{row[name] or '':>9}" for name in names))
    share(fourteen, "sonnets by label, of 14 lines")
    by_scheme: dict[bool, Counter[bool]] = defaultdict(Counter)
    kept: Counter[bool] = Counter()
    for _, lines, letters in stanzas(gold):
        if len(lines) == 14 and len(set(letters)) < 8:
            couplets = all(letters[n] == letters[n + 1] for n in range(0, 14, 2))
            found = detect_form("\n".join(lines))
            by_scheme[couplets][found in SONNETS] += 1
            name = "".join(letters)
            if name in ("ababcdcdefefgg", "abbaabbacdecde", "abbaabbacdcdcd"):
                form = SONNETS[name.startswith("abba")]
                clause = next(
                    c for c in check("\n".join(lines), form).clauses if c.name == "scheme"
                )
                kept[clause.holds is True] += 1
    share(by_scheme[False], "stanzas of 14 lines in a sonnet's scheme, found to be one")
    share(by_scheme[True], "seven couplets, found to be a sonnet")
    share(kept, "sonnets of the three regular schemes whose scheme clause holds")


def share(counts: Counter[bool], what: str) -> None:
    n = sum(counts.values())
    print(f"  {what}: {counts[True]} of {n} = {counts[True] / max(n, 1):.3f}")


def meters(gold: list[dict[str, Any]]) -> None:
    """Metre where form or scansion settles it, and syllables of scanned lines."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    off: Counter[int] = Counter()
    for poem in gold:
        found = meter(poem["text"])
        said = "none" if found is None else f"{found.foot} {'-'.join(map(str, found.pattern))}"
        if poem.get("form") in ("blank verse", "sonnet", "common measure", "free verse", "haiku"):
            table[poem["form"]][said] += 1
        marks = Counter(met.split("(")[0] for met in poem.get("stanza_met") or [] if met)
        if marks:
            table[{"-+": "iambs", "--+": "anapests"}.get(marks.most_common(1)[0][0], "other")][
                said.split()[0]
            ] += 1
        for line in poem.get("lines") or []:
            if real := line.get("real"):
                cut = poem["id"].startswith("fbfv")
                beats = real.split("(")[0].split("|")[0] if cut else real
                off[syllables(line["text"]) - sum(mark in "+-" for mark in beats)] += 1
    print("\nmetre: label, then what was found")
    for label, row in table.items():
        print(f"  {label:15}", ", ".join(f"{name} {n}" for name, n in row.most_common(6)))
    n = sum(off.values())
    near = off[-1] + off[0] + off[1]
    print(
        f"  syllables of {n} scanned lines: right {off[0] / n:.3f}, at most one off {near / n:.3f}"
    )


def worn(good: list[dict[str, Any]], bad: list[dict[str, Any]]) -> None:
    """Hits for 1,000 words, and how many of the poems have any."""
    machine = [poem for poem in bad if "trajectories" in poem["source"]]
    people = [poem for poem in bad if poem not in machine]
    print(f"\nworn phrases: {CLICHE_LIST}, {SLOP_LIST}")
    for name, poems in (("good", good), ("bad, by people", people), ("machine drafts", machine)):
        words = sum(len(poem["text"].split()) for poem in poems)
        said = f"  {name:15} {len(poems):6,} poems"
        for find in (cliches, slop):
            hits = [len(find(poem["text"])) for poem in poems]
            any_hit = sum(map(bool, hits)) / len(hits)
            said += f"   {find.__name__} {1000 * sum(hits) / words:6.2f}, in {any_hit:4.0%}"
        print(said)


def speed(good: list[dict[str, Any]]) -> None:
    """Seconds of one core for all poems."""
    print(f"\nspeed, {len(good):,} poems, processor time")
    for name, find in (
        ("detect_form", detect_form),
        ("check, by the form found", lambda text: check(text, detect_form(text) or "free-verse")),
        ("meter", meter),
        ("scheme", scheme),
        ("cliches and slop", lambda text: (cliches(text), slop(text))),
        ("classify", classify),
    ):
        began = time.process_time()
        for poem in good:
            find(poem["text"])
        seconds = time.process_time() - began
        print(f"  {name:26} {seconds:6.1f} s, {len(good) / seconds:8,.0f} poems a second")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    wanted = sys.argv[2:] or ["rhyme", "scheme", "form", "meter", "worn", "speed"]
    gold = read(folder / "prosody_gold.jsonl.gz")
    for name, measure in (
        ("rhyme", rhymes),
        ("scheme", schemes),
        ("form", forms),
        ("meter", meters),
    ):
        if name in wanted:
            measure(gold)
    if {"worn", "speed"} & {*wanted}:
        good = read(folder / "good.jsonl.gz")
        if "worn" in wanted:
            worn(good, read(folder / "bad.jsonl.gz"))
        if "speed" in wanted:
            speed(good)
