"""Fine-tuning with TRL and PEFT: LoRA on any machine, in float32 on a CPU, in bfloat16 on CUDA."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..bases import load_model
from ..errors import MissingExtra
from ..fitting import fit
from ..hookspecs import hookimpl
from ..training_data import Split
from . import Checkpoint, Settings, Trainer

__all__ = ["TRL"]


class TRL(Settings):
    """LoRA with TRL and PEFT. `get_trainer("trl", steps=100)`; settings as in `Settings`."""

    def train(self, data: Split, *, base: Path | str = "embedded", into: Path | str) -> Checkpoint:
        """Trains an adapter; see `versecraft.fitting.fit`.

        Args:
            data: Made by `build_dataset`.
            base: `embedded`, a `.gguf` file, a folder with a Hugging Face model, or a hub id.
            into: The folder for the checkpoint. The same call goes on after a kill.

        Raises:
            BadInput: The x-ray fails, no row is left, or the folder is not this training's.
            MissingExtra: A library that trains is not installed.
        """
        return fit(self, data, base=base, into=into, trainer="trl", load=self._load)

    def _load(self, base: str, tokenizer: Any) -> Any:
        try:
            from peft import LoraConfig, get_peft_model
            from transformers import set_seed
        except ImportError as error:
            raise MissingExtra("Training", "train") from error
        model = load_model(base)
        set_seed(self.seed)
        lora = LoraConfig(
            r=self.rank,
            lora_alpha=2 * self.rank,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        return get_peft_model(model, lora)


@hookimpl
def versecraft_trainers() -> Mapping[str, Callable[..., Trainer]]:
    """TRL, which trains anywhere."""
    return {"trl": TRL}
