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
from itertools import combinations, groupby
from pathlib import Path
from typing import Any

from versecraft.answers import Form
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


RIGHT = {  # what may be found, by what a label says or the gold letters imply
    "couplet": ("couplets",),
    "sonnet": SONNETS,
    "common measure": ("common-metre", "ballad-stanza"),
    "ballad": ("ballad-stanza", "common-metre"),
    "blank verse": ("blank-verse",),
    "quatrain": ("quatrains", "couplets", "common-metre", "ballad-stanza"),
    "free verse": ("free-verse",),
    "haiku": ("haiku",),
    "sestina": ("sestina",),
    "Shakespearean letters": SONNETS[:1],
    "Petrarchan letters": SONNETS[1:],
    "other sonnet letters": SONNETS,
    "aa bb …": ("couplets",),
    "abab …": ("quatrains", "common-metre"),
    "abcb …": ("quatrains", "ballad-stanza"),
    "abba …": ("quatrains",),
    "other rhymed stanzas": ("None",),
}


def implied(poem: dict[str, Any]) -> str | None:
    """The form that a poem's gold letters imply; None where not all of its lines have one."""
    parts = poem["text"].split("\n\n")
    found = [letters for _, _, letters in stanzas([poem])]
    if len(found) != len(parts) or any("*" in x for x in found) or sum(map(len, found)) < 4:
        return None
    if all(len([*same]) > 1 for x in found for _, same in groupby(x)):
        return "aa bb …"
    if len(found) == 1 and len(found[0]) == 14 and len({*found[0]}) < 8:
        name = "".join(found[0])
        if name == "ababcdcdefefgg":
            return "Shakespearean letters"
        return "Petrarchan letters" if name.startswith("abbaabba") else "other sonnet letters"
    fours = [x[n : n + 4] for x in found for n in range(0, len(x), 4)]
    kinds = {tuple(four.index(letter) for letter in four) for four in fours}
    same = {(0, 1, 0, 1): "abab …", (0, 1, 2, 1): "abcb …", (0, 1, 1, 0): "abba …"}
    if all(len(x) % 4 == 0 for x in found) and len(kinds) == 1 and kinds <= {*same}:
        return same[kinds.pop()]
    return "other rhymed stanzas" if all(len({*x}) < len(x) for x in found) else None


def forms(gold: list[dict[str, Any]]) -> None:
    """The form found against the one labelled or implied; fourteen lines with their gold scheme.

    Labels that name a matter (elegy, ode) say nothing of a form and are left out.
    """
    table: dict[str, Counter[str]] = {name: Counter() for name in RIGHT}
    fourteen: Counter[bool] = Counter()
    for poem in gold:
        found = detect_form(poem["text"])
        label = poem.get("form")
        for name in {label, implied(poem)} & {*RIGHT}:
            table[name][str(found)] += 1
        if label == "sonnet" and len([x for x in poem["text"].split("\n") if x.strip()]) == 14:
            fourteen[found in SONNETS] += 1
    names = sorted({form for row in table.values() for form in row})
    print("\nform: label or gold letters by row, found by column; then how many are right")
    print(" " * 24 + " ".join(f"{name[:9]:>9}" for name in names))
    for label, row in table.items():
        right = sum(row[name] for name in RIGHT[label])
        print(
            f"  {label:22}"
            + " ".join(f"{row[name] or '':>9}" for name in names)
            + f"   {right:4} of {sum(row.values()):4} = {right / max(1, sum(row.values())):.3f}"
        )
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
    quatrains(gold)


def quatrains(gold: list[dict[str, Any]]) -> None:
    """The scheme clause, asked of each quatrain in its own scheme and in others."""
    own: Counter[bool] = Counter()
    others: Counter[bool] = Counter()
    names = ("abab", "aabb", "abba", "abcb")
    for _, lines, letters in stanzas(gold):
        real = "".join("abcd"[[*dict.fromkeys(letters)].index(x)] for x in letters[:4])
        for asked in names if len(lines) == 4 and real in names else ():
            if (real, asked) != ("abab", "abcb"):  # which it keeps as well
                form = Form(name="quatrains", lines=(4, 4), scheme=asked, meter="none", feet=0)
                found = check("\n".join(lines), form).clauses
                holds = any(c.name == "scheme" and c.holds for c in found)
                (own if asked == real else others)[holds] += 1
    share(own, "quatrains whose scheme clause holds when their own scheme is asked")
    share(others, "or one that is not theirs")


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
