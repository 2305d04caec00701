"""What `check_task` and `check_backend` let pass, and what they say of what breaks a promise."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, Any

import pytest
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from messages_server import answer
from sources import make_matches, make_poem
from versecraft.answers import Answer, Brief, Critique
from versecraft.backends import Reply, Request
from versecraft.backends.claude import Claude
from versecraft.backends.openai import OpenAI
from versecraft.errors import BackendError, PluginError, TaskError
from versecraft.plugins import get_task, list_tasks
from versecraft.prompting import Prompt
from versecraft.records import (
    BriefItem,
    Item,
    Kind,
    Poem,
    PoemItem,
    QuestionItem,
    RequestItem,
    RevisionItem,
)
from versecraft.tasks import PromptTask
from versecraft.testing import Scripted, check_backend, check_task

POEM = make_poem(1)
BRIEF = Brief.model_validate_json(answer("Task: brief."))
CRITIQUE = Critique(strengths=(), issues=())
ITEMS: dict[str, Item] = {
    "critique": PoemItem(poem=POEM),
    "comparison": make_matches(1)[0].pair("bad-first"),
    "autopsy": PoemItem(poem=POEM, brief=BRIEF),
    "brief": RequestItem(request="a poem about rust"),
    "revision_brief": RevisionItem(poem=POEM, critique=CRITIQUE),
    "lesson": QuestionItem(question="What is a line for?"),
    "poem": BriefItem(brief=BRIEF),
}


@pytest.mark.parametrize("name", ITEMS)
def test_the_built_in_tasks_conform(name: str) -> None:
    task = get_task(name)
    item = ITEMS[name]
    check_task(task, item)
    check_task(task, item, answer(task.prompt.render_turn(item.variables())))


def test_no_built_in_task_is_left_out_here() -> None:
    built_in = {task.name for task in list_tasks() if "/" not in task.name}
    assert built_in == set(ITEMS)


class Note(Answer):
    """A remark, and how long it is."""

    computed = frozenset({"size"})
    text: Annotated[str, Field(min_length=3, max_length=80)]
    size: SkipJsonSchema[int] = 0


class Uncomputed(Note):
    computed = frozenset()


class Unbounded(Note):
    text: str


class Free(Note):
    text: Annotated[str, Field(max_length=80)]
    counts: dict[str, int]


class Nested(Answer):
    inner: tuple[Nested, ...] = Field(max_length=2)


class Endless(Answer):
    notes: tuple[Note, ...]


class Fixed(Answer):
    range: tuple[int, int]


class Anything(Answer):
    thing: Any


class Loose(Note, extra="allow"):
    pass


def sized(item: PoemItem, result: Note) -> Note:
    return result.model_copy(update={"size": len(result.text)})


note = PromptTask(
    name="test/note",
    kind=Kind.CRITIQUE,
    prompt=Prompt("Task: test/note.\n\n{{ poem }}{{ brief.text() if brief else '' }}"),
    input=PoemItem,
    output=Note,
    finish=sized,
)
ANSWER = '{"text": "The third line turns."}'
ITEM = PoemItem(poem=POEM)


def turned(template: str) -> Prompt:
    return Prompt("Task: test/note. {{ poem }}{{ brief }}" + template)


class Whose(PoemItem):
    def variables(self) -> dict[str, Any]:
        return {**super().variables(), "poem": f"{self.poem.author}: {self.poem.text}"}


class Restless(PoemItem):
    @property
    def item_id(self) -> str:
        return str(random.random())


class Shelf(Item):
    """Poems inside a tuple reach the template whole."""

    poems_on_it: tuple[Poem, ...]


def broken(*_: Any) -> Any:
    raise KeyError("stanza")


def rows(change: Callable[[Any], Any]) -> Callable[..., Iterator[Any]]:
    def examples(item: PoemItem, result: Note) -> Iterator[Any]:
        return (change(example) for example in PromptTask.examples(note, item, result))

    return examples


def edited(role: int, text: str) -> Callable[[Any], Any]:
    def change(example: Any) -> Any:
        messages = list(example.messages)
        messages[role] = messages[role].model_copy(update={"content": text})
        return example.model_copy(update={"messages": tuple(messages)})

    return change


class Own:
    """A task that is no PromptTask: `note` with parts replaced."""

    def __init__(self, **parts: Any) -> None:
        self.parts = parts

    def __getattr__(self, name: str) -> Any:
        if self.parts.get(name, "") is None:
            raise AttributeError(name)
        return self.parts[name] if name in self.parts else getattr(note, name)


def test_a_task_of_ones_own_conforms() -> None:
    check_task(note, ITEM, ANSWER)
    check_task(Own(), ITEM, ANSWER)


@pytest.mark.parametrize(
    ("task", "item", "says"),
    [
        (Own(accept=None), ITEM, "it has no accept"),
        (Own(name="Test Note"), ITEM, "'plugin/task'"),
        (Own(kind="sermon"), ITEM, "its kind 'sermon' is none of"),
        (Own(role="critic"), ITEM, "its role 'critic'"),
        (replace(note, role="poet"), ITEM, "pass persona='poet'"),
        (replace(note, kind=Kind.POEM), ITEM, "go together"),
        (replace(note, max_tokens=0), ITEM, "must be positive"),
        (Own(input=Poem), ITEM, "subclass of Item"),
        (Own(output=Poem), ITEM, "subclass of Answer"),
        (note, QuestionItem(question="Why?"), "give a PoemItem"),
        (Own(prompt=turned("{{ mood }}")), ITEM, r"uses \['mood'\]"),
        (Own(prompt=Prompt("Task: test/note. {{ poem }}")), ITEM, r"never uses \['brief'\]"),
        (replace(note, prompt=turned("{{ poem.nothing }}")), ITEM, "its turn raised Undefined"),
        (replace(note, prompt=Prompt("{{ poem }}{{ brief }}")), ITEM, "does not name the task"),
        (replace(note, prompt=turned("{{ lipsum() }}")), ITEM, "differs between two renderings"),
        (note, Restless(poem=POEM), "different item_ids"),
        (note, Whose(poem=POEM), "changes with a poem's quality"),
        (
            replace(
                note,
                input=Shelf,
                prompt=Prompt("Task: test/note. {{ poems_on_it[0].quality }}"),
            ),
            Shelf(poems_on_it=(POEM,)),
            "changes with a poem's quality",
        ),
        (
            replace(note, prompt=replace(note.prompt, guide="{{ lipsum() }}")),
            ITEM,
            "its guide differs",
        ),
        (replace(note, prompt=replace(note.prompt, guide=" ")), ITEM, "its guide is empty"),
        (replace(note, output=Unbounded), ITEM, r"answer\.text has no bound; give it max_length"),
        (replace(note, output=Free), ITEM, r"answer\.counts takes keys of any name"),
        (replace(note, output=Loose), ITEM, "answer takes keys of any name"),
        (replace(note, output=Nested), ITEM, "a Nested inside a Nested"),
        (replace(note, output=Endless), ITEM, r"answer\.notes has no bound"),
        (replace(note, output=Fixed), ITEM, r"tuple\[X, \.\.\.\]"),
        (replace(note, output=Anything), ITEM, r"answer\.thing may be anything"),
        (replace(note, output=Uncomputed), ITEM, "holds size, .* add to computed"),
        (replace(note, finish=broken), ITEM, "read raised KeyError"),
        (replace(note, check=broken), ITEM, "accept raised KeyError"),
        (replace(note, check=lambda *_: False), ITEM, "accept returned False"),
        (replace(note, check=lambda *_: "too short"), ITEM, r"is refused \(too short\)"),
        (replace(note, meta=broken), ITEM, "examples raised KeyError"),
        (Own(examples=lambda *_: []), ITEM, "gives no training row"),
        (Own(examples=rows(edited(0, "Be nice."))), ITEM, "system message must be the persona"),
        (Own(examples=rows(edited(1, "Well?"))), ITEM, "the generation turn, byte for byte"),
        (Own(examples=rows(edited(2, "{}"))), ITEM, r"assistant message must be the answer's"),
        (
            Own(examples=rows(lambda e: e.model_copy(update={"messages": e.messages[1:]}))),
            ITEM,
            "must be system, user, assistant",
        ),
        (
            Own(examples=rows(lambda e: e.model_copy(update={"quality": "good"}))),
            ITEM,
            "quality must be 'bad', not 'good'",
        ),
    ],
)  # fmt: skip
def test_a_task_that_breaks_a_promise_is_told_which(task: Any, item: Item, says: str) -> None:
    with pytest.raises(TaskError, match=says) as caught:
        check_task(task, item, ANSWER)
    assert str(caught.value).startswith("Task ")


def test_an_answer_that_does_not_fit_is_shown_with_the_bound_it_breaks() -> None:
    with pytest.raises(TaskError, match=r"does not fit Note.*at least 3"):
        check_task(note, ITEM, '{"text": "."}')


def test_without_an_answer_only_what_needs_none_is_checked() -> None:
    check_task(replace(note, check=broken), ITEM)


def able(request: Request) -> str:
    return json.dumps({"thing": "cork"}) if request.schema else "cork"


def test_the_built_in_backends_conform(model_server: Any) -> None:
    check_backend(Scripted(able))
    check_backend(Claude("claude-opus-5-5"))
    check_backend(OpenAI(f"{model_server.url}/v1#some-model"))


class Speaking:
    """A backend with parts replaced."""

    def __init__(self, **parts: Any) -> None:
        self.id = "speaking"
        self.concurrency = 1
        self.say: Callable[[Request], Any] = able
        self.__dict__.update(parts)
        self.closed = 0

    async def complete(self, request: Request) -> Reply:
        said = self.say(request)
        if isinstance(said, Exception):
            raise said
        return Reply(text=said, model="speaking") if isinstance(said, str) else said

    async def aclose(self) -> None:
        self.closed += 1


def unkind(request: Request) -> str | Exception:
    if request.max_tokens == 1:
        return BackendError("cut", kind="whatever")  # type: ignore[arg-type]
    return able(request)


class Slow(Speaking):
    timeout = 0.01

    async def complete(self, request: Request) -> Reply:
        await asyncio.sleep(1)
        raise AssertionError


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        (object(), "must have id, concurrency"),
        (Speaking(id=""), "name the model"),
        (Speaking(concurrency=0), "1 or more"),
        (Speaking(timeout=0), "more than 0"),
        (Speaking(price=3.0), "Price, or None"),
        (Speaking(say=lambda _: BackendError("declined", kind="refusal")), r"fails \(refusal\)"),
        (Speaking(say=lambda _: OSError("gone")), "raises OSError: gone; translate that"),
        (Speaking(say=lambda _: 3), "return a Reply"),
        (Speaking(say=lambda _: "cork"), "pass request.schema on"),
        (Speaking(say=unkind), "has the kind 'whatever'"),
        (Slow(), "within its own timeout"),
    ],
)
def test_a_backend_that_breaks_a_promise_is_told_which(backend: Any, says: str) -> None:
    with pytest.raises(PluginError, match=says):
        check_backend(backend)


def test_a_backend_is_closed_and_used_again_and_may_fail_when_it_has_no_room() -> None:
    cut = BackendError("cut at 1 token", kind="truncated")
    backend = Speaking(say=lambda r: cut if r.max_tokens == 1 else able(r))

    async def notebook() -> None:
        check_backend(backend)

    asyncio.run(notebook())
    assert backend.closed == 2
