"""For those who write tasks and backends: conformance checks, and a scripted backend."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from .answers import Answer
from .attempts import in_words
from .backends import (
    Backend,
    BatchBackend,
    Price,
    Reply,
    Request,
    deadline_of,
    price_of,
)
from .backends.scripted import Scripted
from .errors import BackendError, ErrorKind, PluginError, TaskError, VersecraftError
from .plugins import lacks
from .records import Example, Item, Kind, Poem, Role
from .tasks import _NAME, Task

__all__ = ["Scripted", "check_backend", "check_task"]

T = TypeVar("T")


def check_task(task: Task[Any, Any], item: Item, answer: str | None = None) -> None:
    """Checks that a task keeps what versecraft promises of tasks.

    Name, kind, role and persona fit one another; turn and guide render to the same bytes each
    time; the turn names the task and tells neither whose a poem is nor whether it is good; the
    schema is one that hosted models are held to. With an answer also that it is accepted, comes
    unchanged through a ledger, and makes training rows that agree with the generation turn.

    Args:
        task: The task to check.
        item: Something it is done on, with a poem in it if it takes one.
        answer: What a good model would answer; without one `read`, `accept` and `examples` are
            not checked.

    Raises:
        TaskError: The task breaks a promise; says which, and what to change.
    """
    for problem in _task_problems(task, item, answer):
        raise TaskError(f"Task {getattr(task, 'name', task)!r}: {problem}.")


def check_backend(backend: Backend) -> None:
    """Checks that a backend keeps what versecraft promises of backends.

    Three short requests are sent, which a hosted model bills: one for plain text, one for JSON,
    and, after `aclose` and in a new event loop, one with room for a single token, which may fail,
    but only with a `BackendError` that has a kind. Works inside a running event loop too.

    Args:
        backend: The backend to check. It must answer anything it is asked, so `replay:` does not
            pass; for a `Scripted` one write a function that looks at `request.schema`.

    Raises:
        PluginError: The backend breaks a promise; says which, and what to change.
    """
    for problem in _backend_problems(backend):
        raise PluginError(f"Backend {getattr(backend, 'id', backend)!r}: {problem}.")


# Each of these yields what is wrong, the first thing first; the caller stops there, so what comes
# later may rely on what was checked before.


def _task_problems(task: Task[Any, Any], item: Item, answer: str | None) -> Iterator[str]:
    yield from _fact_problems(task)
    yield from _prompt_problems(task, item)
    if not task.output.bare:
        yield from _schema_problems(task.output.model_json_schema())
    if answer is not None:
        yield from _answer_problems(task, item, answer)


def _fact_problems(task: Task[Any, Any]) -> Iterator[str]:
    if missing := lacks(task):
        yield f"it has no {', '.join(missing)}; use PromptTask, or add them"
    if not _NAME.fullmatch(task.name):
        yield "the name must be lower-case words, for a plugin 'plugin/task'"
    if task.kind not in set(Kind):
        yield f"its kind {task.kind!r} is none of {', '.join(Kind)}"
    if task.role not in get_args(Role):
        yield f"its role {task.role!r} is neither 'educator' nor 'poet'"
    if task.prompt.persona != task.role:
        yield (
            f"its role is {task.role!r}, its prompt's persona {task.prompt.persona!r}; the rows "
            f"would train the wrong model: pass persona={task.role!r} to the prompt"
        )
    if not issubclass(task.input, Item):
        yield f"its input {task.input.__name__} must be a subclass of Item"
    if not issubclass(task.output, Answer):
        yield f"its output {task.output.__name__} must be a subclass of Answer"
    if not (task.output.bare == (task.role == "poet") == (task.kind == Kind.POEM)):
        yield (
            "role 'poet', kind 'poem' and a bare output go together, and an educator answers "
            f"JSON; this has role {task.role!r}, kind '{task.kind}' and bare="
            f"{task.output.bare}"
        )
    if min(task.max_tokens, task.typical_tokens) < 1:
        yield "max_tokens and typical_tokens must be positive"


def _prompt_problems(task: Task[Any, Any], item: Item) -> Iterator[str]:
    if not isinstance(item, task.input):
        yield f"the item is a {type(item).__name__}; give a {task.input.__name__}"
    task.prompt.check(task.input.model_fields.keys() - task.input.hidden, task.name)
    turn = _turn(task, item)
    if not turn.strip():
        yield "its turn is empty for this item; write what is asked into the template"
    said = re.sub(r"\{[{%#].*?[}%#]\}|<[^<>]*>", " ", task.prompt.turn, flags=re.DOTALL)
    if not re.search(rf"\b{_words(task.name)}\b", _words(said)):
        yield (
            f"its turn does not name the task, so one input could mean two tasks; begin the "
            f"template with 'Task: {task.name}.'"
        )
    if task.role == "poet" and turn.startswith("Task: "):
        yield "a poet's turn must not begin with 'Task: ', as an educator's does; name it later"
    if turn != _turn(task, item.model_copy(deep=True)):
        yield "its turn differs between two renderings of one item; take what is random out"
    if item.item_id != item.model_copy(deep=True).item_id:
        yield "equal items have different item_ids; make item_id from the fields alone"
    if turn != _turn(task, _disguised(item)):
        yield (
            "its turn changes with a poem's quality, title, author or source; leave those out, so "
            "that a model must read the poem"
        )
    guide = _call(task, "its guide", task.prompt.render_guide)
    if guide != task.prompt.render_guide():
        yield "its guide differs between two renderings; take what is random out"
    if not guide:
        yield "its guide is empty; write it, or leave it out"


def _turn(task: Task[Any, Any], item: Item) -> str:
    return _call(task, "its turn", lambda: task.prompt.render_turn(item.variables()))


def _words(text: str) -> str:
    return re.sub(r"[\s/_]+", " ", text).lower()


def _call(task: Task[Any, Any], what: str, part: Callable[[], T]) -> T:
    """What a part of a task returns; if it raises, a TaskError that names the part."""
    try:
        return part()
    except VersecraftError:
        raise
    except Exception as error:
        raise TaskError(
            f"Task {task.name!r}: {what} raised {type(error).__name__}: {error}. Make it work for "
            "this item."
        ) from error


def _disguised(value: Any) -> Any:
    """The same with all that is said about a poem changed, and no poem's text."""
    if isinstance(value, Poem):
        facts = dict.fromkeys(("title", "author", "source", "licence"), "Somebody else's")
        quality = "good" if value.quality == "bad" else "bad"
        return value.model_copy(update={**facts, "quality": quality, "year": 1, "file": "else"})
    if isinstance(value, BaseModel):
        fields = {name: _disguised(getattr(value, name)) for name in type(value).model_fields}
        return value.model_copy(update=fields)
    if isinstance(value, (tuple, list)):
        return type(value)(_disguised(part) for part in value)
    return value


