"""How an educator reads: verdicts on pairs in both orders, critiques of good and of bad poems."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from .answers import FAILURE_TYPES, Critique, Loc, locate
from .figures import Better, Figure, Sheet, Specimen, beside, entropy
from .records import Item, Match, PairItem, Poem, digest
from .sessions import Changes, Session
from .tasks import vague
from .training_data import ARCHAIC, archaic

__all__ = ["Reading", "approvals", "educator_figures", "loop_figures", "period_words"]

_FOLDS = 5
_MOST = 2000  # good poems that the baseline learns from


class Reading(NamedTuple):
    """An educator's first answer to an item.

    Attributes:
        result: The answer as a record; None where it does not fit the schema, or was cut.
        refused: Why the task would refuse it.
    """

    item: Item
    result: Any = None
    refused: str | None = None


MEANS: dict[str, str] = {
    "critic accuracy": "Shown a good and a bad poem in both orders, how often it prefers the good "
    "one. Guessing gives one half.",
    "accuracy by period words": "How often the good poem can be told by old words alone (thee, "
    "hath, o'er). Above 65 % the pairs are told by their period, and the accuracy shows nothing.",
    "consistency": "Pairs on which both orders give the same verdict.",
    "first position": "Verdicts for the poem shown first. Half is fair.",
    "approval of good": "Good poems in which it finds nothing that must be fixed.",
    "approval of bad": "Bad poems in which it finds nothing that must be fixed. Should be none.",
    "issue types": "How varied its complaints are, from 0 (always the same) to 4.2 (all eighteen "
    "types alike).",
    "actionable": "Directions that name something to do, such as what to cut.",
    "schema": "First answers that have the shape that was asked for.",
    "quotes": "Quotations that really stand in the poem.",
    "accepted": "First answers that the task would keep: shape, quotations, directions.",
    "targeted change": "Of the lines that were to change, those that did. Beside it: had as many "
    "lines of the same drafts changed at random.",
    "collateral change": "Of the other lines, those that changed too. Beside it: had as many lines "
    "changed at random.",
    "regression": "Revisions after which something that held holds no more: a clause of the form, "
    "words that were to be kept. Beside it stands nobody: a draft left as it is loses nothing, and "
    "any other would have to be written for it.",
    "approved with open defects": "Sessions that ended as approved though something was left to be "
    "fixed. Must be 0, and so stands beside nobody.",
    "approvals contradicted": "Critiques that approve a draft which breaks its form or its brief. "
    "Beside it: an educator who approves every draft.",
}


def educator_figures(
    verdicts: Sequence[Reading], critiques: Sequence[Reading], of: str, *, seed: int
) -> list[Figure]:
    """What the answers of an educator amount to.

    Args:
        verdicts: Comparisons; two to a pair, one in each order. Those of one bad poem are drawn
            together.
        critiques: Of good and of bad poems.
        of: Whose they are.
        seed: Decides the draws.
    """
    sheet = Sheet(of, MEANS, seed=seed)
    _verdicts(sheet, verdicts)
    _critiques(sheet, [r for r in critiques if r.result is not None])
    both = (("comparison", verdicts, "bad poems"), ("critique", critiques, "poems"))
    for task, readings, counted in both:
        sums = _grouped(readings, lambda r: r.result is not None)
        sheet.share(f"schema: {task}", sums, counted, "answers")
    for task, readings, counted in both:
        sums = _grouped(readings, lambda r: sum(_quotes(r)), lambda r: len([*_quotes(r)]))
        sheet.share(f"quotes: {task}", sums, counted, "quotations")
    for task, readings, counted in both:
        sums = _grouped(readings, lambda r: r.result is not None and r.refused is None)
        sheet.share(f"accepted: {task}", sums, counted, "answers")
    return sheet.figures


def _grouped(
    readings: Sequence[Reading],
    hits: Callable[[Reading], float],
    tries: Callable[[Reading], float] = lambda r: 1,
) -> list[tuple[float, float]]:
    """Hits and tries by the bad poem, or the poem that was read alone."""
    return _sums((_bad(reading), hits(reading), tries(reading)) for reading in readings)


def _sums(found: Iterable[tuple[str, float, float]]) -> list[tuple[float, float]]:
    """Hits and tries by name: pairs that share a bad poem are not independent."""
    by: dict[str, tuple[float, float]] = {}
    for name, hits, tries in found:
        before = by.get(name, (0.0, 0.0))
        by[name] = before[0] + hits, before[1] + tries
    return list(by.values())


def _bad(reading: Reading) -> str:
    return min(reading.item.poems, key=lambda p: p.quality != "bad").id


def right(reading: Reading) -> bool:
    """Whether a verdict prefers the good poem."""
    item: Any = reading.item
    winner: Poem = item.a if reading.result.winner == "A" else item.b
    return winner.quality == "good"


def _verdicts(sheet: Sheet, verdicts: Sequence[Reading]) -> None:
    told = [r for r in verdicts if r.result is not None]
    sheet.share("critic accuracy", _grouped(told, right), "bad poems", "verdicts")
    pairs: dict[frozenset[str], list[Reading]] = {}
    for reading in told:
        pairs.setdefault(frozenset(p.id for p in reading.item.poems), []).append(reading)
    both = [own for own in pairs.values() if len(own) == 2]
    same = _sums((_bad(own[0]), sum(map(right, own)) != 1, 1) for own in both)
    sheet.share("consistency", same, "bad poems", "pairs in both orders")
    first = _grouped(told, lambda r: r.result.winner == "A")
    sheet.share("first position", first, "bad poems", "verdicts", better=None)


def _critiques(sheet: Sheet, critiques: Sequence[Reading]) -> None:
    sides: tuple[tuple[str, Better], ...] = (("good", "high"), ("bad", "low"))
    for quality, better in sides:
        some = [r for r in critiques if r.item.poems[0].quality == quality]
        sums = _grouped(some, lambda r: r.result.approved)
        sheet.share(f"approval of {quality}", sums, f"{quality} poems", "critiques", better=better)
    types = list(FAILURE_TYPES)
    counts = [[sum(i.type == t for i in r.result.issues) for t in types] for r in critiques]
    named = [row for row in counts if any(row)]
    issues = sum(map(sum, named))
    found = entropy(named, seed=sheet.seed)
    sheet.add("issue types", found, len(named), "poems", f"{issues:,} issues", unit="bits")
    sums = _grouped(
        critiques,
        lambda r: sum(vague(i.direction) is None for i in r.result.issues),
        lambda r: len(r.result.issues),
    )
    sheet.share("actionable", sums, "poems", "directions")


def _quotes(reading: Reading) -> Iterator[bool]:
    """For each quotation of an answer whether it stands in the poem it is from."""
    result, item = reading.result, reading.item
    if isinstance(result, Critique):
        places: list[Loc] = [
            *(s.location for s in result.strengths),
            *(i.location for i in result.issues),
        ]
        yield from (place.line is not None for place in places)
    elif result is not None and isinstance(item, PairItem):
        for point in result.points:
            yield locate(point.a_quote, item.a.text) is not None
            yield locate(point.b_quote, item.b.text) is not None
        yield result.loser_best.line is not None


def approvals(critiques: Sequence[Reading], of: str, each: int = 2) -> list[Specimen]:
    """Bad poems that were approved, with what was praised."""
    found = []
    for reading in critiques:
        poem = reading.item.poems[0]
        if reading.result is not None and reading.result.approved and poem.quality == "bad":
            praise = " ".join(s.effect for s in reading.result.strengths)
            about = "A bad poem that was approved." + (f" Said of it: {praise}" if praise else "")
            found.append(Specimen(rank="worst", of=of, text=poem.text, about=about))
    return found[:each]


def misjudged(verdicts: Sequence[Reading], of: str, each: int = 1) -> list[Specimen]:
    """Good poems that lost to their bad partner in both orders, with what was said of them."""
    found: dict[str, list[Reading]] = {}
    for r in verdicts:
        if r.result is not None and not right(r):
            good = next(p for p in r.item.poems if p.quality == "good")
            found.setdefault(good.id, []).append(r)
    texts = []
    for own in found.values():
        good, bad = sorted(own[0].item.poems, key=lambda p: p.quality == "bad")
        if len(own) > 1:
            about = (
                "A good poem that lost in both orders, to one that begins "
                f"“{bad.text.strip().splitlines()[0]}”. It fails, was said, at "
                f"{own[0].result.loser_failure.rstrip('. ')}."
            )
            texts.append(Specimen(rank="worst", of=of, text=good.text, about=about))
    return texts[:each]


# What the same pairs give to somebody who knows nothing but old words.


def period_words(
    pairs: Sequence[Match], corpus: Sequence[Poem], of: str, *, seed: int
) -> Figure | None:
    """How far period words alone tell the good poem of a pair from the bad one.

    A logistic regression on which of the archaic words (`training_data.ARCHAIC`) a poem has. It
    learns from the corpus without the poems of the fifth of the pairs that it then judges; a tie
    counts one half.

    Args:
        pairs: What the critic was asked.
        corpus: Poems to learn from; with none, the other pairs' poems alone.
        of: Whose figure it stands beside.
        seed: Decides the folds, and which good poems it learns from.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    good = sorted((p for p in corpus if p.quality == "good"), key=lambda p: digest(str(seed), p.id))
    bad = [p for p in corpus if p.quality == "bad"]
    poems = {p.id: p for p in (*good[:_MOST], *bad, *(p for m in pairs for p in (m.good, m.bad)))}
    names = list(poems)
    rows = np.array([_archaic(poems[n]) for n in names])
    places = {name: n for n, name in enumerate(names)}
    is_good = np.array([poems[n].quality == "good" for n in names])
    order = sorted(pairs, key=lambda m: digest(str(seed), m.bad.id, m.good.id))
    hits: list[tuple[str, float, float]] = []
    for fold in range(_FOLDS):
        held = order[fold::_FOLDS]
        ids = {poem.id for m in held for poem in (m.good, m.bad)}
        learn = [n for n, name in enumerate(names) if name not in ids]
        if not held or len(set(is_good[learn].tolist())) < 2:
            continue
        model = LogisticRegression(class_weight="balanced").fit(rows[learn], is_good[learn])
        scores = model.decision_function(rows)
        gaps = [scores[places[m.good.id]] - scores[places[m.bad.id]] for m in held]
        won = [float(np.heaviside(round(gap, 9), 0.5)) for gap in gaps]
        hits += [(m.bad.id, hit, 1.0) for m, hit in zip(held, won, strict=True)]
    sheet = Sheet(of, MEANS, seed=seed)
    left = len(order) - len(hits)
    what = "pairs" + (f"; {left:,} left none of one kind to learn from" if left else "")
    sheet.share("accuracy by period words", _sums(hits), "bad poems", what, better=None)
    return sheet.figures[0] if sheet.figures else None


