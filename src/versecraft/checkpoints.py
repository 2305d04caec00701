"""The folder that training fills: held by one process, for one training, whole or not yet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .cards import readme
from .errors import BadInput
from .trainers import facts_in

__all__ = ["claimed", "has_finished", "write_whole"]


def has_finished(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Whether this very training has finished in a folder.

    Raises:
        BadInput: The folder belongs to another training, or to something else.
    """
    found = facts_in(folder)
    if found is None and folder.is_dir() and any(p.name[0] != "." for p in folder.iterdir()):
        raise BadInput(
            f"{folder} holds files that no versecraft trainer wrote. Give an empty folder, or one "
            "that is not there yet."
        )
    if any(a.name == "data" and b.name in ("raw", "processed") for a, b in _parents(folder)):
        raise BadInput(f"{folder} is inside the user's own data. Give another folder.")
    differ = [*_differences(found, facts)] if found else []
    if differ:
        raise BadInput(
            f"{folder} belongs to another training; it had another {', '.join(differ)}. Give "
            "another folder, or remove this one to begin anew."
        )
    return bool(found and found["finished"])


@contextmanager
def claimed(folder: Path, facts: Mapping[str, Any]) -> Iterator[None]:
    """Holds a folder against other processes; its card says that training has not finished.

    Raises:
        BadInput: Another process is training into it.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            if not has_finished(folder, facts):
                write_whole(folder / "README.md", readme(facts))
            yield
    except Timeout:
        raise BadInput(
            f"Another process is training into {folder}. Wait until it ends, or give another "
            "folder."
        ) from None


def _parents(folder: Path) -> Iterator[tuple[Path, Path]]:
    whole = [folder.resolve(), *folder.resolve().parents]
    return zip(whole[1:], whole, strict=False)


def _differences(found: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[str]:
    """The names of what is not as it was."""
    yield from (name for name in ("role", "trainer", "base", "data") if found[name] != facts[name])
    there, here = found["settings"], facts["settings"]
    yield from (name for name in here if there.get(name) != here[name])


def write_whole(path: Path, text: str) -> None:
    """Writes a file aside and moves it into place, so that it is never there in part."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.replace(part, path)
