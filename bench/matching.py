"""How well bad poems find good partners: topic, confounds, reuse, time and memory.

    python bench/matching.py                                       # on poems made up here
    python bench/matching.py --good good.jsonl.gz --bad bad.jsonl.gz --cache /tmp/vectors

There are no theme labels to go by, so topic is measured on words that no method saw: each method
matches by the odd lines of the poems, and is judged by the even lines of its pairs, as the mean
cosine of their TF-IDF vectors over that of all pairs. A ratio of 1 is chance. TF-IDF and MiniLM on
whole poems take the nearest good poem by another author, as one would first write it. MiniLM
chooses among the 50 nearest of each bad poem by TF-IDF, which is what the default embeds, too.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from versecraft import Matcher, Matches
from versecraft.embedding import MiniLM, embed
from versecraft.records import Match, Poem, Quality

THEMES = {
    "sea": "tide harbour keel gull anchor brine mast wave sail shore".split(),
    "bread": "flour oven crust yeast dough baker loaf kneading sieve crumb".split(),
    "snow": "frost drift icicle sleet thaw sledge flake winter shovel glove".split(),
    "train": "carriage platform signal guard junction rails ticket whistle tunnel".split(),
    "garden": "spade seed root trellis slug compost rose hedge rake marrow".split(),
    "war": "trench rifle bugle mud sentry stretcher letter medal widow gate".split(),
}
PLAIN = "old small late slow white broken patient second last quiet borrowed empty".split()


def made_up(quality: Quality, count: int, seed: int) -> list[Poem]:
    """Poems that go round a theme, in no danger of being mistaken for verse."""
    rng = random.Random(seed)
    poems = []
    for n in range(count):
        nouns = rng.choice(list(THEMES.values()))
        lines = [
            f"the {rng.choice(PLAIN)} {rng.choice(nouns)} and the {rng.choice(nouns)} {n}"
            for _ in range(rng.randrange(6, 40))
        ]
        poems.append(Poem(text="\n".join(lines), quality=quality, author=f"{quality} {n % 40}"))
    return poems


def read(path: Path, quality: Quality) -> list[Poem]:
    fields = {"id", "text", "title", "author", "year", "source", "licence"}
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Poem(quality=quality, **{k: v for k, v in r.items() if k in fields}) for r in rows]


def half(poem: Poem, start: int) -> Poem:
    lines = [line for line in poem.text.split("\n") if line.strip()]
    return poem.model_copy(update={"text": "\n".join(lines[start::2]) or poem.text})


def nearest(scores: np.ndarray, bad: Sequence[Poem], good: Sequence[Poem]) -> Matches:
    """Each bad poem with the nearest good one by somebody else: what one would write first."""
    authors = np.array([p.author for p in good])
    scores = np.where([authors == p.author for p in bad], -1, scores)
    pairs = zip(bad, scores.argmax(axis=1), scores.max(axis=1), strict=True)
    return Matches(
        tuple(
            Match(bad=b, good=good[i], similarity=float(s), shares_topic=True) for b, i, s in pairs
        )
    )


def word_scores(bad: Sequence[Poem], good: Sequence[Poem]) -> np.ndarray:
    words = TfidfVectorizer(stop_words="english", sublinear_tf=True, dtype=np.float32)
    rows = words.fit_transform([p.text for p in good])
    return (words.transform([p.text for p in bad]) @ rows.T).toarray()


def words_only(bad: Sequence[Poem], good: Sequence[Poem], cache: Path) -> Matches:
    return nearest(word_scores(bad, good), bad, good)


def whole_poems(bad: Sequence[Poem], good: Sequence[Poem], cache: Path) -> Matches:
    near = np.argsort(-word_scores(bad, good), axis=1)[:, :50]
    some = [good[i] for i in np.unique(near)]
    vectors = embed([p.text for p in (*bad, *some)], MiniLM(), cache=cache)
    return nearest(vectors[: len(bad)] @ vectors[len(bad) :].T, bad, some)


def at_random(bad: Sequence[Poem], good: Sequence[Poem], cache: Path) -> Matches:
    return Matcher(strategy="random").fit(good).match(bad)


def default(bad: Sequence[Poem], good: Sequence[Poem], cache: Path) -> Matches:
    return Matcher(cache=cache).fit(good).match(bad)


METHODS: dict[str, Callable[[Sequence[Poem], Sequence[Poem], Path], Matches]] = {
    "random": at_random,
    "TF-IDF, nearest": words_only,
    "MiniLM on whole poems, nearest": whole_poems,
    "versecraft's default": default,
}


class Judge:
    """Topic by the lines that no method saw."""

    def __init__(self, bad: Sequence[Poem], good: Sequence[Poem]) -> None:
        words = TfidfVectorizer(stop_words="english", sublinear_tf=True, dtype=np.float32)
        self.rows = {p.id: n for n, p in enumerate((*good, *bad))}
        unseen = [half(p, 1).text for p in (*good, *bad)]
        words.fit(unseen[: len(good)])
        self.vectors = words.transform(unseen)
        means = self.vectors[len(good) :].mean(axis=0) @ self.vectors[: len(good)].mean(axis=0).T
        self.chance = float(np.asarray(means).item())

    def topic(self, matches: Matches) -> tuple[float, float]:
        """Ratio to chance, and its standard error over the pairs."""
        pairs = [(self.rows[m.bad.id], self.rows[m.good.id]) for m in matches]
        found = [(self.vectors[a] @ self.vectors[b].T).sum() / self.chance for a, b in pairs]
        return float(np.mean(found)), float(np.std(found) / len(found) ** 0.5)


def compare(bad: Sequence[Poem], good: Sequence[Poem], cache: Path) -> None:
    """The table of methods."""
    judge = Judge(bad, good)
    odd_bad, odd_good = [half(p, 0) for p in bad], [half(p, 0) for p in good]
    print(f"{'':32}topic ± se     partners  max reuse  length gap  archaic r")
    for name, method in METHODS.items():
        matches = method(odd_bad, odd_good, cache)
        topic, error = judge.topic(matches)
        report = matches.report()
        archaic = report["archaic_correlation"]
        print(
            f"{name:32}{topic:5.2f} ± {error:.2f}  {report['partners']:9}  {report['max_reuse']:9}"
            f"  {report['length_gap']:10.2f}  {'–' if archaic is None else f'{archaic:.2f}':>9}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures how well bad poems find good partners.")
    parser.add_argument("--good", type=Path, help="JSON lines, gzipped or not")
    parser.add_argument("--bad", type=Path)
    parser.add_argument("--cache", type=Path, help="folder for vectors; a fresh one if not given")
    parser.add_argument("--show", type=int, default=10, help="pairs to print")
    args = parser.parse_args()
    good = read(args.good, "good") if args.good else made_up("good", 400, seed=1)
    bad = read(args.bad, "bad") if args.bad else made_up("bad", 20, seed=2)
    with tempfile.TemporaryDirectory() as fresh:
        cache = args.cache or Path(fresh)
        for run in ("first run", "again, from the cache"):
            begun, cpu = time.perf_counter(), time.process_time()
            matches = Matcher(cache=cache).fit(good).match(bad)
            spent, cpu = time.perf_counter() - begun, time.process_time() - cpu
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{len(bad)} x {len(good):,}, {run}: {spent:.1f} s ({cpu:.1f} s of CPU), "
                f"peak memory {peak:,.0f} MB"
            )
        print(json.dumps(matches.report(), indent=1))
        for match in random.Random(7).sample(matches.pairs, min(args.show, len(matches))):
            names = [
                f"{p.title or p.text.splitlines()[0]!r} ({p.author})"
                for p in (match.bad, match.good)
            ]
            print(f"{match.similarity:6.2f}  {names[0]}  –  {names[1]}")
        compare(bad, good, cache)


if __name__ == "__main__":
    main()
