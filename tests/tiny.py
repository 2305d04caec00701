"""A base model of no skill, so small that training and exporting it take seconds."""

from __future__ import annotations

import zlib
from pathlib import Path

from versecraft.bases import embedded_gguf

WIDTH, HIDDEN, HEADS = 64, 128, 2
SMALLER = {
    "llama.embedding_length": WIDTH,
    "llama.feed_forward_length": HIDDEN,
    "llama.block_count": 1,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": HEADS,
    "llama.rope.dimension_count": WIDTH // HEADS,
    "llama.context_length": 4096,
}


def write_tiny_gguf(path: Path) -> Path:
    """Writes a GGUF with the embedded model's tokenizer and template, and random weights."""
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter

    reader = GGUFReader(embedded_gguf())
    writer = GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = SMALLER.get(name, field.contents())
        kinds = field.types
        inner = kinds[-1] if kinds[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, kinds[0], sub_type=inner)
    words = next(t for t in reader.tensors if t.name == "token_embd.weight").shape[1]
    square, up, down = (WIDTH, WIDTH), (HIDDEN, WIDTH), (WIDTH, HIDDEN)
    shapes = {"token_embd.weight": (int(words), WIDTH), "output_norm.weight": (WIDTH,)}
    shapes |= {f"blk.0.{part}_norm.weight": (WIDTH,) for part in ("attn", "ffn")}
    shapes |= {f"blk.0.attn_{part}.weight": square for part in ("q", "k", "v", "output")}
    shapes |= {
        "blk.0.ffn_gate.weight": up,
        "blk.0.ffn_up.weight": up,
        "blk.0.ffn_down.weight": down,
    }
    for name, shape in shapes.items():
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
            continue
        draw = np.random.default_rng(zlib.crc32(name.encode()))
        weights = (draw.standard_normal(shape) * 0.05).astype(np.float16)
        writer.add_tensor(name, weights, raw_dtype=GGMLQuantizationType.F16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
