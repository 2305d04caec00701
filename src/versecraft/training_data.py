"""The two sets that training data passes through: the balanced one, and the split one on disk."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from .answers import words_of
from .errors import BadInput
from .records import Dropped, Example, Record, Role, Shown, digest

if TYPE_CHECKING:
    from rich.console import RenderableType

Why = tuple[str, str]
"""A reason's short code, and the reason in words."""

SHARE_TOLERANCE = 0.005
"""How far the share of bad-derived rows may be from the one asked for: half a point."""

ARCHAIC = frozenset(
    "thee thou thy thine ye hath doth dost hast art shalt wilt tis twas o'er e'er ne'er unto oft"
    " ere".split()
)
"""Words, as `words_of` gives them, that tell a poem's period and nothing of its topic."""

_MARK = "<!-- data card written by versecraft -->"
_FILES = ("train.jsonl", "valid.jsonl", "dropped.jsonl", "README.md")


def archaic(text: str) -> frozenset[str]:
    """Which of the archaic words stand in a text."""
    return ARCHAIC.intersection(words_of(text))


class Mixture(Shown, Record):
    """The balanced set, and what was left out and why. Made by `Balancer`.

    Attributes:
        kept: Educator rows in the mix that was asked for, and all usable poet rows.
        bad_share: The share of bad-derived educator rows that was asked for.
        bad_poems: Ids of the bad poems, each in `min_tasks` or more tasks of `kept`.
        notes: What a reader of the figures should know, in sentences.
    """

    kept: tuple[Example, ...]
    dropped: tuple[Dropped, ...]
    bad_share: float
    min_tasks: int
    seed: int
    bad_poems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def report(self) -> dict[str, Any]:
        """The mix as figures: share, tasks by side, rows per bad poem, winners, models."""
        educator = [e for e in self.kept if e.role == "educator"]
        sides = Counter((e.task, "bad" if e.quality == "bad" else "good") for e in educator)
        bad = sum(n for (_, side), n in sides.items() if side == "bad")
        first = Counter(place for e in educator if (place := winner_place(e)) is not None)
        rows = Counter(p for e in educator for p in e.poem_ids)
        exposure = [rows[p] for p in self.bad_poems]
        return {
            "rows": {"educator": len(educator), "poet": len(self.kept) - len(educator)},
            "bad_share": {
                "asked": self.bad_share,
                "got": bad / len(educator) if educator else None,
                "bad": bad,
                "good": len(educator) - bad,
            },
            "tasks": {
                task: {side: sides[task, side] for side in ("bad", "good")}
                for task in sorted({task for task, _ in sides})
            },
            "bad_poems": len(self.bad_poems),
            "min_tasks": self.min_tasks,
            "rows_per_bad_poem": [min(exposure), max(exposure)] if exposure else None,
            "winner_is": {"A": first[0], "B": first[1]},
            "models": counted(e.meta.get("model") for e in self.kept),
            "dropped": counted(d.reason for d in self.dropped),
            "seed": self.seed,
            "notes": list(self.notes),
        }

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table

        facts = self.report()
        share = facts["bad_share"]
        table = Table(title="Mixture", title_justify="left")
        table.add_column("task")
        table.add_column("from bad poems", justify="right")
        table.add_column("from good", justify="right")
        for task, sides in facts["tasks"].items():
            table.add_row(task, f"{sides['bad']:,}", f"{sides['good']:,}")
        table.add_row("educator", f"{share['bad']:,}", f"{share['good']:,}", style="bold")
        if share["got"] is not None:
            table.add_row("share", f"{share['got']:.1%}", f"{1 - share['got']:.1%}")
        if facts["rows"]["poet"]:
            table.add_row("poet (no mix)", "", f"{facts['rows']['poet']:,}")
        places = facts["winner_is"]
        lines = [f"Winner is A in {places['A']:,} comparisons, B in {places['B']:,}."]
        lines += [f"Left out, {reason}: {n:,}" for reason, n in facts["dropped"].items()]
        return Group(table, *lines, *self.notes)