def _archaic(poem: Poem) -> list[float]:
    words = archaic(poem.text)
    return [float(word in words) for word in sorted(ARCHAIC)]


# The loop.


def loop_figures(sessions: Sequence[Session], *, seed: int) -> list[Figure]:
    """What the revisions of sessions changed, and whether approvals hold.

    Baselines are taken from the same sessions: a poet who changes as many lines, but any of them,
    and an educator who approves every draft.
    """
    sheet = Sheet("loop", MEANS, seed=seed)
    revised = [[r.changes for r in s.rounds if r.changes] for s in sessions]

    def sums(hits: Callable[[Any], float], tries: Callable[[Any], float]) -> Any:
        return [(float(sum(map(hits, own))), float(sum(map(tries, own)))) for own in revised]

    named = sums(lambda c: len({*c.named} & {*c.changed}), lambda c: len(c.named))
    sheet.share("targeted change", named, "sessions", "named lines")
    others = sums(lambda c: len({*c.changed} - {*c.named}), lambda c: c.lines - len(c.named))
    sheet.share("collateral change", others, "sessions", "other lines", better="low")
    lost = sums(lambda c: bool(c.lost), lambda c: 1)
    sheet.share("regression", lost, "sessions", "revisions", better="low")
    ended = [
        (float(bool(s.rounds[s.best - 1].defects if s.best else True)), 1.0)
        for s in sessions
        if s.stopped == "approved"
    ]
    sheet.share("approved with open defects", ended, "sessions", "approvals", better="low")
    said = [[r for r in s.rounds if r.critique and r.critique.approved] for s in sessions]
    against = [(float(sum(bool(r.defects) for r in own)), float(len(own))) for own in said]
    sheet.share("approvals contradicted", against, "sessions", "approving critiques", better="low")
    read = [bool(r.breaches or r.refused) for s in sessions for r in s.rounds if r.critique]
    rubber = {"approvals contradicted": sum(read) / len(read)} if read else {}
    every = [c for own in revised for c in own]
    return beside(sheet.figures, {"at random": _at_random(every), "approving all": rubber})


def _at_random(revisions: Sequence[Changes]) -> dict[str, float]:
    """What the same revisions would come to, had as many lines changed, drawn at random."""
    named = sum(len(c.named) for c in revisions)
    others = sum(c.lines - len(c.named) for c in revisions)
    hit = sum(len(c.named) * len(c.changed) / c.lines for c in revisions if c.lines)
    return {
        "targeted change": hit / max(1, named),
        "collateral change": (sum(len(c.changed) for c in revisions) - hit) / max(1, others),
    }
