"""The balanced set: 40 % from bad poems, 60 % from good, and every bad poem seen in many ways."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .errors import BadInput, CoverageError
from .records import Dropped, Example, Kind
from .training_data import (
    SHARE_TOLERANCE,
    Mixture,
    Why,
    answer_of,
    seeded,
    turn_of,
    winner_place,
)

_BAD_TASKS = ("critique", "comparison", "autopsy", "revision_brief")
_LISTED = 20  # poems named in an error; the others are counted


@dataclass(frozen=True, kw_only=True)
class Balancer:
    """Mixes examples so that a set share of them comes from bad poems.

    Rows are left out, each with its reason, and never copied: to use more of the other side, give
    the balancer new contexts (other partners, both orders). Poet rows have no mix to keep; they
    only lose repeats.

    Attributes:
        bad_share: Share of the educator's rows that come from bad poems: critiques, autopsies and
            revision briefs of them, and comparisons with them.
        seed: Decides which rows are left out; the order of the input does not.
        min_tasks: In how many different tasks every bad poem must stay.
        max_partners: How many poems a bad poem may be compared with, each in both orders. Any
            other task may show it in as many contexts. More would be learnt by heart.

    Raises:
        BadInput: A setting is out of range.
    """

    bad_share: float = 0.40
    seed: int = 7
    min_tasks: int = 3
    max_partners: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.bad_share < 1:
            raise BadInput(f"bad_share is {self.bad_share}; give a share between 0 and 1.")
        if self.min_tasks < 1 or self.max_partners < 1:
            raise BadInput("min_tasks and max_partners must be 1 or more.")

    def balance(self, examples: Iterable[Example], dropped: Iterable[Dropped] = ()) -> Mixture:
        """The examples that make the mix, and those that were left out.

        Args:
            examples: Rows of both roles, in any order; `run.examples()` of several runs chained.
            dropped: What was left out before, such as `run.dropped`; it is listed with the rest.

        Raises:
            CoverageError: A bad poem is in too few tasks, or a side is too small for the share;
                says what to generate.
        """
        rows = seeded(examples, self.seed)
        if not rows:
            raise CoverageError(
                "There are no examples to balance. Make some first: versecraft generate seed"
            )
        gone = list(dropped)

        def leave_out(rows: list[Example], why: Mapping[int, Why]) -> list[Example]:
            gone.extend(
                Dropped(file="", item=rows[n].item_id, reason=code, detail=f"{rows[n].task}: {say}")
                for n, (code, say) in sorted(why.items())
            )
            return [row for n, row in enumerate(rows) if n not in why]

        bad, disputed = _bad_poems(rows)
        rows = leave_out(rows, _duplicates(rows))
        rows = leave_out(rows, _contradictions(rows, bad, disputed))
        rows = leave_out(rows, _second_answers(rows))
        rows = leave_out(rows, self._over_cap(rows, bad))
        self._check_coverage(rows, bad, gone)
        rows = leave_out(rows, _surplus_places(rows, bad))
        surplus, notes = self._surplus(rows, bad)
        rows = leave_out(rows, surplus)
        return Mixture(
            kept=tuple(rows),
            dropped=tuple(gone),
            bad_share=self.bad_share,
            min_tasks=self.min_tasks,
            seed=self.seed,
            bad_poems=tuple(sorted(bad)),
            notes=notes,
        )

    def _over_cap(self, rows: Sequence[Example], bad: set[str]) -> dict[int, Why]:
        """Rows that show a bad poem in more contexts of one task than are useful."""
        contexts: dict[tuple[str, str], dict[tuple[str, ...], list[int]]] = defaultdict(dict)
        for n, row in enumerate(rows):
            if row.role == "educator":
                for poem in bad.intersection(row.poem_ids):
                    partners = tuple(sorted(set(row.poem_ids) - {poem}))
                    contexts[poem, row.task].setdefault(partners, []).append(n)
        over: set[int] = set()
        for by_partners in contexts.values():
            # A partner that stands there in both orders comes before one in a single order.
            groups = sorted(
                by_partners.items(), key=lambda group: -len({rows[n].poem_ids for n in group[1]})
            )
            for rank, (partners, places) in enumerate(groups):
                each_order = {rows[n].poem_ids: n for n in reversed(places)}.values()
                if not partners:
                    over.update(places[2 * self.max_partners :])
                elif rank >= self.max_partners:
                    over.update(places)
                else:
                    over.update(set(places).difference(each_order))
        why: Why = (
            "context_cap",
            f"its bad poem is in this task {2 * self.max_partners} times, or with "
            f"{self.max_partners} partners, already",
        )
        return dict.fromkeys(over, why)

    def _check_coverage(
        self, rows: Sequence[Example], bad: set[str], dropped: Sequence[Dropped]
    ) -> None:
        tasks: dict[str, set[str]] = {poem: set() for poem in sorted(bad)}
        for row in rows:
            if row.role == "educator":
                for poem in bad.intersection(row.poem_ids):
                    tasks[poem].add(row.task)
        short = {poem: has for poem, has in tasks.items() if len(has) < self.min_tasks}
        if not short:
            return
        lines = [self._missing(poem, has, dropped) for poem, has in list(short.items())[:_LISTED]]
        if len(short) > _LISTED:
            lines.append(f"… and {len(short) - _LISTED:,} more")
        raise CoverageError(
            f"{len(short):,} of {len(bad):,} bad poems are in fewer than {self.min_tasks} tasks:\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nGenerate these and balance again, or lower min_tasks."
        )

    def _missing(self, poem: str, has: set[str], dropped: Sequence[Dropped]) -> str:
        others = [task for task in _BAD_TASKS if task not in has]
        wanted = others[: self.min_tasks - len(has)] or ["any other task"]
        lost = Counter(
            (d.detail.partition(":")[0], d.reason)
            for d in dropped
            if d.reason != "duplicate" and d.item and poem in d.item.split(":")
        )
        gone = "".join(f" ({task}: {n} dropped, {why})" for (task, why), n in sorted(lost.items()))
        return (
            f"poem {poem}: has {', '.join(sorted(has)) or 'nothing'}; "
            f"generate {', '.join(wanted)}{gone}"
        )

    def _surplus(
        self, rows: Sequence[Example], bad: set[str]
    ) -> tuple[dict[int, Why], tuple[str, ...]]:
        """The rows of the larger side that are too many, and what to say of the mix."""
        sides: dict[bool, list[int]] = {True: [], False: []}
        for n, row in enumerate(rows):
            if row.role == "educator":
                sides[row.quality == "bad"].append(n)
        if not sides[True] and not sides[False]:
            return {}, ()
        needed = _cover(rows, sides[True], bad, self.min_tasks)
        n_bad, n_good = self._sizes(len(needed), len(sides[True]), len(sides[False]))
        extra = [n for n in sides[True] if n not in needed]
        keep = needed | set(_spread(rows, extra, bad)[: n_bad - len(needed)])
        keep |= set(_spread(rows, sides[False], bad)[:n_good])
        why: Why = ("share", f"no room for more at {self.bad_share:.0%} from bad poems")
        surplus = {n: why for n in (*sides[True], *sides[False]) if n not in keep}
        return surplus, tuple(self._notes(n_bad, n_good, sides))

    def _sizes(self, needed: int, bad: int, good: int) -> tuple[int, int]:
        """Rows of each side: the most that keep the share within tolerance, else the nearest."""
        share = self.bad_share
        if not bad or not good:
            side = "good" if bad else "bad"
            raise CoverageError(
                f"There are {bad:,} rows from bad poems and {good:,} others; a share of "
                f"{share:.0%} needs both. Generate critiques of {side} poems first."
            )
        least = needed * (1 - share) / share
        if good < math.floor(least):
            raise CoverageError(
                f"The bad poems need {needed:,} rows to be in {self.min_tasks} tasks each; at "
                f"{share:.0%} that takes {math.ceil(least):,} rows from good poems, briefs or "
                f"lessons, and there are {good:,}. Generate {math.ceil(least) - good:,} more "
                "(critiques of good poems, briefs, lessons), or raise bad_share."
            )
        nearest, best = math.inf, (max(needed, 1), good)
        for total in range(round(min(bad / share, good / (1 - share))), 1, -1):
            n = round(total * share)
            error = abs(n / total - share)
            if max(needed, 1) <= n <= bad and 1 <= total - n <= good and error < nearest:
                nearest, best = error, (n, total - n)
            if nearest <= SHARE_TOLERANCE:
                break
        return best

    def _notes(self, n_bad: int, n_good: int, sides: Mapping[bool, Sequence[int]]) -> Iterable[str]:
        got = n_bad / (n_bad + n_good)
        if abs(got - self.bad_share) > SHARE_TOLERANCE:
            yield (
                f"{got:.1%} from bad poems is as near to {self.bad_share:.0%} as so few rows come."
            )
        idle = len(sides[False]) - n_good
        more = round(idle * self.bad_share / (1 - self.bad_share))
        if more:
            yield (
                f"{idle:,} rows from the good side are left out; {more:,} more rows from bad poems "
                "(other partners, both orders) would make use of them."
            )


def _bad_poems(rows: Iterable[Example]) -> tuple[set[str], set[str]]:
    """Ids of the bad poems, and of those that are called good in one row and bad in another.

    A row of one poem says what its poem is. Of a pair with a bad poem in it that no such row
    speaks of, the other one is bad, or the loser.
    """
    said: dict[str, set[str]] = defaultdict(set)
    pairs: list[Example] = []
    for row in rows:
        if row.role == "educator" and row.quality:
            if len(row.poem_ids) == 1 or row.quality == "good":
                for poem in row.poem_ids:
                    said[poem].add(row.quality)
            else:
                pairs.append(row)
    bad = {poem for poem, words in said.items() if words == {"bad"}}
    for row in pairs:
        if not bad.intersection(row.poem_ids):
            unknown = [poem for poem in row.poem_ids if poem not in said]
            losers = [poem for poem in unknown if poem != row.meta.get("winner")]
            bad.update(losers if len(unknown) > 1 else unknown)
    return bad, {poem for poem, words in said.items() if len(words) > 1}


def _duplicates(rows: Sequence[Example]) -> dict[int, Why]:
    why: Why = ("duplicate", "the same answer on the same item is kept")
    return dict.fromkeys(_repeats((r.task, r.item_id, answer_of(r)) for r in rows), why)


def _second_answers(rows: Sequence[Example]) -> dict[int, Why]:
    why: Why = ("second_answer", "another answer to the same turn is kept")
    return dict.fromkeys(_repeats((r.task, r.item_id, turn_of(r)) for r in rows), why)


def _repeats(keys: Iterable[Hashable]) -> Iterator[int]:
    seen: set[Hashable] = set()
    for n, key in enumerate(keys):
        if key in seen:
            yield n
        seen.add(key)


def _contradictions(rows: Sequence[Example], bad: set[str], disputed: set[str]) -> dict[int, Why]:
    """Rows that another row, or what is known of their poems, speaks against."""
    winners: dict[frozenset[str], set[str]] = defaultdict(set)
    for row in rows:
        if winner_place(row) is not None:
            winners[frozenset(row.poem_ids)].add(str(row.meta["winner"]))
    out: dict[int, Why] = {}
    for n, row in enumerate(rows):
        if row.role != "educator":
            continue
        if disputed.intersection(row.poem_ids):
            out[n] = ("label_conflict", "its poem is called good in one row and bad in another")
        elif row.quality == "bad" and not bad.intersection(row.poem_ids):
            out[n] = ("label_conflict", "it is of bad quality, but all its poems are called good")
        elif len(winners.get(frozenset(row.poem_ids), ())) > 1:
            out[n] = ("order_disagreement", "another order of the pair has another winner")
        elif row.meta.get("winner") in bad and not bad.issuperset(row.poem_ids):
            out[n] = ("contradicts_label", "it prefers the bad poem")
        elif row.kind is Kind.CRITIQUE and row.quality == "bad" and _approves(answer_of(row)):
            out[n] = ("contradicts_label", "it approves a bad poem: no issue must be fixed")
    return out


def _approves(critique: str) -> bool:
    try:
        issues = json.loads(critique)["issues"]
        return all(issue["severity"] != "must_fix" for issue in issues)
    except (ValueError, KeyError, TypeError):
        return False  # not a critique as our task writes it: nothing is known of its verdict


def _surplus_places(rows: Sequence[Example], bad: set[str]) -> dict[int, Why]:
    """Comparisons too many with the winner at one place, whose bad poems keep another."""
    left: Counter[tuple[str, str]] = Counter()
    at: dict[int, list[int]] = {0: [], 1: []}
    for n, row in enumerate(rows):
        if (place := winner_place(row)) is not None and bad.intersection(row.poem_ids):
            at[place].append(n)
            left.update((poem, row.task) for poem in bad.intersection(row.poem_ids))
    many, few = sorted(at.values(), key=len, reverse=True)
    why: Why = ("position_surplus", "the winner stands at this place more often than at the other")
    out: dict[int, Why] = {}
    for n in many:
        mine = [(poem, rows[n].task) for poem in bad.intersection(rows[n].poem_ids)]
        if len(many) - len(out) > len(few) and all(left[key] > 1 for key in mine):
            out[n] = why
            left.subtract(mine)
    return out


def _cover(rows: Sequence[Example], side: Iterable[int], bad: set[str], min_tasks: int) -> set[int]:
    """Rows that leave every bad poem in `min_tasks` tasks, even over tasks and winner's places."""
    choices: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for n in side:
        for poem in bad.intersection(rows[n].poem_ids):
            choices[poem][rows[n].task].append(n)
    used: Counter[str] = Counter()
    places: Counter[int | None] = Counter()
    cover: set[int] = set()
    for _, by_task in sorted(choices.items()):
        for task in sorted(by_task, key=lambda task: (used[task], task))[:min_tasks]:
            n = min(by_task[task], key=lambda n: places[winner_place(rows[n])])
            used[task] += 1
            places[winner_place(rows[n])] += 1
            cover.add(n)
    return cover


def _spread(rows: Sequence[Example], side: Iterable[int], bad: set[str]) -> list[int]:
    """One side in an order of which any beginning is fair: to poems, winner's places and tasks."""

    def poem(n: int) -> str:
        row = rows[n]
        return min(bad.intersection(row.poem_ids) or row.poem_ids or (row.item_id,))

    in_turn = _take_turns(side, poem)
    in_turn = _take_turns(in_turn, lambda n: (rows[n].task, winner_place(rows[n])))
    return _take_turns(in_turn, lambda n: rows[n].task)


def _take_turns(places: Iterable[int], key: Callable[[int], Hashable]) -> list[int]:
    """The first of every key, then the second of each, and so on; else in the order given."""
    seen: Counter[Hashable] = Counter()
    turns: list[tuple[int, int, int]] = []
    for n in places:
        turns.append((seen[key(n)], len(turns), n))
        seen[key(n)] += 1
    return [n for _, _, n in sorted(turns)]
