"""Evaluation: what a poet and an educator do when nobody corrects them, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from datetime import date
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from .answers import Answer as Output
from .answers import words_of
from .backends import Backend, BatchBackend
from .canaries import Answer, Canary, canaries, lists, poet_figures, specimens, verse_rates
from .critics import (
    Reading,
    approvals,
    educator_figures,
    loop_figures,
    misjudged,
    period_words,
)
from .diversity import Memory, length_for
from .errors import BadInput
from .figures import Figure, Report, Specimen, beside, values_of
from .generating import generate
from .matching import Matcher
from .planning import plan
from .plugins import get_task
from .records import BriefItem, Corpus, Item, Match, Row, digest
from .runs import Plan
from .sessions import Session
from .tasks import PromptTask, Task

__all__ = ["evaluate"]

Backends = Backend | BatchBackend | Mapping[str, Backend | BatchBackend]
System = Literal["guide", "persona"]

GREEDY = "greedy"
_SAMPLE = 300  # good poems of the corpus that a poet's figures are held against
_TOO_EASY = 0.65  # of period words; see poetics


def evaluate(
    *,
    poet: Backends | None = None,
    educator: Backend | BatchBackend | None = None,
    base: Backends | None = None,
    corpus: Corpus | None = None,
    matches: Sequence[Match] | None = None,
    sessions: Sequence[Session] = (),
    system: System | Mapping[str, System] = "persona",
    into: Path | str | None = None,
    limit: int | None = None,
    samples: int = 3,
    poem_tokens: int = 1024,
    budget: float | None = None,
    before: Callable[[Sequence[Plan]], None] | None = None,
    seed: int = 7,
    progress: bool = True,
) -> Report:
    """Measures a poet, an educator, or the sessions of both.

    First answers count: nothing that the role firewall or a check would send back is asked again.
    The poet writes to the canary briefs that ship. The educator compares pairs in both orders and
    reads their poems one by one.

    Args:
        poet: A backend; or several by name, such as `greedy` (asked once per brief, for all its
            answers are alike) and `T=0.8`.
        educator: A backend.
        base: Asked the same, to stand beside: one backend, or several by the names of the poet's
            and `educator`.
        corpus: For the poet: what it may have learnt by heart, and how good poems fare. For the
            educator: where pairs come from when there are no matches (drawn at random).
        matches: Pairs for the educator. Give such as it was not trained on.
        sessions: Of the workshop.
        system: What models are told: "persona" for those trained here, "guide" for others; by role
            (`poet`, `educator`) where these differ. The base is told what they are told.
        into: A folder for the ledgers: call again, and what was answered is not asked again. None
            keeps nothing.
        limit: Only so many briefs, and so many pairs.
        samples: Answers to each brief.
        poem_tokens: Longest answer of a poet; one that is longer has not ended by itself.
        budget: Dollars that may be spent.
        before: Is given the plans before anything is asked, such as to show the bill; what it
            raises ends the evaluation.
        seed: Decides samples, resampling, and which pairs and poems are taken.
        progress: Whether to show bars on stderr.

    Raises:
        BadInput: There is nothing to evaluate, or no pairs for the educator, or no answer came.
    """
    if poet is None and educator is None and not sessions:
        raise BadInput("There is nothing to evaluate. Give a poet, an educator or sessions.")
    briefs, version = canaries()
    chosen = (*briefs,)[:limit]
    pairs = _pairs(matches, corpus, seed)[:limit] if educator else []
    systems = dict.fromkeys(("poet", "educator"), system) if isinstance(system, str) else system
    with TemporaryDirectory() as aside:
        asking = _Asking(Path(into or aside), systems, samples, poem_tokens, seed)
        asked = [
            *asking.poems("poet", poet, chosen),
            *asking.poems("base", base if poet else None, chosen, like=poet),
            *asking.readings("educator", educator, pairs),
            *asking.readings("base", _one(base, "educator"), pairs),
        ]
        if before:
            before([one.plan for one in asked])
        found = _ask(asked, budget, progress)
    sheet = _Sheet(seed)
    if poet:
        sheet.add_poets(found, chosen, corpus)
    if educator:
        sheet.add_educator(found, pairs, corpus)
    if sessions:
        sheet.figures += loop_figures(sessions, seed=seed)
    sheet.count(found)
    if not sheet.figures:
        raise BadInput(f"Nothing could be measured. {' '.join(sheet.notes)} Mend it, and go on.")
    items = {
        "canary briefs": len(chosen) if poet else 0,
        "poems": sum(len(rows) for one, rows in found if one.of.startswith("poet")),
        "pairs": len(pairs),
        "sessions": len(sessions),
    }
    return Report(
        made=date.today().isoformat(),
        seed=seed,
        models=_models(found),
        lists=(*lists(), version) if poet else (),
        items={name: n for name, n in items.items() if n},
        figures=tuple(sheet.figures),
        specimens=tuple(sheet.specimens),
        notes=tuple(sheet.notes),
        unanswered=sheet.unanswered,
    )


# Asking. A first answer is kept as it was said, whatever it is, and read afterwards.


@dataclass(frozen=True, kw_only=True)
class _Unchecked(PromptTask[Any, Any]):
    """A task whose first answer always counts: nothing is refused, and nothing asked again."""

    def read(self, item: Item, answer: str) -> Any:
        return _Said(text=answer)

    def accept(self, item: Item, result: Any) -> str | None:
        return None


class _Said(Output):
    text: str


def _unchecked(task: Task[Any, Any], **changes: Any) -> _Unchecked:
    parts = {f.name: getattr(task, f.name) for f in fields(PromptTask)}
    return _Unchecked(**{**parts, "check": None, **changes})


class _Asked(NamedTuple):
    """What is asked of whom; `of` is what the report calls them."""

    of: str
    plan: Plan


@dataclass(frozen=True)
class _Asking:
    into: Path
    systems: Mapping[str, System]
    samples: int
    poem_tokens: int
    seed: int

    def poems(
        self,
        who: str,
        backends: Backends | None,
        briefs: Sequence[Canary],
        like: Backends | None = None,
    ) -> list[_Asked]:
        task = _unchecked(get_task("poem"), max_tokens=self.poem_tokens)
        names = None if like is None else list(like) if isinstance(like, Mapping) else [""]
        return [
            self._asked(_of(who, name), task, [BriefItem(brief=c.brief) for c in briefs], backend,
                        "poet", self.seed + n)
            for name, backend in _named(backends, names).items()
            for n in range(1 if name == GREEDY else self.samples)
        ]  # fmt: skip

    def readings(
        self, who: str, backend: Backend | BatchBackend | None, pairs: Sequence[Match]
    ) -> list[_Asked]:
        if backend is None or not pairs:
            return []
        both = [m.pair(order) for m in pairs for order in ("bad-first", "good-first")]
        poems = list({p.id: p for m in pairs for p in (m.bad, m.good)}.values())
        return [
            self._asked(who, _unchecked(get_task(name)), some, backend, "educator", self.seed)
            for name, some in (("comparison", both), ("critique", poems))
        ]

    def _asked(
        self,
        of: str,
        task: Task[Any, Any],
        sources: Sequence[Any],
        backend: Backend | BatchBackend,
        role: str,
        seed: int,
    ) -> _Asked:
        ledger = self.into / f"{task.name}.jsonl"
        return _Asked(
            of,
            plan(task, sources, backend, ledger=ledger, system=self.systems[role], seed=seed),
        )


def _named(
    backends: Backends | None, names: Iterable[str] | None
) -> Mapping[str, Backend | BatchBackend]:
    """Backends by name, "" for one alone; by the names of the poet's where these are given."""
    if backends is None:
        return {}
    if isinstance(backends, Mapping):
        return {n: b for n, b in backends.items() if names is None or n in names}
    return dict.fromkeys(names or [""], backends)


