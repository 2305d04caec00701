"""An earlier project: which of its poems can be taken over, and why its rows cannot, line by line.

Nothing in the old folder is ever changed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from .answers import Answer
from .corpus import read_corpus
from .errors import BadInput
from .firewall import foreign, untrue_brief
from .formats import read_file
from .kinds import Kind
from .plugins import get_task, list_tasks
from .records import Dropped, Example, Message, Poem, PoemItem, Record, Shown
from .workspace import Settings, Workspace

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["OldFile", "OldProject", "look_at", "take_over"]

_LISTS = ("requests.txt", "questions.txt")
_ASKED = ("prompt", "brief", "instruction", "input", "query", "question", "request")
_SAID = ("completion", "response", "output", "answer", "target", "critique", "poem", "text")
_POEM = ("poem", "poem_text", "text", "draft")


class OldFile(Record):
    """A file of old rows.

    Attributes:
        lines: How many there are, blank ones not counted.
        passing: How many of them pass today's checks.
        refused: How many do not, by reason; with `passing`, all lines.
    """

    file: str
    lines: int
    passing: int
    refused: Mapping[str, int]


class OldProject(Shown, Record):
    """What there is in an earlier project.

    Attributes:
        poems: How many poems of each quality `data/raw` has.
        dropped: What is there besides and is not taken for a poem, by reason.
        trouble: Why `data/raw` cannot be read; None when it can.
        take: The files that hold the poems, and the lists of requests and questions.
        processed: How many texts `data/processed` has, and how many of them are in `data/raw`.
        files: The old rows.
        leave: What an earlier attempt left that has no use here.
    """

    folder: str
    poems: Mapping[str, int]
    dropped: Mapping[str, int]
    trouble: str | None
    take: tuple[str, ...]
    processed: Mapping[str, int]
    files: tuple[OldFile, ...]
    leave: tuple[str, ...]

    def report(self) -> dict[str, Any]:
        """The same as plain values."""
        return self.model_dump(mode="json")

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table

        poems = Table(title=f"Poems in {self.folder}/data/raw", title_justify="left")
        poems.add_column("what")
        poems.add_column("count", justify="right")
        for name, count in self.poems.items():
            poems.add_row(f"{name} poems, can be kept", f"{count:,}")
        for reason, count in self.dropped.items():
            poems.add_row(f"left out, {reason}", f"{count:,}")
        rows = Table(title="Old rows", title_justify="left")
        rows.add_column("file", overflow="fold")
        for name in ("lines", "pass"):
            rows.add_column(name, justify="right")
        rows.add_column("the rest", overflow="fold")
        for file in self.files:
            rest = "; ".join(f"{reason}: {count:,}" for reason, count in file.refused.items())
            rows.add_row(file.file, f"{file.lines:,}", f"{file.passing:,}", rest)
        shown: list[RenderableType] = [poems]
        if self.trouble:
            shown.append(f"The poems cannot be read: {self.trouble}")
        if self.processed["texts"]:
            shown.append(
                f"data/processed has {self.processed['texts']:,} texts, of which "
                f"{self.processed['in raw']:,} are in data/raw. It is not needed: versecraft reads "
                "data/raw."
            )
        shown.append(rows if self.files else "There are no old rows (.jsonl).")
        if self.files:
            shown.append(
                "Old rows are not taken over: training rows are made anew from answers to today's "
                "prompts, so that a model is asked as it was trained."
            )
        if self.leave:
            shown.append(f"Of no use here: {', '.join(self.leave)}. Clear away: versecraft reset")
        return Group(*shown)


def look_at(old: str | Path) -> OldProject:
    """What an earlier project has: poems to keep, and old rows held against today's checks.

    Rows are looked for in every `.jsonl` file that is not in `data/raw`, `data/processed` or a
    hidden folder.

    Raises:
        BadInput: There is no such folder.
    """
    root = Path(old).expanduser().resolve()
    if not root.is_dir():
        raise BadInput(f"{root} is no folder. Give the folder of the earlier project.")
    raw = root / "data" / "raw"
    trouble = None
    poems: tuple[Poem, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    try:
        corpus = read_corpus(raw)
        poems, dropped = corpus.poems, corpus.dropped
    except BadInput as error:
        trouble = str(error)
    lists = [name for name in _LISTS if poems and (raw / name).is_file()]
    return OldProject(
        folder=root.name,
        poems={side: sum(p.quality == side for p in poems) for side in ("good", "bad")},
        dropped=dict(Counter(d.reason for d in dropped).most_common()),
        trouble=trouble,
        take=tuple(sorted({p.file for p in poems if p.file} | set(lists))),
        processed=_processed(root / "data" / "processed", {p.id for p in poems}),
        files=tuple(_old_file(root, file) for file in _row_files(root)),
        leave=tuple(path for path in Settings().reset.paths if (root / path).exists()),
    )


def take_over(
    found: OldProject, old: str | Path, workspace: Workspace
) -> tuple[list[str], list[str]]:
    """Copies the poems' files into a workspace's `data/raw`; what is there already stays.

    Returns:
        The files that were copied, and those that were left since others of that name are there.

    Raises:
        BadInput: The workspace is the old folder, or one holds the other.
    """
    source, target = Path(old).expanduser().resolve() / "data" / "raw", workspace.raw.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        raise BadInput(
            f"{source} is the workspace's own folder: its poems are where they belong. Clear away "
            "the rest with: versecraft reset"
        )
    copied, left = [], []
    for name in found.take:
        there = target / name
        if there.exists():
            left.append(name)
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        aside = there.with_name(f".{there.name}.part")
        shutil.copyfile(source / name, aside)
        os.replace(aside, there)
        copied.append(name)
    return copied, left


def _processed(folder: Path, known: set[str]) -> dict[str, int]:
    texts = in_raw = 0
    for file in sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else ():
        for found in read_file(file, file.name):
            if not isinstance(found, Dropped) and found.text.strip():
                texts += 1
                in_raw += Poem(text=found.text, quality="good").id in known
    return {"texts": texts, "in raw": in_raw}


def _row_files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = sorted(
            name for name in folders
            if not name.startswith(".")
            and (here / name).as_posix() not in ("data/raw", "data/processed")
        )  # fmt: skip
        yield from (root / here / name for name in sorted(names) if name.endswith(".jsonl"))


def _old_file(root: Path, file: Path) -> OldFile:
    name = file.relative_to(root).as_posix()
    reasons: Counter[str] = Counter()
    with file.open("rb") as lines:
        for line in lines:
            if line.strip():
                reasons[_refusal(line, name) or ""] += 1
    passing = reasons.pop("", 0)
    return OldFile(
        file=name,
        lines=passing + reasons.total(),
        passing=passing,
        refused=dict(reasons.most_common()),
    )


# One row. Its shape is guessed from its keys; what a row is for, from its file and its answer.


def _refusal(line: bytes, file: str) -> str | None:
    """The reason why an old row is no training row of today, or None."""
    try:
        row = json.loads(line)
    except ValueError:
        return "no JSON"
    if not isinstance(row, dict):
        return "no record"
    asked, said, key = _parts(row)
    if not said:
        return "no answer that can be told by its key"
    if not asked:
        return "no prompt beside its answer"
    try:
        if "poet" in file or key == "poem":
            return _poets(asked, said)
        return _educators(row, asked, said)
    except ValueError as error:  # of records: a text that none of them takes
        return str(error).splitlines()[0]


def _parts(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """What was asked, what was said, and the key that this stood under."""
    messages = row.get("messages") or row.get("conversations")
    if isinstance(messages, list):
        turns = [
            (m.get("role") or m.get("from"), m.get("content") or m.get("value"))
            for m in messages if isinstance(m, dict)
        ]  # fmt: skip
        asked = [text for role, text in turns if role in ("user", "human")]
        said = [text for role, text in turns if role in ("assistant", "gpt")]
        return _text(asked[-1:]), _text(said[-1:]), "messages"
    said_key = next((key for key in _SAID if row.get(key)), "")
    asked_key = next((key for key in (*_ASKED, *_POEM) if row.get(key) and key != said_key), "")
    return _text([row.get(asked_key)]), _text([row.get(said_key)]), said_key


def _text(values: list[Any]) -> str:
    value = values[0] if values else None
    return value if isinstance(value, str) else json.dumps(value) if value else ""


def _poets(asked: str, said: str) -> str | None:
    row = _example("poem", "poet", asked, said)
    if why := foreign(row):
        return "the answer is not a poem alone" if why[0] == "not_poem" else why[0]
    if why := untrue_brief(row):
        return "the brief is not in today's form" if why[0] == "brief_unread" else why[0]
    return None


def _educators(row: Mapping[str, Any], asked: str, said: str) -> str | None:
    task, result = _task_of(said)
    if task is None or result is None:
        return "prose, or JSON that no task answers today"
    if why := foreign(_example(task.name, "educator", asked, said)):
        return why[0]
    poem = next((row[key] for key in _POEM if isinstance(row.get(key), str)), None)
    if issubclass(PoemItem, task.input):
        if poem is None:
            return "its poem is not in it, so its quotations cannot be checked"
        item = PoemItem(poem=Poem(text=poem, quality="good"))
        if task.accept(item, task.read(item, said)):
            return f"does not pass the checks of {task.name}"
        if asked != task.prompt.render_turn(item.variables()):
            return "asked with another prompt than today's"
    elif not asked.startswith("Task: "):
        return "asked with another prompt than today's"
    return None


def _task_of(said: str) -> tuple[Any, Answer | None]:
    for task in list_tasks():
        if not task.output.bare:
            try:
                return task, task.output.model_validate_json(said)
            except ValidationError:
                continue
    return None, None


def _example(task: str, role: Any, asked: str, said: str) -> Example:
    return Example(
        task=task,
        role=role,
        kind=Kind(get_task(task).kind),
        item_id="old",
        poem_ids=(),
        quality=None,
        messages=(
            Message(role="system", content="-"),
            Message(role="user", content=asked),
            Message(role="assistant", content=said),
        ),
    )
