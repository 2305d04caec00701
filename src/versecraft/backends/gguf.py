"""Models in GGUF files, run in this process by llama.cpp; a small one comes as a wheel."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..bases import embedded_gguf
from ..checkpoints import sampled_digest
from ..decoding import Engine, Settings
from ..errors import BadInput, MissingExtra
from ..hookspecs import hookimpl
from . import Backend, Reply, Request

__all__ = ["GGUF", "embedded"]


class GGUF:
    """Asks a model in a GGUF file, in this process, with llama.cpp.

    The chat template is the file's own. What a message says is data: a poem that holds a control
    token of the model stays a poem. An answer's schema becomes a grammar, so that each answer is
    JSON of that schema and each quotation stands in the turn's poem (`decoding.grammar_of`).

    Requests in flight are decoded together, a token each at a time; a new one joins as soon as
    another ends. What a prompt shares with an earlier one, such as guide or persona, is evaluated
    once. The weights are loaded with the first request, once per process and file, and given back
    by `aclose`, which each run calls, and at exit.

    Each draw is another one, unless the request has a seed. Then it depends on this seed, the
    turn, and how often it was asked before, by this object or with the reason why an answer was
    refused: a retry draws anew, and the same requests in the same order give a new object, or
    process, the same answers. (Together with others a request is added up in another order, so at
    `concurrency` above 1 a draw may differ where requests come in another order.)

    Args:
        path: The file.
        context: Tokens that a prompt and its answer may have together; at most what the model was
            trained for.
        threads: CPU threads; None is one for each core.
        gpu_layers: Layers to put on the GPU; -1 for all. Needs a build of llama.cpp with one.
        concurrency: Requests decoded together.
        temperature: 0 always takes the likeliest token.
        timeout: Seconds for one attempt as a whole.

    Raises:
        MissingExtra: llama-cpp-python is not installed.
        BadInput: The file is not there or no GGUF, or an option is out of range.
    """

    price = None

    def __init__(
        self,
        path: str | Path,
        *,
        context: int = 8192,
        threads: int | None = None,
        gpu_layers: int = 0,
        concurrency: int = 4,
        temperature: float = 0.7,
        timeout: float = 300.0,
    ) -> None:
        if find_spec("llama_cpp") is None:
            raise MissingExtra("Running a GGUF in this process", "local")
        self.path = Path(path).resolve()
        if not (context > 0 and concurrency > 0 and temperature >= 0):
            raise BadInput(
                f"context={context}, concurrency={concurrency}, temperature={temperature}: give "
                "tokens above 0, 1 or more requests, and a temperature of 0 or more."
            )
        digest = _digest(self.path)
        self.name = f"{self.path.name}@{digest[:8]}"
        self.id = f"gguf:{self.path.name}@{digest[:16]};temperature={temperature:g}"
        self.concurrency = concurrency
        self.timeout = timeout
        self._settings = Settings(
            context=context,
            threads=threads or _cpus(),
            gpu_layers=gpu_layers,
            sequences=concurrency,
            temperature=temperature,
        )
        self._asked: Counter[int] = Counter()
        self._engine: Engine | None = None
        self._holders = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps the model loaded from run to run, until the block ends."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if (engine := self._let_go()) is not None:
                engine.close()

    async def complete(self, request: Request) -> Reply:
        """Asks once.

        Raises:
            BackendError: The prompt or the longest answer does not fit, the answer was cut, or
                the model cannot be loaded.
        """
        if self._engine is None:
            self._engine = Engine(self.path, self.name, self._settings)
            weakref.finalize(self, self._engine.close)
        return await asyncio.wrap_future(self._engine.ask(request, self._seed(request)))

    async def aclose(self) -> None:
        """Gives the memory back, unless it is held; the next request loads the model again."""
        if (engine := self._let_go()) is not None:
            await asyncio.get_running_loop().run_in_executor(None, engine.close)

    def _let_go(self) -> Engine | None:
        """The engine, to be closed; None while somebody holds it."""
        if self._holders:
            return None
        engine, self._engine = self._engine, None
        return engine

    def _seed(self, request: Request) -> int:
        if request.seed is None:
            return secrets.randbits(31)
        said = [request.seed, request.system, request.turn, len(request.followups)]
        asked = hash(tuple(said))
        self._asked[asked] += 1
        drawn = hashlib.sha256(repr([*said, self._asked[asked]]).encode()).digest()
        return int.from_bytes(drawn[:4], "big") >> 1


def embedded(rest: str = "", **options: Any) -> GGUF:
    """The small model that comes with the extra `local`: for demonstrations, tests and tuning.

    Args:
        rest: Nothing; there is one embedded model.
        options: Those of `GGUF`.

    Raises:
        MissingExtra: The model or llama-cpp-python is not installed.
        BadInput: The model is not the one that was measured, or there is something after
            `embedded:`.
    """
    if rest:
        raise BadInput(f"There is one embedded model, not {rest!r}. Write embedded, or gguf:PATH.")
    try:
        path = embedded_gguf()
    except MissingExtra as error:  # it comes with either extra
        raise MissingExtra("The embedded model", "local") from error
    return GGUF(path, **options)


def _cpus() -> int:
    """As many threads as there are cores, as far as that can be told: most cores have two."""
    count = os.cpu_count() or 1
    return count if count <= 4 else count // 2


def _digest(path: Path) -> str:
    """The digest of a model, which new weights change.

    Raises:
        BadInput: There is no such file, or it is no GGUF.
    """
    if not path.is_file():
        raise BadInput(f"There is no file {path}. Write gguf: and the path of a GGUF file.")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise BadInput(f"{path} is no GGUF file. Export the model, or convert it first.")
    return sampled_digest(path)


@hookimpl
def versecraft_backends() -> Mapping[str, Callable[..., Backend]]:
    """Registers `gguf:` and `embedded`."""
    return {"gguf": GGUF, "embedded": embedded}
