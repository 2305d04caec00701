"""Fine-tuning with unsloth on an NVIDIA GPU: LoRA in bfloat16, or over 4-bit weights (QLoRA)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..bases import gguf_of, load_model
from ..errors import BadInput, MissingExtra
from ..fitting import fit
from ..hookspecs import hookimpl
from ..training_data import Split
from . import Checkpoint, Settings, Trainer

__all__ = ["Unsloth"]

_LAYERS = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()


class Unsloth(Settings):
    """LoRA with unsloth. `get_trainer("unsloth", load_in_4bit=False)`; settings as in `Settings`.

    Attributes:
        load_in_4bit: Whether the base's weights are held in 4 bits (QLoRA), which takes a quarter
            of the memory; otherwise in bfloat16.
    """

    load_in_4bit: bool = True
    save_memory: bool = True

    def train(self, data: Split, *, base: Path | str = "embedded", into: Path | str) -> Checkpoint:
        """Trains an adapter as `TRL.train` does: the same data, the same folder, the same card.

        Raises:
            BadInput: There is no CUDA device; or as `TRL.train`.
            MissingExtra: unsloth is not installed.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingExtra("Training with unsloth", "unsloth") from error
        if not torch.cuda.is_available():
            raise BadInput(
                "The trainer 'unsloth' needs an NVIDIA GPU with CUDA, and there is none here. "
                "Take the trainer 'trl', which does the same on any machine."
            )
        try:
            import unsloth  # noqa: F401 -- before trl and peft, which it changes
        except ImportError as error:
            raise MissingExtra("Training with unsloth", "unsloth") from error
        return fit(self, data, base=base, into=into, trainer="unsloth", load=self._load)

    def _load(self, base: str, tokenizer: Any) -> Any:
        from unsloth import FastLanguageModel

        with TemporaryDirectory(prefix="versecraft-base-") as aside:
            where = base
            if gguf_of(base):  # unsloth reads no GGUF
                plain = load_model(base)
                plain.save_pretrained(aside)
                tokenizer.save_pretrained(aside)
                where = aside
            model, _ = FastLanguageModel.from_pretrained(
                model_name=where,
                max_seq_length=self.max_length,
                load_in_4bit=self.load_in_4bit,
                trust_remote_code=False,
            )
        model.config._name_or_path = base
        return FastLanguageModel.get_peft_model(
            model,
            r=self.rank,
            lora_alpha=2 * self.rank,
            lora_dropout=0.0,
            target_modules=_LAYERS,
            bias="none",
            use_gradient_checkpointing="unsloth" if self.save_memory else False,
            random_state=self.seed,
        )


@hookimpl
def versecraft_trainers() -> Mapping[str, Callable[..., Trainer]]:
    """unsloth, which needs CUDA."""
    return {"unsloth": Unsloth}
