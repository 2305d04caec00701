"""What a GGUF file holds: weights, once per process, with vocabulary and chat template."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from .errors import BackendError
from .kinds import CHAT_SETTINGS, undated

__all__ = ["Model", "library", "open_model"]


@cache
def library() -> Any:
    """llama-cpp-python, silent unless its logger is given a level; it takes warnings for errors."""
    import llama_cpp

    logger = logging.getLogger("llama-cpp-python")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
    llama_cpp.llama_backend_init()
    return llama_cpp


class Model:
    """The weights and vocabulary of a GGUF, and its chat template.

    Args:
        path: The file.
        gpu_layers: Layers to put on the GPU; below 0 for all.
        vocab_only: Load no weights, which is enough for prompts and tokens.

    Raises:
        BackendError: llama.cpp cannot load the file, or it holds no chat template.
    """

    def __init__(self, path: Path, gpu_layers: int, *, vocab_only: bool = False) -> None:
        self.lib = lib = library()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0x7FFFFFFF if gpu_layers < 0 else gpu_layers
        params.vocab_only = vocab_only
        self.ptr = lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self.ptr:
            raise BackendError(
                f"llama.cpp cannot load {path}: it is damaged, too large for the memory, or of a "
                "kind that this llama-cpp-python does not know. Try a newer one, or another file.",
                fatal=True,
            )
        self.vocab = lib.llama_model_get_vocab(self.ptr)
        self.size: int = lib.llama_vocab_n_tokens(self.vocab)
        self.trained: int = lib.llama_model_n_ctx_train(self.ptr)
        # A state that runs on cannot be cut back to what two prompts share.
        self.shares = not (
            lib.llama_model_is_recurrent(self.ptr) or lib.llama_model_is_hybrid(self.ptr)
        )
        self.end: int = lib.llama_vocab_eot(self.vocab)
        if self.end < 0:
            self.end = lib.llama_vocab_eos(self.vocab)
        self._pieces: dict[int, bytes] = {}
        special = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN
        marks = {
            self.text(token)
            for token in range(self.size)
            if lib.llama_vocab_get_attr(self.vocab, token) & special
        }
        marks.discard("")
        # An empty choice would be found everywhere.
        found = "|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True))
        self._marks = re.compile(found or r"(?!)")
        self._format = self._formatter(path)

    def close(self) -> None:
        """Gives the weights back."""
        if self.ptr:
            self.lib.llama_model_free(self.ptr)
            self.ptr = None

    def text(self, token: int) -> str:
        """A token's name in the vocabulary; empty where there is no such token."""
        if token < 0:
            return ""
        name: bytes = self.lib.llama_vocab_get_text(self.vocab, token) or b""
        return name.decode("utf-8", "replace")

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; none for control tokens."""
        if token not in self._pieces:
            size = 64
            while True:
                buffer = ctypes.create_string_buffer(size)
                n = self.lib.llama_token_to_piece(self.vocab, token, buffer, size, 0, False)
                if n >= 0:
                    break
                size = -n
            self._pieces[token] = buffer.raw[:n]
        return self._pieces[token]

    def ends(self, token: int) -> bool:
        """Whether a token ends an answer."""
        return bool(self.lib.llama_vocab_is_eog(self.vocab, token))

    def tokens(self, text: str, *, control: bool) -> list[int]:
        """The tokens of a text, in which names of control tokens are such tokens, or not."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 2
        found = (ctypes.c_int32 * room)()
        n = self.lib.llama_tokenize(self.vocab, data, len(data), found, room, False, control)
        return found[:n]

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The tokens of a chat up to where the answer begins.

        Control tokens come from the template alone. Where a message holds the name of one, a
        sign that no message holds is put in its place while the template is rendered; so
        whatever the template does to a message, the name comes out as plain text.

        Raises:
            BackendError: The template refuses the chat.
        """
        said = "".join(m["content"] for m in messages)
        if not self._marks.search(said):
            return self.tokens(self._render(messages), control=True)
        sign = next(c for c in map(chr, range(0xE000, 0xF8FF)) if c not in said)
        held: list[str] = []

        def hide(found: re.Match[str]) -> str:
            held.append(found[0])
            return f"{sign}{len(held) - 1}{sign}"

        hidden = [{**m, "content": self._marks.sub(hide, m["content"])} for m in messages]
        parts = self._render(hidden).split(sign)
        tokens: list[int] = []
        for n, part in enumerate(parts):
            text = held[int(part)] if n % 2 else part
            tokens += self.tokens(text, control=not n % 2)
        return tokens

    def _render(self, messages: Sequence[Mapping[str, str]]) -> str:
        try:
            rendered: str = self._format(messages=list(messages)).prompt
        except Exception as error:  # a template's own raise_exception, or a fault in it
            raise BackendError(
                f"the model's chat template refuses this chat: {error}. Take another model."
            ) from error
        return rendered

    def _formatter(self, path: Path) -> Callable[..., Any]:
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        template: bytes | None = self.lib.llama_model_chat_template(self.ptr, None)
        if not template:
            self.close()
            raise BackendError(
                f"{path} holds no chat template, so it is a base model or was exported without "
                "one. Take an instruct model, or export it again with its template.",
                fatal=True,
            )
        formatter: Any = Jinja2ChatFormatter(
            template=undated(template.decode("utf-8")),
            eos_token=self.text(self.lib.llama_vocab_eos(self.vocab)),
            bos_token=self.text(self.lib.llama_vocab_bos(self.vocab)),
        )
        return partial(formatter, **CHAT_SETTINGS)


_held: dict[tuple[Any, ...], tuple[Model, int]] = {}
_lock = threading.Lock()


@contextmanager
def open_model(path: Path, gpu_layers: int = 0) -> Iterator[Model]:
    """The model in a file, once in this process; given back when the last user has left."""
    stat = path.stat()
    key = (path, stat.st_size, stat.st_mtime_ns, gpu_layers)
    with _lock:
        model, users = _held.get(key) or (Model(path, gpu_layers), 0)
        _held[key] = model, users + 1
    try:
        yield model
    finally:
        with _lock:
            users = _held[key][1] - 1
            if users:
                _held[key] = model, users
            else:
                del _held[key]
                model.close()
