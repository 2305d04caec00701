"""Good partners for bad poems: on the same topic where there is one, each used once.

The recipe answers to measurements (`bench/matching.py`): a sentence model alone finds the topic
but follows period and length as well. So punctuation and archaic function words are taken out of
what it reads, each side is centred on its own mean, the directions that all poems share are
removed, shared rare words are added, and a partner is of like length and by another author.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args, overload

from .answers import plain
from .embedding import Embedder, MiniLM, embed
from .errors import BadInput, CoverageError, MissingExtra, UnknownName
from .records import Corpus, Match, Poem, Shown
from .training_data import ARCHAIC

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from rich.console import RenderableType

Strategy = Literal["topical", "random"]

_PERIOD = ARCHAIC | {"nor", "upon", "whilst", "yet"}  # these are only rarer today
_FORMS = frozenset(
    "a an and ballad book canto elegy epigram for fragment from hymn in lines no number ode of on"
    " part poem poems song songs sonnet sonnets stanzas the to untitled verses".split()
)
_NUMERAL = re.compile(r"[clx]*(?:ix|iv|v?i{0,3})|\d+")
_NAMELESS = {"", "anon", "anon.", "anonymous", "traditional", "unknown", "unknown author"}
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_BAND = 2.0  # a partner has at most twice, at least half as many words
_KEYWORDS = 0.3  # weight of shared words beside the embedding, both in standard deviations
_QUANTILES = {"least": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "most": 1.0}
_SAMPLE = 1000  # good poems drawn to stand for all
_PRIOR = 10  # the bad side's mean leans on the good side's as if by so many poems


@dataclass(frozen=True, repr=False)
class Matches(Shown, Sequence[Match]):
    """Matches in order of rank, within a rank by the bad poem's id."""

    pairs: tuple[Match, ...]

    @overload
    def __getitem__(self, index: int) -> Match: ...
    @overload
    def __getitem__(self, index: slice) -> Matches: ...
    def __getitem__(self, index: int | slice) -> Match | Matches:
        return Matches(self.pairs[index]) if isinstance(index, slice) else self.pairs[index]

    def __len__(self) -> int:
        return len(self.pairs)

    def report(self) -> dict[str, Any]:
        """How well the partners fit, and what besides the topic tells the two sides apart.

        Returns:
            `matches`, `bad` and `partners` (distinct poems on either side), `max_reuse`;
            `similarity` at five quantiles; `share_with_topic`; `length_gap`, the median |ln| of
            the ratio of word counts; `outside_length` and `same_author`, the pairs that break
            that rule because nobody else was left; `archaic_gap`, the mean share of archaic
            function words in the bad poems less that in their partners, and
            `archaic_correlation` over the pairs; `year_gap`, the median years between the two
            poems, over `years_known` pairs. A figure that these matches cannot give is None.
        """
        reuse = Counter(m.good.id for m in self)
        found = sorted(m.similarity for m in self)
        lengths = [abs(_length(m.bad) - _length(m.good)) for m in self]
        authors = [(_author(m.bad), _author(m.good)) for m in self]
        archaic = [_archaic(m.bad) for m in self], [_archaic(m.good) for m in self]
        years = [abs(m.bad.year - m.good.year) for m in self if m.bad.year and m.good.year]
        return {
            "matches": len(self),
            "bad": len({m.bad.id for m in self}),
            "partners": len(reuse),
            "max_reuse": max(reuse.values(), default=0),
            "similarity": {
                name: found[round(share * (len(found) - 1))] if found else None
                for name, share in _QUANTILES.items()
            },
            "share_with_topic": _figure(statistics.fmean, [m.shares_topic for m in self]),
            "length_gap": _figure(statistics.median, lengths),
            "outside_length": sum(gap > math.log(_BAND) for gap in lengths),
            "same_author": sum(a == b != "" for a, b in authors),
            "archaic_gap": _figure(
                statistics.fmean, [a - b for a, b in zip(*archaic, strict=True)]
            ),
            "archaic_correlation": _figure(statistics.correlation, *archaic),
            "year_gap": _figure(statistics.median, years),
            "years_known": len(years),
        }

    def plot(self, path: str | Path | None = None) -> Figure:
        """Two histograms: similarity, by whether a topic is shared, and the ratio of lengths.

        Args:
            path: Where to save it as well; the suffix chooses the format.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise MissingExtra("A plot of matches", "embed") from error
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
        pyplot.close(figure)  # or a notebook would show it twice
        for shared, label in ((True, "topic claimed"), (False, "no topic claimed")):
            values = [m.similarity for m in self if m.shares_topic == shared]
            left.hist(values, bins=20, alpha=0.7, label=f"{label} ({len(values)})")
        left.set(xlabel="similarity", ylabel="matches")
        left.legend(frameon=False)
        right.hist([math.exp(_length(m.bad) - _length(m.good)) for m in self], bins=20)
        right.set(xlabel="words in the bad poem / words in its partner")
        if path is not None:
            figure.savefig(path)
        return figure

    def write(self, path: str | Path) -> None:
        """Writes one JSON line for each match: the poems' ids and what the matcher found."""
        kept = {"similarity", "shares_topic", "rank"}
        rows = ({"bad": m.bad.id, "good": m.good.id} | m.model_dump(include=kept) for m in self)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path, corpus: Corpus) -> Self:
        """Reads what `write` wrote, with the poems taken from their corpus.

        Raises:
            BadInput: A line is no match, or its poems are not in the corpus.
        """
        good = {p.id: p for p in corpus.good}
        bad = {p.id: p for p in corpus.bad}
        pairs = []
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
            try:
                row = json.loads(line)
                pairs.append(Match(**row | {"bad": bad[row["bad"]], "good": good[row["good"]]}))
            except (ValueError, KeyError, TypeError) as error:
                raise BadInput(
                    f"{path}, line {number}: no match of two poems of this corpus ({error!r}). "
                    "Match again, or give the corpus that these matches were made from."
                ) from error
        return cls(tuple(pairs))

    def __rich__(self) -> RenderableType:
        from rich.table import Table

        table = Table(title="Matches", title_justify="left")
        table.add_column("what")
        table.add_column("figure", justify="right")
        for name, figure in self.report().items():
            for part, value in (figure if isinstance(figure, dict) else {"": figure}).items():
                shown = "–" if value is None else f"{value:,}"
                table.add_row(f"{name} {part}".replace("_", " ").strip(), shown)
        return table


