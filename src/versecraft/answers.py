"""What a workshop teacher answers with: the output models that more than one task handles.

Structure lives in JSON, prose for people is made from it by `text()`. Whatever code can compute
(`line`, `approved`) is never asked of a model: it is left out of the schema and of the training
target, and filled in when an answer is read.
"""

from __future__ import annotations

import json
import re
import unicodedata
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import SkipJsonSchema

from .errors import BadInput
from .forms import FIXED_FORMS as FIXED_FORMS
from .forms import FormName as FormName

FailureType = Literal[
    "cliche", "abstraction", "vagueness", "sentimentality", "didactic", "overexplained_ending",
    "forced_rhyme", "padding", "meter_break", "mixed_metaphor", "line_break", "diction", "bathos",
    "overwriting", "redundancy", "incoherence", "stock_voice", "form_breach",
]  # fmt: skip

FAILURE_TYPES: dict[FailureType, str] = {
    "cliche": "a phrase or image used so often that it no longer shows anything",
    "abstraction": "a feeling or idea is named, with nothing to see, hear or touch",
    "vagueness": "general words (things, somewhere, it) where a particular is needed",
    "sentimentality": "more feeling is claimed than the poem has earned",
    "didactic": "the poem instructs or moralises",
    "overexplained_ending": "the close states what the images have already done",
    "forced_rhyme": "word order or sense is bent to reach a rhyme",
    "padding": "filler syllables or words that serve only the count",
    "meter_break": "the promised pattern breaks for no reason",
    "mixed_metaphor": "vehicles that cannot hold together",
    "line_break": "prose chopped up; breaks at articles, prepositions or every clause end",
    "diction": "a clash of register or period (thee beside laptop)",
    "bathos": "a comic drop in tone that was not meant",
    "overwriting": "stacked adjectives, intensifiers, thesaurus words",
    "redundancy": "says again without gain",
    "incoherence": "syntax, pronoun or scene cannot be followed",
    "stock_voice": "anyone's poem: a generic speaker, greeting-card or machine manner",
    "form_breach": "breaks the stated contract: lines, scheme, refrain",
}
"""The eighteen ways in which a poem fails, each with its one-line meaning."""


