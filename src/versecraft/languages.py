"""Whether a poem is in the language that it was asked for in. Only what is certain counts."""

from __future__ import annotations

import re
import unicodedata

from .answers import Brief, words_of

__all__ = ["wrong_language"]

_LANGUAGES = re.compile(
    r"\b(?:language|translat\w*|english|french|german|spanish|italian|portuguese|dutch|latin|greek|"
    r"russian|polish|swedish|danish|norwegian|finnish|czech|turkish|arabic|hebrew|hindi|chinese|"
    r"japanese|korean|welsh|irish|gaelic|scots|yiddish|esperanto)\b",
    re.IGNORECASE,
)
_ENGLISH = frozenset(
    "the and of to is was with that it his her you for not but they she he my from are at this "
    "what when who we have had be by an all into out up there about which how your our their its "
    "after before over poem".split()
)
# Of German, Dutch, French, Spanish, Italian, Portuguese, Swedish, Danish, Polish; not of English
_OTHERS = frozenset(
    "und der das ist nicht ein eine einen mit sich auf den dem ich wir sie von zu wie im noch het "
    "een en niet dat zijn op voor van mijn ons les et est une dans qui pas nous sur du au je elle "
    "el los las y con por del una uno su como il di che gli della nel mi um uma não os da em ao "
    "och att inte som på är det og ikke af jeg nie się na jest że jak über für mir mein meine "
    "meinen eines einer etwas schreib gedicht un écris moi où à aux ce cette ses leur mère père "
    "poème para sobre poesia poema".split()
)


def wrong_language(request: str, brief: Brief, poem: str) -> str | None:
    """The reason to refuse a poem that is certainly not in English, where English was asked for.

    English is asked for when the request, with the brief's angle, is evidently in it, and neither
    names a language.
    """
    asked = f"{request} {brief.angle}"
    if _LANGUAGES.search(asked) or _foreign(request) or not _english(request, asked):
        return None
    if _foreign(poem):
        return "the poem is not in English, the language of its request; write it in English"
    return None


def _english(request: str, asked: str) -> bool:
    """Whether English outweighs the rest in what was asked, and is not outweighed in the request.

    An educator may write its angle in English to a request in another language.
    """
    english, other = _counts(request)
    if other > english:
        return False
    english, other = _counts(asked)
    return english > other


def _counts(text: str) -> tuple[int, int]:
    """Words of English in a text, and words of other languages."""
    words = words_of(text)
    return sum(word in _ENGLISH for word in words), sum(word in _OTHERS for word in words)


def _foreign(text: str) -> bool:
    """Whether most letters are not Latin, or another language outweighs English."""
    letters = [letter for letter in text if letter.isalpha()]
    latin = sum("LATIN" in unicodedata.name(letter, "") for letter in letters)
    english, other = _counts(text)
    return 2 * latin < len(letters) or (
        other > 2 and other > 0.1 * len(words_of(text)) and other > 3 * english
    )
