"""The records that travel through versecraft: frozen, with unknown fields refused."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from io import StringIO
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .answers import Brief, Critique, RevisionBrief, plain
from .errors import ErrorKind

if TYPE_CHECKING:
    from rich.console import RenderableType

Quality = Literal["good", "bad"]
Role = Literal["educator", "poet"]


class Kind(StrEnum):
    """What a text is."""

    POEM = "poem"
    CRITIQUE = "critique"
    COMPARISON = "comparison"
    AUTOPSY = "autopsy"
    BRIEF = "brief"
    REVISION_BRIEF = "revision_brief"
    LESSON = "lesson"


class Record(BaseModel):
    """A frozen record that refuses unknown fields."""

    # Validators are built at first use: importing versecraft must be cheap.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Shown:
    """A record that shows as a table (`__rich__`), and in one line by its `report()`."""

    @abstractmethod
    def report(self) -> dict[str, Any]:
        """The facts as plain values."""

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={value!r}" for name, value in self.report().items())
        return f"{type(self).__name__}({facts})"

    __str__ = __repr__

    @abstractmethod
    def __rich__(self) -> RenderableType: ...

    def _repr_html_(self) -> str:
        from rich.console import Console

        console = Console(record=True, file=StringIO(), width=100, markup=False)
        console.print(self)
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def digest(*parts: str) -> str:
    """Sixteen hexadecimal digits that stand for the given texts, in order."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:16]


class Poem(Record):
    r"""A poem with its line breaks, stanza breaks and indentation as they were.

    Attributes:
        text: Lines separated by `\n`, stanzas by a blank line.
        id: Digest of the text with case, quotes, dashes and white space unified.
        file: Where it was read, relative to the corpus; empty for poems made in memory.
    """

    text: Annotated[str, Field(min_length=1)]
    quality: Quality
    id: str = ""
    title: str | None = None
    author: str | None = None
    year: int | None = None
    source: str | None = None
    licence: str | None = None
    file: str = ""

    @model_validator(mode="before")
    @classmethod
    def _identify(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("id") and isinstance(data.get("text"), str):
            return {**data, "id": digest(plain(data["text"]))}
        return data


class Dropped(Record):
    """Something that was left out, where it stood, and why.

    Attributes:
        reason: A short code, the same for all that were dropped for it.
        detail: The reason in words, for this one.
        line: Line in the file, from 1, where that is known.
        item: Number or name of the item inside the file.
    """

    file: str
    reason: str
    detail: str
    line: int | None = None
    item: str | None = None


class Corpus(Shown, Record):
    """The poems that were read, and everything that was not taken, with its reason."""

    good: tuple[Poem, ...]
    bad: tuple[Poem, ...]
    dropped: tuple[Dropped, ...] = ()

    @property
    def poems(self) -> tuple[Poem, ...]:
        """All poems, the bad ones first."""
        return self.bad + self.good

    def report(self) -> dict[str, Any]:
        """Counts of poems, authors and licences, and of what was dropped by reason."""
        return {
            "good": len(self.good),
            "bad": len(self.bad),
            "authors": len({p.author for p in self.poems if p.author}),
            "licences": dict(Counter(p.licence or "unknown" for p in self.poems)),
            "dropped": dict(Counter(d.reason for d in self.dropped)),
        }

    def __rich__(self) -> RenderableType:
        from rich.table import Table

        table = Table(title="Corpus", title_justify="left")
        table.add_column("what")
        table.add_column("count", justify="right")
        table.add_row("good poems", f"{len(self.good):,}")
        table.add_row("bad poems", f"{len(self.bad):,}")
        for reason, count in sorted(Counter(d.reason for d in self.dropped).items()):
            table.add_row(f"dropped: {reason}", f"{count:,}")
        return table


class Item(Record):
    """Something a task is done on; its fields are the variables of the task's turn.

    A plugin's input model is a subclass with fields of its own. Poems reach the template as
    their bare text, so that no turn can tell whose a poem is or whether it is good.

    Attributes:
        hidden: Fields that no turn shows; they are for code alone.
    """

    hidden: ClassVar[frozenset[str]] = frozenset()

    @property
    def poems(self) -> tuple[Poem, ...]:
        """The poems among the fields, in the order of the fields."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(v for v in values if isinstance(v, Poem))

    @property
    def item_id(self) -> str:
        """A stable name: the ids of the poems, or a digest of the whole item without any."""
        ids = ":".join(p.id for p in self.poems)
        return ids or digest(self.model_dump_json(exclude=set(self.hidden)))

    def variables(self) -> dict[str, Any]:
        """The template's variables: the fields that are shown, with each poem as its text."""
        shown = (name for name in type(self).model_fields if name not in self.hidden)
        values = {name: getattr(self, name) for name in shown}
        return {k: v.text if isinstance(v, Poem) else v for k, v in values.items()}


class PoemItem(Item):
    """A poem, and the brief it answers if there is one (critique, autopsy)."""

    poem: Poem
    brief: Brief | None = None

    @property
    def item_id(self) -> str:
        """The poem's id, with a digest of the brief where there is one."""
        return f"{self.poem.id}:{digest(self.brief.text())}" if self.brief else self.poem.id


class PairItem(Item):
    """Two poems to compare (comparison). Made by `Match.pair`."""

    a: Poem
    b: Poem
    shares_topic: bool


class RequestItem(Item):
    """What somebody wants a poem about (brief).

    Attributes:
        poem: The poem that the request was made from, where it was made backwards. The turn does
            not show it; the brief has to be true of it.
    """

    hidden = frozenset({"poem"})
    request: Annotated[str, Field(min_length=3, max_length=400)]
    poem: Poem | None = None


class RevisionItem(Item):
    """A poem with its critique, and the brief it answered if there is one (revision_brief)."""

    poem: Poem
    critique: Critique
    brief: Brief | None = None

    @property
    def item_id(self) -> str:
        """The poem's id with a digest of the critique, and of the brief where there is one."""
        brief = self.brief.text() if self.brief else ""
        return f"{self.poem.id}:{digest(self.critique.target(), brief)}"


class QuestionItem(Item):
    """A craft question (lesson)."""

    question: Annotated[str, Field(min_length=3, max_length=400)]


class BriefItem(Item):
    """A brief, or a revision brief with the draft it is about (poem)."""

    brief: Brief | RevisionBrief
    draft: Poem | None = None

    @property
    def item_id(self) -> str:
        """A digest of the brief, after the draft's id where there is one."""
        name = digest(self.brief.text())
        return f"{self.draft.id}:{name}" if self.draft else name


class Match(Record):
    """A bad poem and a good partner.

    Attributes:
        similarity: The matcher's score of the pair; comparable within one set of matches only.
        shares_topic: Whether the score is above the floor; below it no prompt claims a topic.
        rank: 1 for the best round, 2 for the second partner, and so on.
    """

    bad: Poem
    good: Poem
    similarity: float
    shares_topic: bool
    rank: int = 1

    def pair(self, order: Literal["bad-first", "good-first"]) -> PairItem:
        """The pair as an item for comparison, in the given order."""
        a, b = (self.bad, self.good) if order == "bad-first" else (self.good, self.bad)
        return PairItem(a=a, b=b, shares_topic=self.shares_topic)


class Usage(Record):
    """Tokens by the class they are paid for.

    `input` excludes what was written to or read from a prompt cache; `thinking` is part of
    `output`.

    Attributes:
        requests: How many requests these tokens were charged for.
    """

    requests: int = 0
    input: int = 0
    output: int = 0
    thinking: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{f: getattr(self, f) + getattr(other, f) for f in Usage.model_fields})

    @property
    def sent(self) -> int:
        """All tokens of the prompts, whether they were read, cached or found in a cache."""
        return self.input + self.cache_write_5m + self.cache_write_1h + self.cache_read


