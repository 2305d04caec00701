"""From a mixture to a data set that leaks nothing: role firewall, token caps, split by poem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from .errors import BadInput, MissingExtra, UnknownName
from .firewall import LEAKS, foreign, long_brief, untrue_brief
from .grouping import cell_of, grouped, held_out, poem_texts
from .plugins import get_task
from .records import Dropped, Example, Quality, Role, digest
from .training_data import (
    SHARE_TOLERANCE,
    Mixture,
    Split,
    archaic,
    counted,
    seeded,
)

__all__ = ["build_dataset"]

Tokenizer = Callable[[str], int] | Path | str | None

_PER_MESSAGE = 8  # tokens of a chat template around one message, at most


def build_dataset(
    mixture: Mixture,
    *,
    role: Role,
    valid: float = 0.1,
    seed: int = 7,
    tokenizer: Tokenizer = None,
    max_tokens: int = 2048,
    brief_tokens: int = 300,
    cost: float | None = None,
) -> Split:
    """A leak-free data set for one role.

    A row that is not what its role may write, or that is too long, is left out with its reason;
    nothing is repaired and nothing is cut. Rows that share a poem, near copies of one (half of
    their three-word runs in common), a request or a brief stay on one side.

    Args:
        mixture: What a `Balancer` made; rows of the other role are passed over.
        role: Whose data set it is.
        valid: Share of rows to hold out, from 0 to below 1; met as nearly as the groups allow,
            with each task and quality on both sides where they allow it.
        seed: Decides which groups are held out and the order of rows; the order of the input
            does not.
        tokenizer: Of the model to be trained: a function from text to its number of tokens, a
            `tokenizer.json`, or a folder that holds one. None counts characters / 4.
        max_tokens: Most tokens of a whole row.
        brief_tokens: Most tokens of a brief as the poet reads it; a revision brief may have 100
            more.
        cost: Dollars paid for the answers, for the data card.

    Raises:
        BadInput: No row of the role is left, or the tokenizer or a setting cannot be used.
        MissingExtra: A tokenizer file needs the library `tokenizers`.
    """
    if not 0 <= valid < 1:
        raise BadInput(f"valid is {valid}; give a share from 0 to below 1, such as 0.1.")
    count, counter = _counter(tokenizer)
    rows = seeded((e for e in mixture.kept if e.role == role), seed)
    kept: list[Example] = []
    lengths: list[int] = []
    refused: list[Dropped] = []
    for row in rows:
        tokens = sum(count(m.content) + _PER_MESSAGE for m in row.messages)
        why = foreign(row)
        if not why and tokens > max_tokens:
            why = "too_long", f"{tokens:,} tokens, {max_tokens:,} allowed"
        if not why and role == "poet":
            why = long_brief(row, count, brief_tokens) or untrue_brief(row)
        if why:
            detail = f"{row.task}: {why[1]}"
            refused.append(Dropped(file="", item=row.item_id, reason=why[0], detail=detail))
        else:
            kept.append(row)
            lengths.append(tokens)
    if not kept:
        raise BadInput(
            f"None of {len(rows):,} rows for the {role} can be used"
            + (f"; the first is refused as {refused[0].reason}" if refused else "")
            + f". Generate answers to tasks of the {role} first."
        )
    texts = poem_texts(kept)
    groups = grouped(kept, texts, seed)
    held = held_out(kept, groups, valid)
    sides = {
        "train": _led([row for n, row in enumerate(kept) if n not in held]),
        "valid": _led([kept[n] for n in sorted(held)]),
    }
    dropped = (*mixture.dropped, *refused)
    card = {
        "role": role,
        "rows": {name: len(side) for name, side in sides.items()}
        | {"dropped": len(dropped), "other_role": len(mixture.kept) - len(rows)},
        "kind_purity": 1 - sum(d.reason in LEAKS for d in refused) / len(rows),
        "groups": len(groups),
        "cost": cost,
        "seeds": {"balance": mixture.seed, "split": seed},
        "tokens": {
            "by": counter,
            "cap": max_tokens,
            "brief_cap": brief_tokens if role == "poet" else None,
            "median": round(median(lengths)),
            "longest": max(lengths),
        },
        "dropped": counted(d.reason for d in dropped),
        "mixture": mixture.report(),
        "versecraft": version("versecraft"),
        "notes": [
            *mixture.notes,
            *(_strayed(kept, mixture) if role == "educator" else ()),
            *_notes(kept, texts, bool(valid and not held)),
        ],
        **_provenance(kept),
        **_counts(sides, mixture.bad_share if role == "educator" else None),
    }
    return Split(
        role=role,
        train=tuple(sides["train"]),
        valid=tuple(sides["valid"]),
        dropped=dropped,
        groups=len(groups),
        card=card,
    )


def _led(rows: list[Example]) -> list[Example]:
    """The rows, a row with a poem first: readers take the schema from the first rows."""
    lead = next((n for n, row in enumerate(rows) if row.poem_ids and row.quality), 0)
    return [*rows[lead : lead + 1], *rows[:lead], *rows[lead + 1 :]]


def _counter(tokenizer: Tokenizer) -> tuple[Callable[[str], int], str]:
    """A function from text to its number of tokens, and what it goes by."""
    if tokenizer is None:
        return lambda text: -(-len(text) // 4), "approximation (characters / 4)"
    if callable(tokenizer):
        return tokenizer, getattr(tokenizer, "__name__", type(tokenizer).__name__)
    path = Path(tokenizer)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise BadInput(f"There is no tokenizer at {file}. Name a tokenizer.json or its folder.")
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtra("Counting with a tokenizer file", "embed") from error
    try:
        model = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise BadInput(f"{file} is not a tokenizer: {error}. Name a tokenizer.json.") from error
    model.no_truncation()
    model.no_padding()
    name = f"{file.parent.name}/{file.name}, {digest(file.read_text(encoding='utf-8'))}"
    return lambda text: len(model.encode(text, add_special_tokens=False).ids), name


# The facts of the data card.


def _counts(sides: Mapping[str, Sequence[Example]], asked: float | None) -> dict[str, Any]:
    counts = {name: Counter(map(cell_of, rows)) for name, rows in sides.items()}
    shares = {name: _bad_share(rows) for name, rows in sides.items()}
    return {
        "counts": [
            {"task": task, "quality": quality}
            | {name: counts[name][task, quality] for name in sides}
            for task, quality in sorted(set().union(*counts.values()))
        ],
        "bad_share": {"asked": asked} | (dict.fromkeys(sides) if asked is None else shares),
    }


def _provenance(rows: Sequence[Example]) -> dict[str, Any]:
    personas = Counter(row.messages[0].content for row in rows if row.messages[0].role == "system")
    prompts: dict[str, list[str | None]] = {}
    for name in sorted({row.task for row in rows}):
        try:
            prompt = get_task(name).prompt
        except UnknownName:
            continue
        prompts[name] = [digest(prompt.turn), digest(prompt.guide) if prompt.guide else None]
    return {
        "poems": counted(_qualities(rows).values()),
        "models": counted(row.meta.get("model") for row in rows),
        "licences": counted(row.meta.get("licence") for row in rows),
        "personas": {digest(text): n for text, n in personas.most_common()},
        "prompts": prompts,
    }


def _qualities(rows: Iterable[Example]) -> dict[str, Quality]:
    """What the rows of one poem say of it."""
    return {r.poem_ids[0]: r.quality for r in rows if len(r.poem_ids) == 1 and r.quality}


def _strayed(rows: Sequence[Example], mixture: Mixture) -> Iterator[str]:
    """What the rows that were refused have done to the mix."""
    before, after = (
        _bad_share(r for r in of if r.role == "educator") for of in (mixture.kept, rows)
    )
    if before is not None and after is not None and abs(after - before) > SHARE_TOLERANCE:
        yield (
            f"The rows refused here have moved the share from bad poems from {before:.1%} to "
            f"{after:.1%}. Balance again without them."
        )
    tasks: dict[str, set[str]] = {poem: set() for poem in mixture.bad_poems}
    for row in rows:
        for poem in tasks.keys() & row.poem_ids:
            tasks[poem].add(row.task)
    thin = sum(len(has) < mixture.min_tasks for has in tasks.values())
    if thin:
        yield (
            f"{thin:,} bad poems are in fewer than {mixture.min_tasks} tasks, since rows were "
            "refused here. Generate those answers again."
        )


def _bad_share(rows: Iterable[Example]) -> float | None:
    bad = [row.quality == "bad" for row in rows]
    return sum(bad) / len(bad) if bad else None


def _notes(rows: Sequence[Example], texts: Mapping[str, str], stuck: bool) -> Iterator[str]:
    if stuck:
        yield (
            "Nothing is held out: all rows hang together through the poems they share. Match each "
            "bad poem with partners of its own."
        )
    old: dict[str, list[bool]] = {"good": [], "bad": []}
    for poem, quality in _qualities(rows).items():
        if poem in texts:
            old[quality].append(bool(archaic(texts[poem])))
    if min(map(len, old.values())) >= 20:
        good, bad = (sum(found) / len(found) for found in old.values())
        guess = 0.5 + abs(good - bad) / 2
        if guess > 0.65:  # so good a guess from the period would drown what quality adds
            yield (
                f"Old words (thee, hath, o'er) alone tell good poems from bad in {guess:.0%} of "
                "cases, both sides weighing the same: a critic may learn the period in place of "
                "the quality. Add modern good poems, or match on period."
            )
