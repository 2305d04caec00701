"""A row as the trainers see it: its chat template, its tokens, and which of them carry loss."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from jinja2 import TemplateError

from .errors import BadInput
from .kinds import CHAT_SETTINGS, CHAT_TOKEN, undated
from .records import Dropped, Example

MASKED = -100
"""The label of a token that carries no loss, as torch's cross entropy has it."""

Labelled = tuple[list[int], list[int]]
"""Token ids, and for each its own id where it carries loss, else `MASKED`."""


def tokenise(example: Example, tokenizer: Any) -> Labelled:
    """A row as the trainers see it: its token ids, and the labels that say which carry loss.

    The answer and the token that ends its turn carry loss; what the template puts after that is
    left off. What stands in a message is read as text: a chat token in it becomes letters.
    """
    chat = chat_of(example, tokenizer)
    prompt = encode(chat.prompt, chat, tokenizer)
    ids = encode(chat.prompt + chat.answer, chat, tokenizer)
    if ids[: len(prompt)] != prompt:  # the answer's first letters joined the last of the prompt
        ids = prompt + encode(chat.answer, chat, tokenizer)
    end = end_of_turn(tokenizer)
    if end in ids[len(prompt) :]:
        ids = ids[: ids.index(end, len(prompt)) + 1]
    return ids, [MASKED] * len(prompt) + ids[len(prompt) :]


def prepare(
    examples: Iterable[Example], tokenizer: Any, max_length: int
) -> tuple[list[dict[str, list[int]]], list[Dropped]]:
    """Rows as a trainer takes them, `input_ids` and `labels`, and those that are too long."""
    kept, dropped = [], []
    for example in examples:
        ids, labels = tokenise(example, tokenizer)
        if len(ids) > max_length:
            dropped.append(too_long(example, len(ids), max_length))
        else:
            kept.append({"input_ids": ids, "labels": labels})
    return kept, dropped


class Chat(NamedTuple):
    """A row in its template: what the model reads, and what it is to write.

    `apart` says whether the template tells the two from one another: what opens the answer is in
    the prompt, or there is no such thing. `hidden` gives back what stood in a message and looks
    like a token.
    """

    prompt: str
    answer: str
    apart: bool
    hidden: Mapping[str, str]

    def shown(self, text: str) -> str:
        """A piece of the chat with what was hidden in it."""
        for sign, real in self.hidden.items():
            text = text.replace(sign, real)
        return text


def chat_of(example: Example, tokenizer: Any) -> Chat:
    """A row in the chat template, with what looks like a token in a message hidden."""
    hidden: dict[str, str] = {}

    def hide(found: re.Match[str]) -> str:
        sign = f"\ue000{len(hidden)}\ue001"
        hidden[sign] = found[0]
        return sign

    marks = marks_of(tokenizer)
    messages = [{"role": m.role, "content": marks.sub(hide, m.content)} for m in example.messages]
    prompt = render(messages[:-1], tokenizer, begins_answer=True)
    whole = render(messages, tokenizer)
    shared = common(prompt, whole)
    opened = prompt != render(messages[:-1], tokenizer)
    bare = whole[shared:].lstrip().startswith(messages[-1]["content"].strip())
    apart = shared == len(prompt) and (opened or bare)
    return Chat(whole[:shared], whole[shared:], apart, hidden)


def render(messages: Sequence[Any], tokenizer: Any, *, begins_answer: bool = False) -> str:
    """Messages in the chat template; `begins_answer` adds what opens the answer.

    Raises:
        BadInput: The template refuses them.
    """
    try:
        text: str = tokenizer.apply_chat_template(
            messages,
            chat_template=undated(tokenizer.chat_template),
            tokenize=False,
            add_generation_prompt=begins_answer,
            **CHAT_SETTINGS,
        )
    except TemplateError as error:
        raise BadInput(
            f"The chat template of {tokenizer.name_or_path} refuses these rows: {error}. Give a "
            "base whose template takes a system message, a turn and an answer."
        ) from error
    return text


def encode(text: str, chat: Chat, tokenizer: Any) -> list[int]:
    """Token ids of a piece of a chat; what is hidden in it is read as letters."""
    if not chat.hidden:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    ids: list[int] = []
    known, marks = tokenizer.get_vocab(), marks_of(tokenizer)
    for part in re.split(f"({marks.pattern})", text):
        if part in known and marks.fullmatch(part):
            ids.append(known[part])
        else:
            ids += tokenizer(chat.shown(part), add_special_tokens=False, split_special_tokens=True)[
                "input_ids"
            ]
    return ids


def other_token(example: Example, tokenizer: Any, served: Any) -> str | None:
    """The first token of a row that is another in training than in a `weights.Model`, in words.

    The prompt is compared as it is served, then the whole row. None where all tokens are the same,
    and where a message holds what looks like one.
    """
    chat = chat_of(example, tokenizer)
    if chat.hidden:
        return None
    whole = chat.prompt + chat.answer
    asked = served.prompt([m.model_dump() for m in example.messages[:-1]])
    for part, text, theirs in (
        ("prompt", chat.prompt, asked),
        ("row", whole, served.tokens(whole, control=True)),
    ):
        ours = encode(text, chat, tokenizer)
        if ours != theirs:
            n = common(ours, theirs)
            a, b = (tokenizer.decode(ids[n : n + 1]) for ids in (ours, theirs))
            return f"Token {n} of the {part} is {a!r} in training, {b!r}"
    return None


def marks_of(tokenizer: Any) -> re.Pattern[str]:
    """What no message may hold: the tokenizer's own special tokens, and those of chat templates."""
    own = {
        str(token.content)
        for token in tokenizer.added_tokens_decoder.values()
        if token.content.strip() and (token.special or token.content in tokenizer.chat_template)
    }
    ordered = sorted(own, key=lambda token: (-len(token), token))
    return re.compile("|".join([*map(re.escape, ordered), CHAT_TOKEN.pattern]))


def end_of_turn(tokenizer: Any) -> int | None:
    """The token that ends an answer: the first special one that the template puts after it."""
    turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "\ue000"}]
    after = render(turns, tokenizer).rpartition("\ue000")[2]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = tokenizer(after, add_special_tokens=False)["input_ids"]
    return next((i for i in ids if i in special), None)


def too_long(row: Example, tokens: int, most: int) -> Dropped:
    """A row left out for its length."""
    detail = f"{row.task}: {tokens:,} tokens, {most:,} allowed"
    return Dropped(file="", item=row.item_id, reason="too_long", detail=detail)


def common(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many items two sequences have in common from the start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
