"""From sources to items, and from items to a plan with its bill."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import ValidationError

from .answers import Answer
from .backends import Backend, BatchBackend, answers_of, deadline_of, price_of
from .backwards import requests_of
from .batches import Journal
from .errors import BadInput
from .ledger import is_open, latest, read_rows, warn_broken
from .loops import in_own_loop
from .records import Item, Match, PairItem, Poem, Price, RequestItem, Row, Usage, digest
from .runs import Cost, Job, Plan, Run, Tokens
from .tasks import Task

__all__ = ["bill", "items", "plan"]

CHARS_PER_TOKEN = 3.5  # English verse under current tokenizers; an estimate, and named as one
_SAMPLE = 8  # requests whose tokens the provider is asked to count,
_PATIENCE = 10.0  # within so many seconds
_BATCH_HITS = 0.3  # share of a batch that finds the guide in the cache
_BATCH_SECONDS = 3600.0  # most batches end within the hour, says the provider
_SECONDS = 15.0  # a hosted answer with thinking, until the ledger knows better


def items(
    task: Task[Any, Any],
    sources: Iterable[Any] | Run,
    *,
    orders: Literal["balanced", "both"] = "balanced",
    seed: int = 7,
) -> list[Item]:
    """The items of a task, made from what it can be done on.

    Args:
        task: The task whose input model the items are.
        sources: Items as they are; poems; matches; texts (requests, questions); or a run, whose
            answers become the items of the next task (critiques → revision briefs → poems).
            From poems, `brief` gets requests made backwards (`pairs_of` makes rows of them).
        orders: For matches: "balanced" shows the bad poem first in exactly half of the pairs
            (one more or less when their number is odd); "both" shows each pair both ways.
        seed: Decides which half.

    Raises:
        BadInput: A source cannot be made into this task's input; says what can.
    """
    if orders not in ("balanced", "both"):
        raise BadInput(f'orders is {orders!r}; give "balanced" or "both".')
    if isinstance(sources, Run):
        return [_from_answer(task, item, answer) for item, answer in sources.answers()]
    sources = list(sources)
    if sources and all(isinstance(s, Match) for s in sources):
        return list(_pairs(task, sources, orders, seed))
    if sources and task.input is RequestItem and all(isinstance(s, Poem) for s in sources):
        return list(requests_of(sources))
    return [_item(task, source) for source in sources]


def _item(task: Task[Any, Any], source: Any) -> Item:
    if isinstance(source, task.input):
        return source  # type: ignore[no-any-return]
    fields = task.input.model_fields
    needed = [name for name, field in fields.items() if field.is_required()]
    if len(needed) == 1 and fields[needed[0]].annotation is type(source):
        try:
            return task.input(**{needed[0]: source})  # type: ignore[no-any-return]
        except ValidationError as error:
            raise BadInput(
                f"{str(source)[:60]!r} cannot be a {needed[0]} for {task.name!r}: "
                f"{error.errors()[0]['msg']}. Change or remove it."
            ) from error
    raise BadInput(
        f"Task {task.name!r} works on {task.input.__name__} ({', '.join(needed)}); a "
        f"{type(source).__name__} does not make one. Pass such items, or the matches, poems or "
        "run that they come from."
    )


def _pairs(
    task: Task[Any, Any], matches: Sequence[Match], orders: str, seed: int
) -> Iterator[Item]:
    if not issubclass(PairItem, task.input):
        raise BadInput(f"Task {task.name!r} does not take pairs. Pass it poems, or use comparison.")
    if orders == "both":
        for match in matches:
            yield match.pair("bad-first")
            yield match.pair("good-first")
        return
    # Ranked by digest, so the half depends on the pairs and the seed, not on their order.
    ranked = sorted(
        range(len(matches)), key=lambda i: digest(str(seed), matches[i].bad.id, matches[i].good.id)
    )
    bad_first = set(ranked[: len(matches) // 2])
    for i, match in enumerate(matches):
        yield match.pair("bad-first" if i in bad_first else "good-first")


def _from_answer(task: Task[Any, Any], item: Item, answer: Answer) -> Item:
    """The next task's item: fields of the answered item that it knows, and the answer itself."""
    fields = task.input.model_fields
    values = {name: getattr(item, name) for name in type(item).model_fields if name in fields}
    values |= {n: answer for n, field in fields.items() if _admits(field.annotation, answer)}
    if "draft" in fields and item.poems and not item.hidden:
        values["draft"] = item.poems[0]
    missing = [n for n, field in fields.items() if field.is_required() and n not in values]
    if missing:
        raise BadInput(
            f"Task {task.name!r} needs {', '.join(missing)}, which a run of "
            f"{type(answer).__name__} does not give. Pass the run of the task before it."
        )
    return task.input(**values)  # type: ignore[no-any-return]


