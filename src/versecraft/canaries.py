"""Canaries: briefs that never change, and what is measured on a poet's answers to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources

from .answers import Brief, Form, says, words_of
from .diversity import FEWEST, MEASURES, Memory, Recall, at_length, size_of
from .errors import MissingExtra
from .figures import Figure, Sheet, Specimen, Sums, mean, rate, tried
from .forms import CONTRACTS, laid_out, partners
from .kinds import KindReport, classify
from .phrases import CLICHE_LIST, SLOP_LIST, PhraseHit, cliches, slop
from .prosody import check, end_word, rhyme
from .records import digest

__all__ = ["Answer", "Canary", "canaries", "poet_figures", "specimens", "verse_rates"]

_FILE = "canary.jsonl"
_LOOP = 0.34  # share of lines that stand twice, above which a poem without refrain goes round
_TELLING = 8  # words in a row that are worth showing
_RHYMES = ("perfect", "eye")  # grades that count; see prosody


@dataclass(frozen=True)
class Canary:
    """A brief that is asked of every poet; `famous` ones invite a poem that the world knows."""

    number: int
    famous: bool
    brief: Brief


def canaries() -> tuple[tuple[Canary, ...], str]:
    """The canary briefs that ship, and their version: name and digest."""
    text = (resources.files("versecraft") / "data" / _FILE).read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    found = tuple(
        Canary(n, row["famous"], Brief.model_validate(row["brief"])) for n, row in enumerate(rows)
    )
    return found, f"canary briefs/2 ({digest(text)[:4]})"


@dataclass(frozen=True)
class Answer:
    """What a poet answered to a canary, first time round.

    Attributes:
        text: What it said, nothing where it declined; None where it did not stop by itself.
        memory: Of the corpus it is held against, if there is one.
    """

    canary: Canary
    text: str | None
    memory: Memory | None = field(default=None, repr=False, compare=False)

    @property
    def said(self) -> str:
        """What there is to read."""
        return self.text or ""

    @property
    def form(self) -> Form:
        """What the brief asks for."""
        return self.canary.brief.form

    @cached_property
    def kind(self) -> KindReport:
        """What the detector says."""
        return classify(self.said, self.canary.brief.text())

    @property
    def has_text(self) -> bool:
        """Whether it says anything."""
        return bool(self.said.strip())

    @cached_property
    def rules(self) -> frozenset[str]:
        """What makes it no poem: rules of the detector."""
        return frozenset(line.rule for line in self.kind.lines)

    @cached_property
    def avoided(self) -> list[str]:
        """What it says although the brief avoids it."""
        return [phrase for phrase in self.canary.brief.avoid if says(self.said, phrase)]

    @cached_property
    def words(self) -> list[str]:
        """Its words, for comparing."""
        return words_of(self.said)

    @cached_property
    def restarts(self) -> bool:
        """Whether its opening comes back, or it goes round in a form without refrain."""
        lines = [" ".join(words_of(line)) for line in self.said.split("\n") if line.strip()]
        head = lines[:3]
        again = any(lines[n : n + 3] == head for n in range(3, len(lines) - 2))
        loops = len(lines) >= 8 and 1 - len(set(lines)) / len(lines) > _LOOP
        return again or (loops and not CONTRACTS[self.form.name].returning)

    @cached_property
    def clauses(self) -> Mapping[str, bool]:
        """The clauses of the form that can be told, and whether they hold."""
        found = check(self.said, self.form).clauses
        return {c.name: c.holds for c in found if c.holds is not None}

    @cached_property
    def rhymes(self) -> tuple[int, int]:
        """Rhymes that are there, and rhymes that the scheme asks for."""
        lines = [line for line in self.said.split("\n") if line.strip()]
        pairs = list(_rhymed(self.form, len(lines)))
        ends = [end_word(line) for line in lines]
        returns = CONTRACTS[self.form.name].returning
        return sum(
            j < len(lines)
            and (rhyme(ends[i], ends[j]) in _RHYMES if ends[i] != ends[j] else returns)
            for i, j in pairs
        ), len(pairs)

    @cached_property
    def worn(self) -> dict[str, tuple[PhraseHit, ...]]:
        """The phrases of each list that it uses."""
        return {name: find(self.said) for name, find in _WORN.items()}

    @cached_property
    def recall(self) -> Recall:
        """What it has from the corpus; only where there is one."""
        assert self.memory is not None
        return self.memory.recall(self.said)


def _rhymed(form: Form, lines: int) -> Iterator[tuple[int, int]]:
    """Pairs of lines, from 0, that a scheme wants to rhyme in a poem of so many lines."""
    if form.scheme == "none":
        return
    low, high = form.lines
    asked = laid_out(form.scheme, max(low, min(lines, high)), CONTRACTS[form.name].carried)
    for n, others in partners(asked).items():
        if before := [m for m in others if m < n]:
            yield max(before), n


Measure = Callable[[Answer], float]

_WORN: dict[str, Callable[[str], tuple[PhraseHit, ...]]] = {"slop": slop, "cliches": cliches}


# Figures. Samples of one brief are alike, so briefs are what is resampled.


MEANS: dict[str, str] = {
    "kind purity": "Of all answers, those that ended and are a poem and nothing else.",
    "without text": "Of the answers that ended, those that declined or said nothing. Leaks, form "
    "and all that follows are taken among the others.",
    "leak rate": "Answers in which something is not poem: a greeting, a label, a piece of the "
    "brief, a critique.",
    "leak": "The same, by the rule that caught it. An answer may break several.",
    "end rate": "Of the answers that say something, those that stopped by themselves. The others "
    "ran on until they were cut; what they said is not handed out, so no other figure sees them.",
    "restart rate": "Answers that begin again: the first three lines come back, or, without a "
    "refrain, more than a third of the lines stand twice.",
    "avoidance": "Answers in which nothing stands that the brief says to avoid.",
    "form kept": "Answers that break no clause of the form that the brief asks for.",
    "form": "The same by clause, where it can be told.",
    "rhyme": "Of the pairs of lines that should rhyme, those that do, for the ear or for the eye.",
    "slop": "Phrases that language models are fond of, in a thousand words.",
    "cliches": "Phrases worn out by use, in a thousand words.",
    "distinct-2": "Of all pairs of neighbouring words, those that are different: high is varied. "
    "Taken at one length for all that are compared.",
    "compression ratio": "How many times smaller a packer makes the poems: low is varied. At one "
    "length.",
    "cross-poem repeats": "Runs of six words that stand in the answers to two briefs. At one "
    "length.",
    "verbatim": "Runs of five words that stand in a poem of the corpus. Some are small change of "
    "the language; much above the baseline, poems were learnt by heart.",
    "verbatim, famous briefs": "The same, where the brief invites a poem that the world knows.",
    "longest run": "Words in a row from one poem of the corpus, the longest of each answer.",
}


def _ended(answer: Answer) -> bool:
    return answer.text is not None


def _has_text(answer: Answer) -> bool:
    return answer.has_text


def _goes_on(answer: Answer) -> bool:
    return answer.has_text or not _ended(answer)


class _Sheet(Sheet):
    """The figures of a poet, taken by brief."""

    def __init__(self, of: str, answers: Sequence[Answer], *, seed: int) -> None:
        super().__init__(of, MEANS, seed=seed)
        self.answers = answers

    def sums(self, hits: Measure, tries: Measure = lambda a: 1, among: Measure = _has_text) -> Sums:
        """Hits and tries of each brief."""
        by: dict[int, list[Answer]] = {}
        for answer in self.answers:
            if among(answer):
                by.setdefault(answer.canary.number, []).append(answer)
        return [(float(sum(map(hits, own))), float(sum(map(tries, own)))) for own in by.values()]


def poet_figures(
    answers: Sequence[Answer], of: str, *, words: int, seed: int
) -> tuple[list[Figure], list[str]]:
    """What the answers of a poet amount to, and notes on what was left out.

    Args:
        answers: Those that came back, and those that were cut.
        of: Whose they are.
        words: The length at which diversity is taken.
        seed: Decides the draws.
    """
    sheet, notes = _Sheet(of, answers, seed=seed), []
    sheet.share("kind purity", sheet.sums(_is_pure, among=_any), "briefs", "answers")
    silent = sheet.sums(lambda a: not a.has_text, among=_ended)
    sheet.share("without text", silent, "briefs", "answers", better="low")
    leaks = [("leak rate", sheet.sums(lambda a: bool(a.rules)))]
    for rule in sorted({rule for a in answers for rule in a.rules}):
        leaks.append((f"leak: {rule}", sheet.sums(_breaks(rule))))
    for name, sums in leaks:
        sheet.share(name, sums, "briefs", "answers", better="low")
    sheet.share("end rate", sheet.sums(_ended, among=_goes_on), "briefs", "answers")
    restarts = sheet.sums(lambda a: a.restarts)
    sheet.share("restart rate", restarts, "briefs", "answers", better="low")
    sheet.share("avoidance", sheet.sums(lambda a: not a.avoided), "briefs", "answers")
    try:
        _form(sheet)
    except MissingExtra as error:
        notes.append(f"Form and rhyme are left out. {error}")
    for name in _WORN:
        sums = sheet.sums(_worn(name), lambda a: len(a.words))
        sheet.add(
            name, rate(sums, seed=seed), tried(sums), "briefs",
            f"{sum(h for h, _ in sums):,.0f} in {sum(w for _, w in sums):,.0f} words",
            unit="per 1,000 words", better="low",
        )  # fmt: skip
    if size_of(by_brief(answers)) < FEWEST:
        notes.append(f"{of}: fewer than {FEWEST} words, too few to tell diversity by.")
    else:
        _diversity(sheet, words)
    if any(a.memory for a in answers):
        _memory(sheet)
    return sheet.figures, notes


def _breaks(rule: str) -> Measure:
    return lambda a: rule in a.rules


def _worn(name: str) -> Measure:
    return lambda a: len(a.worn[name])


def _any(answer: Answer) -> bool:
    return True


def _is_pure(answer: Answer) -> bool:
    return answer.has_text and not answer.rules


def _form(sheet: _Sheet) -> None:
    kept = sheet.sums(lambda a: all(a.clauses.values()))
    rhymes = sheet.sums(lambda a: a.rhymes[0], lambda a: a.rhymes[1])
    sheet.share("form kept", kept, "briefs", "answers")
    for name in dict.fromkeys(name for a in filter(_has_text, sheet.answers) for name in a.clauses):
        sums = sheet.sums(_holds(name), _told(name))
        sheet.share(f"form: {name}", sums, "briefs", "answers")
    sheet.share("rhyme", rhymes, "briefs", "asked rhymes")


def _holds(clause: str) -> Measure:
    return lambda a: a.clauses.get(clause, False)


def _told(clause: str) -> Measure:
    return lambda a: clause in a.clauses


def _diversity(sheet: _Sheet, words: int) -> None:
    poems = by_brief(sheet.answers)
    for name, measure in MEASURES.items():
        sheet.add(
            name, at_length(poems, measure, words, seed=sheet.seed), len(poems), "briefs",
            f"one answer to each, at {words:,} words",
            unit="ratio" if name == "compression ratio" else "share",
            better="high" if name == "distinct-2" else "low",
        )  # fmt: skip


def _memory(sheet: _Sheet) -> None:
    for name, famous in (("verbatim", False), ("verbatim, famous briefs", True)):
        sums = sheet.sums(lambda a: a.recall.known, lambda a: a.recall.grams, _is_famous(famous))
        sheet.share(name, sums, "briefs", "five-word runs", better="low")
    sums = sheet.sums(lambda a: a.recall.longest)
    longest = mean([words / answers for words, answers in sums], seed=sheet.seed)
    count = f"{sum(answers for _, answers in sums):,.0f} answers"
    sheet.add("longest run", longest, tried(sums), "briefs", count, unit="words", better="low")


def _is_famous(famous: bool) -> Callable[[Answer], bool]:
    return lambda a: a.has_text and a.canary.famous == famous


def by_brief(answers: Iterable[Answer]) -> list[list[list[str]]]:
    """The words of the answers to each brief, where they say something."""
    by: dict[int, list[list[str]]] = {}
    for answer in answers:
        if answer.words:
            by.setdefault(answer.canary.number, []).append(answer.words)
    return list(by.values())


def verse_rates(poems: Sequence[str], words: int, *, seed: int) -> dict[str, float]:
    """Slop, clichés and diversity of a corpus, for comparison."""
    split = [words_of(text) for text in poems]
    found = {}
    for name, hits in _WORN.items():
        sums = [(float(len(hits(t))), float(len(w))) for t, w in zip(poems, split, strict=True)]
        if estimate := rate(sums, seed=seed):
            found[name] = estimate[0]
    if words:
        for name, measure in MEASURES.items():
            found[name] = at_length([[w] for w in split], measure, words, seed=seed)[0]
    return found


def lists() -> tuple[str, ...]:
    """The word lists, with version and digest."""
    return (SLOP_LIST, CLICHE_LIST)


def specimens(answers: Iterable[Answer], of: str, each: int = 2) -> list[Specimen]:
    """The worst and the best answers: leaks first, then broken clauses, slop and restarts."""
    ended = {a.text: a for a in answers if a.has_text}
    ranked = sorted(ended.values(), key=_fault)
    best = [a for a in ranked[:each] if not a.rules]
    worst = [a for a in ranked[::-1][:each] if a not in best and any(_fault(a))]
    return [
        Specimen(
            rank=rank, of=of, text=a.said, about=" ".join(_about(a)), brief=a.canary.brief.text(),
            foreign={line.number: line.rule for line in a.kind.lines},
        )
        for rank, some in (("worst", worst), ("best", best))
        for a in some
    ]  # fmt: skip


def _broken(answer: Answer) -> list[str]:
    try:
        return [name for name, holds in answer.clauses.items() if not holds]
    except MissingExtra:
        return []


def _fault(answer: Answer) -> tuple[float, ...]:
    lines = max(1, len([t for t in answer.said.split("\n") if t.strip()]))
    worn = sum(map(len, answer.worn.values()))
    return (
        bool(answer.rules),
        answer.restarts,
        len(answer.kind.lines) / lines,
        len(_broken(answer)) + len(answer.avoided) + 50 * worn / max(1, len(answer.words)),
    )


def _about(answer: Answer) -> Iterator[str]:
    if answer.kind.lines:
        rules = ", ".join(sorted(answer.rules)).replace("_", " ")
        yield f"Lines that are not poem: {len(answer.kind.lines)} ({rules})."
    if answer.restarts:
        yield "It begins again."
    if broken := _broken(answer):
        yield f"Of the form it breaks: {', '.join(broken)}."
    if worn := [hit for hits in answer.worn.values() for hit in hits]:
        yield f"Worn phrases: {'; '.join(dict.fromkeys(hit.text for hit in worn))}."
    if answer.avoided:
        yield f"The brief avoids, and it says: {'; '.join(answer.avoided)}."
    if answer.memory and answer.recall.longest >= _TELLING:
        where = answer.recall.where
        yield (
            f"{answer.recall.longest} words in a row also stand in "
            f"{(where and where.title) or 'a poem of the corpus'}: “{answer.recall.words}”."
        )
    if not any(_fault(answer)):
        yield "A poem that keeps to its brief, as far as can be counted."
