"""What is certain: marks and phrases that stand in no poem, line by line."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator
from typing import NamedTuple

from .answers import words_of

CHAT_TOKEN = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
)
"""Marks by which chat templates separate turns (ChatML, Llama, Mistral, Gemma)."""


class Found(NamedTuple):
    """A line that a rule speaks of: its number from 1, the rule, and how sure it is."""

    number: int
    rule: str
    confidence: float


_MADE = (
    r"(?:poem|sonnet|haiku|villanelle|sestina|limerick|ballad|ghazal|pantoum|triolet|rondeau|verse|"
    r"quatrain|stanza|couplet|draft|version|revision|rewrite|take|attempt|response|piece|text)s?"
)
_ADJECTIVES = r"(?:[\w'-]+ ){0,4}"
_LABELS = (
    r"angle|avoid|imagery|imagery domain|critique|critiques received|diagnosis|commentary|"
    r"word count"
    r"|line count|syllable count|rhyme scheme|explanation|feedback|approved|poem type"
    r"|(?:revised|final|new|updated|improved|original|first|second) (?:poem|draft|version|text)"
    r"|(?:author|poet|translator|editor)['’]s note|(?:craft|revision|process) notes?|"
    r"notes? on .{3,40}"
    r"|change ?log|changes(?: made)?|poem|brief|output|prompt|user|assistant|human|model|task"
)
_SOFT = (
    r"form|keep|change|strengths?|weakness(?:es)?|issues?|direction|severity|tone|theme|mood|title"
    r"|notes?|system|version \w+|draft \w+|analysis|tl;?dr|summary|response|answer|instructions?"
)
_ASSISTANT = (
    # A poem may have a machine for its speaker; it neither turns a request down nor helps.
    r"\b(?:as|i['’]m|i am) an? (?:ai|artificial intelligence|(?:large )?language model)\b.{0,60}"
    r"\b(?:can['’]?t|cannot|unable|not able|help you|assist|happy to)\b",
    r"\blet me know (?:if|whether|what|how|which|when|should)\b.{0,80}"
    r"\b(?:like|want|need|prefer|adjust|chang|tweak|think|works?|version|revis|edit|help)",
    r"\bfeel free to (?:ask|adjust|change|modify|tweak|edit|let me|reach out|share this|request)\b",
    r"^\W*would you like (?:me to|another|a (?:different|second|revised|longer|shorter)|any )",
    r"\bi(?:['’]d| would) be (?:happy|glad) to (?:help|revise|adjust|write|rework|make|"
    r"try|tweak)\b",
    r"\b(?:happy|glad) to (?:revise|tweak|rework|adjust)\b",
    rf"\bi hope (?:this|these|(?:this|the) {_MADE})\b.{{0,40}}"
    r"\b(?:captures?|helps?|resonates?|meets?|fits?|serves?)\b",
    r"\bi hope (?:that )?you(?:['’]ll)? (?:enjoy(?:ed)?|like) "
    rf"(?:it|this|these|(?:this|the) {_MADE})\W*$",
    r"\bi(?:['’]m| am) sorry,? but i (?:can['’]?t|cannot|am unable|won['’]?t)\b",
    r"\bi(?:['’]m| am) (?:unable|not able) to (?:write|create|generate|fulfil|fulfill|help|assist|"
    r"provide|produce|comply|complete)\b",
    r"\bi (?:can['’]?t|cannot|won['’]?t) (?:help with|assist with|create|generate|fulfil|fulfill|"
    r"provide|produce|comply with) (?:this|that|a |an |your |poem)",
    r"^\W*(?:sure|certainly|absolutely|of course|no problem|gladly|happily|understood|okay|ok)"
    r"\b[,!.:–—-]+ .{0,40}\b(?:here(?:['’]s| is| are| you)|(?:poem|sonnet|haiku|"
    r"villanelle|limerick|"
    r"draft|version|revision|stanza|quatrain)s?)\b",
    rf"^\W*(?:here(?:['’]s| is| are|['’]re)|below (?:is|are)|the following is) "
    rf"(?:an? |the |my |your |our |one |two |three |some |"
    rf"another )?{_ADJECTIVES}{_MADE}\b.*[:.…]\W*$",
    rf"\b(?:this|the|your|my) {_ADJECTIVES}?(?:poem|sonnet|haiku|villanelle|draft|revision|stanza|"
    r"couplet|quatrain|rhyme scheme)(?:['’]s \w+)? (?:also |now |then |here )?(?:aims|"
    r"attempts|seeks|"
    r"explores?|captures?|evokes?|uses|employs|conveys|reflects|follows|adheres|effectively|"
    r"successfully|avoids|incorporates|maintains|relies|juxtaposes|emphasi[sz]es|highlights|"
    r"benefits|would benefit|could be|needs? to|needs? more|suffers|lacks)\b",
    r"\b(?:in (?:this|the) (?:poem|sonnet|draft|revision|version)),? (?:i|the speaker|"
    r"the poet|we)\b",
    r"^\W*(?:in )?(?:this|the) (?:revised|second|new|updated|improved|final|following|above|"
    r"requested) (?:version|poem|draft|revision|take|response|text)\b",
    r"\bi(?:['’]ve| have) (?:revised|rewritten|reworked|incorporated|adjusted|"
    r"made the following)\b",
    r"\bas (?:requested|per your|you (?:requested|asked)|instructed|specified|per the)\b",
    r"\bdo not (?:include|add|output|write|repeat) (?:any |a |an |the )?(?:\w+ )?"
    r"(?:commentary|explanations?|title|preamble|notes?|text|brief|instructions?|comments?|analysis)\b",
    r"^\W*(?:output|write|return|provide|revise|rewrite|compose|generate) "
    rf"(?:only |just )?(?:the |a |an |your )?{_ADJECTIVES}(?:poem|sonnet|haiku|villanelle|draft|"
    r"quatrain|stanzas?)\b.*[.:]\W*$",
    r"^\W*no (?:commentary|explanations?|preamble|title|notes)(?:[,.]| (?:or|needed|please)\b)",
    r"\bthis poem has found its shape\b",
    r"\b(?:final|revised) (?:answer|output|poem|version) is\b",
    r"^\W*(?:end of (?:the )?(?:poem|response|draft|output|text)|the end of the poem)\W*$",
    r"^\W*\(?(?:total )?(?:word|line|syllable)s? ?count\b|^\W*\(?\d+ (?:words|lines|"
    r"syllables|tokens)\)?\W*$",
    r"\[(?:insert|your name|placeholder|todo|poem (?:here|goes)|title here|end of|continued?\b)",
    r"\blorem ipsum\b",
)
_OTHER_TONGUES = (
    r"^\W*(?:voici|voilà|hier (?:ist|sind|kommt)|aquí (?:está|tienes?|te|va|le)|ecco|aqui está|"
    r"eccoti|hier is|här är|her er|oto|вот|ето)\b.{0,60}\b(?:po[eèé]me?|po[eè]sia|poesía|gedichte?|"
    r"sone[ct]to|sonnett?e?|ha[iï]ku|gedicht|dikt(?:et)?|digt(?:et)?|wiersz|стих\w*|verse|versi|"
    r"versos|strophen?|estrofas?|entwurf|versión|version|versione)\b",
    r"\b(?:j['’]espère que (?:ce|cela|cette|le|la|vous)|espero que (?:este|esta|el poema|"
    r"te|le|o poema|"
    r"goste)|ich hoffe,? (?:das|dieses|es|dir|ihnen)|spero che (?:questa|questo|la poesia|ti))\b",
    r"\b(?:ce poème|cette strophe|dieses gedicht|diese strophe|este poema|esta estrofa|"
    r"questa poesia|este soneto|dit gedicht|это стихотворение|ten wiersz) (?:\w+ ){0,2}"
    r"(?:explore|évoque|parle|décrit|capture|montre|joue|handelt|beschreibt|fängt|erkundet|zeigt|"
    r"habla|explora|describe|captura|evoca|muestra|parla|descrive|esplora|fala|descreve|gaat|"
    r"beschrijft|mówi|о)\b",
    r"这首(?:诗|小诗)|以下是|希望(?:你|您|这)|この詩|以下は|詩です|이 시는|هذه القصيدة|إليك",
)
_FLAGS = re.IGNORECASE
_SPEECH = re.compile("|".join(_ASSISTANT), _FLAGS)
_TONGUE = re.compile("|".join(_OTHER_TONGUES), _FLAGS)
_SCHEME = re.compile(r"\bA[A-H]{2,3}(?:[ -][A-H]{2,4})+\b|\b(?:ABAB|AABB|ABBA|ABCB|ABA BCB)\b")
_MARKUP = re.compile(
    r"^\s*(?:<!doctype|</?(?:html|head|body|div|span|p|pre|br|hr|h[1-6]|center|font|"
    r"section|article|"
    r"blockquote|poem|verse|stanza|lg|line|l|text|title|output|answer|response|think|"
    r"thinking|draft|"
    r"result|critique|brief|em|strong|code|table|tr|td|ul|ol|li|style|script|xml|"
    r"document)\b[^<>]{0,80}/?>"
    r"|<\?xml|<!--|\\(?:begin|end|documentclass|usepackage|poemtitle|chapter|section|title|author|"
    r"verse|poemlines|textit|emph)\b|\[/?(?:poem|quote|code|verse|center|b|i|size|color|spoiler)\]"
    r"|\{%|\{\{|~~~|#\+(?:begin|end)|\.\. (?:code|epigraph|note|parsed)|%%|'''|\"\"\"|<<<|>>>)"
    r"|(?:</(?:p|div|span|pre|br|poem|verse|stanza|line|l|lg|em|strong|li|td|body|html)>|<br ?/?>|"
    r"\\\\(?:\[\w+\]|!|\*)?|&nbsp;|\\n)\s*$",
    _FLAGS,
)
_SPOKEN = (
    "poem", "sonnet", "haiku", "villanelle", "sestina", "limerick", "ballad", "ghazal", "pantoum",
    "triolet", "rondeau", "verse", "quatrain", "stanza", "couplet", "draft", "version", "revis",
    "rewrit", "take", "attempt", "response", "piece", "text", "language model", "as an ai",
    "let me know", "feel free", "would you like", "happy to", "glad to", "i hope", "sorry",
    "unable to", "not able", "i can", "i won", "an ai", "here", "i’", "i'", "i will", "i have",
    "i kept", "requested", "you asked", "instruct", "per your", "specified", "per the", "do not",
    "comment", "explanation", "preamble", "title", "notes", "final", "end of", "count", "words",
    "lines", "syllables", "tokens", "[", "todo", "fixme", "lorem", "found its shape", "scheme",
)  # fmt: skip
_TONGUES = (
    "poe", "poè", "poé", "gedicht", "sonet", "sonett", "haïku", "haiku", "dikt", "digt", "wiersz",
    "стих", "vers", "stroph", "strofa", "estrofa", "entwurf", "espero", "espère", "hoffe", "spero",
    "这", "以", "希", "詩", "诗", "시", "هذ", "إل",
)  # fmt: skip
_TAGS = ("<", "\\", "[", "{", "~~~", "#+", "..", "%%", "'''", '"""', ">>>", "&nbsp;")
_RULES: tuple[tuple[str, str, tuple[str, ...], re.Pattern[str]], ...] = tuple(
    (rule, where, needs, re.compile(pattern, flags))
    for rule, where, needs, pattern, flags in (
        ("chat_token", "anywhere", ("<", "["), CHAT_TOKEN.pattern, 0),
        ("fence", "anywhere", ("```", "~~~"), r"^(?:```|~~~\w*$)", 0),
        ("json", "anywhere", ("{",), r'^\{\s*"\w+"\s*:.*\}\s*,?$', 0),
        ("heading", "anywhere", ("##",), r"^#{2,6}\s", 0),
        ("heading", "anywhere", ("**", "__"), r"^(?:\*\*|__)[^*_]{2,60}(?:\*\*:?|:\*\*|__:?)$", 0),
        ("cut", "anywhere", ("[",), r"\[(?:truncated|cut off|\.\.\.|…|continues?)\]", _FLAGS),
        ("heading", "first", ("#",), r"^#\s+[^\W\da-z]", 0),
        ("assistant", "anywhere", _SPOKEN, _SPEECH.pattern, _FLAGS),
        ("other_language", "anywhere", _TONGUES, _TONGUE.pattern, _FLAGS),
        (
            "tag",
            "anywhere",
            ("<",),
            r"<(?:br|p|div|span|pre|i|em|b|strong|u)\b[^<>]{0,60}>|</(?:p|div|"
            r"span|pre|i|em|b|strong|u|html|body)>",
            _FLAGS,
        ),
        (
            "furniture",
            "anywhere",
            ("page", "rights", "copyright", "©", "#", "posted", "share", "sent from"),
            r"^\W*page \d+(?: of \d+|/\d+)?\W*$|all rights reserved\W*(?:\d{4}\W*)?$|©"
            r"|^\W*copyright\b.*\d{4}"
            r"|^(?:#[a-z]\w+\s*){2,}$|^(?:re)?posted by\b|^share this\b|^sent from my\b",
            _FLAGS,
        ),
        ("scheme", "anywhere", ("ab", "aab"), _SCHEME.pattern, 0),
        ("label", "ends", (":",), rf"^\W*(?:{_LABELS})\W*:", _FLAGS),
        # What a poem may hold once ("Keep: left", a bracket) counts beside another foreign line.
        ("hash", "beside", ("#",), r"^#", 0),
        ("label", "beside", (":",), rf"^\W*(?:{_LABELS}|{_SOFT})\W*:", _FLAGS),
        (
            "json",
            "beside",
            ('"', "{", "}", "[", "]"),
            r'^[{\[]\s*"|"\w+"\s*:\s*["\d\[{]|^[{}\[\]]\s*,?$',
            0,
        ),
        (
            "rule",
            "beside",
            ("---", "===", "___", "***", "~~~"),
            r"^(?:-{3,}|={3,}|_{3,}|\*{3,}|~{3,})$",
            0,
        ),
    )
)
_SURE = {"beside": 0.5, "ends": 1.0, "first": 1.0, "anywhere": 1.0}
_WORN: tuple[tuple[str, float, str, re.Pattern[str]], ...] = tuple(
    (rule, share, needs, re.compile(pattern, _FLAGS))
    for rule, share, needs, pattern in (
        ("quoted", 0.6, ">", r"^>+ ?\S|^>$"),
        ("counts", 0.5, "([", r"\S\s*[\[(](?:\d{1,2}|[A-H]\d?)[\])]$"),
        (
            "csv",
            0.5,
            '"',
            r'^[\w ]{0,20}[,;]"[^"]*"(?:[,;].*)?$|^"[^"]*"[,;](?:"[^"]*"|[\w.]+)$',
        ),
        (
            "markup",
            0.3,
            "\\<&",
            r"\\\\(?:\[\w+\]|!|\*)?$|<br ?/?>|\\n$|&nbsp;|</?(?:p|div|span|li|line|l)>",
        ),
    )
)
"""Marks that are no poem where they stand on more than a share of the lines."""
_ECHO = 7  # words in a row shared with the brief
LONGEST = 4000  # characters of a line that are looked at, half from each end


