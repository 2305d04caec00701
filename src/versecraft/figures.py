"""What an evaluation finds: figures with their intervals, texts that show them, and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil, floor, isclose, log2
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import BadInput, UnknownName
from .records import Record, Shown
from .rendering import render

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import RenderableType

Unit = Literal["share", "per 1,000 words", "ratio", "bits", "words"]
Better = Literal["low", "high"] | None
Sums = Sequence[tuple[float, float]]
"""Hits and tries of each brief, pair, poem or session."""

Estimate = tuple[float, float | None, float | None]
"""Value, low and high; no ends where nothing tells them."""

METHOD = (
    "Intervals hold 95 %: the percentile bootstrap (Efron and Tibshirani 1993, ch. 13) over "
    "whole briefs, poems or sessions, 2,000 times; of issue types the basic bootstrap (Davison and "
    "Hinkley 1997, ch. 5), since a small sample shows too few types. Where nothing varies between "
    "them a share is exact for as many as there are (Clopper and Pearson 1934), and so is a rate "
    "for its hits (Garwood 1936); other figures have no interval then. Of diversity: 200 random "
    "half-samples (McCarthy 1969), all cut to one length."
)
DRAWS = 2000
_TAIL = 0.025


class Figure(Record):
    """One figure of an evaluation, such as a leak rate, with its interval.

    Attributes:
        name: Such as "leak rate"; one of a family has its member after a colon, "leak: label".
        of: Whose it is: "poet, greedy", "educator", "loop".
        low: Lower end of the 95 % interval, `high` the upper; None where nothing tells them.
        n: How many independent things it was taken from: those that were resampled.
        counted: What these are, such as "briefs".
        basis: What was counted on them, such as "3 of 40 answers".
        baselines: The same figure of others, by their name: "base", "corpus".
        better: Which end is the good one; None where neither is.
        means: What it says, in a sentence for poets.
    """

    name: str
    of: str
    value: float
    low: float | None
    high: float | None
    n: int
    counted: str
    unit: Unit = "share"
    basis: str = ""
    baselines: Mapping[str, float] = {}
    better: Better = None
    means: str = ""

    @property
    def baseline(self) -> float | None:
        """The first of the baselines: the base model's where there is one."""
        return next(iter(self.baselines.values()), None)

    def says(self, value: float | None) -> str:
        """A value in the figure's unit: "12.5 %", "3.1"."""
        if value is None:
            return "–"
        if self.unit == "share":
            return f"{100 * value:.1f} %"
        return f"{value:.2f}" if self.unit in ("ratio", "bits") else f"{value:.1f}"

    @property
    def count(self) -> str:
        """What it was taken from, in words: "20 briefs", "1 brief"."""
        return f"{self.n:,} {self.counted if self.n != 1 else self.counted.removesuffix('s')}"

    @property
    def interval(self) -> str:
        """Its ends in the figure's unit: "2.5 % to 30.1 %", or "no interval"."""
        if self.low is None:
            return "no interval"
        return f"{self.says(self.low)} to {self.says(self.high)}"

    @property
    def end(self) -> float:
        """Where an axis for this figure ends: 1 for shares, else a round number beyond all."""
        if self.unit == "share":
            return 1.0
        most = max(self.high or 0.0, self.value, *self.baselines.values(), 1e-9)
        step = 10.0 ** (len(str(int(most))) - 1)
        return step * (int(most / step) + 1)


class Specimen(Record):
    """A text that shows what the figures say, as it was answered.

    Attributes:
        rank: Whether it is here as one of the best or of the worst.
        of: Who wrote it, as in `Figure.of`.
        text: With its line breaks, stanza breaks and indentation.
        foreign: Lines that are not poem: number (from 1, blank lines counted) and rule.
        about: What there is to see, in a sentence.
        brief: What it answers, where it answers a brief.
    """

    rank: Literal["best", "worst"]
    of: str
    text: str
    foreign: Mapping[int, str] = {}
    about: str = ""
    brief: str | None = None

    @property
    def lines(self) -> list[tuple[str, str | None]]:
        """Each line with the rule that makes it foreign, or None."""
        return [(t, self.foreign.get(n)) for n, t in enumerate(self.text.split("\n"), start=1)]


