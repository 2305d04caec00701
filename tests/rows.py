"""Training rows made through the tasks themselves, for tests of the mixture and the split."""

from __future__ import annotations

from functools import cache
from typing import Any

from sources import make_poem
from versecraft.answers import Brief, Critique, Form, Issue, Loc, RevisionBrief, Strength, Verse
from versecraft.plugins import get_task
from versecraft.records import (
    BriefItem,
    Example,
    Item,
    PairItem,
    Poem,
    PoemItem,
    QuestionItem,
    RequestItem,
    RevisionItem,
)

_FORM = Form(name="free-verse", lines=(6, 12), scheme="none", meter="none", feet=0)
_META = {"model": "written for tests", "licence": "MIT"}


_task = cache(get_task)


def _row(task: str, item: Item, answer: Any) -> Example:
    example = next(iter(_task(task).examples(item, answer)))
    return example.model_copy(update={"meta": {**example.meta, **_META}})


def _loc(poem: Poem) -> Loc:
    return Loc(quote=poem.text.split("\n")[0].ljust(3, "."))


def critique_of(poem: Poem, must_fix: bool | None = None, say: str = "") -> Critique:
    """A critique; by default one that agrees with the poem's quality."""
    severe = poem.quality == "bad" if must_fix is None else must_fix
    return Critique(
        strengths=(Strength(location=_loc(poem), effect="The noun arrives before its verb does."),),
        issues=(
            Issue(
                type="padding",
                location=_loc(poem),
                diagnosis=f"The number at the end only fills the line. {say}",
                direction="Cut the number and end the line on its noun.",
                severity="must_fix" if severe else "should_fix",
            ),
        ),
    )


@cache
def critique(poem: Poem, must_fix: bool | None = None, say: str = "") -> Example:
    return _row("critique", PoemItem(poem=poem), critique_of(poem, must_fix, say))


@cache
def autopsy(poem: Poem, why: str = "It has been said at every window since.") -> Example:
    return _row("autopsy", PoemItem(poem=poem), _autopsy(poem, why))


def _autopsy(poem: Poem, why: str) -> Any:
    finding = {
        "cliche": {"quote": _loc(poem).quote},
        "why_dead": why,
        "reaching_for": "a thing that outlasts its owner",
        "replacement": "a coat that still holds somebody's elbow",
    }
    return _task("autopsy").output.model_validate({"items": [finding]})


@cache
def comparison(a: Poem, b: Poem, winner: Poem | None = None, shares_topic: bool = True) -> Example:
    """A comparison; by default the good poem wins."""
    first = a.quality == "good" if winner is None else winner is a
    point = {
        "dimension": "line",
        "a_quote": _loc(a).quote,
        "b_quote": _loc(b).quote,
        "finding": "its lines end where the thought turns",
    }
    verdict = {
        "winner": "A" if first else "B",
        "margin": "clear",
        "points": [point, {**point, "dimension": "image"}],
        "loser_best": {"quote": _loc(b if first else a).quote},
        "loser_failure": "letting a number stand for a noun",
        "lesson": "End the line on what can be seen.",
    }
    answer = _task("comparison").output.model_validate(verdict)
    return _row("comparison", PairItem(a=a, b=b, shares_topic=shares_topic), answer)


def _brief(angle: str) -> dict[str, Any]:
    return {
        "angle": f"Begin inside the room, with the hands at work and the voice kept out: {angle}",
        "avoid": ("broken heart", "tears like rain", "sands of time", "a single tear", "my soul"),
        "imagery": "kitchen things, their wear and their weight",
        "form": _FORM,
    }


@cache
def revision_brief(poem: Poem) -> Example:
    change = {
        "type": "padding",
        "location": {"quote": _loc(poem).quote},
        "change": "Cut the number from the line.",
    }
    answer = RevisionBrief.model_validate({**_brief("again"), "keep": (), "change": (change,)})
    return _row("revision_brief", RevisionItem(poem=poem, critique=critique_of(poem)), answer)


@cache
def brief(request: str) -> Example:
    return _row("brief", RequestItem(request=request), Brief.model_validate(_brief(request)))


@cache
def lesson(question: str) -> Example:
    answer = {
        "topic": "the line",
        "claim": "A line ends where a reader should wait.",
        "explanation": "Read it aloud and listen for the pause. Where the voice rests of itself "
        "the line may end; where it hurries on, a break is a small shock, and a "
        "shock must be earned. Mark each rest with a pencil, then look which marks fall on "
        "words that can bear the weight.",
        "examples": [
            {
                "quote": "the kettle holds its tongue",
                "source": "made for this test",
                "shows": "The pause falls on the noun.",
            }
        ],
        "exercise": "Break one sentence in three ways, and read each aloud twice.",
    }
    output = _task("lesson").output.model_validate(answer)
    return _row("lesson", QuestionItem(question=question), output)


@cache
def verse(angle: str, text: str, draft: Poem | None = None) -> Example:
    """A poet's row: a brief (with a draft a revision brief), and the poem that answers it."""
    fields = _brief(angle)
    answered: Brief | RevisionBrief = Brief.model_validate(fields)
    if draft:
        place = {"quote": _loc(draft).quote}
        change = {"type": "padding", "location": place, "change": "Cut the number from it."}
        answered = RevisionBrief.model_validate({**fields, "keep": (place,), "change": (change,)})
    return _row("poem", BriefItem(brief=answered, draft=draft), Verse(text=text))


@cache
def full_set(bad: int, good: int, loose: int = 0) -> tuple[Example, ...]:
    """Four tasks on each bad poem with a partner, critiques of good poems, briefs and lessons."""
    poems = [make_poem(n) for n in range(bad)]
    others = [make_poem(n, "good") for n in range(max(good, bad))]
    rows = [task(poem) for poem in poems for task in (critique, autopsy, revision_brief)]
    rows += [
        comparison(*(pair if n % 2 else pair[::-1]))
        for n, pair in enumerate(zip(poems, others, strict=False))
    ]
    rows += [critique(poem) for poem in others[:good]]
    rows += [brief(f"a poem about the number {n}") for n in range(loose)]
    rows += [lesson(f"How long should a line be at step {n}?") for n in range(loose)]
    return tuple(rows)
