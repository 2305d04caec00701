"""From sources to items, and from items to a plan with its bill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import ValidationError

from .answers import Answer
from .backends import Backend, deadline_of, price_of
from .errors import BadInput
from .ledger import is_open, latest, read_rows, warn_broken
from .records import Item, Match, PairItem, Row, Usage, digest
from .runs import Cost, Job, Plan, Run, Tokens
from .tasks import Task

__all__ = ["items", "plan"]

CHARS_PER_TOKEN = 3.5  # English verse under current tokenizers; an estimate, and named as one
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
    if "draft" in fields and item.poems:
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
    backend: Backend,
    *,
    ledger: str | Path,
    system: Literal["guide", "persona"] = "guide",
    seed: int | None = None,
) -> Plan:
    """What a run would ask, what the ledger already holds, and the bill. Nothing is sent.

    Args:
        task: What to do.
        sources: What to do it on; see `items`.
        backend: Who is asked.
        ledger: Where answers are kept; made when the first one comes.
        system: "guide" for a teacher; "persona" for a model that was trained on this task.
        seed: Passed on to backends that sample with one.
    """
    for value, what in ((task, "task"), (backend, "backend")):
        if isinstance(value, str):
            raise BadInput(f"{value!r} is a name; pass versecraft.get_{what}({value!r}).")
    if not (isinstance(backend.id, str) and backend.concurrency >= 1 and deadline_of(backend) > 0):
        raise BadInput(f"{backend!r} needs a text as id, and a concurrency and timeout above 0.")
    path = Path(ledger)
    prompt = task.prompt
    text = prompt.render_guide() if system == "guide" else prompt.render_persona()
    schema = None if task.output.bare else task.output.model_json_schema()
    rows, broken = read_rows(path)
    if broken:
        warn_broken(broken)
    jobs = tuple(_jobs(task, items(task, sources), backend, text, schema, seed))
    found = latest(rows, (job.key for job in jobs))
    asked = [job for job in jobs if is_open(found.get(job.key))]
    answered = [r for r in rows if r.task == task.name and r.output is not None]
    overhead = len(text) + len(json.dumps(schema)) if schema else len(text)
    tokens = Tokens(
        input=int(sum(overhead + len(job.turn) for job in asked) / CHARS_PER_TOKEN),
        output=int(len(asked) * _usual_output(task, answered)),
    )
    price = price_of(backend)
    live = price.cost(Usage(input=tokens.input, output=tokens.output)) if price else 0.0
    wait = fmean(r.finished - r.started for r in answered) if answered else _SECONDS
    return Plan(
        task=task,
        backend=backend,
        ledger=path,
        jobs=jobs,
        found=found,
        system=text,
        schema=schema,
        seed=seed,
        tokens=tokens,
        cost=Cost(live=live, batch=live * price.batch if price else 0.0),
        seconds=-(-len(asked) // backend.concurrency) * wait,
    )


def _usual_output(task: Task[Any, Any], answered: list[Row]) -> float:
    seen = [row.usage.output / row.attempts for row in answered if row.usage.output]
    return fmean(seen) if len(seen) >= 5 else task.typical_tokens


def _jobs(
    task: Task[Any, Any],
    todo: Iterable[Item],
    backend: Backend,
    system: str,
    schema: dict[str, Any] | None,
    seed: int | None,
) -> Iterator[Job]:
    # All requests of a plan share this part, so it is hashed once.
    shared = hashlib.sha256(
        json.dumps([backend.id, task.name, system, schema, task.max_tokens, seed]).encode()
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
