"""How English words sound: last words of lines, grades of rhyme, syllables, stress.

Pronunciations come from the CMU dictionary through `pronouncing` (the extra `prosody`). Words that
it lacks are worked out from words that it has: old spellings, inflections, compounds, and last the
word with the longest like ending.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from functools import cache, lru_cache
from typing import Literal, NamedTuple

from .errors import MissingExtra

Grade = Literal["perfect", "eye", "slant", "none"]
"""How two words rhyme: by sound, to the eye, half, or not at all."""

Phones = tuple[str, ...]

_UNIFIED = str.maketrans({"’": "'", "‘": "'", "`": "'", "ʼ": "'", "æ": "ae", "œ": "oe"})
_WORD = re.compile(r"'?[a-z]+(?:'[a-z]+)*'?")
_VOWELS = re.compile(r"[aeiouy]+")
# The end of a word's spelling from its last sounded vowel on: "ove" of love, "ar" of war.
_SPELT = re.compile(r"[aeiouy]+[^aeiouy]*(?:e|es|ed)?$")

_SYLLABLE = re.compile(r"\b[AEIOU][A-Z]\b")

# Contractions of verse that no rule below reaches.
_CONTRACTED = {
    "o'er": "AO1 R", "e'er": "EH1 R", "ne'er": "N EH1 R", "whate'er": "W AH0 T EH1 R",
    "where'er": "W EH0 R EH1 R", "howe'er": "HH AW0 EH1 R", "whene'er": "W EH0 N EH1 R",
    "e'en": "IY1 N", "ta'en": "T EY1 N", "pow'r": "P AW1 R", "flow'r": "F L AW1 R",
    "show'r": "SH AW1 R", "tow'r": "T AW1 R", "bow'r": "B AW1 R", "hour": "AW1 R",
    "'tis": "T IH1 Z", "'twas": "T W AH1 Z", "'twere": "T W ER1", "'twill": "T W IH1 L",
    "'twould": "T W UH1 D", "th'": "DH", "t'": "T", "i'": "IH1", "o'": "AH1", "a'": "AH1",
    "aye": "AY1;EY1", "wind": "W IH1 N D;W AY1 N D", "wounds": "W UW1 N D Z;W AW1 N D Z",
    "every": "EH1 V R IY0", "spirit": "S P IH1 R AH0 T", "doth": "D AH1 TH", "dost": "D AH1 S T",
}  # fmt: skip

# Old and shortened endings: spelling, what stands there today, sounds to add.
_RESPELT = tuple(
    (re.compile(pattern), ending, tuple(phones.split()))
    for pattern, ending, phones in (
        (r"'d$", "ed", ""), (r"'d$", "e", "D"), (r"'d$", "", "D"), (r"'st$", "", "S T"),
        (r"'n$", "en", ""), (r"'n$", "ing", ""), (r"'s$", "s", ""), (r"'s$", "", "Z"),
        (r"'r$", "er", ""), (r"s'$", "s", ""), (r"'$", "", ""), (r"^'", "", ""),
        (r"our$", "or", ""), (r"ours$", "ors", ""), (r"oured$", "ored", ""),
        (r"([^aeiou])t$", r"\1ed", ""), (r"st$", "ssed", ""), (r"pt$", "pped", ""),
        (r"eth$", "", "IH0 TH"), (r"eth$", "e", "IH0 TH"), (r"est$", "", "IH0 S T"),
        (r"est$", "e", "IH0 S T"), (r"ise$", "ize", ""), (r"ize$", "ise", ""), (r"ie$", "y", ""),
        (r"ies$", "y", "Z"), (r"es$", "e", "Z"), (r"s$", "", "Z"), (r"ed$", "e", "D"),
        (r"ed$", "", "D"), (r"ied$", "y", "D"), (r"ing$", "", "IH0 NG"), (r"ing$", "e", "IH0 NG"),
        (r"ly$", "", "L IY0"), (r"less$", "", "L AH0 S"), (r"ness$", "", "N AH0 S"),
        (r"er$", "", "ER0"), (r"er$", "e", "ER0"), (r"ll$", "l", ""), (r"l$", "ll", ""),
        (r"ck$", "c", ""), (r"ue$", "ve", ""), (r"e$", "", ""), (r"u", "v", ""), (r"^v", "u", ""),
    )
)  # fmt: skip


class Sound(NamedTuple):
    """One way of saying a word's end: from its stress on, and its last syllable alone."""

    stressed: str
    last: str

    @property
    def promoted(self) -> bool:
        """Whether verse may stress the last syllable: it is the stressed one, or two behind it."""
        if self.stressed == self.last:
            return True
        between = len(_SYLLABLE.findall(self.stressed)) - 2
        return between > 0 and not _WEAK.match(self.last)


