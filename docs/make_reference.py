"""Writes docs/reference.md from the code: public names, commands, tasks, backends, errors, hooks.

    python docs/make_reference.py

tests/test_docs.py fails when the page is not what this makes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

from typer.main import get_command
from typer.testing import CliRunner

import versecraft
from versecraft import cli, errors, hookspecs, list_backends, list_tasks, testing

PAGE = Path(__file__).with_name("reference.md")
OWN = "versecraft."

INTRO = """\
# Reference

<!-- Written by docs/make_reference.py from the code. Do not edit this page: change the code's own
words, then run the script. -->

Every public name, command, task, backend, error and hook, in the code's own words. The full
docstrings, with arguments, units and errors, are a `help(versecraft.generate)` away; the
[guides](index.md) explain how the parts work together."""


def reference() -> str:
    """The whole page."""
    parts = (names(), commands(), tasks(), backends(), error_classes(), hooks())
    return "\n".join([INTRO, *(line for part in parts for line in part), ""])


def names() -> Iterator[str]:
    """The names of the front door and of `versecraft.testing`."""
    yield from heading("Names")
    yield "`import versecraft as vc`. Importing loads no model library."
    public = {name: getattr(versecraft, name) for name in sorted(versecraft.__all__)}
    functions = {n: v for n, v in public.items() if inspect.isfunction(v)}
    yield from heading("Functions", 3)
    yield from (entry(name, value) for name, value in functions.items())
    yield from heading("Records, values and protocols", 3)
    yield from (entry(name, value) for name, value in public.items() if name not in functions)
    yield from heading("versecraft.testing", 3)
    yield from (entry(name, getattr(testing, name)) for name in sorted(testing.__all__))


def commands() -> Iterator[str]:
    """Each command with its help text."""
    yield from heading("Commands")
    yield "Exit codes: 0 done; 1 an error, whose message says what to do; 2 wrong usage; 3 ended"
    yield "with items that have no answer; 130 stopped by Ctrl-C."
    for name in get_command(cli.app).commands:  # type: ignore[attr-defined]
        yield from heading(f"versecraft {name}", 3)
        said = CliRunner().invoke(
            cli.app, [name, "--help"], prog_name="versecraft", env={"COLUMNS": "88"}
        )
        yield "```text"
        yield re.sub(r"[ \t]+\n", "\n", said.output).strip()
        yield "```"


def tasks() -> Iterator[str]:
    """The built-in tasks with what they eat and make."""
    yield from heading("Tasks")
    yield "| task | role | asks | works on | answers with |"
    yield "| --- | --- | --- | --- | --- |"
    for task in list_tasks():
        if task.output.__module__.startswith(OWN):
            works = f"`{task.input.__name__}`: {fields(task.input)}"
            gives = "bare text" if task.output.bare else fields(task.output)
            yield f"| `{task.name}` | {task.role} | {task.backend} | {works} | {gives} |"
    yield ""
    yield "Fields with a question mark may be left out. What code computes (`line`, `approved`) is"
    yield "never asked of a model."


def backends() -> Iterator[str]:
    """The built-in backends by scheme."""
    yield from heading("Backends")
    for scheme, make in list_backends().items():
        if make.__module__.startswith(OWN):
            yield f"* `{scheme}:` {first_line(make)}".rstrip()


def error_classes() -> Iterator[str]:
    """The error classes, and the kinds of error that a row can have."""
    yield from heading("Errors")
    yield "All are in `versecraft.errors`. Each message ends with what to do next."
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, errors.VersecraftError):
            yield from heading(name, 3)
            yield first_line(value)
    kinds = ", ".join(f"`{kind}`" for kind in get_args(errors.ErrorKind))
    yield ""
    yield f"A row without an answer has an error of one of these kinds: {kinds}. What each means:"
    yield "[Generate](guides/generate.md#why-an-item-has-no-answer)."


def hooks() -> Iterator[str]:
    """The hooks of plugins."""
    yield from heading("Hooks")
    yield "Functions of a plugin, marked `@versecraft.hookimpl`; see [Write a plugin](plugins.md)."
    for name, value in vars(hookspecs).items():
        if name.startswith("versecraft_"):
            yield from heading(name, 3)
            yield f"`{name}{signature(value)}`"
            yield ""
            yield " ".join((inspect.getdoc(value) or "").split())


def heading(text: str, level: int = 2) -> Iterable[str]:
    """A heading between blank lines."""
    return "", f"{'#' * level} {text}", ""


def entry(name: str, value: Any) -> str:
    """A list entry: what it is in one line, and what it takes or has."""
    if inspect.isfunction(value):
        return f"* `{name}{signature(value)}`\n  {first_line(value)}"
    has = ", ".join(f"`{member}`" for member in members(value))
    return f"* `{name}`: {first_line(value)}" + (f"\n  Has {has}." if has else "")


def members(value: Any) -> list[str]:
    """Fields, properties and methods of a class of ours, in the order of its source."""
    if not inspect.isclass(value) or not value.__module__.startswith(OWN):
        return []
    if "StrEnum" in str(value.__bases__):
        return [member.value for member in value]
    found = list(getattr(value, "model_fields", None) or inspect.get_annotations(value))
    found += [
        f"{name}()" if inspect.isroutine(getattr(value, name)) else name
        for name, made in vars(value).items()
        if isinstance(made, property | classmethod | staticmethod) or inspect.isfunction(made)
    ]
    hidden = {"model_config"}
    return [name for name in dict.fromkeys(found) if name[0] != "_" and name not in hidden]


def fields(model: Any) -> str:
    """The fields of a record that a model is asked for; optional ones with a question mark."""
    return ", ".join(
        name if field.is_required() else f"{name}?"
        for name, field in model.model_fields.items()
        if name not in getattr(model, "computed", ())
    )


def signature(function: Any) -> str:
    """A function's signature as it stands in the source."""
    shown, starred = [], False
    found = inspect.signature(function)
    for name, what in found.parameters.items():
        if what.kind is what.KEYWORD_ONLY and not starred:
            shown.append("*")
            starred = True
        stars = "**" if what.kind is what.VAR_KEYWORD else ""
        default = "" if what.default is what.empty else f" = {what.default!r}"
        shown.append(f"{stars}{name}: {what.annotation}{default}")
    return f"({', '.join(shown)}) -> {found.return_annotation}"


def first_line(value: Any) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