def clipped(line: str) -> str:
    """A line without the middle that is beyond what is looked at."""
    line = line.strip()
    half = LONGEST // 2
    return line if len(line) <= LONGEST else f"{line[:half]} {line[-half:]}"


def _near(whole: str, starts: list[int], needs: tuple[str, ...]) -> list[int]:
    """Which lines hold one of some words: only they are searched by a rule."""
    lines = set()
    for need in needs:
        at = whole.find(need)
        while at >= 0:
            line = bisect(starts, at)
            lines.add(line - 1)
            at = whole.find(need, starts[line]) if line < len(starts) else -1
    return sorted(lines)


def certain(text: str, brief: str | None = None) -> Iterator[Found]:
    """The lines that rules find, in order; `brief` adds those that echo it."""
    echo = _grams(_own_words(brief)) if brief else frozenset()
    lines = {n: clipped(line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()}
    ends = [*lines][:1] + [*lines][-1:]
    places = {"first": ends[:1], "ends": ends}
    whole = "\n".join(line.lower() for line in lines.values())
    numbers = [*lines]
    starts = [0, *(at + 1 for at, mark in enumerate(whole) if mark == "\n")]
    hits: dict[int, tuple[str, str]] = {}
    for rule, where, needs, pattern in _RULES:
        for at in _near(whole, starts, needs):
            n = numbers[at]
            if n not in hits and n in places.get(where, lines) and pattern.search(lines[n]):
                hits[n] = (rule, where)
    if echo:
        for n, line in lines.items():
            if hits.get(n, ("", "beside"))[1] == "beside" and _grams(line) & echo:
                hits[n] = ("brief_echo", "anywhere")
    found = [
        Found(n, rule, 0.3 if rule in ("rule", "hash") else _SURE[where])
        for n, (rule, where) in hits.items()
    ]
    found += _worn(lines, whole, {f.number for f in found})
    found += _front_matter(lines, {f.number for f in found})
    found += _wrapped(lines, whole, {f.number for f in found})
    if _poem_as_json(text):
        found = [f for f in found if f.rule != "json"]
    # The same label again and again is a manner; two labels are a form that was filled in.
    doubts = {lines[f.number].lower().split(":")[0] for f in found if f.confidence == 0.5}
    if len(doubts) > 1 or any(f.confidence == 1.0 for f in found):
        yield from sorted(found)


_KEYS = re.compile(
    r'"(?:poems?|title|lines?|text|stanzas?|verses?|form|critique|issues|strengths|angle|avoid|imagery|'
    r"content|role|output|response|answer|draft|version|revision|author|theme|tags|notes?|winner|claim|"
    r'items|explanation|changes?|keep)"\s*:',
    _FLAGS,
)


def _poem_as_json(text: str) -> bool:
    """Whether a text plays at being JSON: an object without any field that speaks of texts."""
    text = text.strip()
    return text[:1] == "{" and text[-1:] == "}" and not _KEYS.search(text)


def doubtful(line: str) -> bool:
    """Whether a line bears a mark that a poem may bear once, such as the label "Keep:"."""
    line = line.strip()
    return any(r[1] == "beside" and r[3].search(line) is not None for r in _RULES)


def _worn(lines: dict[int, str], whole: str, known: set[int]) -> list[Found]:
    """Marks that most lines wear: quotation, counts, tables."""
    for rule, share, needs, pattern in _WORN:
        if not any(need in whole for need in needs):
            continue
        marked = [n for n, line in lines.items() if pattern.search(line)]
        if len(marked) >= 2 and len(marked) >= share * len(lines):
            return [Found(n, rule, 1.0) for n in marked if n not in known]
    return []


def _front_matter(lines: dict[int, str], known: set[int]) -> list[Found]:
    """Fields between two rules at the top."""
    numbers = [*lines][:20]
    if not numbers or lines[numbers[0]] not in ("---", "+++"):
        return []
    for at, n in enumerate(numbers[1:], start=1):
        if lines[n] in ("---", "+++", "...") and at > 1:
            return [Found(k, "front_matter", 1.0) for k in numbers[: at + 1] if k not in known]
        if not re.match(r"[-\w ]{1,30}\s*[:=]|-\s|\s|#", lines[n]):
            return []
    return []


def _wrapped(lines: dict[int, str], whole: str, known: set[int]) -> list[Found]:
    """Markup around a poem: at both ends, or on most lines."""
    if not any(tag in whole for tag in _TAGS):
        return []
    marked = [
        n
        for n, line in lines.items()
        if n not in known and any(tag in line for tag in _TAGS) and _MARKUP.search(line)
    ]
    ends = {*[*lines][:1], *[*lines][-1:]}
    sure = ends <= set(marked) or len(marked) > 0.5 * len(lines) or (marked and known & ends)
    return [Found(n, "markup", 1.0 if sure else 0.5) for n in marked]


def _own_words(brief: str) -> str:
    """A brief without what it says to avoid, keep and change."""
    head = re.split(r"^(?:Keep|Change): ", brief, maxsplit=1, flags=re.MULTILINE)[0]
    return re.sub(r"^Avoid: .*$", "", head, flags=re.MULTILINE)


def _grams(text: str) -> frozenset[tuple[str, ...]]:
    words = words_of(text)
    return frozenset(tuple(words[i : i + _ECHO]) for i in range(len(words) - _ECHO + 1))
