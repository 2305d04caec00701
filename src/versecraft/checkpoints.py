"""The folder that training fills: held by one process, for one training, whole or not yet."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .bases import gguf_of
from .errors import BadInput
from .trainers import facts_in

__all__ = [
    "SAVED", "base_digest", "card_digest", "claimed", "exported_from", "has_finished", "learnt",
    "move_whole", "sampled_digest", "whole_checkpoints", "write_whole",
]  # fmt: skip

SAVED = "saved.json"
"""In a checkpoint: it is whole, and how long it took to get there."""

_HEAD, _STRIDE, _SAMPLE = 1 << 22, 1 << 20, 1 << 12  # bytes; what a file's digest is made of


def has_finished(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Whether this very training has finished in a folder.

    Where another one began and left nothing that can be gone on from, the folder is free.

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
    if found and differ and (found["finished"] or whole_checkpoints(folder)):
        raise BadInput(
            f"{folder} belongs to another training; it had another {', '.join(differ)}. Give "
            "another folder, or remove this one to begin anew."
        )
    return bool(found and found["finished"])


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Makes a folder and holds it against other processes while training fills it.

    Raises:
        BadInput: Another process is training into it, or a file cannot be read or written.
    """
    from filelock import FileLock, Timeout
    from safetensors import SafetensorError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise BadInput(
            f"Another process is training into {folder}. Wait until it ends, or give another "
            "folder."
        ) from None
    except (OSError, SafetensorError) as error:
        raise BadInput(
            f"Training into {folder} stopped: {error}. Make room on the disk, or mend what this "
            "names, and call train again with the same arguments: it goes on where it can."
        ) from error


def whole_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints that training can go on from, the newest last."""
    found = (file.parent for file in folder.glob(f"checkpoints/checkpoint-*/{SAVED}"))
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def base_digest(base: str) -> str | None:
    """A cheap digest of a base's weights, which others change; None where they are on the hub.

    Raises:
        BadInput: There is no such base.
        MissingExtra: The embedded model is not installed.
    """
    gguf = gguf_of(base)
    if gguf:
        return sampled_digest(gguf)
    folder = Path(base).expanduser()
    if not folder.is_dir():
        return None
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin"))
    named = "".join(f"{file.name} {sampled_digest(file)}\n" for file in files)
    return hashlib.sha256(named.encode()).hexdigest()


def sampled_digest(path: Path) -> str:
    """A digest of a file's size, its first 4 MB, and 4 KB of each other MB: new weights change it.

    Raises:
        BadInput: The file cannot be read.
    """
    try:
        size = path.stat().st_size
        found = hashlib.sha256(str(size).encode())
        with path.open("rb") as file:
            found.update(file.read(_HEAD))
            for start in range(_HEAD, size, _STRIDE):
                file.seek(start)
                found.update(file.read(_SAMPLE))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Give another file.") from error
    return found.hexdigest()


def card_digest(folder: Path) -> str | None:
    """The digest of a checkpoint's card, which its GGUF holds; None where there is no card."""
    card = folder / "README.md"
    return hashlib.sha256(card.read_bytes()).hexdigest() if card.is_file() else None


def learnt(gguf: Path) -> frozenset[str]:
    """The tasks that a GGUF which `export` wrote was trained on; none where it did not."""
    # As below: type and length of the value come before it.
    found = re.search(rb"versecraft\.tasks.{12}([\w,/]*)", _head(gguf), re.DOTALL)
    return frozenset(found[1].decode().split(",")) - {""} if found else frozenset()


def exported_from(gguf: Path) -> str | None:
    """The digest of the checkpoint's card that `export` wrote into a GGUF; None without one."""
    # After the key: the type of its value (4 bytes), its length (8), the value.
    found = re.search(rb"versecraft\.card_sha256.{12}([0-9a-f]{64})", _head(gguf), re.DOTALL)
    return found[1].decode() if found else None


def _head(gguf: Path) -> bytes:
    if not gguf.is_file():
        return b""
    with gguf.open("rb") as file:
        return file.read(2**25)


def _parents(folder: Path) -> Iterator[tuple[Path, Path]]:
    whole = [folder.resolve(), *folder.resolve().parents]
    return zip(whole[1:], whole, strict=False)


def _differences(found: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[str]:
    """The names of what is not as it was."""
    yield from (name for name in ("role", "trainer", "base", "data") if found[name] != facts[name])
    if found.get("base_digest", facts["base_digest"]) != facts["base_digest"]:
        yield "base (other weights under the same name)"
    there, here = found["settings"], facts["settings"]
    yield from (name for name in here if there.get(name) != here[name])


def write_whole(path: Path, text: str) -> None:
    """Writes a file aside and moves it into place, so that it is never there in part."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    move_whole(part, path)


def move_whole(part: Path, path: Path) -> None:
    """Moves a file into place once it is on the disk, so that not even a power cut halves it."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
