"""Lines in context: what a line looks like, alone and beside the other lines of its text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from .lexicon import FIRST_WORDS, FUNCTION, LEXICON, TONGUES, TRIGGERS, TURNS
from .rules import clipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[Any]

_CATEGORIES = tuple(LEXICON)
_SMALL = frozenset(LEXICON["english"].split())
_SPOKEN_OF = frozenset(" ".join(LEXICON.values()).split())


TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+|[^\w\s]|_")
_SUFFIX = re.compile(r"(?:tion|sion|ment|ness|ity|ance|ence|ious|ical|ally|ively|izes?|ises?|ing)$")
_LABEL = re.compile(r"[*_>#\s\-\[(]*[^\W\d_][\w '’/&-]{0,30}[*_\])]*\s*[:：](?:\s|[*_]|$)")
_LIST = re.compile(r"(?:[-*•‣▪–+→>|]|\d{1,3}[.):]|\(?[a-zA-Z][.)])\s+\S")
_SENTENCES = re.compile(r"[a-z0-9)\"'”’][.!?][\"'”’)]* +[\"'“‘(]*[A-Z]")
_QUOTED = re.compile(r"[\"“]([^\"“”]{3,80})[\"”]|(?<!\w)['‘]([^'‘’]{3,80})['’](?!\w)")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,80}>|\\[a-zA-Z]{2,}|&\w{2,6};|\[/?\w+\]|\{[%{]|[%}]\}")
_VOWELS = re.compile(r"[aeiouyàâäéèêëîïôöùûü]+")
_TURNED = tuple(re.compile(pattern) for pattern in TURNS.values())
_ENDS = ".,;:?!-…"
_MARKS = '()[]<>{}/\\|*_`#="&@%~^→+$'
_MARKED = re.compile(f"[{re.escape(_MARKS)}]")
_DIGIT, _STOPS = re.compile(r"[\d²³¹⁰-⁹₀-₉]"), re.compile(r"[.!?]\S* +\S")
_NO_END = (0.0,) * len(_ENDS)
_END_ROWS = {mark: tuple(float(mark == other) for other in _ENDS) for mark in _ENDS}
_PLAIN = (0.0,) * len(_MARKS)


@dataclass(frozen=True)
class Line:
    """A line that is not blank, from 1, with its tokens in lower case."""

    number: int
    text: str
    tokens: list[str]
    words: list[str]


def lines_of(text: str) -> list[Line]:
    """The lines of a text that are not blank."""
    lines = []
    for number, raw in enumerate(text.split("\n"), start=1):
        line = clipped(raw)
        if line:
            tokens = TOKEN.findall(line.lower().replace("’", "'"))
            words = [t for t in tokens if t[0].isalpha()]
            lines.append(Line(number, line, tokens, words))
    return lines


def facts(word: str) -> list[float]:
    """What a word adds to its line: what it speaks of, its language, its length."""
    return [
        *(float(word in words) for words in _LISTS),
        *(float(word in words) for words in _TONGUE_LISTS),
        len(word),
        float(len(word) > 8),
        float(len(word) > 5 and _SUFFIX.search(word) is not None),
        max(len(_VOWELS.findall(word)), 1),
        1.0,
    ]


_KINDS = {
    word: name.upper()
    for name in ("people", "offer", "judge", "explain", "task", "device", "verse")
    for word in LEXICON[name].split()
}
_ENDINGS = ("ing", "ed", "ly", "est", "er", "ion", "ness", "s")


def sketch(token: str) -> str:
    """What stands for a token in the sketch of a line: itself, its kind, or its ending."""
    if token in FUNCTION or not token[0].isalpha():
        return token
    kind = _KINDS.get(token)
    if kind is None:
        kind = next(
            (f"-{e}" for e in _ENDINGS if len(token) > len(e) + 2 and token.endswith(e)),
            "w",
        )
    return kind


def stem(word: str) -> str:
    """A word without its ending, the same for most forms of it."""
    for ending in ("ing", "edly", "ed", "ly", "es", "s", "e"):
        if len(word) > len(ending) + 2 and word.endswith(ending):
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def triggers(word: str) -> tuple[int, int]:
    """The turns of phrase that a word may be part of, and may begin a line of, as bits."""
    return _BITS.get(word, 0), _FIRST_BITS.get(word, 0)


def _bits(words: Mapping[str, str]) -> dict[str, int]:
    bits: dict[str, int] = {}
    for n, name in enumerate(TURNS):
        for word in words.get(name, "").split():
            bits[word] = bits.get(word, 0) | 1 << n
    return bits


_BITS, _FIRST_BITS = _bits(TRIGGERS), _bits(FIRST_WORDS)
_BRACKETED = 1 << [*TURNS].index("bracketed")
_LISTS = tuple(frozenset(words.split()) for words in LEXICON.values())
_TONGUE_LISTS = tuple(frozenset(words.split()) for words in TONGUES)


@cache
def _asked(mask: int) -> tuple[int, ...]:
    return tuple(n for n in range(len(_TURNED)) if mask >> n & 1)


def _turns(text: str, mask: int) -> list[float]:
    """Which turns of phrase a line has, of those that its words allow."""
    found = [0.0] * len(_TURNED)
    if text[0] in "([{*_<":
        mask |= _BRACKETED
    if mask:
        small = text[:400].lower().replace("’", "'")
        for n in _asked(mask):
            if _TURNED[n].search(small) is not None:
                found[n] = 1.0
    return found


def _marks(line: Line, mask: int) -> list[float]:
    """What a line looks like without regard to its words."""
    text, words = line.text, line.words
    end = text.rstrip("\"'”’)*_ ")[-1:] or " "
    strange = accented = symbols = 0
    if not text.isascii():
        strange = sum(c.isalpha() and c > "ɏ" for c in text)
        accented = sum(c.isalpha() and "\x7f" < c <= "ɏ" for c in text)
        symbols = sum(c > "\u2190" and not c.isalpha() for c in text)
    last = words[-1] if words and end.isalnum() else ""
    digits = 0 if _DIGIT.search(text) is None else sum([t.isdigit() for t in line.tokens])
    marked = _MARKED.search(text) is not None
    return [
        len(text),
        min(digits, 5),
        float(text[:1].isupper()),
        float(text[:1].islower()),
        sum([word[0].isupper() for word in text.split()[1:]]) / (len(words) or 1),
        float(len(words) > 1 and text.isupper()),
        *_END_ROWS.get(end, _NO_END),
        float(end.isalnum()),
        float(last in _SMALL),
        min(len(_SENTENCES.findall(text)), 4) if _STOPS.search(text) else 0,
        min(text.count(","), 6) / (len(words) or 1),
        float(_LABEL.match(text) is not None) if ":" in text or "：" in text else 0.0,
        float(_LIST.match(text) is not None),
        float(marked and _TAG.search(text) is not None),
        float(text[0] in '([{<"“*_#>'),
        min(text.count("“"), 4),
        min(text.count("—") + text.count("–") + text.count("--"), 3),
        strange / (strange + len(text)),
        accented / len(text),
        min(symbols, 4),
        *((min(text.count(mark), 4) for mark in _MARKS) if marked else _PLAIN),
        *_turns(text, mask),
    ]


_C = len(_CATEGORIES) - 1
_WIDTH = _C + 1 + len(TONGUES)  # where a word's length stands among its facts
_CHARS, _DIGITS, _UPPER, _LOWER, _CAPITALS, _SHOUTED, _STOP = range(_C + 8, _C + 15)
_OPEN = _STOP + len(_ENDS)
_DANGLING, _INNER, _COMMAS, _LABELLED, _LISTED, _TAGGED = range(_OPEN + 1, _OPEN + 7)
_COMPARED = (
    *range(9), *range(_C, _C + 8), _DIGITS, _UPPER, _LOWER, _CAPITALS, _SHOUTED, _STOP, _STOP + 1,
    _OPEN, _INNER, _COMMAS, _LABELLED, _LISTED, _TAGGED, *range(_TAGGED + 1, _TAGGED + 7), -1,
)  # fmt: skip


def _alone(lines: list[Line], words: Matrix, masks: list[int]) -> Matrix:
    """One row a line: its words, then its marks. `words` holds the sums of the words' facts."""
    import numpy as np

    n = np.maximum(words[:, -1:], 1)
    means = words / n
    marks = np.array([_marks(*both) for both in zip(lines, masks, strict=True)], np.float32)
    turns = marks[:, -len(_TURNED) :].sum(1, keepdims=True)
    return np.hstack(
        [
            np.minimum(words[:, :_C], 6),
            np.minimum(words[:, :8], 3).sum(1, keepdims=True) / n,
            means[:, _C : _C + 1],  # English by its small words
            means[:, _C + 1 : _WIDTH].max(1, keepdims=True),
            means[:, _WIDTH : _WIDTH + 3],
            words[:, -2:],
            marks,
            turns,
        ]
    )


