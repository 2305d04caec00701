"""LoRA adapters in the names and the order of rows that llama.cpp has for them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader

    Array = np.ndarray[Any, Any]

__all__ = ["Shape", "fact", "read_lora", "shape_of_gguf", "shape_of_hf"]

_PERMUTED = {"llama": True, "qwen2": False, "qwen3": False, "gemma3": False}
"""Architectures whose linear layers llama.cpp keeps as Transformers does, but for the rows of q and
k, which are interleaved in the first: https://github.com/ggml-org/llama.cpp convert_hf_to_gguf.py,
LlamaModel.permute."""

_ARCHITECTURE_OF = {"mistral": "llama", "gemma3_text": "gemma3"}
"""Names that Transformers has for the above, where they differ."""

_LORA = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


class Shape(NamedTuple):
    """What the adapter's tensors have to be fitted to."""

    architecture: str
    layers: int
    heads: int
    kv_heads: int


def fact(reader: GGUFReader, key: str, default: Any = None) -> Any:
    """A value in the metadata of a GGUF."""
    found = reader.get_field(key)
    return default if found is None else found.contents()


def shape_of_gguf(reader: GGUFReader) -> Shape:
    """What adapters of this base have to be fitted to.

    Raises:
        BadInput: The file is a part only, or its architecture is not known here.
    """
    if fact(reader, "split.count", 1) > 1:
        raise BadInput("The base is one of several parts. Join them: llama-gguf-split --merge.")
    arch = str(fact(reader, "general.architecture"))
    heads = int(fact(reader, f"{arch}.attention.head_count", 0))
    kv_heads = int(fact(reader, f"{arch}.attention.head_count_kv", heads))
    return _checked(Shape(arch, int(fact(reader, f"{arch}.block_count", 0)), heads, kv_heads))


def shape_of_hf(base: str) -> Shape:
    """The same for a Hugging Face folder or hub id."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    arch = _ARCHITECTURE_OF.get(config.model_type, config.model_type)
    return _checked(Shape(arch, config.num_hidden_layers, heads, kv_heads))


def _checked(shape: Shape) -> Shape:
    if shape.architecture not in _PERMUTED:
        raise BadInput(
            f"Adapters of {shape.architecture} models cannot be exported; those of "
            f"{', '.join(_PERMUTED)} can. Merge this one with peft's merge_and_unload(), save it, "
            "and export that folder as a whole model."
        )
    return shape


def read_lora(folder: Path, shape: Shape) -> dict[str, tuple[Array, Array]]:
    """A and B by the name of the tensor they belong to; B is scaled, and in llama.cpp's order.

    Raises:
        BadInput: The folder holds no adapter, a damaged one, or one that is more than LoRA of
            linear layers.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / "adapter_model.safetensors").is_file():
        raise BadInput(f"{folder} holds no adapter_model.safetensors. Train it to the end first.")
    try:
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise BadInput(
            f"The adapter in {folder} cannot be read: {error}. Copy it again, or train it "
            "anew into another folder."
        ) from error
    odd = [k for k in ("alpha_pattern", "fan_in_fan_out", "use_dora") if config.get(k)]
    halves: dict[str, dict[str, Array]] = {}
    for key, tensor in tensors.items():
        found = _LORA.fullmatch(key)
        if found is None:
            odd.append(key)
        else:
            halves.setdefault(found[1], {})[found[2]] = tensor.float().numpy()
    if odd or not halves:
        raise BadInput(
            f"{folder} is not a plain LoRA adapter of linear layers ({', '.join(odd[:3])}). Train "
            "without these, or merge it with peft's merge_and_unload(), save it, and export that "
            "folder as a whole model."
        )
    arch = next(n for n, name in MODEL_ARCH_NAMES.items() if name == shape.architecture)
    names = get_tensor_name_map(arch, shape.layers)
    lora = {}
    for module, half in sorted(halves.items()):
        a, b = half["A"], half["B"]
        name = names.get_name(module)
        if name is None:
            raise BadInput(
                f"llama.cpp has no tensor for {module} in {shape.architecture} models. Train with "
                "target_modules='all-linear'."
            )
        rank = a.shape[0]
        b = b * (config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank))
        if _PERMUTED[shape.architecture] and name.endswith(("attn_q", "attn_k")):
            heads = shape.heads if name.endswith("attn_q") else shape.kv_heads
            b = b.reshape(heads, 2, -1, rank).swapaxes(1, 2).reshape(b.shape)
        lora[f"{name}.weight"] = (a, b)
    return lora