class Split(Shown, Record):
    """A leak-free data set: no poem, and no near copy of one, is on both sides.

    Attributes:
        dropped: All that was left out on the way here, by the `Balancer` too.
        groups: How many groups of connected poems there are.
        card: The facts of the data card: counts, mix, models, prices, seeds, prompt digests.
    """

    role: Role
    train: tuple[Example, ...]
    valid: tuple[Example, ...]
    dropped: tuple[Dropped, ...]
    groups: int
    card: Mapping[str, Any]

    def report(self) -> dict[str, Any]:
        """The facts of the data card."""
        return dict(self.card)

    @property
    def digest(self) -> str:
        """A digest of the rows as they stand on disk; not of the card."""
        train, valid = self.on_disk()
        return digest(*(row.model_dump_json() for row in (*train, *valid)), f"{len(train)}")

    def on_disk(self) -> tuple[list[Example], list[Example]]:
        """Both sides as they are written: `meta` has the same keys in all rows."""
        blank = dict.fromkeys(sorted({k for e in (*self.train, *self.valid) for k in e.meta}), "")
        return [*_uniform(self.train, blank)], [*_uniform(self.valid, blank)]

    def write(self, folder: Path | str) -> Path:
        """Writes `train.jsonl`, `valid.jsonl`, `dropped.jsonl` and the data card `README.md`.

        Each line of the first two is an `Example`; `meta` has the same keys in all of them, with
        an empty string for what is not known, so that every reader finds one schema. Files are
        written aside and then moved into place, one after another.

        Returns:
            The folder.

        Raises:
            BadInput: The folder is raw data, holds such files of somebody else, or cannot be
                written.
        """
        folder = Path(folder)
        moved: list[str] = []
        refuse_raw(folder)
        _refuse_foreign(folder)
        train, valid = self.on_disk()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=folder, prefix=".writing-") as aside:
                _write_lines(Path(aside, "train.jsonl"), train)
                _write_lines(Path(aside, "valid.jsonl"), valid)
                _write_lines(Path(aside, "dropped.jsonl"), self.dropped)
                Path(aside, "README.md").write_text(_readme(self), encoding="utf-8")
                for name in _FILES:
                    os.replace(Path(aside, name), folder / name)
                    moved.append(name)
        except OSError as error:
            left = (
                f"New there: {', '.join(moved)}; the rest is as it was. Do not train on the two."
                if moved
                else "What was there is as it was."
            )
            raise BadInput(
                f"The data set cannot be written to {folder}: {error.strerror or error}. {left} "
                "Make room or close what holds the files, and write again, or choose another "
                "folder."
            ) from error
        return folder

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table

        table = Table(title=f"Split for the {self.role}", title_justify="left")
        for name in ("task", "quality"):
            table.add_column(name)
        for name in ("train", "valid"):
            table.add_column(name, justify="right")
        for row in self.card["counts"]:
            table.add_row(row["task"], row["quality"], f"{row['train']:,}", f"{row['valid']:,}")
        table.add_row("all", "", f"{len(self.train):,}", f"{len(self.valid):,}", style="bold")
        lines = [
            f"{self.groups:,} groups; kind purity {self.card['kind_purity']:.2%}; "
            f"tokens by {self.card['tokens']['by']}."
        ]
        lines += [f"Left out, {reason}: {n:,}" for reason, n in self.card["dropped"].items()]
        return Group(table, *lines, *self.card["notes"])