def stanzas_of(text: str) -> list[list[str]]:
    """The lines of each stanza of a poem; blank lines part stanzas."""
    parts = re.split(r"\n\s*\n", text.replace("\r\n", "\n"))
    stanzas = [[line.strip() for line in part.split("\n") if line.strip()] for part in parts]
    return [stanza for stanza in stanzas if stanza]


def end_word(line: str) -> str:
    """The last word of a line in lower case, without marks; "" where there is none."""
    words = words_in(line)
    return words[-1] if words else ""


@lru_cache(maxsize=4096)
def words_in(line: str) -> tuple[str, ...]:
    """The words of a line for listening: lower case, straight apostrophes, no accents."""
    text = line.lower().translate(_UNIFIED)
    if not text.isascii():
        letters = unicodedata.normalize("NFD", text)
        text = "".join(c for c in letters if not unicodedata.combining(c))
    return tuple(w for w in map(_bare, _WORD.findall(text)) if w)


def _bare(word: str) -> str:
    """A word without quotation marks at its ends; apostrophes that stand for a letter stay."""
    return word if word in _CONTRACTED else word.strip("'")


def rhyme(a: str, b: str) -> Grade:
    """How two words (or the last words of two lines) rhyme.

    "perfect": alike in sound from the last stress on, in any pronunciation, or from a last
    syllable that verse may stress (eternity, sea); a word rhymes with itself. "eye": not alike in
    sound, but spelt alike there (love, prove), or by a last y as verse has long taken it (symmetry,
    eye). "slant": the vowel and a consonant after it, or all that comes after it, are alike (lost,
    toss; bell, ball).

    Raises:
        MissingExtra: The extra `prosody` is not installed.
    """
    return graded(end_word(a), end_word(b))


@lru_cache(maxsize=1 << 17)
def graded(a: str, b: str) -> Grade:
    """How two words rhyme that are last words already, as `end_word` gives them."""
    if not a or not b:
        return "none"
    if a == b:
        return "perfect"
    ours, theirs = sounds(a), sounds(b)
    if any(_alike(x, y) for x in ours for y in theirs):
        return "perfect"
    if _spelt_alike(a, b) or _said_of_old(a, b) or _said_of_old(b, a):
        return "eye"
    return "slant" if any(_near(x, y) for x in ours for y in theirs) else "none"


# Last syllables too weak to carry a rhyme alone (sing, talking; her, brother).
_WEAK = re.compile(r"(?:AH|IH|ER)\b")


def _alike(a: Sound, b: Sound) -> bool:
    if a.stressed == b.stressed:
        return True
    return a.last == b.last and a.promoted and b.promoted


def _spelt_alike(a: str, b: str) -> bool:
    """Whether two words rhyme to the eye; a weak last syllable needs the consonant before it."""
    if a[-1] != b[-1]:
        return False
    ours, theirs = _SPELT.search(a), _SPELT.search(b)
    same = ours is not None and theirs is not None and ours[0] == theirs[0]
    three = len(a) > 2 and len(b) > 2 and a[-3:] == b[-3:]
    weak = _is_weak(a) + _is_weak(b)
    if not weak:
        return three or (same and ours is not None and len(ours[0]) > 1)
    if a.endswith("ing") or weak == 2:
        return same and ours is not None and a[: ours.start()][-1:] == b[-len(ours[0]) - 1 :][:1]
    return three


def _said_of_old(word: str, other: str) -> bool:
    """Whether a last y that verse may stress is that of the other word (symmetry, eye)."""
    if not word.endswith(("y", "ies")):
        return False
    weak = (s for s in sounds(word) if s.promoted and s.last != s.stressed)
    ours = {s.last.replace("IY", "AY") for s in weak}
    return any(s.last == s.stressed and s.last in ours for s in sounds(other))


@lru_cache(maxsize=1 << 16)
def _is_weak(word: str) -> bool:
    found = sounds(word)
    return bool(found) and all(s.last != s.stressed and _WEAK.match(s.last) for s in found)


def _near(a: Sound, b: Sound) -> bool:
    x, y = a.stressed.split(), b.stressed.split()
    if x[0] == y[0] and set(x[1:]) & set(y[1:]):
        return True
    return len(x) > 1 and x[1:] == y[1:]


@lru_cache(maxsize=1 << 16)
def sounds(word: str) -> tuple[Sound, ...]:
    """The ends of a word's pronunciations, by its ending where no better is known."""
    said = pronounced(word) or _like(word)
    return tuple(dict.fromkeys(s for p in said if (s := _sound(p))))


def _sound(phones: Phones) -> Sound | None:
    vowels = [i for i, phone in enumerate(phones) if phone[-1].isdigit()]
    if not vowels:
        return None
    stressed = [i for i in vowels if phones[i][-1] != "0"] or vowels
    return Sound(_plain(phones[stressed[-1] :]), _plain(phones[vowels[-1] :]))