def describe(
    lines: list[Line], words: Matrix, vectors: Matrix, scores: Matrix, masks: list[int]
) -> Matrix:
    """One row of numbers a line: the line alone, its place, and how it differs from the others.

    Args:
        lines: Of one text, in order; at least one.
        words: The sums of the `facts` of the words of each line.
        vectors: What the words of each line mean, a unit vector a line.
        scores: How each line sounds by its words alone, higher for talk about texts; a column
            for each of the scorers.
        masks: The turns of phrase that the words of each line allow, as bits.
    """
    import numpy as np

    n = len(lines)
    alone = _alone(lines, words, masks)
    numbers = np.array([line.number for line in lines])
    before = np.diff(numbers, prepend=numbers[0] - 2) > 1
    after = np.append(before[1:], True)
    block = np.cumsum(before) - 1
    size = np.bincount(block)[block]
    place = np.arange(n)

    def others(x: Matrix) -> Matrix:
        """The mean of all other lines, for each line."""
        return (x.sum(0) - x) / max(n - 1, 1) if n > 1 else x

    def shifted(x: Matrix, by: int, empty: float) -> Matrix:
        out = np.full_like(x, empty)
        if by < 0:
            out[-by:] = x[:by]
        else:
            out[:-by] = x[by:]
        return out

    compared = alone[:, list(_COMPARED)]
    chars, count, beats = alone[:, _CHARS], words[:, -1], words[:, -2]
    rest = others(vectors)
    norm = np.linalg.norm(rest, axis=1) + 1e-6
    ends_sentence = alone[:, _STOP] + alone[:, _STOP + 4] + alone[:, _STOP + 5]
    middle = _median(chars)
    spread = _median(np.abs(chars - middle)) + 4
    highest = np.sort(scores, axis=0)[::-1]
    top = np.where(scores == highest[0], highest[min(1, n - 1)], highest[0])
    columns = [
        np.full(n, np.log1p(n)), np.full(n, np.log1p(block[-1] + 1)),
        place == 0, place == 1, place == n - 1, place == n - 2, place / n,
        before, after, np.minimum(size, 8), block == 0, block == block[-1],
        (block == 0) & (block[-1] > 0) & (size == 1),
        (block == block[-1]) & (block[-1] > 0) & (size == 1),
        np.log((chars + 5) / (middle + 5)), (chars - middle) / spread,
        np.log((count + 1) / (_median(count) + 1)), np.log((beats + 1) / (_median(beats) + 1)),
        np.log((chars + 5) / (shifted(chars, -1, chars[0]) + 5)),
        np.log((chars + 5) / (shifted(chars, 1, chars[-1]) + 5)),
        np.full(n, middle), np.full(n, chars.std() / (chars.mean() + 1)),
        shifted(ends_sentence, -1, 1), shifted(alone[:, _OPEN], -1, 0),
        ends_sentence * alone[:, _UPPER] * shifted(ends_sentence, -1, 1),
        shifted(alone[:, _STOP + 3], -1, 0), others(ends_sentence),
        (vectors * rest).sum(1) / norm,
        (vectors * shifted(vectors, -1, 0)).sum(1), (vectors * shifted(vectors, 1, 0)).sum(1),
        *_echoes(lines),
    ]  # fmt: skip
    heard = [scores, shifted(scores, -1, 0), shifted(scores, 1, 0), others(scores), top]
    rest_of = others(compared)
    parts = [alone, compared - rest_of, rest_of, *heard, np.array(columns, np.float32).T]
    return np.concatenate(parts, axis=1).astype(np.float32, copy=False)