class Answer(BaseModel):
    """Base of output models: frozen, unknown fields refused, computed fields kept from models.

    Attributes:
        bare: The answer is plain text, not JSON.
        computed: Fields that code fills in; they are neither asked for nor trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    bare: ClassVar[bool] = False
    computed: ClassVar[frozenset[str]] = frozenset()

    def target(self) -> str:
        """The exact text that a model is trained to answer with: compact JSON of what was asked."""
        return json.dumps(_asked(self), ensure_ascii=False, separators=(",", ":"))


def _asked(value: Any) -> Any:
    if isinstance(value, Answer):
        names = (n for n in type(value).model_fields if n not in value.computed)
        return {name: _asked(getattr(value, name)) for name in names}
    return [_asked(v) for v in value] if isinstance(value, tuple) else value


class Loc(Answer):
    """A place in a poem, named by its words; the line number is computed from them."""

    computed = frozenset({"line"})
    quote: Annotated[
        str,
        Field(
            min_length=3,
            max_length=160,
            description="Words copied exactly from the poem, at most two lines.",
        ),
    ]
    line: SkipJsonSchema[int | None] = None


class Strength(Answer):
    """Something that works, and what it does to a reader."""

    location: Loc
    effect: Annotated[str, Field(min_length=20, max_length=240)]


class Issue(Answer):
    """Something that does not work, why, and which way to take it."""

    type: FailureType
    location: Loc
    diagnosis: Annotated[str, Field(min_length=20, max_length=280)]
    direction: Annotated[str, Field(min_length=20, max_length=280)]
    severity: Literal["must_fix", "should_fix"]


class Critique(Answer):
    """A critique. `approved` is derived: true when no issue must be fixed."""

    computed = frozenset({"approved"})
    strengths: Annotated[tuple[Strength, ...], Field(max_length=2)]
    issues: Annotated[tuple[Issue, ...], Field(max_length=5)]
    approved: SkipJsonSchema[bool] = False

    def text(self) -> str:
        """The critique as a teacher would write it on the page."""
        parts = [f"{_at(s.location)} {s.effect}" for s in self.strengths]
        for issue in self.issues:
            need = "must" if issue.severity == "must_fix" else "should"
            parts.append(
                f"{_at(issue.location)} {issue.type.replace('_', ' ')} ({need} be fixed). "
                f"{issue.diagnosis} {issue.direction}"
            )
        parts.append("This poem has found its shape." if self.approved else "Not there yet.")
        return "\n\n".join(parts)


class Form(Answer):
    """A form as a contract: how many lines (paragraphs in a prose poem), which rhyme and metre."""

    name: FormName
    lines: Annotated[
        tuple[int, ...],
        Field(min_length=2, max_length=2, description="Fewest and most lines, in that order."),
    ]
    scheme: Annotated[
        str,
        Field(min_length=1, max_length=40, description="Such as 'ABAB CDCD EFEF GG' or 'none'."),
    ]
    meter: Annotated[
        Literal["iambic", "trochaic", "anapestic", "dactylic", "mixed", "none"],
        Field(description="The foot; 'none' for free verse."),
    ]
    feet: Annotated[
        int, Field(ge=0, le=8, description="Feet in a line; 0 where there is no metre.")
    ]

    def text(self) -> str:
        """The contract in one line, such as 'haiku, 3 lines, unrhymed, no metre'."""
        low, high = self.lines
        count = f"{low}" if low == high else f"{low} to {high}"
        unit = "paragraph" if self.name == "prose-poem" else "line"
        plural = "" if high == 1 else "s"
        rhyme = "unrhymed" if self.scheme == "none" else f"rhymed {self.scheme}"
        metre = "no metre" if self.meter == "none" else f"{self.meter}, {self.feet} feet"
        return f"{self.name.replace('-', ' ')}, {count} {unit}{plural}, {rhyme}, {metre}"

    def count(self, text: str) -> int:
        """Lines of a text that are not blank; of a prose poem its paragraphs."""
        parts = re.split(r"\n\s*\n" if self.name == "prose-poem" else "\n", text)
        return sum(bool(part.strip()) for part in parts)

    @classmethod
    def read(cls, text: str) -> Form:
        """The contract that `text()` put into a line.

        Raises:
            BadInput: The line is none.
        """
        found = _FORM.fullmatch(text.strip())
        if not found:
            raise BadInput(f"{text[:80]!r} is no form. Write it as Form.text() does.")
        name, low, high, scheme, meter, feet = found.groups()
        facts = {"name": name.replace(" ", "-"), "lines": (int(low), int(high or low))}
        facts |= {"scheme": scheme or "none", "meter": meter or "none", "feet": int(feet or 0)}
        try:
            return cls.model_validate(facts)
        except ValidationError as error:
            raise BadInput(f"{text[:80]!r} is no form. Write it as Form.text() does.") from error


_FORM = re.compile(
    r"([a-z ]+), (\d+)(?: to (\d+))? (?:line|paragraph)s?, (?:unrhymed|rhymed ([^,]+)), "
    r"(?:no metre|([a-z]+), (\d) feet)"
)


Phrase = Annotated[str, Field(min_length=3, max_length=80)]


class Brief(Answer):
    """What a poet is given: a way in, what to avoid, where images come from, which form."""

    angle: Annotated[str, Field(min_length=60, max_length=420)]
    avoid: Annotated[tuple[Phrase, ...], Field(min_length=5, max_length=6)]
    imagery: Annotated[str, Field(min_length=30, max_length=240)]
    form: Form

    def text(self) -> str:
        """The brief as the poet reads it."""
        return (
            f"Angle: {self.angle}\nAvoid: {'; '.join(self.avoid)}\n"
            f"Imagery: {self.imagery}\nForm: {self.form.text()}"
        )

    @classmethod
    def read(cls, text: str) -> Brief:
        """The brief at the head of a text that `text()` of a brief or revision brief made.

        Raises:
            BadInput: The text does not begin with one.
        """
        found = _BRIEF.match(text)
        if not found:
            raise BadInput(f"{text[:80]!r} begins no brief. Write it as Brief.text() does.")
        angle, avoid, imagery, form = found.groups()
        return Brief.model_construct(
            angle=angle, avoid=tuple(avoid.split("; ")), imagery=imagery, form=Form.read(form)
        )


_BRIEF = re.compile(r"Angle: (.*?)\nAvoid: (.*?)\nImagery: (.*?)\nForm: ([^\n]*)", re.DOTALL)


class Change(Answer):
    """One thing to change in a draft, and where."""

    type: FailureType
    location: Loc
    change: Annotated[str, Field(min_length=15, max_length=200)]


class RevisionBrief(Brief):
    """A brief in the same compact format, with what to keep and what to change."""

    keep: Annotated[tuple[Loc, ...], Field(max_length=4)]
    change: Annotated[tuple[Change, ...], Field(min_length=1, max_length=4)]

    def text(self) -> str:
        """The revision brief as the poet reads it."""
        lines = [super().text()]
        lines += [f"Keep: “{loc.quote}”" for loc in self.keep]
        lines += [f"Change: “{c.location.quote}” — {c.change}" for c in self.change]
        return "\n".join(lines)


class Verse(Answer):
    """A poem and nothing else. The answer is the text itself, not JSON."""

    bare = True
    text: Annotated[str, Field(min_length=1, max_length=8000)]

    def target(self) -> str:
        """The bare poem."""
        return self.text


def _at(location: Loc) -> str:
    where = f"Line {location.line}, " if location.line else ""
    return f"{where}“{location.quote}”:"


# For checks on what a model says of a poem.

_PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "—": "-", "–": "-", "…": "..."})


def plain(text: str) -> str:
    """Text for comparing: quotes, dashes and case unified, `/` and white space as one blank."""
    return " ".join(_unified(text).split())


def _unified(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).translate(_PLAIN).lower()
    return re.sub(r"-{2,}", "-", text).replace("/", " ")


def words_of(text: str) -> list[str]:
    """The words of a text for comparing, in order, without punctuation or marks of emphasis."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", plain(text))


