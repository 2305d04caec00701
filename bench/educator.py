"""Two models asked the same held-out prompts: does the trained one do the tasks better?

    python bench/educator.py demo gguf:models/educator-v1.gguf [--base embedded] [--prompts 30]

The prompts are those of `data/educator_training/valid.jsonl` in the workspace. Where these are
fewer than `--prompts`, the tasks take turns in adding one of which neither the prompt nor a poem
is in `train.jsonl`: poems, pairs and requests that were left out of the set, and questions that
ship with versecraft.

Each prompt is asked once, with the persona as system prompt and without a second chance, in two
ways: free, at most `--tokens` tokens, and held by the grammar of the task's schema. Counted are
answers that

    json      are JSON of any kind,
    task      fit the schema of one task, and it is the right one,
    accepted  are what the task would keep: the schema, and its own check of the content,
    cut       did not end by themselves,

and the quotations of which the words stand in the poem, in JSON or not. A lesson's are from
anywhere and are not counted. Of an answer that was cut nothing is seen. With `--into` the answers
are kept, and not asked again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import textwrap
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

import versecraft as vc
from versecraft.answers import locate
from versecraft.backends import Request
from versecraft.errors import BackendError
from versecraft.phases import Project, steps
from versecraft.records import PairItem, QuestionItem
from versecraft.training_data import read_split, turn_of

SEED = 7
QUOTE = re.compile(r'"(?:[ab]_)?quote"\s*:\s*"((?:[^"\\]|\\.)*)"')
FIGURES = ("json", "task", "accepted", "quotes", "cut", "tokens")


@dataclass(frozen=True)
class Prompt:
    """One item of a task, and whether it comes from valid.jsonl."""

    task: Any
    item: vc.Item
    turn: str
    held: bool


@dataclass(frozen=True)
class Said:
    """What came back; `cut` where the model did not end by itself."""

    text: str
    tokens: int
    cut: bool


def prompts(place: vc.Workspace, count: int) -> list[Prompt]:
    """The held-out prompts, and others that the training never saw until there are `count`."""
    project, data = Project(place), read_split(place.data_set("educator"))
    seen = {name for row in data.train for name in row.poem_ids}
    trained = {turn_of(row) for row in data.train}
    held = {turn_of(row) for row in data.valid}
    found: list[Prompt] = []
    spare: dict[str, list[Prompt]] = defaultdict(list)
    known: set[str] = set()
    for task, item in candidates(project, seen):
        turn = task.prompt.render_turn(item.variables())
        if turn in known or turn in trained:
            continue
        known.add(turn)
        one = Prompt(task, item, turn, turn in held)
        if one.held:
            found.append(one)
        elif seen.isdisjoint(poem.id for poem in item.poems):
            spare[task.name].append(one)
    while len(found) < count and any(spare.values()):
        found += [of_task.pop(0) for of_task in spare.values() if of_task][: count - len(found)]
    return sorted(found, key=lambda p: p.task.name)


def candidates(project: Project, seen: set[str]) -> Iterator[tuple[Any, vc.Item]]:
    for step in steps():
        task = vc.get_task(step.task)
        if task.role == "educator":
            yield from ((task, item) for item in project.items(step))
    corpus = project.corpus
    good, bad = ([p for p in side if p.id not in seen] for side in (corpus.good, corpus.bad))
    for n, (one, other) in enumerate(product(good, bad)):
        a, b = (one, other) if n % 2 else (other, one)
        yield vc.get_task("comparison"), PairItem(a=a, b=b, shares_topic=False)
    shipped = Path(vc.__file__).parent / "data" / "questions.txt"
    for line in shipped.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield vc.get_task("lesson"), QuestionItem(question=line.strip())


def ask(place: vc.Workspace, spec: str, asked: list[Request], threads: int) -> list[Said]:
    """Each request once, as many together as the backend takes."""

    async def main() -> list[Said]:
        local = spec == "embedded" or spec.startswith("gguf:")
        backend: Any = place.backend(spec, **({"threads": threads} if local else {}))
        gate = asyncio.Semaphore(backend.concurrency)

        async def one(request: Request) -> Said:
            async with gate:
                try:
                    reply = await backend.complete(request)
                except BackendError as error:
                    if error.kind != "truncated":
                        raise
                    used = error.usage.output if error.usage else 0
                    return Said("", used, True)
                return Said(reply.text, reply.usage.output, False)

        try:
            return await asyncio.gather(*map(one, asked))
        finally:
            await backend.aclose()

    return asyncio.run(main())


def request(place: vc.Workspace, spec: str, prompt: Prompt, aside: str) -> Request:
    """What `generate` would send a model that was trained here."""
    plan = vc.plan(
        prompt.task,
        [prompt.item],
        place.backend(spec),
        ledger=Path(aside) / "none.jsonl",
        system="persona",
        seed=SEED,
    )
    return plan.request(plan.jobs[0])


def answers(
    place: vc.Workspace, spec: str, asked: list[Prompt], way: str, limits: argparse.Namespace
) -> list[Said]:
    """The answers, from a file of an earlier call if it has them."""
    into, free = limits.into, way == "free"
    key = [place.backend(spec).id, way, limits.tokens if free else 0, [p.turn for p in asked]]
    file = into / f"{re.sub(r'[^a-zA-Z0-9]+', '-', spec).strip('-')}-{way}.json"
    if file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return [Said(**said) for said in kept["said"]]
    with TemporaryDirectory() as aside:
        sent = [request(place, spec, prompt, aside) for prompt in asked]
    if free:
        sent = [replace(one, schema=None, max_tokens=limits.tokens) for one in sent]
    begun = time.monotonic()
    said = ask(place, spec, sent, limits.threads)
    seconds = time.monotonic() - begun
    print(f"{spec}, {way}: {sum(s.tokens for s in said):,} tokens in {seconds:.0f} s", flush=True)
    into.mkdir(parents=True, exist_ok=True)
    kept = json.dumps({"key": key, "said": [asdict(s) for s in said]}, ensure_ascii=False)
    file.write_text(kept, encoding="utf-8")
    return said


def figures(prompt: Prompt, said: Said) -> dict[str, tuple[int, int]]:
    """Hits and tries of each figure."""
    try:
        json.loads(said.text)
        is_json = True
    except ValueError:
        is_json = False
    fits = [task.name for task in vc.list_tasks() if task.role == "educator" and fit(task, said)]
    accepted = False
    if prompt.task.name in fits:
        result = prompt.task.read(prompt.item, said.text)
        accepted = prompt.task.accept(prompt.item, result) is None
    poems = [poem.text for poem in prompt.item.poems]
    quotes = [unescaped(q) for q in QUOTE.findall(said.text)] if poems else []
    real = sum(any(locate(q, poem) is not None for poem in poems) for q in quotes)
    return {
        "json": (is_json, 1),
        "task": (fits == [prompt.task.name], 1),
        "accepted": (accepted, 1),
        "quotes": (real, len(quotes)),
        "cut": (said.cut, 1),
        "tokens": (said.tokens, 1),
    }


def unescaped(quote: str) -> str:
    try:
        return str(json.loads(f'"{quote}"'))
    except ValueError:
        return quote


def fit(task: Any, said: Said) -> bool:
    try:
        task.output.model_validate_json(said.text)
    except ValidationError:
        return False
    return True


def table(asked: list[Prompt], sides: dict[str, list[Said]]) -> None:
    print(f"\n{'task':15} {'side':22}" + "".join(f"{name:>10}" for name in FIGURES))
    names = sorted({p.task.name for p in asked})
    for name in [*names, "all"]:
        for side, said in sides.items():
            rows = [
                figures(p, s)
                for p, s in zip(asked, said, strict=True)
                if name in ("all", p.task.name)
            ]
            cells = []
            for figure in FIGURES:
                hits, tries = (sum(row[figure][i] for row in rows) for i in (0, 1))
                mean = f"{hits / max(1, tries):.0f}"
                cells.append(mean if figure == "tokens" else f"{hits}/{tries}")
            print(f"{name:15} {side:22}" + "".join(f"{cell:>10}" for cell in cells))


def side_by_side(asked: list[Prompt], sides: dict[str, list[Said]], count: int) -> None:
    chosen: dict[str, int] = {}
    for n, prompt in enumerate(asked):
        chosen.setdefault(prompt.task.name, n)
    for n in list(chosen.values())[:count]:
        about = asked[n].item.poems[0].text if asked[n].item.poems else asked[n].turn
        print(f"\n== {asked[n].task.name}: {about.splitlines()[0][:60]} …")
        for side, said in sides.items():
            one = said[n]
            text = " ".join(one.text.split()) or "(cut; nothing is handed out)"
            print(f"-- {side}, {one.tokens} tokens")
            print(textwrap.fill(text if len(text) <= 420 else f"{text[:420]} …", 98))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("trained", nargs="?", help="a backend's spec; without, only the base")
    parser.add_argument("--base", default="embedded")
    parser.add_argument("--prompts", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=600, help="of a free answer, at most")
    parser.add_argument("--threads", type=int, default=1, help="of a model in this process")
    parser.add_argument("--into", type=Path, help="a folder to keep the answers in")
    parser.add_argument("--ways", nargs="+", choices=("free", "held"), default=["free", "held"])
    args = parser.parse_args()
    place = vc.Workspace.open(args.workspace)
    asked = prompts(place, args.prompts)
    held = sum(p.held for p in asked)
    print(f"{len(asked)} prompts, {held} of valid.jsonl", flush=True)
    sides: dict[str, list[Said]] = {}
    with TemporaryDirectory() as aside:
        args.into = args.into or Path(aside)
        for way in args.ways:
            for name, spec in (("base", args.base), ("trained", args.trained)):
                if spec:
                    sides[f"{name}, {way}"] = answers(place, spec, asked, way, args)
    table(asked, sides)
    side_by_side(asked, sides, 5)


if __name__ == "__main__":
    main()