def read_split(folder: Path | str) -> Split:
    """The data set in a folder that `Split.write` filled.

    Raises:
        BadInput: There is none, or it cannot be read; names file and line.
    """
    folder = Path(folder)
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    facts = re.search(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    if _MARK not in text or not facts:
        raise BadInput(
            f"{folder} holds no data set of versecraft. Make one with: versecraft balance, or "
            "versecraft balance --role poet."
        )
    train, valid = (tuple(read_examples(folder / f"{side}.jsonl")) for side in ("train", "valid"))
    if not train:
        raise BadInput(f"{folder} has no row to train on. Make the data set again.")
    found = json.loads(facts[1])
    return Split(
        role=train[0].role,
        train=train,
        valid=valid,
        dropped=(),
        groups=found.get("groups", 0),
        card=found,
    )


def read_examples(path: Path | str) -> Iterator[Example]:
    """The examples in a JSONL file, such as the `train.jsonl` of a data set, one at a time.

    Raises:
        BadInput: A line is not an example; names file and line.
    """
    with Path(path).open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield Example.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"])) or "the line"
                raise BadInput(
                    f"{path}, line {number}, is not an example: {where}: {first['msg']}. Write the "
                    "file again, or take the line out."
                ) from error


def turn_of(example: Example) -> str:
    """The user message of an example."""
    return example.messages[-2].content


def answer_of(example: Example) -> str:
    """What the model is to answer: the last message of an example."""
    return example.messages[-1].content


def seeded(examples: Iterable[Example], seed: int) -> list[Example]:
    """The examples in an order that depends on the seed and on what they say, on nothing else.

    Raises:
        BadInput: An example does not end with a user turn and its answer.
    """

    def key(e: Example) -> tuple[str, str, str]:
        if [m.role for m in e.messages[-2:]] != ["user", "assistant"]:
            raise BadInput(
                f"The {e.task} example {e.item_id} does not end with a user turn and its answer. "
                "Make examples with the task's own examples()."
            )
        name = digest(str(seed), e.task, e.item_id, answer_of(e))
        return name, turn_of(e), repr(sorted(e.meta.items()))

    return sorted(examples, key=key)


def winner_place(example: Example) -> int | None:
    """Where the winner of a comparison stands: 0 for A, 1 for B; None where nobody wins."""
    winner = example.meta.get("winner")
    return example.poem_ids.index(winner) if winner in example.poem_ids else None


def counted(values: Iterable[str | None]) -> dict[str, int]:
    """How often each value occurs, the most frequent first; `unknown` for what is not said."""
    counts = Counter(value or "unknown" for value in values)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def refuse_raw(folder: Path) -> None:
    """Refuses to write into the user's own data, be it through a link.

    Raises:
        BadInput: The folder is in `data/raw` or `data/processed`.
    """
    # The last `data` is the workspace's own; one further up is where the user keeps workspaces.
    within = folder.resolve().as_posix().lower().rpartition("/data/")[2]
    if within.split("/")[0] in ("raw", "processed"):
        raise BadInput(
            f"{folder} is inside the user's own data ({folder.resolve()}), which is never written. "
            "Choose another folder, such as data/educator_training."
        )


def _refuse_foreign(folder: Path) -> None:
    card = folder / "README.md"
    ours = card.is_file() and _MARK in card.read_text(encoding="utf-8", errors="replace")
    found = [name for name in _FILES if (folder / name).exists()]
    if found and not ours:
        raise BadInput(
            f"{folder} holds {found[0]}, which versecraft did not write there. Move it away, or "
            "choose another folder."
        )


def _uniform(examples: Iterable[Example], blank: Mapping[str, str]) -> Iterator[Example]:
    for example in examples:
        known = {key: value for key, value in example.meta.items() if value is not None}
        yield example.model_copy(update={"meta": {**blank, **known}})


def _write_lines(path: Path, records: Iterable[Record]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(record.model_dump_json() + "\n" for record in records)


_CARD = """\
---
{head}
---
{mark}
# Training data for the {role}

{train:,} rows to train on and {valid:,} held out, in {groups:,} groups: no poem, and no near copy
of one, is on both sides. Made with versecraft {version}; seeds: {seeds}.

**What is synthetic:** all assistant turns, and the briefs and critiques inside user turns, were
written by those named under "answered by". Poems inside user turns are the corpus's own, or drafts
written by the same answerers.

## Rows

| task | poem | train | valid |
| --- | --- | ---: | ---: |
{counts}

{mix}

## Where it comes from

| | |
| --- | --- |
| answered by | {models} |
| licences | {licences} |
| paid for the answers | {cost} |
| personas (digest) | {personas} |
| prompts as installed when this was made (digests of turn, guide) | {prompts} |

{terms}## Left out

{dropped}

{where} Kind purity, the share of rows that are what they claim to be: {purity:.2%}.

## Length

Tokens counted by {by}: median {median:,}, longest {longest:,}, cap {cap:,} a row{brief}. Longer
rows are left out, never cut.
{notes}
## Loading

```python
from datasets import load_dataset

data = load_dataset({load})
```

`messages` is what TRL and chat templates read: system, user, assistant. Train on the assistant turn
only. `meta` is where a row comes from; an empty string there means that it is not known.

## All figures

```json
{facts}
```
"""


def _readme(split: Split) -> str:
    sides = {"train": "train.jsonl"} | ({"validation": "valid.jsonl"} if split.valid else {})
    files = ", ".join(f'"{side}": "{name}"' for side, name in sides.items())
    return data_card(
        split,
        head=f"language: en\ntags: [poetry, synthetic]\n{data_files(sides)}",
        mark=_MARK,
        where="Every one, with its reason, is in `dropped.jsonl`.",
        load=f'"json", data_files={{{files}}}',
    )


def data_files(sides: Mapping[str, str]) -> str:
    """The part of a card's header that says which file is which side, as YAML."""
    files = "\n".join(f"  - split: {side}\n    path: {name}" for side, name in sides.items())
    return f"configs:\n- config_name: default\n  data_files:\n{files}"


def data_card(split: Split, *, head: str, mark: str, where: str, load: str, terms: str = "") -> str:
    """The data card as Markdown.

    Args:
        split: Whose facts it tells.
        head: The YAML header, without its fences.
        mark: The comment by which the folder is known again.
        where: A sentence on where the rows are that were left out.
        load: The arguments of `load_dataset`.
        terms: A section on licences, where there is one.
    """
    card = split.card
    share, tokens = card["bad_share"], card["tokens"]
    return _CARD.format(
        head=head,
        mark=mark,
        where=where,
        load=load,
        terms=f"{terms}\n" if terms else "",
        role=split.role,
        train=len(split.train),
        valid=len(split.valid),
        groups=split.groups,
        version=card["versecraft"],
        seeds=", ".join(f"{what} {n}" for what, n in card["seeds"].items()),
        counts="\n".join(
            f"| {row['task']} | {row['quality']} | {row['train']:,} | {row['valid']:,} |"
            for row in card["counts"]
        ),
        mix=""
        if share["train"] is None
        else f"From bad poems: {share['train']:.1%} of the rows to train on"
        + ("" if share["valid"] is None else f", {share['valid']:.1%} of those held out")
        + f"; {share['asked']:.0%} was asked for.",
        models=_listed(card["models"]),
        licences=_listed(card["licences"]),
        cost="not recorded" if card["cost"] is None else f"${card['cost']:.2f}",
        personas=_listed(card["personas"]),
        prompts="; ".join(
            f"{task} {turn}, {guide or 'no guide'}"
            for task, (turn, guide) in card["prompts"].items()
        )
        or "none of these tasks is installed",
        dropped="\n".join(f"* {reason}: {n:,}" for reason, n in card["dropped"].items())
        or "Nothing.",
        purity=card["kind_purity"],
        by=tokens["by"],
        median=tokens["median"],
        longest=tokens["longest"],
        cap=tokens["cap"],
        brief=f", {tokens['brief_cap']:,} a brief" if split.role == "poet" else "",
        notes="".join(f"\n**Note:** {note}\n" for note in card["notes"]),
        facts=json.dumps(card, indent=1, ensure_ascii=False),
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({n:,})" for name, n in counts.items()) or "none"
