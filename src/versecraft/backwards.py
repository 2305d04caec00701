"""Briefs made backwards: a request from a good poem, and the brief and the poem as a pair."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from .answers import Form, says
from .plugins import get_task
from .prosody import check, form_of
from .records import BriefItem, Example, Poem, RequestItem
from .runs import Run
from .tasks import loose_form

__all__ = ["pairs_of", "requests_of", "unbriefed"]

_WORDS = 4  # that a request names of its poem
_LONGEST = 8000  # characters of a poem that an answer may hold
_TITLE = 60  # characters; a longer title says too much of its poem


def unbriefed(poem: Poem) -> str | None:
    """Why no brief can be true of a poem, or None: too long, or rhymes that no brief can ask for.

    Raises:
        MissingExtra: The extra `prosody` is not installed.
    """
    if len(poem.text) > _LONGEST:
        return f"it has {len(poem.text):,} characters, {_LONGEST:,} are the most"
    return _form(poem.text)[1]


@lru_cache(maxsize=4096)
def _form(text: str) -> tuple[Form, str | None]:
    """The form of a poem, and why no brief can ask for it; asked for by each look at a step."""
    form = form_of(text)
    if reason := loose_form(form):
        return form, reason
    broken = check(text, form).broken
    said = f"no scheme of 40 letters is its {broken[0].name}: {broken[0].found}" if broken else None
    return form, said


def requests_of(poems: Iterable[Poem]) -> list[RequestItem]:
    """A request for each poem, from its form, its title and its most telling words.

    The words are those of highest TF-IDF among the given poems, so they tell more the more poems
    there are. A title that stands in its poem is left out. Poems of which no brief can be true
    (`unbriefed`) are left out, with a warning that counts them.

    Raises:
        MissingExtra: The extra `prosody` is not installed.
    """
    poems = list(poems)
    fit = [poem for poem in poems if unbriefed(poem) is None]
    if len(fit) < len(poems):
        warnings.warn(
            f"{len(poems) - len(fit):,} of {len(poems):,} poems get no brief: they are too long, "
            "or rhyme in a way that no brief can ask for. Give others in their place.",
            RuntimeWarning,
            stacklevel=2,
        )
    if not fit:
        return []
    return [
        RequestItem(request=_request(poem, words), poem=poem)
        for poem, words in zip(fit, _telling([p.text for p in fit]), strict=True)
    ]


def _request(poem: Poem, words: Sequence[str]) -> str:
    form = _form(poem.text)[0]
    high = form.lines[1]
    unit = "paragraph" if form.name == "prose-poem" else "line"
    plural = "" if high == 1 else "s"
    request = f"a poem of {high} {unit}{plural} ({form.name.replace('-', ' ')})"
    if poem.title and len(poem.title) <= _TITLE and not says(poem.text, poem.title):
        request += f" called “{poem.title}”"
    return request + (f", with {', '.join(words)} in it" if words else "")


def _telling(texts: Sequence[str]) -> Iterator[list[str]]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    # Words of five letters or more: shorter ones are mostly grammar.
    vectors = TfidfVectorizer(stop_words="english", token_pattern=r"(?u)\b[^\W\d_]{5,}\b")
    try:
        weights = vectors.fit_transform(texts)
    except ValueError:  # no such word in any of the poems
        yield from ([] for _ in texts)
        return
    names = vectors.get_feature_names_out()
    for row in weights:
        best = sorted(zip(-row.data, names[row.indices], strict=True))[:_WORDS]
        yield [str(word) for _, word in best]


def pairs_of(run: Run) -> Iterator[Example]:
    """A training row for the poet from each answered brief that was made backwards.

    Args:
        run: Of the task `brief`, on items of `requests_of`.
    """
    if not any(isinstance(item, RequestItem) and item.poem for item in run.items):
        return
    task = get_task("poem")
    for item, brief in run.answers():
        poem = getattr(item, "poem", None)
        if not isinstance(item, RequestItem) or poem is None:
            continue
        verse = task.output.model_validate({"text": poem.text})
        for row in task.examples(BriefItem(brief=brief), verse):
            meta = {"model": "author", "key": None, "licence": poem.licence or "unknown"}
            of_poem = {"poem_ids": (poem.id,), "quality": poem.quality, "meta": meta}
            yield row.model_copy(update=of_poem)