def says(text: str, phrase: str) -> bool:
    """Whether the words of `phrase` stand in `text` in a row, wherever its lines break."""
    return f" {' '.join(words_of(phrase))} " in f" {' '.join(words_of(text))} "


def shared_run(text: str, other: str, count: int) -> str | None:
    """The first `count` words in a row that stand in both texts, or None."""
    words = words_of(other)
    runs = {tuple(words[i : i + count]) for i in range(len(words) - count + 1)}
    words = words_of(text)
    for i in range(len(words) - count + 1):
        if (run := tuple(words[i : i + count])) in runs:
            return " ".join(run)
    return None


def locate(quote: str, text: str) -> int | None:
    """Line of `text` (counted from 1, blank lines not counted) on which `quote` begins.

    Returns:
        The line, or None when the quote is not there, or spans more than two lines.
    """
    wanted = " ".join(_quotable(quote).split()).strip(" .,;:!?'-")
    if not wanted:
        return None
    lines, pairs = _places(text)
    for places in (lines, pairs):
        for n, place in enumerate(places, start=1):
            if _stands_in(wanted, place):
                return n
    return None


def _quotable(text: str) -> str:
    """Unified text without what quotations often lose: marks of emphasis, blanks at dashes."""
    text = re.sub(r"[*_]", "", _unified(text)).replace('"', "'")
    return re.sub(r"[^\S\n]*-[^\S\n]*", "-", text)


@lru_cache(maxsize=256)
def _places(text: str) -> tuple[list[str], list[str]]:
    # A line that is a mark alone, such as "* * *", is no place for a quotation, but is counted.
    lines = [" ".join(_quotable(line).split()) for line in text.split("\n") if line.strip()]
    return lines, [f"{a} {b}" for a, b in pairwise(lines)]


def _stands_in(words: str, place: str) -> bool:
    """Whether whole words of `place` read so."""
    at = place.find(words)
    while at >= 0:
        end = at + len(words)
        if not (place[at - 1 : at].isalnum() or place[end : end + 1].isalnum()):
            return True
        at = place.find(words, at + 1)
    return False


A = TypeVar("A", bound=Answer)


def placed(answer: A, text: str) -> A:
    """The answer with the `line` of every `Loc` in it computed from `text`."""

    def walk(value: Any) -> Any:
        if isinstance(value, Loc):
            return Loc.model_construct(quote=value.quote, line=locate(value.quote, text))
        if isinstance(value, Answer):
            held = {k: getattr(value, k) for k in type(value).model_fields}
            changed = {k: walk(v) for k, v in held.items() if isinstance(v, (Answer, tuple))}
            return value.model_copy(update=changed) if changed else value
        if isinstance(value, tuple):
            return tuple(walk(v) for v in value)
        return value

    placed_answer: A = walk(answer)
    return placed_answer
