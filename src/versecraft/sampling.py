"""Drawing the tokens of one answer, held to a grammar where there is one."""

from __future__ import annotations

import ctypes
from typing import Any

from .errors import BackendError
from .weights import Model

__all__ = ["Sampler"]

_TOP_K, _MIN_P = 40, 0.05  # llama.cpp's own defaults
_WIDER = (64, 2048)  # likeliest tokens to look among, before all, where the first draw is not fit


class Sampler:
    """Draws one answer, token by token.

    A token is drawn first and then shown to the grammar, which costs next to nothing when it is
    fit. Only when it is not, the grammar is asked about others: the likeliest 64, then 2,048, then
    all. (A mask over the whole vocabulary at each step, as llama.cpp has it, draws alike but for
    the cut to the 40 likeliest tokens, which there comes after the mask.)

    Args:
        model: Whose tokens they are.
        temperature: 0 takes the likeliest.
        seed: Decides the draw.
        grammar: Rules in llama.cpp's notation.

    Raises:
        BackendError: llama.cpp cannot read the grammar.
    """

    def __init__(
        self, model: Model, *, temperature: float, seed: int, grammar: str | None = None
    ) -> None:
        self.model, self.lib = model, model.lib
        self._one = (self.lib.llama_token_data * 1)()
        self._alone = self.lib.llama_token_data_array(self._one, 1, -1, False)
        self._chain = self._make_chain(temperature, seed)
        self._grammar: Any = None
        if grammar is not None:
            rules = grammar.encode("utf-8", "replace")
            self._grammar = self.lib.llama_sampler_init_grammar(model.vocab, rules, b"root")
            if not self._grammar:
                self.close()
                raise BackendError(
                    "llama.cpp cannot read the grammar that was made of the schema; make the "
                    "answer's model simpler"
                )

    def close(self) -> None:
        """Gives the memory back."""
        for sampler in filter(None, (self._chain, self._grammar)):
            self.lib.llama_sampler_free(sampler)
        self._chain = self._grammar = None

    def draw(self, context: Any, at: int) -> int:
        """The next token, or -1 where the model has none that the grammar allows.

        Args:
            context: llama.cpp's, in which a batch was decoded.
            at: Place in that batch of the token whose logits count.
        """
        token: int = self.lib.llama_sampler_sample(self._chain, context, at)
        if not self._grammar:
            return token
        if not self._allows(token):
            token = self._among_allowed(context, at)
        if token >= 0 and not self.model.ends(token):
            self.lib.llama_sampler_accept(self._grammar, token)
        return token

    def complete(self) -> bool:
        """Whether the grammar allows the answer to end here."""
        return bool(self._grammar) and self.model.end >= 0 and self._allows(self.model.end)

    def _make_chain(self, temperature: float, seed: int) -> Any:
        lib = self.lib
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        if temperature == 0:
            parts = [lib.llama_sampler_init_greedy()]
        else:
            parts = [
                lib.llama_sampler_init_top_k(_TOP_K),
                lib.llama_sampler_init_min_p(_MIN_P, 1),
                lib.llama_sampler_init_temp(temperature),
                lib.llama_sampler_init_dist(seed),
            ]
        for part in parts:
            lib.llama_sampler_chain_add(chain, part)
        return chain

    def _allows(self, token: int) -> bool:
        self._one[0].id, self._one[0].logit = token, 0.0
        self._alone.size, self._alone.selected = 1, -1
        self.lib.llama_sampler_apply(self._grammar, ctypes.byref(self._alone))
        return bool(self._one[0].logit == 0.0)

    def _among_allowed(self, context: Any, at: int) -> int:
        import numpy as np

        size = self.model.size
        logits = np.ctypeslib.as_array(self.lib.llama_get_logits_ith(context, at), (size,))
        token_data = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        for width in (*(w for w in _WIDER if w < size), size):
            found = np.zeros(width, token_data)
            found["id"] = np.argpartition(logits, -width)[-width:]
            found["logit"] = logits[found["id"]]
            self._apply(self._grammar, found)
            found = found[np.isfinite(found["logit"])]
            if len(found):
                # Sorted, since the order in which the partition leaves them is numpy's affair.
                found = np.sort(found, order="id")
                return int(found["id"][self._apply(self._chain, found)])
        return -1

    def _apply(self, sampler: Any, found: Any) -> int:
        """Lets a sampler work on tokens in place; the place of the one that it chose, if any."""
        lib = self.lib
        data = found.ctypes.data_as(ctypes.POINTER(lib.llama_token_data))
        array = lib.llama_token_data_array(data, len(found), -1, False)
        lib.llama_sampler_apply(sampler, ctypes.byref(array))
        return int(array.selected)
