"""The review page: a person reads the answers one by one, accepts, rejects and edits them."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from .answers import Answer
from .decisions import Decision, Verdict, answer_digest, read_decisions, write_decision
from .errors import BadInput, MissingExtra, UnknownName, VersecraftError
from .plugins import get_task
from .project import Project, steps
from .quoting import places
from .records import Item, Poem, Record, Row
from .runs import as_said, read_run
from .tasks import Task

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Review", "review_app", "serve"]

_HOST = re.compile(r"(?:127\.0\.0\.1|localhost)(?::\d+)?")
_PAGE = Path(str(resources.files("versecraft"))) / "data" / "review"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Entry:
    """An answer to read: the ledger's row with the item and the task it answers."""

    phase: str
    task: Task[Any, Any]
    item: Item
    row: Row

    @property
    def quality(self) -> str | None:
        """Of its poems, "bad" when one of them is; None when it has none."""
        qualities = {poem.quality for poem in self.item.poems}
        return "bad" if "bad" in qualities else "good" if qualities else None


class Review:
    """What is to be read in a project, and what was decided on it.

    Args:
        project: Whose answers.
        name: A task or a phase, to read the answers of that one alone.
        blind: Nothing that is told says whether a poem is good or bad, whose it is, what it is
            called, or who answered; the order of rows does not either.

    Raises:
        UnknownName: There is no task and no phase of that name.
        BadInput: There are no answers yet.
    """

    def __init__(self, project: Project, name: str | None = None, *, blind: bool = False) -> None:
        self.blind = blind
        self._file = project.workspace.decisions
        found = list(_entries(project, name))
        if not found:
            raise BadInput(
                f"There are no answers to {name or 'read'} yet. Make some with: versecraft "
                f"generate {name or 'seed'}"
            )
        if blind:  # else the bad poems come first
            found.sort(key=lambda entry: entry.row.key)
        self._entries = {entry.row.key: entry for entry in found}
        self._decisions = read_decisions(self._file)

    def __len__(self) -> int:
        return len(self._entries)

    def rows(self) -> list[dict[str, Any]]:
        """A line for each row, as the page's list needs it; decisions are read anew."""
        self._decisions = read_decisions(self._file)
        return [self.line(key) for key in self._entries]

    def line(self, key: str) -> dict[str, Any]:
        """What the list says of a row."""
        entry = self._entry(key)
        decision = self._decision(entry)
        line: dict[str, Any] = {
            "key": key,
            "task": entry.task.name,
            "label": _label(entry, self.blind),
            "decision": decision.decision if decision else "undecided",
        }
        if self.blind:
            return line
        each = " / ".join(poem.quality for poem in entry.item.poems)
        return {**line, "phase": entry.phase, "quality": entry.quality, "qualities": each}

    def row(self, key: str) -> dict[str, Any]:
        """All that the page shows of a row."""
        entry = self._entry(key)
        decision = self._decision(entry)
        output = (decision and decision.output) or entry.row.output or {}
        parts = list(_parts(entry.item, self.blind))
        return {
            **self.line(key),
            "bare": entry.task.output.bare,
            "schema": entry.task.output.model_json_schema(),
            "parts": parts,
            "output": output,
            "original": entry.row.output,
            "places": {path: place for path, place in places(output, parts)},
            "problems": self.problems(key, output),
            **({} if self.blind else {"model": entry.row.model}),
        }

    def problems(self, key: str, output: dict[str, Any]) -> list[dict[str, Any]]:
        """Why the task would refuse an output, by its `read` and `accept`; empty when it fits.

        Returns:
            For each problem `at`, the path of the field (empty: the answer as a whole), and
            `says`, the reason.
        """
        return self._checked(self._entry(key), output)[1]

    def decide(
        self, key: str, verdict: Verdict, output: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Writes a decision down, unless it is an edit that the task refuses.

        An edit that changes nothing accepts the answer.

        Returns:
            The problems of an edit, which is not saved then.

        Raises:
            BadInput: An edit without an output.
            LedgerError: It cannot be written.
        """
        entry = self._entry(key)
        if verdict == "edited":
            if output is None:
                raise BadInput("An edit has an output. Send the whole answer as it should be.")
            result, problems = self._checked(entry, output)
            if problems:
                return problems
            before = self._checked(entry, entry.row.output or {})[0]
            if before is not None and before.target() == result.target():
                verdict = "accepted"
            output = result.model_dump(mode="json")
        decision = Decision(
            key=key,
            answer=answer_digest(entry.row),
            decision=verdict,
            output=output if verdict == "edited" else None,
            when=time.time(),
        )
        write_decision(self._file, decision)
        self._decisions[key] = decision
        return []

    def _checked(self, entry: Entry, output: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
        try:
            result = entry.task.read(entry.item, as_said(entry.task, output))
        except ValidationError as error:
            return None, [{"at": e["loc"], "says": e["msg"]} for e in error.errors()]
        except KeyError as error:
            return None, [{"at": [], "says": f"{error} is missing"}]
        why = entry.task.accept(entry.item, result)
        return result, [{"at": [], "says": why}] if why else []

    def _entry(self, key: str) -> Entry:
        if key not in self._entries:
            raise UnknownName("row", key, [], "Load the page anew.")
        return self._entries[key]

    def _decision(self, entry: Entry) -> Decision | None:
        decision = self._decisions.get(entry.row.key)
        return decision if decision and decision.judges(entry.row) else None


def _entries(project: Project, name: str | None) -> Iterator[Entry]:
    for step in steps(name):
        ledger = project.workspace.ledger(step.phase, step.task)
        if ledger.is_file():
            task = get_task(step.task)
            run = read_run(task, project.items(step), ledger)
            for item, row in zip(run.items, run.rows, strict=True):
                yield Entry(step.phase, task, item, row)


def _label(entry: Entry, blind: bool) -> str:
    item, output = entry.item, entry.row.output or {}
    if entry.task.output.bare:
        return _first_line(output["text"])
    poems = [poem for poem in item.poems if not _is_hidden(item, poem)]
    if poems:
        return " / ".join((not blind and p.title) or _first_line(p.text) for p in poems)
    return _first_line(next((part["text"] for part in _parts(item, blind)), item.item_id))


def _is_hidden(item: Item, value: Any) -> bool:
    return any(getattr(item, name) is value for name in item.hidden)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.split("\n") if line.strip()), "")


def _parts(item: Item, blind: bool) -> Iterator[dict[str, Any]]:
    """The texts of an item, in the order of its fields."""
    for name in type(item).model_fields:
        value = getattr(item, name)
        label = name.replace("_", " ")
        if isinstance(value, Poem):
            label = f"poem {name.upper()}" if len(name) == 1 else label
            label = f"{label} the request was made from" if name in item.hidden else label
            about = {} if blind else value.model_dump(exclude={"text", "id", "file"})
            yield {
                "name": name,
                "label": label,
                "verse": True,
                "text": value.text,
                "about": {k: v for k, v in about.items() if v is not None},
            }
        elif isinstance(value, Answer):
            text = getattr(value, "text", value.target)
            said = text() if callable(text) else text
            yield {"name": name, "label": label, "verse": False, "text": said}
        elif isinstance(value, str):
            said = _untitled(value, item) if blind else value
            yield {"name": name, "label": label, "verse": False, "text": said}


def _untitled(text: str, item: Item) -> str:
    """A request without the title of the poem that it was made from."""
    for poem in item.poems:
        if poem.title:
            text = text.replace(f" called “{poem.title}”", "").replace(poem.title, "…")
    return text


# The server.


class _Wish(Record):
    """What the page asks for: to try an output, or to decide."""

    decision: Verdict = "edited"
    output: dict[str, Any] | None = None


def review_app(review: Review, token: str) -> ASGIApp:
    """The page as an ASGI application, all of it below `/<token>/`.

    Raises:
        MissingExtra: What serves it is not installed.
    """
    try:
        import uvicorn  # noqa: F401 - asked for now, before an address is printed
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import JSONResponse
        from starlette.routing import Mount, Route
        from starlette.staticfiles import StaticFiles
    except ImportError as error:
        raise MissingExtra("The review page", "review") from error

    async def rows(_: Request) -> JSONResponse:
        return JSONResponse({"blind": review.blind, "rows": review.rows()})

    async def row(request: Request) -> JSONResponse:
        return JSONResponse(review.row(request.path_params["key"]))

    async def check(request: Request) -> JSONResponse:
        wish = _Wish.model_validate_json(await request.body())
        problems = review.problems(request.path_params["key"], wish.output or {})
        return JSONResponse({"problems": problems})

    async def decide(request: Request) -> JSONResponse:
        key = request.path_params["key"]
        wish = _Wish.model_validate_json(await request.body())
        if problems := review.decide(key, wish.decision, wish.output):
            return JSONResponse({"problems": problems}, status_code=422)
        return JSONResponse(review.line(key))

    async def refused(_: Request, error: Exception) -> JSONResponse:
        status = 404 if isinstance(error, UnknownName) else 400
        return JSONResponse({"says": str(error)}, status_code=status)

    app = Starlette(
        routes=[
            Route("/rows", rows),
            Route("/rows/{key}", row),
            Route("/rows/{key}/check", check, methods=["POST"]),
            Route("/rows/{key}/decision", decide, methods=["POST"]),
            Mount("/", StaticFiles(directory=_PAGE, html=True)),
        ],
        exception_handlers={VersecraftError: refused, ValidationError: refused},
    )
    return _Guard(app, token)


@dataclass(frozen=True)
class _Guard:
    """Lets in whoever knows the token and names this machine, and tells browsers to be strict.

    The name in the Host header is checked, so that a page elsewhere whose name was made to lead
    to this machine (DNS rebinding) gets nothing.
    """

    app: ASGIApp
    token: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.datastructures import Headers, MutableHeaders
        from starlette.responses import PlainTextResponse

        async def send_strictly(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        here = _HOST.fullmatch(Headers(scope=scope).get("host", ""))
        first = scope["path"].lstrip("/").partition("/")[0]
        if here and secrets.compare_digest(first.encode(), self.token.encode()):
            await self.app({**scope, "root_path": f"/{self.token}"}, receive, send_strictly)
        else:
            said = PlainTextResponse("Open the address that versecraft review printed.", 403)
            await said(scope, receive, send_strictly)


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Serves an application on a socket that listens, until Ctrl-C."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", ws="none")
    uvicorn.Server(config).run(sockets=[listening])


def listen(port: int = 0) -> socket.socket:
    """A socket that listens on this machine alone; port 0 takes a free one.

    Raises:
        BadInput: The port cannot be had.
    """
    import socket

    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise BadInput(
            f"Port {port} cannot be had: {error.strerror}. Give another one, or none with --port 0."
        ) from error
    return listening
