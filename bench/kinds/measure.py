"""Measures `versecraft.classify` on leaks, look-alikes, pairs and real poems.

    python bench/kinds/measure.py [POEMS.jsonl.gz] [--weights FILE] [--encoder FILE] [--every N]

Leaks are counted by shape, for the shapes that are built on and for the third that is held out;
the figures on held-out shapes mean something for weights of `train.py --held-out` (--weights) and
`tune.py --held-out` (--encoder) only. Of the real poems those of the half that trains nothing are
counted apart; --every looks at each Nth only.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from cases import Case, clean_poems, composed, corpus, fraction, held_out, pairs, pieces, written

from versecraft import classifier, encoder, kinds


def leaks() -> list[Case]:
    """Every leak: whole texts, and each piece put into one plain poem."""
    draw = random.Random(5)
    hosts = [c.text for c in clean_poems() if not c.shape]
    return [composed(piece, draw.choice(hosts), draw) for piece in pieces()] + written()


def share(found: list[bool]) -> str:
    return f"{sum(found):4d}/{len(found):<4d} {sum(found) / max(len(found), 1):6.1%}"


def by_shape(title: str, found: dict[str, list[bool]], worst_first: bool) -> None:
    for part, inside in (("dev", False), ("held out", True)):
        some = {s: f for s, f in found.items() if held_out(s) == inside}
        print(
            f"\n{title}, {part} shapes ({len(some)}): "
            f"{share([x for f in some.values() for x in f])}"
        )
        order = sorted(some, key=lambda s: (np.mean(some[s]) * (1 if worst_first else -1), s))
        print("  " + "; ".join(f"{s} {sum(some[s])}/{len(some[s])}" for s in order))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("poems", type=Path, nargs="?")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--every", type=int, default=1)
    asked = parser.parse_args()
    for name, module, path in (
        ("weights", classifier, asked.weights),
        ("trained", encoder, asked.encoder),
    ):
        if path:
            with np.load(path, allow_pickle=False) as stored:
                model = module.unpacked({name: stored[name] for name in stored.files})
            setattr(kinds, name, lambda model=model: model)
    verdict = kinds.classify

    found, layers = defaultdict(list), {False: defaultdict(int), True: defaultdict(int)}
    subtle, right = defaultdict(list), defaultdict(list)
    for case in leaks():
        report = verdict(case.text)
        found[case.shape].append(not report.clean)
        subtle[held_out(case.shape), case.subtle].append(not report.clean)
        said = {line.layer for line in report.lines}
        layers[held_out(case.shape)][" and ".join(sorted(said)) or "none"] += 1
        if said:
            marked = {line.number for line in report.lines}
            right[held_out(case.shape)].append(
                len(marked & case.foreign) / len(marked | case.foreign)
            )
    by_shape("Recall of leaks", found, True)
    for held in (False, True):
        part = "held out" if held else "dev"
        print(f"{part}: subtle {share(subtle[held, True])}, plain {share(subtle[held, False])}")
        total = sum(layers[held].values())
        print(
            f"{part}: found by "
            + ", ".join(f"{k} {v / total:.1%}" for k, v in layers[held].items())
        )
        print(f"{part}: lines marked over lines foreign (IoU) {np.mean(right[held]):.1%}")

    alarms, plain = defaultdict(list), []
    for case in clean_poems():
        wrong = not verdict(case.text).clean
        alarms[case.shape].append(wrong) if case.shape else plain.append(wrong)
    by_shape("False alarms on look-alikes", alarms, False)
    print(f"False alarms on plain hand-written poems: {share(plain)}")

    both: dict[str, list[bool]] = defaultdict(list)
    caught: dict[bool, list[bool]] = defaultdict(list)
    for clean, leak in pairs():
        good, bad = verdict(clean.text).clean, not verdict(leak.text).clean
        both[leak.shape].append(good and bad)
        caught[held_out(leak.shape)].append(bad)
    by_shape("Pairs with both sides right", both, True)
    print(f"leaks of pairs: dev {share(caught[False])}, held out {share(caught[True])}")

    if asked.poems:
        real(corpus(asked.poems)[:: asked.every], verdict)


def real(poems: list[str], verdict) -> None:
    begin = time.perf_counter()
    reports = [verdict(poem) for poem in poems]
    spent = time.perf_counter() - begin
    unseen = [not r.clean for r, p in zip(reports, poems, strict=True) if fraction(p) >= 0.5]
    print(f"\nFalse alarms on real poems: {share([not r.clean for r in reports])}")
    print(f"  of the half that trains nothing: {share(unseen)}")
    rules = sum(any(x.layer == "rules" for x in r.lines) for r in reports)
    print(f"  {rules} by rules; {len(poems) / spent:.0f} poems per second")
    for report in sorted(reports, key=lambda r: (r.clean, -r.confidence))[:10]:
        for line in report.lines[:1]:
            print(f"  {line.confidence:.3f} {line.layer} {line.rule}: {line.text[:90]!r}")


if __name__ == "__main__":
    main()
