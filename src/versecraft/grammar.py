"""What a local model may say: a schema as a grammar, with quotations from the poem only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .answers import locate
from .errors import BadInput

__all__ = ["Grammar", "grammar_of", "poems_in"]

_LONGEST = 1000  # characters of a string that has no maxLength
_MOST = 12  # items of an array that has no maxItems
_REPEATS = 2000  # llama.cpp takes no rule that repeats more often
_STARTS = 400  # words at which a quotation may begin; in longer poems the starts of lines only
_DEEPEST = 32  # schemas inside schemas
_SMALL_RANGE = 64  # integers that are spelled out where both bounds are known

# llama.cpp's own rule lets raw newlines and lone surrogates through.
_CHAR = r'char ::= [^"\\\x7F\x00-\x1F] | "\\" ["\\/bfnrt]'

_POEM = re.compile(r"^<poem(?:_([ab]))?>\n(.*?)\n</poem(?:_\1)?>$", re.MULTILINE | re.DOTALL)
_NUMBERED = re.compile(r"^ *\d+  (.*)$", re.MULTILINE)
_QUOTE = re.compile(r"(?:([ab])_)?quote")
_DEFUSED = re.compile("[‹›［］]")


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar in llama.cpp's notation.

    Attributes:
        text: Its rules; the first to be followed is `root`.
        longest: Characters of the longest answer that it allows.
    """

    text: str
    longest: int


def poems_in(turn: str) -> dict[str, str]:
    """The poems of a turn by letter; one that has no letter under the empty text.

    They are found as the prompts show them: lines numbered from 1 between `<poem>` and `</poem>`,
    or `<poem_a>` and `<poem_b>`. A poem cannot close its tag, since prompts make that harmless.
    """
    return {
        letter or "": "\n".join(_NUMBERED.findall(body)) for letter, body in _POEM.findall(turn)
    }


def grammar_of(schema: Mapping[str, Any], turn: str = "") -> Grammar:
    """The grammar of a schema's compact JSON: no blanks, keys in order, each string bounded.

    Every answer that it allows fits the schema but for patterns and the bounds of large numbers.
    Fields that may be left out are always there, as in a training row.

    A field named `quote` can only be words in a row from one line of the turn's poem, `a_quote`
    and `b_quote` from that poem of two. Of two poems, a `quote` is from either, but in an object
    that names a `winner` A or B it is from the other one, as the tasks hold it.

    Args:
        schema: JSON schema of an output model.
        turn: The user message, which shows the poems; see `poems_in`.

    Raises:
        BadInput: The schema allows anything somewhere, or holds itself.
    """
    builder = _Builder(schema, poems_in(turn))
    root, longest = builder.visit(schema, builder.poems, 0)
    rules = [f"root ::= {root}", _CHAR, *(f"{n} ::= {body}" for body, n in builder.rules.items())]
    return Grammar("\n".join(rules), longest)


