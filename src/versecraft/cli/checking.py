"""The command that looks at poems: what they are, their form, their worn phrases."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import FAILED_ROWS, JsonOption, app, say, show

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..kinds import KindReport
    from ..phrases import PhraseHit
    from ..prosody import FormReport, Meter

_FRONT_MATTER = re.compile(r"\A---\n(?:[\w-]+:.*\n)*---\n")


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="A poem each; - is stdin.")],
    form: Annotated[
        str | None,
        typer.Option(help="The form that is asked.", show_default="what form it has is found out"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check poems: are they poems alone, what form do they keep, where are they worn.

    Shows each line with its syllables and rhyme letter, the clauses of the form, the metre where
    it is sure, and phrases from the lists of clichés and of machine verse. Lines are counted
    without blank ones, as in a critique.

    Exit code 3 when a text is not a poem alone, or breaks the form asked with --form; 1 when that
    form could not be measured.

    Example: versecraft check draft.txt --form villanelle
    """
    texts = {str(file): _text(file) for file in files}
    findings = [_look(name, text, form) for name, text in texts.items()]
    if as_json:
        show([finding.facts() for finding in findings], True)
    else:
        for finding in findings:
            show(finding)
    if any(not f.kind.clean or (form and f.form and f.form.broken) for f in findings):
        raise typer.Exit(FAILED_ROWS)
    if form and not all(f.form for f in findings):
        raise typer.Exit(1)


def _text(file: Path) -> str:
    from ..errors import BadInput
    from ..formats import decode

    if str(file) == "-":
        data = sys.stdin.buffer.read()
    elif file.is_file():
        data = file.read_bytes()
    else:
        raise BadInput(f"There is no file {file}. Give the path of a poem, or - to read stdin.")
    text = decode(data)
    if text is None:
        raise BadInput(f"{file} is no text. Give a file that holds a poem.")
    return _FRONT_MATTER.sub("", text.replace("\r\n", "\n").removeprefix("\ufeff")).strip("\n")


@dataclass
class _Finding:
    """What was found on one poem; form, metre and sound are absent without the extra."""

    name: str
    text: str
    kind: KindReport
    cliches: tuple[PhraseHit, ...]
    slop: tuple[PhraseHit, ...]
    form: FormReport | None = None
    meter: Meter | None = None
    scheme: str = ""
    syllables: list[int] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.split("\n") if line.strip()]

    def facts(self) -> dict[str, Any]:
        """All of it as plain values."""
        from ..phrases import CLICHE_LIST, SLOP_LIST

        return {
            "file": self.name,
            "kind": self.kind.model_dump(mode="json", exclude={"text"}),
            "form": self.form and self.form.model_dump(mode="json"),
            "scheme": self.scheme,
            "syllables": self.syllables,
            "meter": self.meter and self.meter._asdict(),
            "cliches": [hit.model_dump(mode="json") for hit in self.cliches],
            "slop": [hit.model_dump(mode="json") for hit in self.slop],
            "lists": [CLICHE_LIST, SLOP_LIST],
        }

    def _notes(self) -> Iterator[tuple[int, str, str]]:
        """Line, remark and style, in no order."""
        above = [n for n, line in enumerate(self.text.split("\n"), start=1) if line.strip()]
        for line in self.kind.lines:
            if line.number in above:
                yield above.index(line.number) + 1, f"not poem ({line.rule})", "bold red"
        for hit in self.cliches:
            yield hit.line, f"cliché: {hit.text}", "yellow"
        for hit in self.slop:
            yield hit.line, f"machine verse: {hit.text}", "yellow"
        for clause in self.form.clauses if self.form else ():
            said = {"scheme": "rhyme", "end words": "end word"}.get(clause.name, clause.name)
            for number in clause.lines:
                yield number, f"{said} amiss" if clause.asked != "unrhymed" else "rhymes", "cyan"

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        notes: dict[int, list[tuple[str, str]]] = {}
        for number, said, style in self._notes():
            notes.setdefault(number, []).append((said, style))
        letters = self.scheme.replace(" ", "")
        table = Table(box=None, pad_edge=False)
        for name in ("line", "", "syll.", "rhyme", ""):
            table.add_column(name, justify="right" if name in ("line", "syll.") else "left")
        for n, line in enumerate(self.lines, start=1):
            remarks = notes.get(n, [])
            style = "bold red" if any(s == "bold red" for _, s in remarks) else ""
            table.add_row(
                str(n),
                Text(line, style=style),
                str(self.syllables[n - 1]) if self.syllables else "",
                letters[n - 1 : n],
                Text("; ").join(Text(text, style=colour) for text, colour in remarks),
            )
        return Group(Text(self.name, style="bold", overflow="fold"), table, *self._summary())

    def _summary(self) -> Iterator[RenderableType]:
        from ..clauses import described

        yield ""
        if self.kind.clean:
            yield "A poem and nothing but a poem."
        else:
            count = len(self.kind.lines)
            what = f"{count} line{'s' * (count != 1)} not poem" if self.lines else "it is empty"
            yield f"Not a poem alone: {what}."
        if self.scheme:
            yield f"Scheme: {self.scheme if len(self.scheme) < 200 else self.scheme[:200] + ' …'}"
            yield f"Metre: {described(self.meter) if self.meter else 'none that is sure'}"
        worn = f"Clichés: {len(self.cliches)}. Machine verse: {len(self.slop)}."
        yield worn
        if self.form and self.form.clauses:
            yield self.form
        elif self.form:
            yield f"Form: {self.form.form.replace('-', ' ')}, which promises nothing to count."
        elif self.scheme:
            yield "Form: none of those that are known."
        yield ""


def _look(name: str, text: str, form: str | None) -> _Finding:
    from .. import kinds, phrases, prosody
    from ..errors import MissingExtra

    finding = _Finding(name, text, kinds.classify(text), phrases.cliches(text), phrases.slop(text))
    try:
        if found := form or prosody.detect_form(text):
            finding.form = prosody.check(text, found)  # type: ignore[arg-type]
        finding.meter = prosody.meter(text)
        finding.scheme = prosody.scheme(text)
        finding.syllables = [prosody.syllables(line) for line in finding.lines]
    except MissingExtra as missing:
        say(f"{missing}")
    return finding