_MERGED = (
    (re.compile(r"\bU[HW] R\b"), "AO R"),
    (re.compile(r"\bIH R\b"), "IY R"),
    (re.compile(r"\b(AY|AW|OY|EY|IY|UW|OW) ER\b"), r"\1 R"),
)


def _plain(phones: Phones) -> str:
    """Sounds without stress; what speakers and dictionaries do not keep apart is one."""
    text = " ".join(phone.rstrip("012") for phone in phones)
    for pattern, merged in _MERGED:
        text = pattern.sub(merged, text)
    return text


@lru_cache(maxsize=1 << 16)
def pronounced(word: str) -> tuple[Phones, ...]:
    """The pronunciations of a word, in the dictionary or worked out; empty where neither helps.

    Raises:
        MissingExtra: The extra `prosody` is not installed.
    """
    return _known(word) or _respelt(word) or _compound(word)


@cache
def _dictionary() -> dict[str, list[str]]:
    try:
        import pronouncing
    except ImportError as error:
        raise MissingExtra("Hearing rhyme and metre", "prosody") from error
    pronouncing.init_cmu()
    lookup: dict[str, list[str]] = pronouncing.lookup
    return lookup


def _known(word: str) -> tuple[Phones, ...]:
    if word in _CONTRACTED:
        return tuple(tuple(p.split()) for p in _CONTRACTED[word].split(";"))
    return tuple(tuple(p.split()) for p in _dictionary().get(word, ()))


def _respelt(word: str) -> tuple[Phones, ...]:
    for pattern, ending, more in _RESPELT:
        modern, n = pattern.subn(ending, word, count=1)
        if n and modern != word and len(modern) > 1 and (found := _known(modern)):
            return tuple(p + more for p in found)
    return ()


def _compound(word: str) -> tuple[Phones, ...]:
    for i in range(2, len(word) - 2):
        if (first := _known(word[:i])) and (second := _known(word[i:])):
            return tuple(first[0] + p for p in second)
    return ()


@cache
def _by_ending() -> list[str]:
    return sorted(word[::-1] for word in _dictionary() if word.isalpha())


def _like(word: str) -> tuple[Phones, ...]:
    """How the known words with the longest like ending are said, by majority, from its stress."""
    turned, words = word[::-1], _by_ending()
    for n in range(min(len(word), 6), 2, -1):
        at = bisect_left(words, turned[:n])
        near = [w for w in words[at : at + 40] if w.startswith(turned[:n])]
        if near:
            ends = Counter(_from_stress(p) for w in near for p in _known(w[::-1])[:1])
            return (ends.most_common(1)[0][0],)
    return ()


def _from_stress(phones: Phones) -> Phones:
    at = max((i for i, p in enumerate(phones) if p[-1] in "12"), default=0)
    return phones[at:]


# Words of one syllable that verse seldom stresses.
_LIGHT = frozenset(
    "a an the and but or nor for of to in on at by with from as if than that which who whom whose "
    "what when where while his her its my thy your our their he she it we they you i me him them "
    "us ye thee thou is are was were be been am do did does has have had hath doth shall will "
    "would should could can may might must so then there this these those some such no not too "
    "upon art wilt shalt canst th' t' 'tis 'twas o'er into let how through like".split()
)


def syllables(line: str) -> int:
    """How many syllables a line has, by the shortest way of saying each word.

    Raises:
        MissingExtra: The extra `prosody` is not installed.
    """
    return len(stresses(line))


def stresses(line: str) -> str:
    """The weight of each syllable of a line, a letter for each.

    In words of several syllables `S` is stressed, `u` not, `h` half (or nobody knows); words of
    one syllable are `m`, or `l` where verse seldom stresses them (the, of, is).

    Raises:
        MissingExtra: The extra `prosody` is not installed.
    """
    return "".join(map(_stresses, words_in(line)))


@lru_cache(maxsize=1 << 16)
def _stresses(word: str) -> str:
    marks = ["".join(p[-1] for p in said if p[-1].isdigit()) for said in pronounced(word)]
    if marks:
        shortest = min(marks, key=len)
        if len(shortest) > 1:
            return shortest.translate(_WEIGHTS)
        return "l" if word in _LIGHT else "m" * len(shortest)
    return "h" * count if (count := _spelt_syllables(word)) > 1 else "m"


_WEIGHTS = str.maketrans("012", "uSh")


def _spelt_syllables(word: str) -> int:
    """Syllables by spelling: groups of vowels, without a silent e."""
    count = len(_VOWELS.findall(word))
    if re.search(r"[^aeiouyl]e$|[^aeiouytd]ed$|[^aeiouyscxzhg]es$", word) and count > 1:
        count -= 1
    return max(count, 1)