class Price(Record):
    """Dollars per million tokens, by class; `batch` is the factor of the batch API.

    Tokens of a prompt cache cost what other input does where no price of their own is given.
    """

    input: float
    output: float
    cache_write_5m: float | None = None
    cache_write_1h: float | None = None
    cache_read: float | None = None
    batch: float = 0.5

    def cost(self, usage: Usage) -> float:
        """Dollars for the given tokens."""
        dollars = usage.input * self.input + usage.output * self.output
        for name in ("cache_write_5m", "cache_write_1h", "cache_read"):
            price = getattr(self, name)
            dollars += getattr(usage, name) * (self.input if price is None else price)
        return dollars / 1e6

    def batched(self) -> Price:
        """The prices of the batch API."""
        live = self.model_dump(exclude={"batch"}, exclude_none=True)
        return Price(**{name: dollars * self.batch for name, dollars in live.items()}, batch=1.0)

    def saved(self, usage: Usage) -> float:
        """Dollars that a prompt cache saved: what its tokens would have cost as other input."""
        uncached = Usage(input=usage.sent, output=usage.output)
        return self.cost(uncached) - self.cost(usage)


class RowError(Record):
    """Why a row has no output, and whether asking again may help."""

    kind: ErrorKind
    message: str
    retryable: bool


class Row(Record):
    """One line of a ledger: an answer or a failure, never both.

    Attributes:
        key: Digest of what was sent: backend, system, turn, schema, limits, seed.
        turn: The user message of the first attempt; later attempts only add to it.
        output: The answer as the task's output model dumps it.
        prompt: Digest of the prompt: guide or persona, turn template, schema.
        model: The model that really answered.
        request_id: The provider's id of the last request, or of the batch it was in.
        usage: Tokens summed over all attempts.
        price: Dollars per million tokens that were charged.
        cost: Dollars for that usage.
        attempts: How often it was sent.
        lost: Attempts whose answer never came, though they may have been paid for: they were
            past their deadline, or the connection broke after the request was sent.
        started: Seconds since the epoch, as are `finished` and `edited`.
        edited: When a reader changed the output; in no ledger, but in what is read from one.
    """

    key: str
    task: str
    item_id: str
    poem_ids: tuple[str, ...]
    turn: str
    output: dict[str, Any] | None = None
    error: RowError | None = None
    prompt: str | None = None
    backend: str
    model: str | None = None
    request_id: str | None = None
    stop_reason: str | None = None
    usage: Usage = Usage()
    price: Price | None = None
    cost: float = 0.0
    attempts: int = 1
    lost: int = 0
    started: float
    finished: float
    edited: float | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.output is None) == (self.error is None):
            raise ValueError("a row has exactly one of output and error")
        return self


class Message(Record):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class Example(Record):
    """One training row in chat format, with where it comes from.

    Attributes:
        quality: `bad` when a bad poem is in it; None when no poem is.
        meta: `model` (who answered), `key` (of the ledger row), `licence`; `edited` is "yes" where
            a reader changed the answer; a comparison adds `winner` (the id of the poem it prefers).
    """

    task: str
    role: Role
    kind: Kind
    item_id: str
    poem_ids: tuple[str, ...]
    quality: Quality | None
    messages: tuple[Message, ...]
    meta: Mapping[str, str | None] = {}
