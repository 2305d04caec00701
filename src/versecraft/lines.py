"""Lines in context: what a line looks like, alone and beside the other lines of its text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .rules import clipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[Any]

LEXICON: Mapping[str, str] = {
    "verse": "poem poems poetry poetic poet verse verses stanza stanzas rhyme rhymes rhyming "
    "rhymed meter metre metrical iambic iambs trochee trochaic anapestic pentameter "
    "tetrameter trimeter syllable syllables syllabic enjambment enjambed caesura "
    "quatrain quatrains couplet couplets tercet tercets sestet octave sonnet sonnets "
    "haiku villanelle sestina limerick ballad pantoum ghazal ode elegy refrain volta "
    "line lines title scheme foot feet beat beats lineation triolet",
    "device": "imagery image images metaphor metaphors simile similes cliche cliché clichés "
    "clichéd alliteration assonance consonance personification symbolism diction tone "
    "mood rhythm cadence register voice speaker narrator persona theme themes "
    "atmosphere abstraction abstractions abstract concrete sensory sentimental "
    "sentimentality sound texture pacing form phrase phrasing",
    "task": "brief briefs draft drafts version versions revision revisions revised revise "
    "revising rewrite rewritten rework reworked edit edits edited feedback critique "
    "critiques request requested requirements prompt prompts instructions instruction "
    "task output response answer reply commentary explanation explain notes note "
    "count constraint constraints guidelines specified text generated generate write "
    "writing written wrote piece pieces attempt attempts submission assignment "
    "workshop editor publish published variant option options alternative changes "
    "change changed changing fix fixed removed replaced swapped trimmed tightened "
    "added cut kept shortened dropped deleted moved adjusted tweak tweaked final "
    "complete completed format",
    "explain": "captures capture capturing evokes evoke evoking conveys convey conveying "
    "reflects reflect reflecting uses using used explores explore exploring suggests "
    "suggest suggesting emphasizes emphasises highlights highlighting mirrors "
    "mirroring symbolizes symbolises represents representing creates creating echoes "
    "echoing builds shifts employs draws drawing aims aimed intended intends intend "
    "intention avoids avoid avoiding maintains maintaining ensures ensure follows "
    "following keeps adheres balances juxtaposes contrasts underscores grounds "
    "invites inviting describes describing depicts depicting refers means mean works "
    "reads implies establishes undercuts carries earns earned serves tells shows "
    "reminds moves begins opens closes ends returns repeats stands lands leans risks "
    "lacks needs",
    "judge": "effective effectively strong stronger strongest vivid vividly evocative powerful "
    "resonant resonates compelling nuanced subtle specific nicely beautifully "
    "successfully particularly overall clear weak weaker weakest better improved best "
    "lovely predictable generic vague flat convincing deliberate deliberately "
    "intentional consistent accurate original fresh interesting honest satisfying "
    "memorable approved approval score rating good great well right publishable "
    "impressive forced overused tired worn competent excellent solid successful",
    "offer": "hope hopefully let know feel free happy glad help helps helpful assist adjust "
    "prefer like would enjoy enjoyed please thanks thank sorry apologies apologize "
    "apologise unable cannot can't can could want wish wanted ask asked asking "
    "questions question share shared tell try tried trying welcome need ready happily "
    "gladly wait worries",
    "discourse": "here's here below above certainly sure okay ok course absolutely however "
    "additionally note finally overall rather instead since because also first second "
    "third lastly meanwhile therefore thus though although while whereas so well "
    "alright right understood got yes no yep great perfect hmm oh actually just maybe "
    "both each throughout entire whole everything ultimately simply truly essentially "
    "especially including such about",
    "people": "reader readers audience user users client author authors poet's writer student "
    "teacher human humans assistant model ai chatgpt claude gpt listeners grader "
    "reviewer judge",
    "abstract": "emotion emotions emotional sense feeling feelings contrast tension structure "
    "language perspective narrative meaning message concept idea ideas element "
    "elements effect reflection nostalgia longing journey resilience connection "
    "experience importance power beauty fragility impermanence memory loss grief hope "
    "nature human humanity life love time moment details detail depth complexity "
    "simplicity transition passage relationship opening ending beginning middle "
    "conclusion half section part parts word words repetition choice choices",
    "first": "i i'm i've i'll i'd me my mine myself we we've we'll we're our us",
    "second": "you you'd you're you've you'll your yours",
    "that": "this these that those it it's its one ones there's",
    "archaic": "thee thou thy thine ye hath doth o'er ne'er e'er 'tis 'twas hast dost wilt shalt "
    "art oft ere lo yon yonder alas thro' tho' whence thence nor upon",
    "english": "the and of to a in is that it with as for was on are be by at this not but his "
    "her from they she he or an which will all no so when what there were my me your "
    "you have has had we our their them would could if into than then out up who its "
    "i do did how more some like",
}
"""Words by what they speak of; the last list tells English from other languages."""

_TONGUES = (
    "le la les des une est dans qui que pour pas sur avec ce cette il elle je vous nous mon sa ses "
    "au aux du et en c'est l'on j'ai d'un d'une qu'il plus ne se son",
    "der die das und ist nicht ein eine den dem des mit ich zu auf für von im es sich wie dich dir "
    "auch als noch nur wenn aber einen einem einer dieses diese sie wir ihr mein",
    "el los las una es en que y por con para del se no su lo como más este esta pero mi tu si al "
    "sus está hay muy yo un de",
    "il lo gli una che di è per con non del della nel si una sono come più questo questa ma mi le "
    "al alla dei delle e un ho se",
    "o os as uma em que e não com para do da no na dos das se por mais como este esta mas eu um é "
    "seu sua ao",
    "de het een van en in is niet dat op te zijn met voor er aan om ook deze dit als maar ik je",
    "og det er i på en et som for med ikke til av den jeg har de var men om vi att och är",
    "w i na z się nie to jest do że jak o po ale czy dla tak od co już tego ten ta",
    "et in est non ad cum sed qui quae quod ut nec per te me tu si ab ex hic haec sunt",
)
_CATEGORIES = tuple(LEXICON)
_OF_WORD: dict[str, tuple[int, ...]] = {}
for _n, _name in enumerate(_CATEGORIES):
    for _word in set(LEXICON[_name].split()):
        _OF_WORD[_word] = (*_OF_WORD.get(_word, ()), _n)
_TONGUE_OF: dict[str, tuple[int, ...]] = {}
for _n, _words in enumerate(_TONGUES):
    for _word in set(_words.split()):
        _TONGUE_OF[_word] = (*_TONGUE_OF.get(_word, ()), _n)

TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+|[^\w\s]|_")
_SUFFIX = re.compile(r"(?:tion|sion|ment|ness|ity|ance|ence|ious|ical|ally|ively|izes?|ises?|ing)$")
_LABEL = re.compile(r"[*_>#\s\-\[(]*[^\W\d_][\w '’/&-]{0,30}[*_\])]*\s*[:：](?:\s|[*_]|$)")
_LIST = re.compile(r"(?:[-*•‣▪–+→>|]|\d{1,3}[.):]|\(?[a-zA-Z][.)])\s+\S")
_SENTENCES = re.compile(r"[a-z0-9)\"'”’][.!?][\"'”’)]* +[\"'“‘(]*[A-Z]")
_QUOTED = re.compile(r"[\"“]([^\"“”]{3,80})[\"”]|(?<!\w)['‘]([^'‘’]{3,80})['’](?!\w)")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,80}>|\\[a-zA-Z]{2,}|&\w{2,6};|\[/?\w+\]|\{[%{]|[%}]\}")
_VOWELS = re.compile(r"[aeiouyàâäéèêëîïôöùûü]+")
_ENDS = ".,;:?!-…"
_MARKS = '()[]<>{}/\\|*_`#="&@%~^→+$'


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


def grams(line: Line) -> Iterable[str]:
    """Words and marks of a line, and runs of two and three, with its begin and end marked."""
    tokens = ["^", *("0" if t.isdigit() else t for t in line.tokens[:80]), "$"]
    yield from tokens[1:-1]
    for a, b in pairwise(tokens):
        yield f"{a} {b}"
    for a, b, c in zip(tokens, tokens[1:], tokens[2:], strict=False):
        yield f"{a} {b} {c}"


def _alone(line: Line) -> list[float]:
    """What a line looks like without its neighbours."""
    text, words = line.text, line.words
    n = len(words) or 1
    counts = [0.0] * len(_CATEGORIES)
    tongues = [0] * len(_TONGUES)
    for word in words:
        for category in _OF_WORD.get(word, ()):
            counts[category] += 1
        for tongue in _TONGUE_OF.get(word, ()):
            tongues[tongue] += 1
    letters = sum(map(len, words)) or 1
    end = text.rstrip("\"'”’)*_ ")[-1:] or " "
    ascii_only = text.isascii()
    strange = 0 if ascii_only else sum(c.isalpha() and c > "ɏ" for c in text)
    accented = 0 if ascii_only else sum(c.isalpha() and "\x7f" < c <= "ɏ" for c in text)
    symbols = 0 if ascii_only else sum(c > "\u2190" and not c.isalpha() for c in text)
    digits = sum(t.isdigit() for t in line.tokens)
    capitals = sum(w[0].isupper() for w in text.split()[1:])
    return [
        *(min(count, 6.0) for count in counts[:-1]),
        sum(min(count, 3.0) for count in counts[:8]) / n,
        counts[-1] / n,  # English by its small words
        max(tongues) / n,
        len(text),
        len(words),
        letters / n,
        sum(len(w) > 8 for w in words) / n,
        sum(_SUFFIX.search(w) is not None for w in words if len(w) > 5) / n,
        sum(len(_VOWELS.findall(w)) for w in words) if len(words) < 60 else 2 * len(words),
        min(digits, 5),
        float(text[:1].isupper()),
        float(text[:1].islower()),
        capitals / n,
        float(len(words) > 1 and text.isupper()),
        *(float(end == mark) for mark in _ENDS),
        float(end.isalnum()),
        min(len(_SENTENCES.findall(text)), 4),
        min(text.count(","), 6) / n,
        *(min(text.count(mark), 4) for mark in _MARKS),
        min(text.count("“"), 4),
        min(text.count("—") + text.count("–") + text.count("--"), 3),
        float(text[0] in '([{<"“*_#>'),
        float(_LABEL.match(text) is not None),
        float(_LIST.match(text) is not None),
        float(_TAG.search(text) is not None),
        strange / (strange + letters),
        accented / letters,
        min(symbols, 4),
    ]


_C = len(_CATEGORIES) - 1
_META = slice(0, 9)  # the categories that speak of texts and of the task
_DENSITY, _ENGLISH, _FOREIGN, _CHARS, _WORDS, _WORD_LENGTH, _LONG = range(_C, _C + 7)
_LATINATE, _SYLLABLES, _DIGITS, _UPPER, _LOWER, _CAPITALS = range(_C + 7, _C + 13)
_STOP, _OPEN = _C + 14, _C + 14 + len(_ENDS)
_STRANGE = -3
_COMPARED = (
    _DENSITY, _ENGLISH, _FOREIGN, _WORD_LENGTH, _LONG, _LATINATE, _UPPER, _LOWER, _CAPITALS, _STOP,
    _STOP + 1, _OPEN, _STRANGE, _STRANGE + 1, *range(9),
)  # fmt: skip


def describe(lines: list[Line], vectors: Matrix, scores: Matrix) -> Matrix:
    """One row of numbers a line: the line alone, its place, and how it differs from the others.

    Args:
        lines: Of one text, in order; at least one.
        vectors: What the words of each line mean, a unit vector a line.
        scores: How each line sounds by its words alone, higher for talk about texts; a column
            for each of the scorers.
    """
    import numpy as np

    n = len(lines)
    alone = np.array([_alone(line) for line in lines], np.float32)
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
    chars, words, beats = alone[:, _CHARS], alone[:, _WORDS], alone[:, _SYLLABLES]
    rest = others(vectors)
    norm = np.linalg.norm(rest, axis=1) + 1e-6
    ends_sentence = alone[:, _STOP] + alone[:, _STOP + 4] + alone[:, _STOP + 5]
    spread = np.median(np.abs(chars - np.median(chars))) + 4
    highest = np.sort(scores, axis=0)[::-1]
    top = np.where(scores == highest[0], highest[min(1, n - 1)], highest[0])
    columns = [
        np.full(n, np.log1p(n)), np.full(n, np.log1p(block[-1] + 1)),
        place == 0, place == 1, place == n - 1, place == n - 2, place / n,
        before, after, np.minimum(size, 8), block == 0, block == block[-1],
        (block == 0) & (block[-1] > 0) & (size == 1),
        (block == block[-1]) & (block[-1] > 0) & (size == 1),
        np.log((chars + 5) / (np.median(chars) + 5)), (chars - np.median(chars)) / spread,
        np.log((words + 1) / (np.median(words) + 1)), np.log((beats + 1) / (np.median(beats) + 1)),
        np.log((chars + 5) / (shifted(chars, -1, chars[0]) + 5)),
        np.log((chars + 5) / (shifted(chars, 1, chars[-1]) + 5)),
        np.full(n, np.median(chars)), np.full(n, chars.std() / (chars.mean() + 1)),
        shifted(ends_sentence, -1, 1), shifted(alone[:, _OPEN], -1, 0),
        ends_sentence * alone[:, _UPPER] * shifted(ends_sentence, -1, 1),
        shifted(alone[:, _STOP + 3], -1, 0), others(ends_sentence),
        (vectors * rest).sum(1) / norm,
        (vectors * shifted(vectors, -1, 0)).sum(1), (vectors * shifted(vectors, 1, 0)).sum(1),
        *_echoes(lines),
    ]  # fmt: skip
    heard = [scores, shifted(scores, -1, 0), shifted(scores, 1, 0), others(scores), top]
    return np.column_stack(
        [alone, compared - others(compared), others(compared), *heard, *columns]
    ).astype(np.float32)


def _echoes(lines: list[Line]) -> list[list[float]]:
    """How a line hangs together with the others: rhyme, shared words, quotation, repetition."""
    ends = [line.words[-1][-3:] if line.words else "" for line in lines]
    rhymes = [
        float(
            len(end) > 1
            and any(end[-2:] == e[-2:] for e in ends[max(0, k - 4) : k] + ends[k + 1 : k + 5])
        )
        for k, end in enumerate(ends)
    ]
    common = sum(rhymes) / len(lines)
    content = [{w for w in line.words if len(w) > 3 and w not in _OF_WORD} for line in lines]
    used = Counter(word for words in content for word in words)
    shared = [sum(used[w] > 1 for w in words) / (len(words) or 1) for words in content]
    keys = [" ".join(line.words) for line in lines]
    seen = Counter(keys)
    whole = None
    quoted = []
    for line in lines:
        hits = 0.0
        if any(mark in line.text for mark in "\"“'‘"):
            for pair in _QUOTED.findall(line.text)[:8]:
                phrase = " ".join(
                    TOKEN.findall((pair[0] or pair[1]).lower().replace("’", "'"))
                ).strip(" ,.;:")
                if whole is None:
                    whole = "\n".join(" ".join(line.tokens) for line in lines)
                hits += len(phrase) > 3 and whole.count(phrase) > " ".join(line.tokens).count(
                    phrase
                )
        quoted.append(min(hits, 3.0))
    return [
        rhymes,
        [r - common for r in rhymes],
        [common] * len(lines),
        shared,
        [float(seen[key] > 1) for key in keys],
        quoted,
    ]