def _one(backends: Backends | None, name: str) -> Backend | BatchBackend | None:
    return backends.get(name) if isinstance(backends, Mapping) else backends


def _of(who: str, name: str) -> str:
    return f"{who}, {name}" if name else who


def _ask(
    asked: Sequence[_Asked], budget: float | None, progress: bool
) -> list[tuple[_Asked, tuple[tuple[Item, Row], ...]]]:
    found = []
    for _, same in groupby(asked, key=lambda one: id(one.plan.backend)):
        some = list(same)
        with _held(some[0].plan.backend):
            for one in some:
                run = generate(one.plan, budget=budget, progress=progress)
                if budget is not None:
                    budget = max(0.0, budget - run.cost - run.held)
                found.append((one, tuple(zip(run.items, run.rows, strict=True))))
    return found


def _held(backend: object) -> AbstractContextManager[None]:
    """Within this a model in this process stays loaded from run to run."""
    return backend.held() if hasattr(backend, "held") else nullcontext()


Found = Sequence[tuple[_Asked, tuple[tuple[Item, Row], ...]]]


def _models(found: Found) -> dict[str, str]:
    models: dict[str, str] = {}
    for one, rows in found:
        said = Counter(row.model for _, row in rows if row.model)
        models.setdefault(one.of, " and ".join(sorted(said)) or one.plan.backend.id)
    return models


