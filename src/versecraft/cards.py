"""The model card and the loss curve of a checkpoint."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["MARK", "curve", "readme"]

MARK = "<!-- model card written by versecraft -->"
"""By this a folder is known as a checkpoint."""

_CARD = """\
---
library_name: peft
tags: [poetry, lora, versecraft]
---
{mark}
# {title}

**{state}.** {summary}

| | |
| --- | --- |
{table}

Answers alone carry loss, each with the token that ends its turn. Rows over {longest:,} tokens are
left out and listed in `dropped.jsonl`: {dropped:,} were. The curve is in `loss.csv` and `loss.png`.

```python
from peft import PeftModel
from versecraft.bases import load_base

model, tokenizer = load_base({base!r})
model = PeftModel.from_pretrained(model, "this folder")
```

## Facts

```json
{facts}
```
"""


def readme(facts: Mapping[str, Any]) -> str:
    """The card as Markdown; its facts stand at the end as JSON."""
    rows = facts["rows"]
    done = facts["finished"]
    summary = (
        f"{facts['steps']:,} steps on {rows['train']:,} rows in {facts['seconds']:,.0f} s on "
        f"{facts['device']}."
        if done
        else "Call train again with the same arguments: it goes on from the last checkpoint. "
        "Do not use what is in this folder."
    )
    told = {
        "base": facts["base"],
        "trainer": facts["trainer"],
        "data": f"{facts['data']} (card {facts['data_card']})",
        "rows": f"{rows['train']:,} to train on, {rows['valid']:,} held out",
        **{name.replace("_", " "): value for name, value in facts["settings"].items()},
    }
    if done:
        told |= {
            "loss at the end": facts["loss"],
            "loss on held-out rows": f"{facts['valid_loss_before']} before, {facts['valid_loss']} "
            f"after (step {facts['best_step']}, which is kept)",
            "peak memory": f"{facts['peak_mb']:,} MB",
            "versions": ", ".join(f"{name} {v}" for name, v in facts["versions"].items()),
        }
    return _CARD.format(
        mark=MARK,
        title=f"A LoRA adapter that makes {facts['base']} {_a(facts['role'])}",
        state="Finished" if done else "Not finished",
        summary=summary,
        table="\n".join(f"| {name} | {value} |" for name, value in told.items()),
        longest=facts["settings"]["max_length"],
        dropped=rows["dropped"],
        base=facts["base"],
        facts=json.dumps(dict(facts), indent=1, ensure_ascii=False),
    )


def _a(role: str) -> str:
    return f"an {role}" if role[0] in "aeiou" else f"a {role}"


def curve(history: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Writes `loss.csv` (step, epoch, loss, valid_loss, learning_rate) and `loss.png`."""
    from matplotlib.figure import Figure

    told = [entry for entry in history if "loss" in entry or "eval_loss" in entry]
    with (folder / "loss.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["step", "epoch", "loss", "valid_loss", "learning_rate"])
        for entry in told:
            columns = ("step", "epoch", "loss", "eval_loss", "learning_rate")
            table.writerow([entry.get(column, "") for column in columns])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, label, mark in (("loss", "training rows", ""), ("eval_loss", "held-out rows", "o")):
        points = [(entry["step"], entry[name]) for entry in told if name in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker=mark)
    axes.set(xlabel="step", ylabel="loss on answer tokens (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / "loss.png", dpi=120)
