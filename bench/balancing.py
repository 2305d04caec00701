"""A large data set read, validated, balanced, split and written, beside a plain json loop.

    python bench/balancing.py [--rows 1000000] [--gc-off]

The rows are made first, about 3 kB each, as runs leave them: every bad poem in 16 contexts (with
four briefs, and with two partners in both orders), good poems with twelve briefs each, briefs and
lessons. The floor reads each line with `json.loads`, writes it with `json.dumps`, and knows nothing
of what it holds. Each side runs in a process of its own. Printed: microseconds of CPU a row for
each step, and peak memory. `--gc-off` stops Python's cyclic garbage collector, which otherwise
walks over all rows again and again as they are read.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import resource
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BAD_CONTEXTS = 16
GOOD_BRIEFS = 12


def made(count: int) -> Iterator[dict[str, Any]]:
    """Rows in the layout of the real turns; the poems are random words in lines."""
    draw = random.Random(7)
    words = [
        "".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 8))) for _ in range(9**4)
    ]

    def prose(length: int) -> str:
        return " ".join(draw.choices(words, k=length))

    def poem() -> tuple[str, str]:
        lines = "\n".join(f"{n:>3}  {prose(7)}" for n in range(1, 17))
        return f"{draw.getrandbits(64):016x}", lines

    issue = {"type": "padding", "location": {"quote": prose(4)}, "severity": "must_fix"}
    issues = [issue | {"diagnosis": prose(35), "direction": prose(35)} for _ in range(3)]
    critique = json.dumps({"strengths": [], "issues": issues})
    prosaic = json.dumps({"text": prose(220)})

    def row(
        task: str, item: str, poems: tuple[str, ...], quality: str | None, turn: str, answer: str
    ) -> dict[str, Any]:
        return {
            "task": task,
            "role": "educator",
            "kind": task,
            "item_id": item,
            "poem_ids": poems,
            "quality": quality,
            "messages": [
                {"role": "system", "content": "You are a poetry teacher. " * 8},
                {"role": "user", "content": f"Task: {task}.\n\n{turn}\n\nSay what you see."},
                {"role": "assistant", "content": answer},
            ],
            "meta": {"model": "none", "key": f"{draw.getrandbits(64):016x}", "licence": "MIT"},
        }

    def alone(task: str, name: str, text: str, quality: str) -> dict[str, Any]:
        turn = f"<poem>\n{text}\n</poem>\n\n<brief>\n{prose(20)}\n</brief>"
        answer = critique if task == "critique" else prosaic
        return row(task, f"{name}:{draw.getrandbits(32):08x}", (name,), quality, turn, answer)

    for _ in range(round(count * 0.42 / BAD_CONTEXTS / 2)):  # two bad poems share two partners
        good = [poem(), poem()]
        for name, text in (poem(), poem()):
            for task in ("critique", "autopsy", "revision_brief"):
                for _ in range(4):
                    yield alone(task, name, text, "bad")
            for partner, other in good:
                for (a, left), (b, right) in (
                    ((name, text), (partner, other)),
                    ((partner, other), (name, text)),
                ):
                    turn = f"<poem_a>\n{left}\n</poem_a>\n\n<poem_b>\n{right}\n</poem_b>"
                    pair = row("comparison", f"{a}:{b}", (a, b), "bad", turn, prosaic)
                    yield pair | {"meta": pair["meta"] | {"winner": partner}}
    for _ in range(round(count * 0.4 / GOOD_BRIEFS)):
        name, text = poem()
        for _ in range(GOOD_BRIEFS):
            yield alone("critique", name, text, "good")
    for n in range(round(count * 0.09)):
        for task in ("brief", "lesson"):
            yield row(task, f"{task}{n}", (), None, f"<{task}>\n{prose(30)}\n</{task}>", prosaic)


def floor(source: Path, folder: Path) -> Iterator[str]:
    """Every line through `json` and out again."""
    with (
        source.open(encoding="utf-8") as lines,
        (folder / "floor.jsonl").open("w", encoding="utf-8") as out,
    ):
        for line in lines:
            out.write(json.dumps(json.loads(line)) + "\n")
    yield "json loop"


def ours(source: Path, folder: Path) -> Iterator[str]:
    """All that versecraft does with them."""
    import numpy  # noqa: F401 -- its import is not a cost of the rows
    import scipy.sparse.csgraph  # noqa: F401

    from versecraft.balancing import Balancer
    from versecraft.dataset import build_dataset
    from versecraft.training_data import read_examples

    rows = list(read_examples(source))
    yield "read and validated"
    mixture = Balancer().balance(rows)
    del rows
    yield "balanced"
    split = build_dataset(mixture, role="educator")
    yield "split"
    split.write(folder / "set")
    yield "written"
    facts = mixture.report()
    held = len(split.valid) / (len(split.train) + len(split.valid))
    print(
        f"  kept {len(mixture.kept):,}, {facts['bad_share']['got']:.2%} from bad poems; "
        f"dropped {facts['dropped']}; {split.groups:,} groups, {held:.2%} held out"
    )


def measure(side: str, source: Path, folder: Path, count: int) -> None:
    """Runs one side and prints what each step cost."""
    total, last = 0.0, time.process_time()
    for step in {"floor": floor, "ours": ours}[side](source, folder):
        spent = time.process_time() - last
        total += spent
        print(f"  {step:<20}{spent / count * 1e6:8.1f} µs a row")
        last = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  {'in all':<20}{total / count * 1e6:8.1f} µs a row, peak {peak:,.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--gc-off", action="store_true")
    parser.add_argument("--side", choices=["floor", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.gc_off:
        gc.disable()
    if options.side:
        source = options.folder / "rows.jsonl"
        measure(options.side, source, options.folder, options.rows)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "rows.jsonl")
        with source.open("w", encoding="utf-8") as out:
            count = sum(bool(out.write(json.dumps(row) + "\n")) for row in made(options.rows))
        print(f"{count:,} rows, {source.stat().st_size / count:,.0f} bytes each")
        for side in ("floor", "ours"):
            print(side)
            arguments = ["--rows", str(count), "--side", side, "--folder", folder]
            arguments += ["--gc-off"] if options.gc_off else []
            subprocess.run([sys.executable, __file__, *arguments], check=True)


if __name__ == "__main__":
    main()