def _schema_problems(schema: Mapping[str, Any]) -> Iterator[str]:
    """Why a hosted model could not be held to a schema."""

    def walk(node: Mapping[str, Any], path: str, above: tuple[str, ...]) -> Iterator[str]:
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            if name in above:
                yield f"{path} holds a {name} inside a {name}; schemas cannot be recursive"
            yield from walk(schema["$defs"][name], path, (*above, name))
        for part in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
            yield from walk(part, path, above)
        for name, part in node.get("properties", {}).items():
            yield from walk(part, f"{path}.{name}", above)
        if isinstance(node.get("items"), Mapping):
            yield from walk(node["items"], f"{path}[]", above)
        if not node.keys() & {"$ref", "anyOf", "oneOf", "allOf", "type", "enum", "const"}:
            yield f"{path} may be anything; give it a type"
        match node.get("type"):
            case "object" if node.get("additionalProperties") is not False:
                yield (
                    f"{path} takes keys of any name; use named fields or a tuple of records "
                    "(subclasses of Answer) for a dict"
                )
            case "array" if "prefixItems" in node:
                yield f"{path} is a tuple of fixed places; use tuple[X, ...] with bounds, or fields"
            case "array" if "maxItems" not in node:
                yield f"{path} has no bound; give it max_length"
            case "string" if not node.keys() & {"maxLength", "enum", "const"}:
                yield f"{path} has no bound; give it max_length"

    return walk(schema, "answer", ())


def _answer_problems(task: Task[Any, Any], item: Item, answer: str) -> Iterator[str]:
    try:
        result = _call(task, "read", lambda: task.read(item, answer))
    except TaskError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        yield f"the answer does not fit {task.output.__name__}: {in_words(error.__cause__)}"
    reason = _call(task, "accept", lambda: task.accept(item, result))
    if not (reason is None or isinstance(reason, str)):
        yield f"accept returned {reason!r}; return the reason to refuse as text, or None"
    if reason is not None:
        yield f"the answer is refused ({reason}); give one that is not, or loosen the check"
    output = result.model_dump(mode="json")
    if _call(task, "its output model", lambda: task.output.model_validate(output)) != result:
        yield "the answer changes on its way through a ledger; keep to fields that JSON can hold"
    target = result.target()
    if _call(task, "read", lambda: task.read(item, target)) != result:
        yield "the target reads back as something else; let read and finish give it back whole"
    if not task.output.bare and (extra := list(_unasked(result))):
        yield f"the target holds {', '.join(extra)}, which the schema does not; add to computed"
    examples = _call(task, "examples", lambda: list(task.examples(item, result)))
    if not examples:
        yield "examples gives no training row for an accepted answer"
    for example in examples:
        yield from _example_problems(task, item, target, example)