@dataclass(kw_only=True, eq=False)
class Matcher:
    """Finds a good partner for each bad poem: `Matcher().fit(good).match(bad)`.

    Poems are taken by their ids, so the order in which they come changes nothing.

    Args:
        strategy: `topical`; or `random`, which draws partners without looking at them, claims
            no topic, reports a similarity of 0 and needs no model.
        k: Partners for each bad poem. Each round is the best assignment of the good poems that
            are left, so no good poem is used twice.
        seed: Draws the good poems that stand for all, or the random partners.
        embedder: Reads the poems; `MiniLM()` if none is given.
        cache: Folder for vectors, safe to delete; None keeps none.
        candidates: Good poems for each bad one, chosen by shared words, that are embedded.
        floor: Share of random pairs that a pair must beat to be said to share a topic.
        progress: Whether a terminal or notebook shows how far the embedding is.

    Attributes:
        good_: The good poems in order of id.
        tfidf_: Sparse vectors of their words, a row each, learnt by `vectorizer_`.
        texts_: What is read of them.
        lengths_: Natural logarithms of their word counts.
        authors_: Their authors, empty where unknown.
        sample_: Rows of the good poems that stand for all: up to 1,000.
        vectors_: Embeddings of those, a row each, with their mean `mean_`.
        components_: Their first principal direction, which is taken out of every embedding; none
            when they are fewer than 1,000, for then it is a topic.
    """

    strategy: Strategy = "topical"
    k: int = 1
    seed: int = 7
    embedder: Embedder | None = None
    cache: str | Path | None = None
    candidates: int = 50
    floor: float = 0.9
    progress: bool = True

    def fit(self, good: Iterable[Poem]) -> Self:
        """Learns the good side: its words, and where its embeddings lie.

        Raises:
            BadInput: No good poems, or a setting out of range.
            UnknownName: No such strategy.
            MissingExtra: The default embedder is not installed.
        """
        import numpy as np
        from sklearn.feature_extraction.text import TfidfVectorizer

        if self.strategy not in get_args(Strategy):
            raise UnknownName("matching strategy", self.strategy, get_args(Strategy))
        if self.k < 1 or self.candidates < 1 or not 0 <= self.floor <= 1:
            raise BadInput("k and candidates must be at least 1, and floor between 0 and 1.")
        self.good_ = _by_id(good, "good")
        if self.strategy == "random":
            return self
        self.embedder_ = self.embedder or MiniLM()
        self.lengths_ = np.array([_length(p) for p in self.good_])
        self.authors_ = np.array([_author(p) for p in self.good_])
        self.texts_ = [_reading(p) for p in self.good_]
        self.vectorizer_ = TfidfVectorizer(
            token_pattern=r"[^\s.]+", stop_words="english", sublinear_tf=True, dtype=np.float32
        )
        try:
            self.tfidf_ = self.vectorizer_.fit_transform(self.texts_)
        except ValueError as error:  # no vocabulary
            raise BadInput("The good poems have no words to match by. Give others.") from error
        size = min(_SAMPLE, len(self.good_))
        rng = np.random.default_rng(self.seed)
        self.sample_ = rng.choice(len(self.good_), size, replace=False)
        sample = [self.texts_[i] for i in self.sample_]
        self.vectors_ = embed(sample, self.embedder_, cache=self.cache, progress=self.progress)
        self.mean_ = self.vectors_.mean(axis=0)
        directions = np.linalg.svd(self.vectors_ - self.mean_, full_matrices=False)[2]
        self.components_ = directions[: size // _SAMPLE]
        return self

    def match(self, bad: Iterable[Poem]) -> Matches:
        """Finds `k` partners for each bad poem, all of them different good poems.

        Where no partner of like length by another author is left, the length rule is broken
        before the author rule; `Matches.report` counts both.

        Raises:
            BadInput: No bad poems, poems that are good and bad, or `fit` was not called.
            CoverageError: Fewer than `k` good poems for each bad one.
        """
        if not hasattr(self, "good_"):
            raise BadInput("The matcher knows no good poems yet. Call fit(good) first.")
        poems = _by_id(bad, "bad")
        if both := {p.id for p in poems} & {p.id for p in self.good_}:
            raise BadInput(f"Poem {min(both)} is both good and bad. Take it out of one side.")
        if len(poems) * self.k > len(self.good_):
            raise CoverageError(
                f"{len(poems)} bad poems with {self.k} partners each need {len(poems) * self.k} "
                f"good poems; there are {len(self.good_)}. Add some, lower k, or match fewer."
            )
        choose = self._random if self.strategy == "random" else self._topical
        return Matches(tuple(choose(poems)))

    def _random(self, poems: Sequence[Poem]) -> Iterator[Match]:
        # Each poem draws by its own id, so that one that is changed leaves the others' partners.
        ring = {self._drawn(good.id): good for good in self.good_}
        free = sorted(ring)
        for rank in range(1, self.k + 1):
            for bad in poems:
                at = bisect.bisect(free, self._drawn(f"{bad.id} {rank}")) % len(free)
                good = ring[free.pop(at)]
                yield Match(bad=bad, good=good, similarity=0, shares_topic=False, rank=rank)

    def _drawn(self, name: str) -> str:
        return hashlib.sha256(f"{self.seed} {name}".encode()).hexdigest()

    def _topical(self, poems: Sequence[Poem]) -> Iterator[Match]:
        import numpy as np
        from scipy.optimize import linear_sum_assignment

        texts = [_reading(p) for p in poems]
        words = self.vectorizer_.transform(texts)
        breaches = [self._breaches(p) for p in poems]
        pool = self._pool(words, breaches)
        score, floor = self._score(texts, words, pool)
        # a breach costs more than any gain in similarity can make up for
        price = 1 + len(poems) * np.ptp(score)
        cost = np.stack([b[pool] for b in breaches]) * price - score
        free = np.arange(len(pool))
        for rank in range(1, self.k + 1):
            rows, columns = linear_sum_assignment(cost[:, free])
            for row, column in zip(rows, free[columns], strict=True):
                yield Match(
                    bad=poems[row],
                    good=self.good_[pool[column]],
                    similarity=round(float(score[row, column]), 4),
                    shares_topic=bool(score[row, column] >= floor),
                    rank=rank,
                )
            free = np.delete(free, columns)

    def _breaches(self, poem: Poem) -> NDArray[Any]:
        """For each good poem 1 if its length is wrong, and 2 more if its author is the same."""
        import numpy as np

        length = np.abs(self.lengths_ - _length(poem)) > math.log(_BAND)
        author = (self.authors_ == _author(poem)) & (self.authors_ != "")
        return np.asarray(length + 2.0 * author)

    def _pool(self, words: Any, breaches: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Rows of the good poems to score: the sample, then each bad poem's nearest by words."""
        import numpy as np

        near = set(range(len(self.good_))) if len(breaches) * self.k > _SAMPLE else set()
        for row, breach in enumerate(breaches):
            shared = (self.tfidf_ @ words[row].T).toarray().ravel()
            order = np.lexsort((-shared, breach))
            near.update(order[: max(self.k, self.candidates)].tolist())
        others = sorted(near.difference(self.sample_.tolist()))
        return np.array([*self.sample_, *others], dtype=int)

    def _score(self, texts: Sequence[str], words: Any, pool: Any) -> tuple[NDArray[Any], float]:
        """Similarity of bad poems (rows) and pool (columns) in SDs of random pairs; the floor."""
        import numpy as np

        size = len(self.sample_)
        new = [*texts, *(self.texts_[i] for i in pool[size:])]
        vectors = embed(new, self.embedder_, cache=self.cache, progress=self.progress)
        bad, good = vectors[: len(texts)], np.vstack([self.vectors_, vectors[len(texts) :]])
        centre = (bad.sum(axis=0) + _PRIOR * self.mean_) / (len(bad) + _PRIOR)
        meaning = self._direction(bad - centre) @ self._direction(good - self.mean_).T
        shared = (words @ self.tfidf_[pool].T).toarray()
        score = _standard(meaning, size) + _KEYWORDS * _standard(shared, size)
        return score, float(np.quantile(score[:, :size], self.floor))

    def _direction(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """Unit vectors without what all poems share; zero where nothing is left."""
        import numpy as np

        vectors = vectors - vectors @ self.components_.T @ self.components_
        unit: NDArray[Any] = vectors / np.maximum(
            np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6
        )
        return unit


def _reading(poem: Poem) -> str:
    """What is read of a poem: its words but for archaic function words, after a telling title."""
    words = _WORD.findall(plain(poem.text))
    title = _WORD.findall(plain(poem.title or ""))
    telling = any(w not in _FORMS and not _NUMERAL.fullmatch(w) for w in title)
    head = " ".join(title) + ". " if telling and words[: len(title)] != title else ""
    return head + " ".join(w for w in words if w not in _PERIOD)


def _length(poem: Poem) -> float:
    return math.log(max(1, len(_WORD.findall(poem.text))))


def _author(poem: Poem) -> str:
    name = plain(poem.author or "")
    return "" if name in _NAMELESS else name


def _archaic(poem: Poem) -> float:
    words = _WORD.findall(plain(poem.text))
    return sum(w in _PERIOD for w in words) / max(1, len(words))


def _by_id(poems: Iterable[Poem], quality: str) -> tuple[Poem, ...]:
    found = {p.id: p for p in sorted(poems, key=lambda p: (p.id, p.text, p.file))}
    if not found:
        raise BadInput(f"There are no {quality} poems to match. Add some to the corpus.")
    return tuple(found.values())


def _standard(values: NDArray[Any], size: int) -> NDArray[Any]:
    """Values in standard deviations from the mean of the first `size` columns, a random draw."""
    chance = values[:, :size]
    scaled: NDArray[Any] = (values - chance.mean()) / (chance.std() or 1)
    return scaled


def _figure(function: Callable[..., float], *values: Sequence[float]) -> float | None:
    try:
        return round(float(function(*values)), 4)
    except statistics.StatisticsError:  # too few values, or all the same
        return None
