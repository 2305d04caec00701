"""Kind: a model is asked what a text is and which places in it are not poem."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..answers import Answer, Loc, placed
from ..kinds import Kind, KindReport, LineReport
from ..prompting import Prompt
from ..records import PoemItem
from ..revisions import lines_of
from . import PromptTask, missing_quote


class KindAnswer(Answer):
    """What a text is, and the places in it that are something else."""

    kind: Literal[
        "poem", "critique", "comparison", "autopsy", "brief", "revision_brief", "lesson", "mixture",
        "other",
    ]  # fmt: skip
    foreign: Annotated[tuple[Loc, ...], Field(max_length=12)]

    def report(self, text: str) -> KindReport:
        """The answer as a report about the text, with the layer `judge`."""
        whole = text.split("\n")
        # A place counts the lines that are not blank, a report counts all.
        shown = [n for n, line in enumerate(whole, start=1) if line.strip()]
        numbers = {shown[n - 1] for loc in self.foreign for n in lines_of(loc.quote, text)}
        if self.kind not in ("poem", "mixture"):
            numbers = set(shown)
        lines = tuple(
            LineReport(number=n, text=whole[n - 1], layer="judge", rule=self.kind, confidence=1.0)
            for n in sorted(numbers)
        )
        known = self.kind not in ("mixture", "other")
        return KindReport(
            kind=Kind(self.kind) if known else None,
            clean=self.kind == "poem" and not lines,
            lines=lines,
            confidence=1.0,
            text=text,
        )


def _check(item: PoemItem, result: KindAnswer) -> str | None:
    if result.kind == "poem" and result.foreign:
        return "a poem with foreign places is a mixture; say mixture, or leave foreign empty"
    if result.kind == "mixture" and not result.foreign:
        return "a mixture has foreign places; quote them"
    return missing_quote(result.foreign, item.poem.text)


kind = PromptTask(
    name="kind",
    kind=Kind.CRITIQUE,
    prompt=Prompt.load("kind"),
    input=PoemItem,
    output=KindAnswer,
    check=_check,
    finish=lambda item, result: placed(result, item.poem.text),
    typical_tokens=120,
)
"""The third layer of the kind detector: in no phase, and nothing is trained on its answers."""
