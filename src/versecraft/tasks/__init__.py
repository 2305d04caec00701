"""The seam to tasks: a named value that knows its prompt, its input and its output."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from ..answers import FIXED_FORMS, Answer, Brief, Form, Loc, locate, plain, words_of
from ..errors import TaskError
from ..kinds import Kind, verse_in
from ..prompting import Prompt
from ..records import Example, Item, Message, Role

__all__ = ["PromptTask", "Task"]

In = TypeVar("In", bound=Item)
Out = TypeVar("Out", bound=Answer)

_NAME = re.compile(r"[a-z][a-z0-9_]*(?:/[a-z][a-z0-9_]*)?")


class Task(Protocol[In, Out]):
    """A named value: what is asked of a model, about what, and what counts as an answer.

    Attributes:
        name: "critique"; a plugin's is "haiku/condense".
        kind: What its output is.
        role: Whose training set its examples join.
        prompt: Turn, guide and persona.
        input: The item model, whose fields are the turn's variables.
        output: The answer model, whose schema the backend is held to.
        backend: "opus", "local" or a backend's spec; a default that a caller may override.
        max_tokens: Upper bound of an answer, with room for thinking.
        typical_tokens: What an answer usually takes; used in estimates only.
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def role(self) -> Role: ...
    @property
    def prompt(self) -> Prompt: ...
    @property
    def input(self) -> type[In]: ...
    @property
    def output(self) -> type[Out]: ...
    @property
    def backend(self) -> str: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def typical_tokens(self) -> int: ...

    def read(self, item: In, answer: str) -> Out:
        """The answer as a record, with what code computes filled in.

        Raises:
            pydantic.ValidationError: It breaks the schema or its bounds.
        """
        ...

    def accept(self, item: In, result: Out) -> str | None:
        """The reason to refuse a result that fits the schema, or None."""
        ...

    def examples(self, item: In, result: Out) -> Iterable[Example]:
        """The training rows that an accepted result makes."""
        ...


@dataclass(frozen=True, kw_only=True)
class PromptTask(Generic[In, Out]):
    """A task made of a prompt and two models; `dataclasses.replace` makes variants.

    Attributes:
        check: The task's own reason to refuse a result, asked after the general checks.
        finish: Fills in what code computes, such as line numbers.
        meta: More facts for the `meta` of each example.

    Raises:
        TaskError: The name is malformed, or the prompt does not fit the input model.
    """

    name: str
    kind: Kind
    prompt: Prompt
    input: type[In]
    output: type[Out]
    role: Role = "educator"
    backend: str = "opus"
    max_tokens: int = 8192
    typical_tokens: int = 700
    check: Callable[[In, Out], str | None] | None = None
    finish: Callable[[In, Out], Out] | None = None
    meta: Callable[[In, Out], dict[str, str]] | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise TaskError(
                f"Task name {self.name!r} must be lower-case words, for a plugin 'plugin/task'."
            )
        self.prompt.check(self.input.model_fields.keys() - self.input.hidden, self.name)

    def read(self, item: In, answer: str) -> Out:
        """The answer as a record, with what code computes filled in."""
        if self.output.bare:
            result = self.output.model_validate({"text": bare_text(answer)})
        else:
            result = self.output.model_validate_json(answer)
        return self.finish(item, result) if self.finish else result

    def accept(self, item: In, result: Out) -> str | None:
        """The reason to refuse a result, or None.

        An educator's answer holds no verse, no sentence in a loop and none that was cut off; then
        comes `check`.
        """
        if self.role == "educator":
            if found := verse_in(result.model_dump()):
                return f"{found[0]} holds a run of verse; say it in prose, quote two lines at most"
            if reason := degenerate(result):
                return reason
        return self.check(item, result) if self.check else None

    def examples(self, item: In, result: Out) -> Iterator[Example]:
        """One row: persona, turn, and the answer as the trained model should give it."""
        qualities = {p.quality for p in item.poems}
        yield Example(
            task=self.name,
            role=self.role,
            kind=self.kind,
            item_id=item.item_id,
            poem_ids=tuple(p.id for p in item.poems),
            quality="bad" if "bad" in qualities else "good" if qualities else None,
            messages=(
                Message(role="system", content=self.prompt.render_persona()),
                Message(role="user", content=self.prompt.render_turn(item.variables())),
                Message(role="assistant", content=result.target()),
            ),
            meta=self.meta(item, result) if self.meta else {},
        )


