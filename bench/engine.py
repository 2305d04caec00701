"""The engine beside the least code that does the same requests.

    python bench/engine.py [--requests 2000] [--runs 3] [--in-flight 64 256]

Both sides use the real anthropic SDK on its aiohttp transport and uvloop, against a loopback
server of 200 ms. The floor renders the turn, asks, validates and writes a line: no ledger, no
resume, no retries, no cost. Printed per run: span (first request to last answer, as the server
saw it), CPU of the process from the start of the run, peak memory; then the ratio of medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))
MODEL = "claude-sonnet-5-5"


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def engine(count: int, in_flight: int, folder: Path) -> dict[str, float]:
    """Through `plan` and `generate`."""
    import anthropic  # noqa: F401 -- both sides have paid for their imports when the count begins
    import httpx2  # noqa: F401
    import uvloop  # noqa: F401

    from sources import make_plan
    from versecraft.backends.claude import Claude
    from versecraft.generating import generate

    begun = cpu()
    plan = make_plan(folder, Claude(MODEL, concurrency=in_flight), count)
    run = generate(plan, progress=False)
    assert run.answered == count, run
    spent = cpu() - begun
    started = time.perf_counter()
    again = generate(plan, progress=False)
    assert again.cached == count, again
    return {"cpu": spent, "again": time.perf_counter() - started}


def floor(count: int, in_flight: int, folder: Path) -> dict[str, float]:
    """By hand, on the same SDK, transport, prompts and schema."""
    import anthropic
    import httpx2
    import uvloop

    from sources import make_poem
    from versecraft.plugins import get_task
    from versecraft.records import PoemItem

    begun = cpu()
    task = get_task("critique")
    system = task.prompt.render_guide()
    schema = anthropic.transform_schema(task.output)
    items = iter([PoemItem(poem=make_poem(n)) for n in range(count)])
    folder.mkdir(parents=True, exist_ok=True)

    async def main() -> None:
        limits = httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
        client = anthropic.AsyncAnthropic(
            http_client=anthropic.DefaultAioHttpClient(limits=limits), max_retries=0
        )
        with (folder / "out.jsonl").open("w", encoding="utf-8") as out:

            async def worker() -> None:
                for item in items:
                    turn = task.prompt.render_turn(item.variables())
                    message = await client.messages.create(
                        model=MODEL,
                        max_tokens=8192,
                        system=system,
                        messages=[{"role": "user", "content": turn}],
                        output_config={"format": {"type": "json_schema", "schema": schema}},
                    )
                    text = "".join(b.text for b in message.content if b.type == "text")
                    answer = task.output.model_validate_json(text)
                    out.write(json.dumps({"id": item.item_id, **answer.model_dump()}) + "\n")

            await asyncio.gather(*[worker() for _ in range(in_flight)])
        await client.close()

    uvloop.run(main())
    return {"cpu": cpu() - begun, "again": 0.0}


def child(side: str, count: int, in_flight: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {"engine": engine, "floor": floor}[side](count, in_flight, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**found, "peak": peak}))


def call(url: str, body: dict[str, Any] | None = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(url, data)) as response:
        return json.load(response)


def measure(url: str, side: str, count: int, in_flight: int) -> dict[str, float]:
    call(f"{url}/faults", {"latency": 0.2})
    env = {**os.environ, "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "loopback"}
    size = ["--requests", str(count), "--in-flight", str(in_flight)]
    command = [sys.executable, __file__, "--child", side, *size]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    stats = call(f"{url}/stats")
    found = json.loads(done.stdout)
    return {**found, "span": stats["last_at"] - stats["first_at"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", choices=["engine", "floor"])
    args = parser.parse_args()
    if args.child:
        child(args.child, args.requests, args.in_flight[0])
        return
    server = subprocess.Popen(
        [sys.executable, TESTS / "messages_server.py"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    print(f"{args.requests} requests of 200 ms, {args.runs} runs a side, in turn")
    heads = ("side", "span s", "CPU ms/req", "peak MB", "again s")
    print(f"{'in flight':>9}", *(f"{head:>10}" for head in heads))
    try:
        for in_flight in args.in_flight:
            runs: dict[str, list[dict[str, float]]] = {"floor": [], "engine": []}
            for _ in range(args.runs):
                for side, found in runs.items():
                    found.append(measure(url, side, args.requests, in_flight))
            middle = {
                side: {k: statistics.median(r[k] for r in found) for k in found[0]}
                for side, found in runs.items()
            }
            for side, m in middle.items():
                each = m["cpu"] / args.requests * 1000
                row = f"{m['span']:>10.2f} {each:>10.2f} {m['peak']:>10.0f} {m['again']:>10.2f}"
                print(f"{in_flight:>9} {side:>10} {row}")
            ratio = statistics.median(
                e["span"] / f["span"] for e, f in zip(runs["engine"], runs["floor"], strict=True)
            )
            own = (middle["engine"]["cpu"] - middle["floor"]["cpu"]) / args.requests * 1000
            print(f"{in_flight:>9}   ratio {ratio:>7.2f}   own CPU {own:.2f} ms a request")
    finally:
        server.kill()


if __name__ == "__main__":
    main()