def _admits(annotation: Any, answer: Answer) -> bool:
    return type(answer) in (annotation, *getattr(annotation, "__args__", ()))


def plan(
    task: Task[Any, Any],
    sources: Iterable[Any] | Run,
    backend: Backend | BatchBackend,
    *,
    ledger: str | Path,
    system: Literal["guide", "persona"] = "guide",
    seed: int | None = None,
    count: bool = True,
) -> Plan:
    """What a run would ask, what the ledger already holds, and the bill. Nothing is asked.

    Where the backend can count tokens at no cost, it is sent a sample of the requests to count.

    Args:
        task: What to do.
        sources: What to do it on; see `items`.
        backend: Who is asked.
        ledger: Where answers are kept; made when the first one comes.
        system: "guide" for a teacher; "persona" for a model that was trained on this task.
        seed: Passed on to backends that sample with one.
        count: False sends nothing, and estimates tokens from characters.
    """
    for value, what in ((task, "task"), (backend, "backend")):
        if isinstance(value, str):
            raise BadInput(f"{value!r} is a name; pass versecraft.get_{what}({value!r}).")
    if not (isinstance(backend.id, str) and deadline_of(backend) > 0):
        raise BadInput(f"{backend!r} needs a text as id, and a timeout above 0.")
    if not isinstance(backend, BatchBackend) and getattr(backend, "concurrency", 0) < 1:
        raise BadInput(f"{backend!r} needs a concurrency of 1 or more.")
    path = Path(ledger)
    text = task.prompt.render_guide() if system == "guide" else task.prompt.render_persona()
    schema = None if task.output.bare else task.output.model_json_schema()
    rows, broken = read_rows(path)
    if broken:
        warn_broken(broken)
    jobs = tuple(_jobs(task, items(task, sources), backend, text, schema, seed))
    found = latest(rows, (job.key for job in jobs))
    still_open = [job for job in jobs if is_open(found.get(job.key))]
    pending = Journal(path).under_way(rows) & {job.key for job in still_open}
    asked = [job for job in still_open if job.key not in pending]
    answered = [r for r in rows if r.task == task.name and r.output is not None]
    bare = Plan(
        task=task,
        backend=backend,
        ledger=path,
        jobs=jobs,
        found=found,
        pending=frozenset(pending),
        system=text,
        schema=schema,
        prompt=digest(text, json.dumps(schema), task.prompt.turn),
        seed=seed,
        tokens=Tokens(input=0, output=0),
        cost=Cost(),
        price=price_of(backend),
        caches=False,
        seconds=0.0,
    )
    return _with_bill(bare, asked, answered, count)