def bare_text(answer: str) -> str:
    r"""An answer of plain text with line ends as `\n` and plain blanks; its layout stays."""
    text = answer.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ")
    return text.strip("\n").rstrip()


_LOOP = 4  # words in a row that prose does not say three times; no answer of the sample does


def degenerate(result: Answer) -> str | None:
    """The reason to refuse prose as small models write it when they are lost, or None.

    They say the same words over and over, or go on until the schema allows no more.
    """
    for name, text, longest in _prose(result):
        if longest == len(text) and not re.search(r"[.!?…][\"”’')]*$", text):
            return f"{name} is cut off at {longest} characters; say it in fewer"
        words = words_of(text)
        runs = Counter(tuple(words[i : i + _LOOP]) for i in range(len(words) - _LOOP + 1))
        if run := next((" ".join(run) for run, n in runs.items() if n >= 3), None):
            return f"{name} says {run!r} over and over; say it once"
    return None


def _prose(value: Any, name: str = "answer") -> Iterator[tuple[str, str, int | None]]:
    """The strings of an answer, quotations left out, with the characters each may have."""
    if isinstance(value, tuple):
        for part in value:
            yield from _prose(part, name)
    elif isinstance(value, Answer):
        for part, field in type(value).model_fields.items():
            held = getattr(value, part)
            if not isinstance(held, str):
                yield from _prose(held, part)
            elif not part.endswith("quote"):
                bounds = (getattr(bound, "max_length", None) for bound in field.metadata)
                yield part, held, next(filter(None, bounds), None)


def missing_quote(quotes: Iterable[str | Loc], text: str) -> str | None:
    """The reason to refuse a result of which a quotation is not in the poem, or None."""
    for quote in quotes:
        if isinstance(quote, Loc):
            if quote.line is not None:
                continue
            quote = quote.quote
        if locate(quote, text) is None:
            return (
                f"the quote {quote!r} is not in the poem, or runs over more than two lines; "
                "copy the words exactly as they stand"
            )
    return None


# Surgery on words is a direction wherever it is said. Other verbs are as often nouns, or tell what
# a poem does: they count where a clause begins, the general ones only with a place to do it.
_SURGERY = re.compile(
    r"\b(?:combine|compress|convert|cut|delete|dispense|eliminate|enjamb|invert|merge|omit|prune|"
    r"recast|relineate|remove|reorder|replace|rewrite|rework|scrap|shorten|straighten|substitute|"
    r"swap|tighten|trim|withhold)(?:s|ing)?\b"
    r"|\b(?:cutting|dropping|swapping|trimming|instead of|in place of)\b",
    re.IGNORECASE,
)
_BEGIN = r"^|[.;:,(—–]|\b(?:and|then|or|to|instead|but|not|never)\b"
_IN_PROSE = re.compile(r"[“\"]([^“”\"]*)[”\"]|(?<!\w)[‘']([^‘’']*)[’'](?!\w)")


def false_quote(remarks: Iterable[str], *poems: str) -> str | None:
    """The reason to refuse remarks that quote three words or more from no poem, or None."""
    for remark in remarks:
        for double, single in _IN_PROSE.findall(remark):
            quote = double or single
            if len(quote.split()) >= 3 and all(locate(quote, poem) is None for poem in poems):
                return f"the words {quote!r} stand in quotation marks, but not in the poem"
    return None


