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
    "what when who we have had be by an all into out up there".split()
)
# Of German, Dutch, French, Spanish, Italian, Portuguese, Swedish, Danish, Polish; not of English
_OTHERS = frozenset(
    "und der das ist nicht ein eine einen mit sich auf den dem ich wir sie von zu wie im noch het "
    "een en niet dat zijn op voor van mijn ons les et est une dans qui pas nous sur du au je elle "
    "el los las y con por del una uno su como il di che gli della nel mi um uma não os da em ao "
    "och att inte som på är det og ikke af jeg nie się na jest że jak".split()
)


def wrong_language(request: str, brief: Brief, poem: str) -> str | None:
    """The reason to refuse a poem that is certainly not in English, where English was asked for.

    English is asked for when the request is in it, and neither the request nor the brief's angle
    names a language.
    """
    if _LANGUAGES.search(f"{request} {brief.angle}") or _foreign(request):
        return None
    if _foreign(poem):
        return "the poem is not in English, the language of its request; write it in English"
    return None


def _foreign(text: str) -> bool:
    """Whether most letters are not Latin, or another language outweighs English."""
    letters = [letter for letter in text if letter.isalpha()]
    latin = sum("LATIN" in unicodedata.name(letter, "") for letter in letters)
    words = words_of(text)
    english = sum(word in _ENGLISH for word in words)
    other = sum(word in _OTHERS for word in words)
    return 2 * latin < len(letters) or (
        other > 2 and other > 0.1 * len(words) and other > 3 * english
    )