def _pairs(matches: Sequence[Match] | None, corpus: Corpus | None, seed: int) -> list[Match]:
    """The pairs, in an order that the seed decides."""
    if matches is None and corpus is not None and corpus.good and corpus.bad:
        matches = Matcher(strategy="random", seed=seed).fit(corpus.good).match(corpus.bad)
    if not matches:
        raise BadInput(
            "An educator is measured on pairs of a good and a bad poem, and there are none. Pass "
            "matches, or a corpus with good and bad poems."
        )
    return sorted(matches, key=lambda m: digest(str(seed), m.bad.id, m.good.id))


# Measuring.


class _Sheet:
    """The figures so far, with what shows them and what is to be said of them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.figures: list[Figure] = []
        self.specimens: list[Specimen] = []
        self.notes: list[str] = []
        self.unanswered = 0

    def add_poets(self, found: Found, briefs: Sequence[Canary], corpus: Corpus | None) -> None:
        good = sorted(corpus.good, key=lambda p: digest(str(self.seed), p.id)) if corpus else []
        memory = Memory(corpus.good) if corpus and corpus.good else None
        by = _poets(found, {c.brief.text(): c for c in briefs}, memory)
        sample = [poem.text for poem in good[:_SAMPLE]]
        sets = [[a.words for a in answers] for answers in by.values()]
        words = length_for(*sets, *([[words_of(text) for text in sample]] if sample else []))
        human = verse_rates(sample, words, seed=self.seed) if sample else {}
        made = {of: poet_figures(a, of, words=words, seed=self.seed) for of, a in by.items()}
        for of, (figures, notes) in made.items():
            if of.startswith("base"):
                continue
            base = made.get(of.replace("poet", "base", 1), ([], []))[0]
            others = {"base": values_of(base), "corpus": human}
            self.figures += beside(figures, others)
            self.specimens += specimens(by[of], of)
            self.notes += [note for note in notes if note not in self.notes]
        if memory is None:
            self.notes.append("Without a corpus nothing is said of what was learnt by heart.")

    def add_educator(self, found: Found, pairs: Sequence[Match], corpus: Corpus | None) -> None:
        made: dict[str, list[Figure]] = {}
        for who in ("educator", "base"):
            verdicts, critiques = (
                [_read(one.plan.task, item, row) for one, rows in found
                 if one.of == who and one.plan.task.name == task
                 for item, row in rows if _came(row)]
                for task in ("comparison", "critique")
            )  # fmt: skip
            made[who] = educator_figures(verdicts, critiques, who, seed=self.seed)
            if who == "educator":
                self.specimens += approvals(critiques, who) + misjudged(verdicts, who)
        poems = (*corpus.good, *corpus.bad) if corpus else ()
        period = period_words(pairs, poems, "educator", seed=self.seed)
        others = {"base": values_of(made["base"])}
        if period:
            others["period words"] = {"critic accuracy": period.value}
            if period.value > _TOO_EASY:
                self.notes.append(
                    f"Old words alone tell {period.says(period.value)} of the pairs: what the "
                    "educator is asked is partly a matter of period. Match by length and period."
                )
        own = beside(made["educator"], others)
        self.figures += [*own[:1], *([period] if period else []), *own[1:]]

    def count(self, found: Found) -> None:
        """Notes what has no answer for reasons that are not the model's."""
        rows = [row for _, pairs in found for _, row in pairs if row.error and not _came(row)]
        self.unanswered = len(rows)
        for kind, n in sorted(Counter(row.error.kind for row in rows if row.error).items()):
            some = next(r.error.message for r in rows if r.error and r.error.kind == kind)
            self.notes.append(f"Left out: {n:,} without an answer ({kind}), such as: {some[:120]}")


def _came(row: Row) -> bool:
    """Whether a row says something of the model: an answer, a cut one, or a refusal."""
    return row.error is None or row.error.kind in ("truncated", "refusal")


def _poets(
    found: Found, briefs: Mapping[str, Canary], memory: Memory | None
) -> dict[str, list[Answer]]:
    by: dict[str, list[Answer]] = {}
    for one, rows in found:
        for item, row in rows:
            if isinstance(item, BriefItem) and _came(row):
                text = row.output["text"].strip("\n").rstrip() if row.output else None
                canary = briefs[item.brief.text()]
                by.setdefault(one.of, []).append(Answer(canary, text, memory))
    return by


def _read(unchecked: Task[Any, Any], item: Item, row: Row) -> Reading:
    """A first answer as the real task takes it."""
    if row.output is None:
        return Reading(item)
    task = get_task(unchecked.name)
    try:
        result = task.read(item, row.output["text"])
        return Reading(item, result, task.accept(item, result))
    except ValidationError:
        return Reading(item)
