"""What the trainers share: settings, rows, the loop, and a folder that is whole or says it is not.

While training runs, the folder holds a card that says so and `checkpoints/`; a kill costs what was
done since the last of these. The card that says finished is the last thing to be written.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .bases import gguf_of, load_tokenizer
from .cards import curve, readme
from .checkpoints import (
    SAVED,
    base_digest,
    claimed,
    has_finished,
    move_whole,
    whole_checkpoints,
    write_whole,
)
from .errors import BadInput, MissingExtra
from .records import Dropped, digest
from .tokenising import prepare
from .trainers import Checkpoint, Settings, read_checkpoint
from .training_data import Split
from .xray import xray

__all__ = ["fit"]

_LIBRARIES = ("versecraft", "torch", "transformers", "trl", "peft", "datasets", "unsloth")

Load = Callable[[str, Any], Any]
"""From the base and its tokenizer to the model with a fresh adapter on it."""


def fit(
    settings: Settings, data: Split, *, base: Path | str, into: Path | str, trainer: str, load: Load
) -> Checkpoint:
    """Trains and leaves a checkpoint folder; called again with the same arguments, goes on.

    A folder whose training has finished is returned as it is.

    Raises:
        BadInput: The x-ray fails, every row is too long, or the folder belongs to another
            training, to something else, or to a process that is training into it.
        MissingExtra: A library that trains is not installed.
    """
    folder, base = Path(into), str(base)
    facts = _facts(settings, data, base, trainer)
    if has_finished(folder, facts):
        return read_checkpoint(folder)
    tokenizer = load_tokenizer(base)
    _refuse_unfit(data, base, tokenizer, settings.max_length)
    rows, dropped = prepare(data.train, tokenizer, settings.max_length)
    held, dropped_held = prepare(data.valid, tokenizer, settings.max_length)
    if not rows:
        raise BadInput(
            f"All {len(dropped):,} rows to train on are longer than {settings.max_length:,} "
            "tokens. Raise max_length."
        )
    counts = {"train": len(rows), "valid": len(held), "dropped": len(dropped + dropped_held)}
    facts["rows"] = counts
    with _calm(), claimed(folder):
        if has_finished(folder, facts):  # in another process, since
            return read_checkpoint(folder)
        model = load(base, tokenizer)
        _refuse_short(model, settings.max_length)
        write_whole(folder / "README.md", readme(facts))
        run = _Run(settings, facts, folder, rows, held)
        facts = run.train(model, tokenizer)
        _finish(run, tokenizer, [*dropped, *dropped_held], facts)
    return read_checkpoint(folder)


def _refuse_unfit(data: Split, base: str, tokenizer: Any, max_length: int) -> None:
    seen = xray(data, base=tokenizer, gguf=gguf_of(base), max_length=max_length, samples=0)
    if not seen.ok:
        raise BadInput(
            f"The x-ray found {len(seen.failures):,} faults, so training does not start:\n"
            + "\n".join(str(failure) for failure in seen.failures[:5])
            + ("\n…" if len(seen.failures) > 5 else "")
            + f"\nvc.xray(data, base={base!r}) shows the rows."
        )


def _refuse_short(model: Any, max_length: int) -> None:
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context and context < max_length:
        raise BadInput(
            f"max_length is {max_length:,} and the base reads {context:,} tokens. Pass "
            f"max_length={context}."
        )


def _facts(settings: Settings, data: Split, base: str, trainer: str) -> dict[str, Any]:
    return {
        "finished": False,
        "role": data.role,
        "trainer": trainer,
        "base": base,
        "base_digest": base_digest(base),
        "data": data.digest,
        "tasks": sorted({row.task for row in data.train}),
        "data_card": digest(json.dumps(dict(data.card), sort_keys=True, default=str)),
        "settings": settings.model_dump(exclude={"progress"}),
    }


class _Run:
    """One training: what goes in, what the loop reports, and where it stands."""

    def __init__(
        self,
        settings: Settings,
        facts: dict[str, Any],
        folder: Path,
        rows: list[Any],
        held: list[Any],
    ) -> None:
        self.settings, self.facts, self.folder = settings, facts, folder
        self.rows, self.held = rows, held
        a_step = settings.batch_size * settings.accumulate
        self.steps = settings.steps or max(1, round(-(-len(rows) // a_step) * settings.epochs))
        self.every = settings.eval_every or max(1, -(-self.steps // 10))
        self.checkpoints = folder / "checkpoints"
        self.history: list[dict[str, Any]] = []
        self.trainer: Any = None
        self.bar = _Bar(f"training the {facts['role']}", self.steps)

    def train(self, model: Any, tokenizer: Any) -> dict[str, Any]:
        """Trains to the end, from the last whole checkpoint if there is one; gives the facts."""
        last = self._last()
        before = json.loads((last / SAVED).read_text("utf-8")) if last else {}
        self.trainer = self._build(model, tokenizer)
        self._check_batch()
        begun = time.monotonic() - before.get("seconds", 0.0)
        first = before.get("valid_loss_before")
        self.bar.open(self.settings.progress)
        try:
            if self.held and last is None:
                self.bar.say(f"what the base model makes of the {len(self.held)} rows held out")
                first = self.trainer.evaluate()["eval_loss"]
            for callback in self._callbacks(begun, first):
                self.trainer.add_callback(callback)
            result = self.trainer.train(resume_from_checkpoint=str(last) if last else None)
        finally:
            self.bar.close(self.trainer.state.global_step)
        state = self.trainer.state
        self.history = [{"step": 0, "eval_loss": first}] if first is not None else []
        self.history += state.log_history
        losses = [entry["loss"] for entry in self.history if "loss" in entry]
        tail = losses[-max(1, len(losses) // 10) :]
        import torch

        return self.facts | {
            "finished": True,
            "steps": state.global_step,
            "planned_steps": self.steps,
            "best_step": state.best_global_step if self.held else state.global_step,
            "loss": round(sum(tail) / len(tail), 4) if tail else round(result.training_loss, 4),
            "valid_loss_before": first and round(first, 4),
            "valid_loss": state.best_metric and round(state.best_metric, 4),
            "seconds": round(time.monotonic() - begun, 1),
            "peak_mb": _peak_mb(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "dtype": str(model.dtype).removeprefix("torch."),
            "tokens": {
                "trained": sum(label != -100 for row in self.rows for label in row["labels"]),
                "longest": max(len(row["input_ids"]) for row in self.rows),
            },
            "versions": dict(_versions()),
        }

    def _last(self) -> Path | None:
        """The newest checkpoint that is whole; what a kill left half is removed."""
        whole = whole_checkpoints(self.folder)
        for path in set(self.checkpoints.glob("checkpoint-*")) - set(whole):
            shutil.rmtree(path)
        return whole[-1] if whole else None

    def _build(self, model: Any, tokenizer: Any) -> Any:
        import torch
        from datasets import Dataset
        from transformers import PrinterCallback
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        s, cuda, held = self.settings, torch.cuda.is_available(), bool(self.held)
        bf16 = cuda and model.dtype == torch.bfloat16  # older GPUs have float16 alone
        config = SFTConfig(
            output_dir=str(self.checkpoints),
            max_steps=self.steps,
            per_device_train_batch_size=s.batch_size,
            per_device_eval_batch_size=s.batch_size,
            gradient_accumulation_steps=s.accumulate,
            learning_rate=s.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=self.steps // 20,
            optim="adamw_torch",
            seed=s.seed,
            data_seed=s.seed,
            max_length=None,  # over-long rows are out already; nothing is cut here
            packing=False,
            padding_free=False,  # asked for in words, or unsloth runs rows together
            dataset_kwargs={"skip_prepare_dataset": True},
            use_cpu=not cuda,
            bf16=bf16,
            fp16=cuda and not bf16,
            gradient_checkpointing=s.save_memory,
            save_total_limit=2,
            eval_strategy="steps" if held else "no",
            eval_steps=self.every,
            save_strategy="steps",
            save_steps=self.every,
            load_best_model_at_end=held,
            metric_for_best_model="eval_loss" if held else None,
            greater_is_better=False if held else None,
            restore_callback_states_from_checkpoint=True,
            logging_steps=max(1, self.steps // 200),
            logging_nan_inf_filter=False,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=cuda,
        )
        trainer: Any = SFTTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(self.rows),
            eval_dataset=Dataset.from_list(self.held) if self.held else None,
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.create_model_card = lambda **_: None  # the card is ours
        return trainer

    def _check_batch(self) -> None:
        """Holds the batch that the library makes against the rows that the x-ray saw."""
        rows = [self.trainer.train_dataset[n] for n in range(min(2, len(self.rows)))]
        batch = self.trainer.data_collator(rows)
        for row, ids, labels in zip(self.rows, batch["input_ids"], batch["labels"], strict=False):
            size = len(row["input_ids"])
            same = ids[:size].tolist() == row["input_ids"]
            same = same and labels[:size].tolist() == row["labels"]
            if not same or (labels[size:] != -100).any():
                raise BadInput(
                    "The training library changes the rows: its first batch is not what the x-ray "
                    "saw. Install the versions of trl that pyproject.toml names."
                )

    def _callbacks(self, begun: float, first: float | None) -> list[Any]:
        from transformers import EarlyStoppingCallback, TrainerCallback

        run, bar = self, self.bar

        class Report(TrainerCallback):
            """Shows progress, and marks each checkpoint when it is whole."""

            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                bar.show(state.global_step)

            def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
                logs = more["logs"]
                bar.losses |= {k: logs[k] for k in ("loss", "eval_loss") if k in logs}

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                bar.show(state.global_step)

            def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                seconds = time.monotonic() - begun
                saved = {"seconds": seconds, "valid_loss_before": first}
                path = run.checkpoints / f"checkpoint-{state.global_step}" / SAVED
                write_whole(path, json.dumps(saved))

        stopping = self.settings.patience is not None and bool(self.held)
        stop = [EarlyStoppingCallback(self.settings.patience or 1)] if stopping else []
        return [*stop, Report()]


def _finish(run: _Run, tokenizer: Any, dropped: list[Dropped], facts: dict[str, Any]) -> None:
    """Moves all into place, the card that says finished last, then clears what is not needed."""
    for left in run.folder.glob(".writing-*"):  # by one that was killed here
        shutil.rmtree(left)
    with TemporaryDirectory(dir=run.folder, prefix=".writing-") as aside:
        out = Path(aside)
        run.trainer.model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        lines = (record.model_dump_json() + "\n" for record in dropped)
        (out / "dropped.jsonl").write_text("".join(lines), encoding="utf-8")
        curve(run.history, out)
        (out / "README.md").unlink(missing_ok=True)  # the library's own
        for path in sorted(out.iterdir()):
            move_whole(path, run.folder / path.name)
    write_whole(run.folder / "README.md", readme(facts))
    shutil.rmtree(run.checkpoints, ignore_errors=True)


@contextmanager
def _calm() -> Iterator[None]:
    """As many threads as there are cores to use, and no chatter of the libraries."""
    try:
        import matplotlib  # noqa: F401 -- for the curve, at the end
        import torch
        import trl  # noqa: F401
        from datasets.utils import logging as data_chatter
        from transformers.utils import logging as chatter
    except ImportError as error:
        raise MissingExtra("Training", "train") from error
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ and hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    level, shown = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity(logging.ERROR)
    chatter.disable_progress_bar()
    data_chatter.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries among themselves
            yield
    finally:
        torch.set_num_threads(threads)
        chatter.set_verbosity(level)
        if shown:
            chatter.enable_progress_bar()
            data_chatter.enable_progress_bar()


class _Bar:
    """How far training is, on stderr: a bar in a terminal or notebook, elsewhere lines."""

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total = name, total
        self.losses: dict[str, float] = {}
        self._bar: Any = None
        self._lines = False
        self._said = 0.0

    def open(self, shown: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._lines = shown and not (console.is_terminal or console.is_jupyter)
        if shown and not self._lines:
            self._bar = Progress(console=console)
            self._bar.start()
            self._bar.add_task(self.name, total=self.total)

    def show(self, step: int) -> None:
        said = " ".join(f"{k.replace('eval', 'valid')} {v:.3f}" for k, v in self.losses.items())
        if self._bar is not None:
            self._bar.update(0, completed=step, description=f"{self.name} {said}")
        elif time.monotonic() - self._said > 10:
            self.say(f"step {step:,} of {self.total:,} {said}")

    def say(self, what: str) -> None:
        if self._bar is not None:
            self._bar.update(0, description=f"{self.name}: {what}")
        elif self._lines:
            self._said = time.monotonic()
            line = f"{self.name}: {what}"
            print(line, file=sys.stderr, flush=True)  # noqa: T201 -- the plain form of the bar

    def close(self, step: int) -> None:
        self._said = 0.0
        self.show(step)
        if self._bar is not None:
            self._bar.stop()


def _peak_mb() -> int:
    """Most memory so far, in MB: of the GPU where there is one, else of the process."""
    import torch

    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e6)
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for name in _LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
