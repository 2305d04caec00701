"""Evaluation: what a poet and an educator do when nobody corrects them, in figures."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from .answers import words_of
from .asking import Asked, Asking, Backends, System, ask, check_names, has_come, one_of, reading
from .backends import Backend, BatchBackend
from .canaries import (
    Answer,
    Canary,
    by_brief,
    canaries,
    lists,
    poet_figures,
    specimens,
    verse_rates,
)
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
from .matching import Matcher
from .records import BriefItem, Corpus, Match, digest
from .runs import Plan
from .sessions import Session

__all__ = ["evaluate"]

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
            keeps nothing, but where it is stopped: the error then has a note that names the folder.
        limit: Only so many briefs, and so many pairs.
        samples: Answers to each brief.
        poem_tokens: Longest answer of a poet; one that is longer has not ended by itself.
        budget: Dollars that may be spent.
        before: Is given the plans before anything is asked, such as to show the bill; what it
            raises ends the evaluation.
        seed: Decides samples, resampling, and which pairs and poems are taken.
        progress: Whether to show bars on stderr.

    Raises:
        BadInput: There is nothing to evaluate, or no pairs for the educator, or no answer came, or
            a base has a name that no poet has.
    """
    if poet is None and educator is None and not sessions:
        raise BadInput("There is nothing to evaluate. Give a poet, an educator or sessions.")
    check_names(base, poet)
    briefs, version = canaries()
    chosen = (*briefs,)[:limit]
    pairs = _pairs(matches, corpus, seed)[:limit] if educator else []
    systems = dict.fromkeys(("poet", "educator"), system) if isinstance(system, str) else system
    with _ledgers(into) as folder:
        asking = Asking(folder, systems, samples, poem_tokens, seed)
        asked = [
            *asking.poems("poet", poet, chosen),
            *asking.poems("base", base if poet else None, chosen, like=poet),
            *asking.readings("educator", educator, pairs),
            *asking.readings("base", one_of(base, "educator"), pairs),
        ]
        if before:
            before([one.plan for one in asked])
        found = ask(asked, budget, progress)
        sheet = _Sheet(seed)
        if poet:
            sheet.add_poets(found, chosen, corpus)
        if educator:
            sheet.add_educator(found, pairs, corpus)
        if sessions:
            sheet.figures += loop_figures(sessions, seed=seed)
        sheet.count(found)
        if not sheet.figures:
            raise BadInput(
                f"Nothing could be measured. {' '.join(sheet.notes)} Mend that, then evaluate "
                "again."
            )
        items = {
            "canary briefs": len(chosen) if poet else 0,
            "poems": sum(_poems(one) for one in found if one.of.startswith("poet")),
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


@contextmanager
def _ledgers(into: Path | str | None) -> Iterator[Path]:
    """The folder of the ledgers; without a name one that goes when all went well."""
    if into:
        yield Path(into)
        return
    folder = Path(tempfile.mkdtemp(prefix="versecraft-evaluation-"))
    try:
        yield folder
    except BaseException as stop:
        if any(folder.iterdir()):
            stop.add_note(f"The answers so far are in {folder}. Give it as into to go on.")
        else:
            folder.rmdir()
        raise
    shutil.rmtree(folder)


def _poems(one: Asked) -> int:
    """How many answers say something."""
    return sum(bool(row.output and row.output["text"].strip()) for _, row in one.rows)


def _models(found: Sequence[Asked]) -> dict[str, str]:
    models: dict[str, str] = {}
    for one in found:
        said = sorted({row.model for _, row in one.rows if row.model})
        models.setdefault(one.of, " and ".join(said) or one.plan.backend.id)
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

    def add_poets(
        self, found: Sequence[Asked], briefs: Sequence[Canary], corpus: Corpus | None
    ) -> None:
        good = sorted(corpus.good, key=lambda p: digest(str(self.seed), p.id)) if corpus else []
        memory = Memory(corpus.good) if corpus and corpus.good else None
        by = _poets(found, {c.brief.text(): c for c in briefs}, memory)
        sample = [poem.text for poem in good[:_SAMPLE]]
        sets = [by_brief(answers) for answers in by.values()]
        sets += [[[words_of(text)] for text in sample]]
        words = length_for(sets)
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

    def add_educator(
        self, found: Sequence[Asked], pairs: Sequence[Match], corpus: Corpus | None
    ) -> None:
        made: dict[str, list[Figure]] = {}
        for who in ("educator", "base"):
            verdicts, critiques = (
                list(_readings(found, who, task)) for task in ("comparison", "critique")
            )
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
        told = own[:1] if own and own[0].name == "critic accuracy" else []
        self.figures += [*told, *([period] if period else []), *own[len(told) :]]

    def count(self, found: Sequence[Asked]) -> None:
        """Notes what has no answer for reasons that are not the model's."""
        rows = [row for one in found for _, row in one.rows if not has_come(row)]
        self.unanswered = len(rows)
        for kind, n in sorted(Counter(row.error.kind for row in rows if row.error).items()):
            some = next(r.error.message for r in rows if r.error and r.error.kind == kind)
            why = some.partition("\n")[0][:120].rstrip(". ")
            self.notes.append(f"Left out: {n:,} without an answer ({kind}), such as: {why}.")


def _readings(found: Sequence[Asked], who: str, task: str) -> Iterator[Reading]:
    for one in found:
        if one.of == who and one.plan.task.name == task:
            yield from (reading(task, item, row) for item, row in one.rows if has_come(row))


def _poets(
    found: Sequence[Asked], briefs: Mapping[str, Canary], memory: Memory | None
) -> dict[str, list[Answer]]:
    by: dict[str, list[Answer]] = {}
    for one in found:
        for item, row in one.rows:
            if isinstance(item, BriefItem) and has_come(row):
                refused = "" if row.error and row.error.kind == "refusal" else None
                text = row.output["text"].strip("\n").rstrip() if row.output else refused
                canary = briefs[item.brief.text()]
                by.setdefault(one.of, []).append(Answer(canary, text, memory))
    return by
