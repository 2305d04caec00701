"""Briefs made backwards: a request from a good poem, and the brief and the poem as a pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .answers import says
from .plugins import get_task
from .prosody import form_of
from .records import BriefItem, Example, Poem, RequestItem
from .runs import Run

__all__ = ["pairs_of", "requests_of"]

_WORDS = 4  # that a request names of its poem
_TITLE = 60  # characters; a longer title says too much of its poem


def requests_of(poems: Sequence[Poem]) -> list[RequestItem]:
    """A request for each poem, from its form, its title and its most telling words.

    The words are those of highest TF-IDF among the given poems, so they tell more the more poems
    there are. A title that stands in its poem is left out.
    """
    if not poems:
        return []
    return [
        RequestItem(request=_request(poem, words), poem=poem)
        for poem, words in zip(poems, _telling([p.text for p in poems]), strict=True)
    ]


def _request(poem: Poem, words: Sequence[str]) -> str:
    form = form_of(poem.text)
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
