"""`haiku/condense`: two images, a season and a cut, found in a longer poem."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from versecraft import Item, Kind, Poem, Prompt, PromptTask, Task, hookimpl
from versecraft.answers import Answer, Loc, locate, placed

Season = Literal["spring", "summer", "autumn", "winter"]
MOST_SYLLABLES = 17
_SILENT_E = re.compile(r"(?<![aeiouy])(?<![^aeiouy]l)(?:e|(?<![szxcgh])es|(?<![dt])ed)$")


class SeasonItem(Item):
    """A poem, and the season to read it in if somebody set one."""

    poem: Poem
    season: Season | None = None

    @property
    def item_id(self) -> str:
        """The poem's id, with the season where there is one."""
        return f"{self.poem.id}:{self.season}" if self.season else self.poem.id


class Condensation(Answer):
    """What a haiku would keep of a poem. `syllables` is counted, not asked for."""

    computed = frozenset({"syllables"})
    image: Annotated[Loc, Field(description="The thing that is seen or heard.")]
    against: Annotated[Loc, Field(description="What the cut sets beside it, from another line.")]
    season: Season | Literal["none"]
    season_word: Annotated[
        Loc | None, Field(description="The words that set the season; null where there is none.")
    ]
    cut: Annotated[
        str, Field(min_length=20, max_length=200, description="What the gap leaves unsaid.")
    ]
    leave_out: Annotated[
        tuple[Annotated[str, Field(min_length=3, max_length=80)], ...],
        Field(min_length=1, max_length=3, description="What a haiku must not say."),
    ]
    syllables: SkipJsonSchema[int] = 0

    def text(self) -> str:
        """The same for people, in prose."""
        season = f" It is {self.season}." if self.season != "none" else ""
        return (
            f"Keep “{self.image.quote}” and set it against “{self.against.quote}”.{season} "
            f"{self.cut} Leave out {', '.join(self.leave_out)}."
        )


def syllables(text: str) -> int:
    """Syllables of English words by their groups of vowels, the silent e left out."""
    words = re.findall(r"[a-z]+", text.lower().replace("’", "").replace("'", ""))
    return sum(max(1, len(re.findall(r"[aeiouy]+", _SILENT_E.sub("", word)))) for word in words)


def check(item: SeasonItem, result: Condensation) -> str | None:
    """The reason to refuse an answer, worded for the model that is asked again, or None."""
    for loc in (result.image, result.against, result.season_word):
        if loc and locate(loc.quote, item.poem.text) is None:
            return f"the quote {loc.quote!r} is not in the poem; copy the words as they stand"
    if result.image.line == result.against.line:
        return "image and against come from one line; a cut needs two places"
    if result.syllables > MOST_SYLLABLES:
        return (
            f"image and against have {result.syllables} syllables together; quote fewer words, "
            f"{MOST_SYLLABLES} syllables at most"
        )
    if (result.season == "none") != (result.season_word is None):
        return "season_word is null exactly where season is none"
    if item.season and result.season != item.season:
        return f"the poem is to be read in {item.season}, not in {result.season}"
    return None


def finish(item: SeasonItem, result: Condensation) -> Condensation:
    """The answer with lines and syllables computed."""
    count = syllables(f"{result.image.quote} {result.against.quote}")
    return placed(result, item.poem.text).model_copy(update={"syllables": count})


condense = PromptTask(
    name="haiku/condense",
    kind=Kind.BRIEF,
    prompt=Prompt.load("condense", package="versecraft_haiku"),
    input=SeasonItem,
    output=Condensation,
    check=check,
    finish=finish,
    typical_tokens=250,
)


@hookimpl
def versecraft_tasks() -> Iterable[Task[SeasonItem, Condensation]]:
    """Registers `haiku/condense`."""
    return [condense]
