"""Prompts: one turn per task for teacher, training row and inference; a guide; a persona."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .answers import FAILURE_TYPES
from .errors import BadInput, TaskError, UnknownName
from .forms import CONTRACTS
from .kinds import CHAT_TOKEN

__all__ = ["Prompt"]

_TAG = re.compile(
    r"<(\s*/?\s*(?:poem(?:_[ab])?|brief|critique|draft|request|question)\s*)>", re.IGNORECASE
)
_HARMLESS = str.maketrans("<>[]", "‹›［］")


def _defuse(value: Any) -> Any:
    """Makes a value that goes into a turn unable to close its tag or open a chat turn."""
    if not isinstance(value, str):
        return value
    value = CHAT_TOKEN.sub(lambda token: token[0].translate(_HARMLESS), value)
    return _TAG.sub(r"‹\1›", value)


def _numbered(text: str) -> str:
    """Verse with its lines numbered from 1; blank lines stay blank, indentation stays."""
    out, n = [], 0
    for line in text.split("\n"):
        n += bool(line.strip())
        out.append(f"{n:>3}  {line}" if line.strip() else "")
    return "\n".join(out)


_ENV = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined,
    finalize=_defuse,
    autoescape=False,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=False,
)
_ENV.filters["numbered"] = _numbered
# A guide is rendered once per task, from these alone: the same bytes for every request.
_GUIDE_GLOBALS: Mapping[str, Any] = {"failure_types": FAILURE_TYPES, "contracts": CONTRACTS}


@dataclass(frozen=True)
class Prompt:
    """What a model is told.

    Attributes:
        turn: Jinja source of the user message. Its variables are the fields of the task's input
            model. The same bytes serve generation, training and inference.
        guide: Jinja source of the teacher's system prompt: rubric, rules, exemplars. It may use
            `failure_types` and `contracts` (of the forms) and nothing else.
        persona: Whose system prompt the trained model has: "educator" or "poet".
    """

    turn: str
    guide: str | None = None
    persona: str = "educator"

    @classmethod
    def load(cls, name: str, package: str | None = None, persona: str = "educator") -> Prompt:
        """The prompt in the files `<name>.turn.j2` and, if there is one, `<name>.guide.j2`.

        Args:
            name: File name without its endings.
            package: Package whose `prompts/` folder holds the files; versecraft's own if None.
            persona: "educator" or "poet".

        Raises:
            BadInput: There is no turn of that name.
        """
        folder = prompts_folder(package)
        turn = folder / f"{name}.turn.j2"
        guide = folder / f"{name}.guide.j2"
        if not turn.is_file():
            raise BadInput(f"No prompt file {name}.turn.j2 in {folder}. Add it, or fix the name.")
        return cls(
            turn=turn.read_text(encoding="utf-8"),
            guide=guide.read_text(encoding="utf-8") if guide.is_file() else None,
            persona=persona,
        )

    def render_turn(self, variables: Mapping[str, Any]) -> str:
        """The user message for one item."""
        return _compiled(self.turn).render(variables).strip("\n")

    def render_guide(self) -> str:
        """The teacher's system prompt; the persona where there is no guide."""
        if self.guide is None:
            return self.render_persona()
        return _compiled(self.guide).render(_GUIDE_GLOBALS).strip()

    def render_persona(self) -> str:
        """The system prompt of the model that is trained."""
        file = prompts_folder() / f"{self.persona}.system.j2"
        if not file.is_file():
            raise UnknownName("persona", self.persona, ["educator", "poet"])
        return file.read_text(encoding="utf-8").strip()

    def check(self, fields: Iterable[str], owner: str) -> None:
        """Compares the templates with the fields of an input model.

        Raises:
            TaskError: A template is broken, or a variable is undefined or unused.
        """
        fields = set(fields)
        for part, source, known in (
            ("turn", self.turn, fields),
            ("guide", self.guide or "", set(_GUIDE_GLOBALS)),
        ):
            try:
                used = meta.find_undeclared_variables(_ENV.parse(source))
            except TemplateError as error:
                raise TaskError(f"Task {owner!r}: its {part} does not parse: {error}.") from error
            if used - known:
                raise TaskError(
                    f"Task {owner!r}: its {part} uses {sorted(used - known)}, which its input does "
                    f"not have. Use one of {sorted(known)}, or add the field to the input model."
                )
            if part == "turn" and known - used:
                raise TaskError(
                    f"Task {owner!r}: its turn never uses {sorted(known - used)}. Use the field in "
                    "the turn, or drop it from the input model."
                )


@cache
def _compiled(source: str) -> Template:
    return _ENV.from_string(source)


@cache
def prompts_folder(package: str | None = None) -> Path:
    """Where a package keeps its prompts: inside it, or beside `src` in a checkout of ours."""
    inside = Path(str(resources.files(package or "versecraft"))) / "prompts"
    return inside if inside.is_dir() or package else Path(__file__).parents[2] / "prompts"