def _unasked(value: Any) -> Iterator[str]:
    """The fields that stand in the target although the schema does not ask for them."""
    if isinstance(value, Answer):
        asked = type(value).model_json_schema()["properties"]
        yield from (name for name in json.loads(value.target()) if name not in asked)
        for name in type(value).model_fields:
            yield from _unasked(getattr(value, name))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _unasked(part)


def _example_problems(
    task: Task[Any, Any], item: Item, target: str, example: Example
) -> Iterator[str]:
    expected = {
        "system": ("the persona", task.prompt.render_persona()),
        "user": ("the generation turn, byte for byte", _turn(task, item)),
        "assistant": ("the answer's target()", target),
    }
    if [m.role for m in example.messages] != list(expected):
        yield f"an example's messages must be {', '.join(expected)}, in that order"
    for message in example.messages:
        what, content = expected[message.role]
        if message.content != content:
            yield f"an example's {message.role} message must be {what}"
    qualities = {poem.quality for poem in item.poems}
    facts = {
        "task": task.name,
        "role": task.role,
        "kind": task.kind,
        "item_id": item.item_id,
        "poem_ids": tuple(poem.id for poem in item.poems),
        "quality": "bad" if "bad" in qualities else "good" if qualities else None,
    }
    for name, value in facts.items():
        if getattr(example, name) != value:
            yield f"an example's {name} must be {value!r}, not {getattr(example, name)!r}"


_PLAIN = Request(
    system="You answer in one word.",
    turn="Name a thing that floats.",
    max_tokens=2048,
    meta={"task": "check", "item_id": "check"},
)
_JSON = replace(
    _PLAIN,
    turn="Name a thing that floats, as JSON.",
    schema={
        "type": "object",
        "properties": {"thing": {"type": "string"}},
        "required": ["thing"],
        "additionalProperties": False,
    },
)


def _backend_problems(backend: Backend) -> Iterator[str]:
    if not isinstance(backend, Backend | BatchBackend):
        yield "it must have id, concurrency and an async complete(request), or be a BatchBackend"
    if not (isinstance(backend.id, str) and backend.id.strip()):
        yield f"its id is {backend.id!r}; name the model and its sampling settings"
    concurrency = 1 if isinstance(backend, BatchBackend) else backend.concurrency
    if not (isinstance(concurrency, int) and concurrency >= 1):
        yield f"its concurrency is {concurrency!r}; give a whole number of 1 or more"
    if not deadline_of(backend) > 0:
        yield f"its timeout is {deadline_of(backend)}; give seconds, more than 0"
    if not isinstance(price_of(backend), Price | None):
        yield f"its price is {price_of(backend)!r}; give a versecraft.backends.Price, or None"
    plain, formed = _asked(backend, [_PLAIN, _JSON])
    for what, said in (("plain text", plain), ("JSON", formed)):
        yield from _reply_problems(what, said)
        if isinstance(said, BackendError):
            yield f"asked for {what}, it fails ({said.kind}): {said}"
    try:
        fits = isinstance(json.loads(formed.text)["thing"], str)
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        yield (
            f"held to a schema it answers {formed.text[:80]!r}; pass request.schema on, and return "
            "the JSON alone"
        )
    yield from _reply_problems("one token", _asked(backend, [replace(_PLAIN, max_tokens=1)])[0])


def _reply_problems(what: str, said: Any) -> Iterator[str]:
    if isinstance(said, BackendError):
        if said.kind not in get_args(ErrorKind):
            yield f"its error has the kind {said.kind!r}; use one of {get_args(ErrorKind)}"
    elif isinstance(said, TimeoutError):
        yield f"asked for {what}, it has no answer within its own timeout; raise that"
    elif isinstance(said, Exception):
        yield (
            f"asked for {what}, it raises {type(said).__name__}: {said}; translate that into a "
            "BackendError with a kind"
        )
    elif not (isinstance(said, Reply) and isinstance(said.text, str) and said.model):
        yield f"asked for {what}, it returns {said!r}; return a Reply with text and model"


def _asked(backend: Backend, requests: Iterable[Request]) -> list[Any]:
    """What a backend returns or raises, asked in an event loop of its own as a run does."""

    async def by_the_batch(backend: BatchBackend, request: Request) -> Any:
        batch = await backend.submit({"check": request})
        while not (await backend.state(batch)).ended:
            await asyncio.sleep(0.5)
        async for _, outcome in backend.collect(batch):
            return outcome
        return None

    async def ask(request: Request) -> Any:
        try:
            if isinstance(backend, BatchBackend):
                return await by_the_batch(backend, request)
            async with asyncio.timeout(deadline_of(backend)):
                return await backend.complete(request)
        except Exception as error:
            return error

    async def work() -> list[Any]:
        try:
            return [await ask(request) for request in requests]
        finally:
            if close := getattr(backend, "aclose", None):
                await close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work()).result()