def _median(values: Matrix) -> Any:
    ordered = values.copy()
    ordered.sort()
    return (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2


def _echoes(lines: list[Line]) -> list[list[float]]:
    """How a line hangs together with the others: rhyme, shared words, quotation, repetition."""
    ends = [line.words[-1][-2:] if line.words else "" for line in lines]
    rhymes = [
        float(len(end) > 1 and (end in ends[max(0, k - 4) : k] or end in ends[k + 1 : k + 5]))
        for k, end in enumerate(ends)
    ]
    common = sum(rhymes) / len(lines)
    content = [{w for w in line.words if len(w) > 3 and w not in _SPOKEN_OF} for line in lines]
    used = Counter(word for words in content for word in words)
    shared = [sum(used[w] > 1 for w in words) / (len(words) or 1) for words in content]
    again, run, exact = _repeats(lines)
    return [
        rhymes, [r - common for r in rhymes], [common] * len(lines), shared, _quotes(lines),
        again, run, exact, [sum(exact) / len(lines)] * len(lines),
        [sum(r > 2 for r in run) / len(lines)] * len(lines),
    ]  # fmt: skip


def _quotes(lines: list[Line]) -> list[float]:
    """How often each line quotes words of another line."""
    counts = []
    whole = ""
    for line in lines:
        hits = 0
        if any(mark in line.text for mark in "\"“'‘"):
            own = " ".join(line.tokens)
            for double, single in _QUOTED.findall(line.text)[:8]:
                words = TOKEN.findall((double or single).lower().replace("’", "'"))
                phrase = " ".join(words).strip(" ,.;:")
                whole = whole or "\n".join(" ".join(other.tokens) for other in lines)
                hits += len(phrase) > 3 and whole.count(phrase) > own.count(phrase)
        counts.append(min(hits, 3.0))
    return counts


def _repeats(lines: list[Line]) -> tuple[list[float], list[float], list[float]]:
    """For each line: how much of it an earlier line had; the run of such lines; whether it is same.

    A run goes on while lines repeat earlier lines in the same order, as a second draft does.
    """
    seen: dict[tuple[str, ...], int] = {}
    again, exact, source = [], [], []
    for k, line in enumerate(lines):
        words = line.words[:40]
        parts: list[tuple[str, ...]] = [*zip(words, words[1:], words[2:], strict=False)]
        parts = parts or [tuple(words)]
        hits = [at for part in parts if part and (at := seen.setdefault(part, k)) != k]
        at = max(set(hits), key=hits.count) if hits else -9
        again.append(len(hits) / len(parts))
        exact.append(float(at >= 0 and lines[at].words == line.words))
        source.append(at)
    run = [0.0] * len(lines)
    begin = 0
    for k in range(1, len(lines) + 1):
        if k == len(lines) or source[k] < 0 or not 0 <= source[k] - source[k - 1] <= 2:
            for n in range(begin, k):
                run[n] = min(float(k - begin), 12.0) if source[n] >= 0 else 0.0
            begin = k
    return again, run, exact