class Report(Shown, Record):
    """What `evaluate` measured. Shows as a table; `html` writes a page that poets can read.

    Attributes:
        made: The day, as YYYY-MM-DD.
        models: Who was asked, by what they are here: "poet, greedy", "educator", "base".
        lists: The word lists and canary briefs that were used, with version and digest.
        items: How many of each were measured: "canary briefs", "pairs".
        notes: What a reader of the figures should know, in sentences; what was left out, too.
        unanswered: How many requests have no answer for reasons that are not the model's.
        method: How the intervals were made.
    """

    made: str
    seed: int
    models: Mapping[str, str]
    lists: tuple[str, ...]
    items: Mapping[str, int]
    figures: tuple[Figure, ...]
    specimens: tuple[Specimen, ...] = ()
    notes: tuple[str, ...] = ()
    unanswered: int = 0
    method: str = METHOD

    def figure(self, name: str, of: str | None = None) -> Figure:
        """The figure of that name.

        Args:
            name: Such as "leak rate".
            of: Whose; the first who has it when None.

        Raises:
            UnknownName: There is none.
        """
        for figure in self.figures:
            if figure.name == name and of in (None, figure.of):
                return figure
        raise UnknownName("figure", name, (f.name for f in self.figures if of in (None, f.of)))

    @property
    def parts(self) -> dict[str, list[Figure]]:
        """The figures by whose they are, in their order."""
        found: dict[str, list[Figure]] = {}
        for figure in self.figures:
            found.setdefault(figure.of, []).append(figure)
        return found

    def report(self) -> dict[str, Any]:
        """The report as plain values, without the texts."""
        return self.model_dump(mode="json", exclude={"specimens"})

    def html(self, path: str | Path) -> Path:
        """Writes the page: one file, with nothing to be fetched from elsewhere.

        Raises:
            BadInput: The file cannot be written.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(render("report.html.j2", report=self), encoding="utf-8")
        except OSError as error:
            raise BadInput(f"{path} cannot be written: {error}. Choose another file.") from error
        return path

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table

        shown: list[RenderableType] = []
        for of, figures in self.parts.items():
            model = self.models.get(of)
            table = Table(title=f"{of}: {model}" if model else of, title_justify="left")
            table.add_column("figure")
            for name in ("value", "95 %", "n", "beside"):
                table.add_column(name, justify="right")
            for f in figures:
                unit = "" if f.unit in ("share", "ratio") else f" ({f.unit})"
                beside = ", ".join(f"{name} {f.says(v)}" for name, v in f.baselines.items())
                table.add_row(f.name + unit, f.says(f.value), f.interval, f.count, beside)
            shown.append(table)
        return Group(*shown, *self.notes, f"Lists: {'; '.join(self.lists)}." if self.lists else "")


def values_of(figures: Sequence[Figure]) -> dict[str, float]:
    """The values of figures by name."""
    return {figure.name: figure.value for figure in figures}


def beside(figures: Sequence[Figure], others: Mapping[str, Mapping[str, float]]) -> list[Figure]:
    """The figures, with those of the same name of others as their baselines.

    A leak by a rule that another one never broke is 0 for that one.
    """
    found = []
    for figure in figures:
        zero = {figure.name: 0.0} if figure.name.startswith("leak: ") else {}
        baselines = {
            who: ({**zero, **values} if "leak rate" in values else values)[figure.name]
            for who, values in others.items()
            if figure.name in values or (zero and "leak rate" in values)
        }
        found.append(figure.model_copy(update={"baselines": baselines}))
    return found


class Sheet:
    """The figures of one model, as they are taken.

    Args:
        of: Whose they are.
        means: What each figure says, by its name or the name of its family.
        seed: Decides the draws.
    """

    def __init__(self, of: str, means: Mapping[str, str], *, seed: int) -> None:
        self.of = of
        self.means = means
        self.seed = seed
        self.figures: list[Figure] = []

    def add(
        self,
        name: str,
        found: Estimate | None,
        n: int,
        counted: str,
        basis: str,
        *,
        unit: Unit = "share",
        better: Better = None,
    ) -> None:
        """Takes a figure down; nothing where there is none."""
        if found is None:
            return
        value, low, high = found
        self.figures.append(
            Figure(
                name=name, of=self.of, value=value, low=low, high=high, n=n, counted=counted,
                basis=basis, unit=unit, better=better, means=self.means[name.partition(":")[0]],
            )
        )  # fmt: skip

    def share(
        self, name: str, sums: Sums, counted: str, what: str, *, better: Better = "high"
    ) -> None:
        """Takes the share of hits in tries down, which are given for each brief, pair or poem."""
        found = share(sums, seed=self.seed)
        self.add(name, found, tried(sums), counted, f"{_of(sums)} {what}", better=better)


def tried(sums: Sums) -> int:
    """How many independent things had tries."""
    return sum(bool(tries) for _, tries in sums)


def _of(sums: Sums) -> str:
    hits, tries = (sum(s[i] for s in sums) for i in (0, 1))
    return f"{f'{hits:,.1f}'.removesuffix('.0')} of {tries:,.0f}"


# Estimates. Each gives value, low and high.


def bootstrap(
    sums: Sequence[Sequence[float]], of: Callable[[NDArray[Any]], NDArray[Any]], *, seed: int
) -> Estimate:
    """A function of sums over independent things, with its 95 % percentile bootstrap interval.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        sums: For each thing (brief, pair, poem) what is summed over things, such as hits and
            tries.
        of: From sums (in the last dimension) to the figure.
        seed: Decides the draws.

    Returns:
        Value, low and high; no ends where the draws are all alike, since they tell none.
    """
    import numpy as np

    table = np.asarray(sums, dtype=float)
    n = len(table)
    counts = np.random.default_rng(seed).multinomial(n, [1 / n] * n, size=DRAWS)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = of(counts @ table)
        value = float(of(table.sum(axis=0)))
    low, high = (float(x) for x in np.nanpercentile(drawn, [100 * _TAIL, 100 * (1 - _TAIL)]))
    return (value, None, None) if isclose(low, high, abs_tol=1e-12) else (value, low, high)


def share(hits: Sums, *, seed: int) -> Estimate | None:
    """The share of hits in tries over independent things; None where there were no tries.

    Where it is the same in all, resampling shows no spread: the interval is then Clopper and
    Pearson's (Biometrika 26, 1934) for as many things as had tries; a half of five lies between two
    and three of them.
    """
    from scipy.special import betaincinv

    some = [(hit, tries) for hit, tries in hits if tries]
    if not some:
        return None
    value, low, high = bootstrap(some, lambda s: s[..., 0] / s[..., 1], seed=seed)
    if low is None:
        n, k = len(some), round(value * len(some), 6)
        least, most = floor(k), ceil(k)
        low = float(betaincinv(least, n - least + 1, _TAIL)) if least else 0.0
        high = float(betaincinv(most + 1, n - most, 1 - _TAIL)) if most < n else 1.0
    return value, low, high


def rate(hits: Sums, *, per: float = 1000, seed: int) -> Estimate | None:
    """Hits per so many tries (words); None where there were none.

    Where it is the same in all things, the interval is Garwood's (Biometrika 28, 1936) for the
    count of hits.
    """
    from scipy.special import gammaincinv

    some = [(hit, tries) for hit, tries in hits if tries]
    if not some:
        return None
    value, low, high = bootstrap(some, lambda s: per * s[..., 0] / s[..., 1], seed=seed)
    if low is None:
        count, tries = (sum(s[n] for s in some) for n in (0, 1))
        low = per / tries * float(gammaincinv(count, _TAIL)) if count else 0.0
        high = per / tries * float(gammaincinv(count + 1, 1 - _TAIL))
    return value, low, high


def mean(values: Sequence[float], *, seed: int) -> Estimate | None:
    """The mean of one value for each independent thing; None where there is none.

    It has no interval where all values are alike: of what is no share nothing more can be said.
    """
    if not values:
        return None
    return bootstrap([(v, 1) for v in values], lambda s: s[..., 0] / s[..., 1], seed=seed)


def entropy(counts: Sequence[Sequence[float]], *, seed: int) -> Estimate | None:
    """Shannon's entropy, in bits, of counts by type (columns) summed over things (rows).

    The entropy of a sample is too low, and that of a draw from it lower still. So the interval is
    that of the basic bootstrap (Davison and Hinkley, Bootstrap Methods and their Application, 1997,
    chapter 5), which goes as far up as the draws go down, and holds the value itself.
    """
    import numpy as np

    def bits(sums: NDArray[Any]) -> NDArray[Any]:
        p = sums / sums.sum(axis=-1, keepdims=True)
        return 0.0 - np.sum(p * np.log2(np.where(p > 0, p, 1.0)), axis=-1)  # type: ignore[no-any-return]

    some = [row for row in counts if any(row)]
    if not some:
        return None
    value, low, high = bootstrap(some, bits, seed=seed)
    if low is None or high is None:
        return value, None, None
    most = log2(len(some[0]))
    return value, max(0.0, min(value, 2 * value - high)), min(most, max(value, 2 * value - low))
