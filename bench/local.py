"""Tokens per second of the embedded model: the plain library, one call at a time, against ours.

    python bench/local.py [--requests 8] [--tokens 96] [--rounds 2] [--sequences 1 2 4 8]

Each round asks the same requests, critiques of poems, of each side in turn, so that what else the
machine does meets all of them alike; ratios are of medians over the rounds. Two shapes: free text,
stopped after `--tokens` tokens, and JSON of a schema whose strings fill about as many.

Plain is `llama_cpp.Llama.create_chat_completion` as its manual has it, the schema given as
`response_format`; ours is the backend `embedded`. Tokens counted are those of the answers; prompts
are read by each side and are in its time. Ours are given per second of wall clock and per second
of CPU time; "own" is the share of CPU time that is spent neither in llama.cpp's decoding nor in
its sampling.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from sources import make_poem
from versecraft.backends import Request
from versecraft.bases import embedded_gguf
from versecraft.errors import BackendError
from versecraft.plugins import get_backend, get_task
from versecraft.records import PoemItem

LIBRARY = ("llama_decode", "llama_sampler_sample", "llama_sampler_apply", "llama_sampler_accept")
CONTEXT = 2048


def schema_for(tokens: int) -> dict[str, Any]:
    """Two quotations and two remarks, which are as long as they must be."""
    remark = {"type": "string", "minLength": tokens, "maxLength": tokens + 20}
    quote = {"type": "string", "minLength": 3, "maxLength": 160}
    part = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["image", "sound", "line"]},
            "quote": quote,
            "remark": remark,
        },
        "required": ["kind", "quote", "remark"],
        "additionalProperties": False,
    }
    parts = {"type": "array", "items": part, "minItems": 2, "maxItems": 2}
    return {
        "type": "object",
        "properties": {"points": parts},
        "required": ["points"],
        "additionalProperties": False,
    }


def requests(count: int, tokens: int, *, held: bool) -> list[Request]:
    task = get_task("critique")
    system = task.prompt.render_persona()
    schema = schema_for(tokens) if held else None
    turns = [
        task.prompt.render_turn(PoemItem(poem=make_poem(n, lines=14)).variables())
        for n in range(count)
    ]
    most = 6 * tokens if held else tokens
    return [Request(system=system, turn=t, max_tokens=most, schema=schema, seed=1) for t in turns]


def plain(asked: list[Request], threads: int) -> tuple[int, int]:
    """Tokens and valid answers of the plain library, one call at a time."""
    model = llama_cpp.Llama(
        str(embedded_gguf()),
        n_ctx=CONTEXT,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
    )
    tokens = valid = 0
    for request in asked:
        held = {"type": "json_object", "schema": request.schema} if request.schema else None
        said = model.create_chat_completion(
            [{"role": "system", "content": request.system}, *request.messages()],
            response_format=held,
            temperature=0.7,
            max_tokens=request.max_tokens,
            seed=1,
        )
        tokens += said["usage"]["completion_tokens"]
        valid += is_json(said["choices"][0]["message"]["content"])
    model.close()
    return tokens, valid


def ours(asked: list[Request], threads: int, sequences: int) -> tuple[int, int]:
    """Tokens and valid answers of the backend, so many requests at once."""

    async def main() -> list[Any]:
        backend = get_backend("embedded", threads=threads, concurrency=sequences, context=CONTEXT)
        gate = asyncio.Semaphore(sequences)

        async def one(request: Request) -> Any:
            async with gate:
                try:
                    return await backend.complete(request)
                except BackendError as error:
                    return error

        try:
            return await asyncio.gather(*map(one, asked))
        finally:
            await backend.aclose()

    found = asyncio.run(main())
    return sum(r.usage.output for r in found), sum(is_json(getattr(r, "text", "")) for r in found)


def run(asked: list[Request], threads: int, sequences: int) -> tuple[int, int]:
    return ours(asked, threads, sequences) if sequences else plain(asked, threads)


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@contextmanager
def in_library() -> Iterator[Callable[[], float]]:
    """Adds up the CPU seconds that a thread spends inside llama.cpp, when it runs on one thread."""
    spent = 0.0
    real = {name: getattr(llama_cpp, name) for name in LIBRARY}

    def timed(function: Any) -> Any:
        def call(*args: Any) -> Any:
            nonlocal spent
            begun = time.thread_time()
            try:
                return function(*args)
            finally:
                spent += time.thread_time() - begun

        return call

    for name, function in real.items():
        setattr(llama_cpp, name, timed(function))
    try:
        yield lambda: spent
    finally:
        for name, function in real.items():
            setattr(llama_cpp, name, function)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 2, 4, 8])
    args = parser.parse_args()
    embedded_gguf()  # its digest is taken before the clock starts
    print(f"{args.requests} requests, {args.rounds} rounds, threads {args.threads}")
    heads = f"{'tok/s':>8} {'x':>6} {'per CPU s':>10} {'x':>6} {'own':>7} {'valid':>6}"
    print(f"{'':12} {'side':10} {heads}")
    for held in (False, True):
        asked = requests(args.requests, args.tokens, held=held)
        rows: dict[str, list[tuple[float, float, float, int]]] = {}
        for _ in range(args.rounds):
            for n in (0, *args.sequences):
                side = f"ours, {n}" if n else "plain"
                with in_library() as inside:
                    wall, cpu = time.perf_counter(), time.process_time()
                    tokens, valid = run(asked, args.threads, n)
                    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                    own = 1 - inside() / cpu
                rows.setdefault(side, []).append((tokens / wall, tokens / cpu, own, valid))
        middle = {s: [statistics.median(c) for c in zip(*r, strict=True)] for s, r in rows.items()}
        base = middle["plain"]
        for side, (rate, each, own, valid) in middle.items():
            share = f"{own:7.1%}" if side != "plain" and args.threads == 1 else f"{'':7}"
            print(
                f"{'schema' if held else 'free':12} {side:10} {rate:8.1f} {rate / base[0]:6.2f} "
                f"{each:10.1f} {each / base[1]:6.2f} {share} {valid if held else '':>6}",
                flush=True,
            )


if __name__ == "__main__":
    main()