def _with_bill(plan: Plan, asked: list[Job], answered: list[Row], count: bool) -> Plan:
    rate, counted_by = _tokens_per_character(plan, asked if count else [])
    overhead = len(plan.system) + (len(json.dumps(plan.schema)) if plan.schema else 0)
    tokens = Tokens(
        input=int(sum(overhead + len(job.turn) for job in asked) * rate),
        output=int(len(asked) * _usual_output(plan.task, answered)),
        guide=int(len(plan.system) * rate),
        counted_by=counted_by,
    )
    starts = getattr(plan.backend, "cache_from", None)
    listed: Price | None = getattr(plan.backend, "price", None)
    kept = getattr(plan.backend, "cache", None) or "5m"
    wait = fmean(r.finished - r.started for r in answered) if answered else _SECONDS
    if isinstance(plan.backend, BatchBackend):
        seconds = _BATCH_SECONDS if asked else 0.0
    else:
        seconds = -(-len(asked) // plan.backend.concurrency) * wait
    return replace(
        plan,
        tokens=tokens,
        cost=bill(listed, tokens, len(asked), kept) if listed else Cost(),
        caches=starts is not None and tokens.guide >= starts,
        seconds=seconds,
    )


def bill(price: Price, tokens: Tokens, requests: int, kept: str = "5m") -> Cost:
    """Dollars for the tokens of so many requests, in each of the four ways to ask them.

    Asked one by one, the first request writes the guide to the cache and all others read it. In a
    batch some write it again: the provider reports that 30 to 98 % of the requests of a batch find
    what is cached, and the bill takes the 30 %.

    Args:
        price: The list price, of live requests.
        tokens: Of all requests together; but `guide`, of one.
        requests: How many there are.
        kept: How long the cache keeps the guide after its last use, "5m" or "1h".
    """

    def dollars(price: Price, reading: int) -> float:
        writing = requests - reading
        return price.cost(
            Usage(
                input=tokens.input - requests * tokens.guide,
                output=tokens.output,
                cache_read=reading * tokens.guide,
                **{f"cache_write_{kept}": writing * tokens.guide},
            )
        )

    plain = Usage(input=tokens.input, output=tokens.output)
    return Cost(
        live=price.cost(plain),
        live_cached=dollars(price, max(0, requests - 1)),
        batch=price.batched().cost(plain),
        batch_cached=dollars(price.batched(), int(requests * _BATCH_HITS)),
    )


def _tokens_per_character(plan: Plan, asked: list[Job]) -> tuple[float, str]:
    """Counted by the provider on a sample where it counts for nothing, else a usual figure."""
    usual = f"characters / {CHARS_PER_TOKEN}"
    count = getattr(plan.backend, "count", None)
    sample = asked[:: max(1, len(asked) // _SAMPLE)][:_SAMPLE]
    if count is None or not sample:
        return 1 / CHARS_PER_TOKEN, usual
    tokens: list[int] = []

    async def counting() -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                for job in sample:
                    tokens.append(await count(plan.request(job)))
        finally:
            close = getattr(plan.backend, "aclose", None)
            if close:
                await close()

    try:
        in_own_loop(counting)
    except Exception as error:  # a plugin's may raise any; the bill says that nothing was counted
        why = str(error).partition(". ")[0].rstrip(".") or "no answer in time"
        return 1 / CHARS_PER_TOKEN, f"{usual}; not counted by the provider: {why}"
    overhead = len(plan.system) + (len(json.dumps(plan.schema)) if plan.schema else 0)
    rate = sum(tokens) / sum(overhead + len(job.turn) for job in sample)
    return rate, f"counted by the provider on {len(sample)} of {len(asked):,} requests"


def _usual_output(task: Task[Any, Any], answered: list[Row]) -> float:
    seen = [row.usage.output / row.attempts for row in answered if row.usage.output]
    return fmean(seen) if len(seen) >= 5 else task.typical_tokens


def _jobs(
    task: Task[Any, Any],
    todo: Iterable[Item],
    backend: Backend | BatchBackend,
    system: str,
    schema: dict[str, Any] | None,
    seed: int | None,
) -> Iterator[Job]:
    # All requests of a plan share this part, so it is hashed once.
    shared = hashlib.sha256(
        json.dumps([answers_of(backend), task.name, system, schema, task.max_tokens, seed]).encode()
    )
    seen: set[str] = set()
    for item in todo:
        turn = task.prompt.render_turn(item.variables())
        own = shared.copy()
        own.update(turn.encode())
        key = own.hexdigest()[:32]
        if key not in seen:
            seen.add(key)
            yield Job(key=key, item=item, turn=turn)