_OPERATION = re.compile(
    rf"(?:{_BEGIN}|\b(?:can|could|must|should)\b)\s*(?:allow|anchor|attach|begin|break|bring|build|"
    r"change|choose|close|commit|concentrate|count|delay|describe|drop|end|exchange|expand|finish|"
    r"fold|follow|go|ground|hold|identify|introduce|join|keep|lay|lead|leave|let|lift|limit|lose|"
    r"move|name|narrow|open|order|pare|pick|place|point|pull|push|put|reduce|refuse|release|remain|"
    r"render|resist|restore|retain|return|reverse|run|select|set|settle|sharpen|shift|skip|specify|"
    r"spend|split|start|stay|stop|strike|strip|supply|take|tie|trade|translate|trust|turn)\b",
    re.IGNORECASE,
)
_GENERAL = re.compile(
    rf"(?:{_BEGIN})\s*(?:add|find|give|invent|make|say|show|slow|try|use|write)\b", re.IGNORECASE
)
_PLACE = re.compile(
    r"[\"“'‘][^\"”’]{2,}[\"”'’]|\d|\b(?:lines?|stanzas?|couplet|refrain|ending|title)\b",
    re.IGNORECASE,
)
_COMPARATIVE = re.compile(
    r"\bmore (?:vivid|specific|concrete|original|poetic|interesting|powerful|effective|engaging"
    r"|evocative|emotional|impactful|nuanced)\b|\b(?:stronger|better|fresher|deeper|richer) \w+",
    re.IGNORECASE,
)


def vague(direction: str) -> str | None:
    """The reason to refuse a direction that no poet could carry out, or None.

    A direction names an operation (cut, move, name …), or a general verb with a place to do it;
    a bare comparative ("more vivid") needs both.
    """
    operation = _SURGERY.search(direction) or _OPERATION.search(direction)
    place = _PLACE.search(direction)
    comparative = _COMPARATIVE.search(direction)
    if comparative and not (operation and place):
        return f"{comparative[0]!r} tells a poet nothing; say which words go and what comes instead"
    if operation or (place and _GENERAL.search(direction)):
        return None
    return f"the direction {direction[:60]!r} names no operation; say what to cut, move or name"


def repeated(quotes: Iterable[str]) -> str | None:
    """The reason to refuse a result that quotes the same words twice, or None."""
    seen: set[str] = set()
    for quote in map(plain, quotes):
        if quote in seen:
            return f"{quote!r} is quoted twice; give each point a place of its own, or merge them"
        seen.add(quote)
    return None


_SCHEME = re.compile(r"none|(?:[A-Z]\d?)+(?: (?:[A-Z]\d?)+)*")
_LONGEST_BRIEF = 1250  # characters; about the 300 tokens that a poet's brief may have
_FOR_CHANGES = 400  # characters beyond; about the 100 tokens that a revision brief may have more


def loose_brief(brief: Brief) -> str | None:
    """The reason to refuse a brief of any kind, or None: doubled items, flourish, broken form."""
    avoid = [plain(phrase) for phrase in brief.avoid]
    if len(set(avoid)) < len(avoid):
        return "two items of avoid are the same; name five or six different ones"
    if re.search(r"[?!]", f"{brief.angle} {brief.imagery} {' '.join(brief.avoid)}"):
        return "no questions or exclamations in a brief; say it plainly"
    if reason := loose_form(brief.form):
        return reason
    base, whole = Brief.text(brief), brief.text()
    if len(base) > _LONGEST_BRIEF or len(whole) > _LONGEST_BRIEF + _FOR_CHANGES:
        return f"the brief is too long to work from ({len(whole):,} characters); say it in fewer"
    return None


def loose_form(form: Form) -> str | None:
    """The reason to refuse a form that contradicts itself or its name, or None."""
    low, high = form.lines
    if not 1 <= low <= high <= 200:
        return f"the form's lines {low} to {high} are no range; give the fewest, then the most"
    if not _SCHEME.fullmatch(form.scheme):
        return "the scheme is 'none' or capitals in groups, such as 'ABAB CDCD' or 'A1BA2 ABA1'"
    counts, rhymed = FIXED_FORMS.get(form.name, (range(1, 201), False))
    if low not in counts or high not in counts:
        may = " or ".join(map(str, counts[:3])) + (" …" if len(counts) > 3 else "")
        return f"a {form.name} has {may} lines, not {low} to {high}; give what the form has"
    if rhymed and form.scheme == "none":
        return f"a {form.name} rhymes; give its scheme, or choose another form"
    if form.meter not in ("none", "mixed") and not form.feet:
        return f"{form.meter} verse has feet; say how many, or give meter none"
    if form.meter == "none" and form.feet:
        return "feet must be 0 where meter is none"
    return None
