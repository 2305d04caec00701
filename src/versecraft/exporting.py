"""From a checkpoint to a GGUF that llama.cpp runs: base + adapter, quantised, template inside.

The base's own GGUF is the mould: tokenizer, hyper-parameters and tensor names are taken from it,
and each tensor that the adapter touches becomes W + scale · B·A. A base that is a Hugging Face
folder or hub id is cast into that form by llama.cpp's converter first. One tensor is in memory at
a time.

What a file is made of stands in its own metadata, under `versecraft.*`; the same checkpoint gives
the same bytes.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .adapters import fact, read_lora, shape_of_gguf, shape_of_hf
from .bases import gguf_of
from .checkpoints import base_digest, move_whole
from .errors import BadInput, MissingExtra, UnknownName
from .trainers import Checkpoint

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader

    Array = np.ndarray[Any, Any]

__all__ = ["QUANTIZATIONS", "export", "export_adapter"]

QUANTIZATIONS = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M")
"""Forms of the weights, the largest first. About 16, 8.5, 6.6, 5.7 and 4.8 bits a weight; rows
whose length 256 does not divide fall back to a larger form."""


def export(
    checkpoint: Checkpoint,
    *,
    quantization: str = "Q8_0",
    into: Path | str | None = None,
    converter: Path | str | None = None,
) -> Path:
    """Writes a checkpoint as one GGUF file, with the chat template it was trained on inside.

    Room for the file and for the 16-bit weights it is made from is checked first. All is written
    in a hidden folder beside the file and moved into place when it is whole; an export that was
    killed leaves that folder, and the next one clears it. What an earlier export wrote is replaced;
    any other file of that name is not.

    Args:
        checkpoint: A LoRA adapter, or, where the base is a Hugging Face model, a whole model.
        quantization: One of `QUANTIZATIONS`.
        into: The file to write, `.gguf`. By default it stands in the checkpoint's folder.
        converter: llama.cpp's `convert_hf_to_gguf.py`, for bases that are not a GGUF. By default
            what is on the PATH under that name, or as `convert-hf-to-gguf`.

    Returns:
        The file.

    Raises:
        UnknownName: There is no such quantization.
        BadInput: The checkpoint cannot be exported, its base has other weights by now, another
            file has the name, there is no room, or no converter.
        MissingExtra: The extra `train` or `local` is not installed.
    """
    if quantization not in QUANTIZATIONS:
        raise UnknownName("quantization", quantization, QUANTIZATIONS, "Q8_0 suits most uses.")
    _require(quantise=quantization != "F16")
    final = _final(checkpoint, into, quantization)
    _refuse_another_base(checkpoint)
    copies = 1.0 if quantization == "F16" else 1.0 + 8.5 / 16
    with _aside(final) as aside:
        mould, whole = _mould(checkpoint, aside, copies, converter)
        reader = _opened(mould)
        _need_room(final.parent, copies * sum(2 * int(t.n_elements) for t in reader.tensors))
        lora = {} if whole else read_lora(checkpoint.path, shape_of_gguf(reader))
        plain = aside / "f16.gguf"
        metadata = _facts(checkpoint, quantization) | _template_of(checkpoint.path)
        _write_merged(reader, lora, metadata, plain)
        if quantization != "F16":
            plain = _quantise(plain, aside / "done.gguf", quantization)
        move_whole(plain, final)
    return final


def export_adapter(checkpoint: Checkpoint, *, into: Path | str | None = None) -> Path:
    """Writes a LoRA adapter alone as a GGUF, to be loaded beside any GGUF of its base.

    llama-cpp-python takes it as `Llama(model_path=base, lora_path=adapter)`. No converter is
    needed, whatever the base is.

    Args:
        checkpoint: A LoRA adapter.
        into: The file to write, `.gguf`. By default it stands in the checkpoint's folder.

    Raises:
        BadInput: The checkpoint is not a LoRA adapter that llama.cpp can apply, its base has other
            weights by now, or another file has the name.
        MissingExtra: The extra `train` is not installed.
    """
    _require(quantise=False)
    from gguf import GGUFWriter

    final = _final(checkpoint, into, "lora")
    _refuse_another_base(checkpoint)
    base = gguf_of(checkpoint.base)
    shape = shape_of_gguf(_opened(base)) if base else shape_of_hf(checkpoint.base)
    lora = read_lora(checkpoint.path, shape)
    with _aside(final) as aside:
        writer = GGUFWriter(aside / "lora.gguf", shape.architecture)
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        # llama.cpp multiplies by alpha / rank unless alpha is 0; the scale is in B already.
        writer.add_float32("adapter.lora.alpha", 0.0)
        for key, value in _facts(checkpoint, "F16").items():
            writer.add_string(key, value)
        for name, (a, b) in lora.items():
            writer.add_tensor(f"{name}.lora_a", a.astype("float16"))
            writer.add_tensor(f"{name}.lora_b", b.astype("float16"))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        move_whole(aside / "lora.gguf", final)
    return final


def _require(*, quantise: bool) -> None:
    if not all(find_spec(name) for name in ("gguf", "safetensors", "torch")):
        raise MissingExtra("Exporting to GGUF", "train")
    if quantise and not find_spec("llama_cpp"):
        raise MissingExtra("Quantising", "local")


def _final(checkpoint: Checkpoint, into: Path | str | None, label: str) -> Path:
    if not checkpoint.path.is_dir():
        raise BadInput(f"{checkpoint.path} is not a folder. Train first, or name a checkpoint.")
    name = checkpoint.path.resolve().name
    final = Path(into) if into else checkpoint.path / f"{name}-{label}.gguf"
    if final.suffix != ".gguf" or final.is_dir():
        raise BadInput(f"{final} is not the name of a GGUF file. Name one, such as {name}.gguf.")
    if final.exists() and (base := gguf_of(checkpoint.base)) and final.samefile(base):
        raise BadInput(f"{final} is the base itself. Choose another name.")
    if final.exists() and not _is_ours(final):
        raise BadInput(f"{final} is there and was not exported by versecraft. Choose another name.")
    return final


def _is_ours(gguf: Path) -> bool:
    from gguf import GGUFReader

    try:
        return "versecraft.version" in GGUFReader(gguf).fields
    except (OSError, ValueError, IndexError):  # no GGUF, or part of one
        return False


def _refuse_another_base(checkpoint: Checkpoint) -> None:
    trained = checkpoint.card.get("base_digest")
    if trained and base_digest(checkpoint.base) != trained:
        raise BadInput(
            f"{checkpoint.base} holds other weights than those {checkpoint.path} was trained on. "
            "Put those back, or train again into another folder."
        )


@contextmanager
def _aside(final: Path) -> Iterator[Path]:
    """A folder beside the file for what is not finished, held by one export at a time."""
    from filelock import FileLock, Timeout

    folder = final.parent / f".{final.name}.part"
    lock = FileLock(folder / "lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        for left in folder.glob("*.gguf"):
            left.unlink()
        yield folder
    except Timeout:
        raise BadInput(
            f"Another process is writing {final}. Wait for it, or choose another name."
        ) from None
    except OSError as error:
        raise BadInput(
            f"{final} cannot be written: {error.strerror or error}. Make room or choose another "
            "place, and export again."
        ) from error
    finally:
        if lock.is_locked:
            lock.release()
            shutil.rmtree(folder, ignore_errors=True)


def _need_room(folder: Path, needed: float) -> None:
    needed = int(needed) + 2**24  # the tokenizer
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BadInput(
            f"Exporting needs {needed:,} bytes in {folder} and {free:,} are free. Make room, or "
            "name a file on another disk with into=."
        )


# The mould


def _mould(
    checkpoint: Checkpoint, aside: Path, copies: float, converter: Path | str | None
) -> tuple[Path, bool]:
    """The GGUF to pour into, and whether it holds the trained weights already."""
    whole = not (checkpoint.path / "adapter_config.json").is_file()
    base = gguf_of(checkpoint.base)
    if base and not whole:
        return base, False
    if whole and not list(checkpoint.path.glob("*.safetensors")):
        raise BadInput(
            f"{checkpoint.path} holds neither an adapter nor a model. Name the folder that the "
            "trainer left."
        )
    command = _converter(converter, checkpoint.base)
    folder = checkpoint.path if whole else _folder_of(checkpoint.base)
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    _need_room(aside, weights * (1 + copies))
    out = aside / "base.gguf"
    done = subprocess.run(
        [*command, str(folder), "--outfile", str(out), "--outtype", "f16"],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode or not out.is_file():
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise BadInput(
            f"llama.cpp's converter could not read {folder}:\n{said}\nTake a newer converter, or "
            "train from a GGUF of this model."
        )
    return out, whole


def _converter(given: Path | str | None, base: str) -> list[str]:
    if given:
        return [sys.executable, str(given)]
    for name in ("convert_hf_to_gguf.py", "convert-hf-to-gguf"):
        if found := shutil.which(name):
            return [found]
    raise BadInput(
        f"The base {base} is not a GGUF, and llama.cpp's converter is not on the PATH. Get it with "
        "git clone --depth 1 https://github.com/ggml-org/llama.cpp and pass "
        "converter='llama.cpp/convert_hf_to_gguf.py'; or train from a GGUF of this model; or use "
        "export_adapter(), which needs no converter."
    )


def _folder_of(base: str) -> Path:
    if Path(base).is_dir():
        return Path(base)
    from huggingface_hub import snapshot_download

    files = ["*.json", "*.safetensors", "*.model", "*.jinja"]
    try:
        return Path(snapshot_download(base, allow_patterns=files))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"The base {base} is not to be had from the hub: {error}. Export where it was trained, "
            "or train from a folder."
        ) from error


def _opened(path: Path) -> GGUFReader:
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except ValueError as error:
        raise BadInput(f"{path} is not a GGUF: {error}. Download it again.") from error


# The files


def _facts(checkpoint: Checkpoint, quantization: str) -> dict[str, str]:
    """What the file is made of, for its metadata; no paths of this machine."""
    base = Path(checkpoint.base)
    facts = {
        "general.name": checkpoint.path.resolve().name,
        "versecraft.version": version("versecraft"),
        "versecraft.base": base.name if base.exists() else checkpoint.base,
        "versecraft.quantization": quantization,
        "versecraft.tasks": ",".join(checkpoint.card.get("tasks", ())),
    }
    for what, name in (("card", "README.md"), ("adapter", "adapter_model.safetensors")):
        if (file := checkpoint.path / name).is_file():
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256")
            facts[f"versecraft.{what}_sha256"] = digest.hexdigest()
    return facts


def _template_of(folder: Path) -> dict[str, str]:
    """The chat template of the training tokenizer, which is the one that must be inside."""
    file = folder / "chat_template.jinja"  # where Transformers saves it
    return {"tokenizer.chat_template": file.read_text("utf-8")} if file.is_file() else {}


def _write_merged(
    reader: GGUFReader,
    lora: Mapping[str, tuple[Array, Array]],
    metadata: Mapping[str, str],
    out: Path,
) -> None:
    """The base's metadata and tensors at 16 bits, with the adapter added, one tensor at a time."""
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
    from gguf.quants import dequantize

    if missing := set(lora) - {tensor.name for tensor in reader.tensors}:
        raise BadInput(
            f"The base has no tensor {min(missing)}, which the adapter changes. Train without that "
            "layer (an output layer that shares the embedding cannot carry LoRA)."
        )
    writer = GGUFWriter(out, fact(reader, "general.architecture"))
    own = {"general.architecture", "general.file_type", *metadata}
    for field in reader.fields.values():
        if field.name not in own and not field.name.startswith("GGUF."):
            sub_type = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type)
    for key, value in metadata.items():
        writer.add_string(key, value)
    writer.add_file_type(1)  # mostly F16
    float32 = fact(reader, "general.file_type") == 0
    kept = {
        t.name: t.tensor_type == GGMLQuantizationType.F32 and (len(t.shape) == 1 or not float32)
        for t in reader.tensors
    }
    for t in reader.tensors:
        dtype = np.dtype(np.float32 if kept[t.name] else np.float16)
        nbytes = int(t.n_elements) * dtype.itemsize
        writer.add_tensor_info(t.name, [int(n) for n in reversed(t.shape)], dtype, nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for t in reader.tensors:
        weights = dequantize(t.data, t.tensor_type)
        if t.name in lora:
            a, b = lora[t.name]
            weights = weights + b @ a
        writer.write_tensor_data(weights.astype(np.float32 if kept[t.name] else np.float16))
    writer.close()


def _quantise(plain: Path, out: Path, quantization: str) -> Path:
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quantization}")
    log = logging.getLogger("llama-cpp-python")
    level = log.level
    log.setLevel(logging.CRITICAL)  # it takes warnings of ggml for errors
    try:
        failed = llama_cpp.llama_model_quantize(bytes(plain), bytes(out), params)
    finally:
        log.setLevel(level)
    if failed:
        raise BadInput(
            f"llama.cpp could not quantise to {quantization} (code {failed}). Export with "
            "quantization='F16', or choose another one."
        )
    return out