class _Builder:
    """Rules by their bodies, so that equal ones are written once."""

    def __init__(self, schema: Mapping[str, Any], poems: Mapping[str, str]) -> None:
        self.definitions: Mapping[str, Any] = schema.get("$defs", {})
        self.poems = poems
        self.rules: dict[str, str] = {}

    def rule(self, body: str) -> str:
        return self.rules.setdefault(body, f"r{len(self.rules)}")

    def visit(
        self, node: Mapping[str, Any], poems: Mapping[str, str], depth: int
    ) -> tuple[str, int]:
        """What stands for a schema in a rule, and the characters it takes at most.

        Args:
            node: The schema.
            poems: Where its quotations come from.
            depth: Schemas that it is inside of.
        """
        if depth > _DEEPEST:
            raise BadInput("The schema holds itself. Give the answer a model that ends.")
        below = depth + 1
        if "$ref" in node:
            return self.visit(self.definitions[node["$ref"].rpartition("/")[2]], poems, below)
        if len(node.get("allOf", ())) == 1:
            return self.visit(node["allOf"][0], poems, below)
        if choices := node.get("anyOf") or node.get("oneOf"):
            return self._choice([self.visit(part, poems, below) for part in choices])
        if "const" in node or "enum" in node:
            values = node["enum"] if "enum" in node else [node["const"]]
            return self._choice([_constant(value) for value in values])
        match node.get("type"):
            case "object" if node.get("properties"):
                return self._object(node["properties"], poems, below)
            case "array" if "items" in node:
                return self._array(node, self.visit(node["items"], poems, below))
            case "string":
                high = min(node.get("maxLength", _LONGEST), _REPEATS)
                low = min(node.get("minLength", 0), high)
                return self.rule(rf'"\"" char{{{low},{high}}} "\""'), high + 2
            case "integer":
                return self._integer(node)
            case "number":
                return self.rule('"-"? [0-9]{1,9} ("." [0-9]{1,6})?'), 17
            case "boolean":
                return self._choice([_constant(True), _constant(False)])
            case "null":
                return _constant(None)
        raise BadInput(
            f"The schema allows anything in {json.dumps(node)[:80]}, which a local model cannot "
            "be held to. Give each field of the answer a type, and each array its items."
        )

    def _choice(self, parts: list[tuple[str, int]]) -> tuple[str, int]:
        return self.rule(" | ".join(text for text, _ in parts)), max(size for _, size in parts)

    def _integer(self, node: Mapping[str, Any]) -> tuple[str, int]:
        low, high = node.get("minimum"), node.get("maximum")
        if low is not None and high is not None and 0 <= high - low <= _SMALL_RANGE:
            return self._choice([_constant(n) for n in range(low, high + 1)])
        return self.rule('"-"? ("0" | [1-9] [0-9]{0,8})'), 10

    def _array(self, node: Mapping[str, Any], item: tuple[str, int]) -> tuple[str, int]:
        low, (text, size) = node.get("minItems", 0), item
        high = max(low, node.get("maxItems", max(low, _MOST)))
        if not high:
            return '"[]"', 2
        more = f' ("," {text}){{{max(low, 1) - 1},{high - 1}}}' if high > 1 else ""
        inner = f"{text}{more}" if low else f"({text}{more})?"
        return self.rule(f'"[" {inner} "]"'), high * (size + 1) + 1

    def _object(
        self, fields: Mapping[str, Any], poems: Mapping[str, str], depth: int
    ) -> tuple[str, int]:
        winner = fields.get("winner", {}).get("enum")
        if winner == ["A", "B"] and {"a", "b"} <= poems.keys():
            sides = []
            for name, loser in (("A", "b"), ("B", "a")):
                settled = {**fields, "winner": {"const": name}}
                sides.append(self._object(settled, {**poems, "": poems[loser]}, depth))
            return self._choice(sides)
        parts: list[str] = []
        size = 2
        for name, node in fields.items():
            text, most = self._field(name, node, poems, depth)
            key = ("," if parts else "{") + json.dumps(name, ensure_ascii=False) + ":"
            parts.append(f"{_literal(key)} {text}")
            size += len(key) + most
        return self.rule(" ".join(parts) + ' "}"'), size

    def _field(
        self, name: str, node: Mapping[str, Any], poems: Mapping[str, str], depth: int
    ) -> tuple[str, int]:
        quote = _QUOTE.fullmatch(name)
        if quote and node.get("type") == "string" and poems:
            both = "\n".join(poems.values())
            poem = poems.get(quote[1] or "", both)
            low, high = node.get("minLength", 0), node.get("maxLength", _LONGEST)
            if starts := list(self._spans(poem, low, high)):
                return self.rule(rf'"\"" ({" | ".join(starts)}) "\""'), high + 2
        return self.visit(node, poems, depth)

    def _spans(self, poem: str, low: int, high: int) -> Iterator[str]:
        """A rule for each word that a quotation may begin with; it ends after any later word."""
        everywhere = len(poem.split()) <= _STARTS
        seen: set[str] = set()
        for words in _pieces(poem, high):
            rest = ""
            for n in reversed(range(len(words))):
                word = _in_json(words[n])
                start = self.rule(f'{word} (" " {rest})?' if rest else word)
                after, rest = rest, start
                if (n and not everywhere) or locate(words[n], words[n]) is None:
                    continue
                if len(words[n]) < low:
                    if not after or len(words[n]) + 2 < low:
                        continue
                    start = f'{word} " " {after}'
                if start not in seen:
                    seen.add(start)
                    yield start


def _pieces(poem: str, longest: int) -> Iterator[list[str]]:
    """The words of each line; a line that is too long to be quoted, or not as it was, in parts."""
    for line in poem.split("\n"):
        words: list[str] = []
        for word in line.split():
            broken = bool(_DEFUSED.search(word)) or len(word) > longest
            if words and (broken or len(" ".join(words)) + 1 + len(word) > longest):
                yield words
                words = []
            if not broken:
                words.append(word)
        if words:
            yield words


def _constant(value: Any) -> tuple[str, int]:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _literal(text), len(text)


def _in_json(word: str) -> str:
    return _literal(json.dumps(word, ensure_ascii=False)[1:-1])


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
