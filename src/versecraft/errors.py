"""What can go wrong, as one small tree.

    VersecraftError
    ├── BadInput        a file, record or setting that cannot be used
    ├── UnknownName     no task, backend, trainer or setting has this name
    ├── PluginError     a plugin is broken, or two plugins claim one name
    ├── TaskError       a task whose prompt and input model disagree
    ├── BackendError    a model did not answer; carries what a retry needs to know
    ├── LedgerError     a ledger that is in use or cannot be written
    ├── CoverageError   the mixture asked for cannot be built from what there is
    ├── WorkshopError   a session that cannot go on; carries what there is of it
    └── MissingExtra    an optional dependency is not installed

Each message ends with what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .records import Usage

ErrorKind = Literal[
    "invalid", "rejected", "refusal", "truncated", "timeout", "http", "budget", "cancelled"
]
"""Why a request has no answer: schema or bounds, the task's own check, the model declined, cut
at the token limit, past its deadline, the server or the connection, the budget, or stopped."""


class VersecraftError(Exception):
    """Root of every error that versecraft raises on purpose."""


class BadInput(VersecraftError):
    """A file, record or setting that cannot be used as it stands."""


class UnknownName(VersecraftError):
    """No task, backend, trainer or setting has this name."""

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(set(known))
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        guess = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(
            f"No {what} named {name!r}.{guess} Known: {', '.join(names) or 'none'}."
            + (f" {hint}" if hint else "")
        )
        self.name = name


class PluginError(VersecraftError):
    """A plugin that is broken, or two plugins that claim one name."""


class TaskError(VersecraftError):
    """A task whose prompt and input model do not fit one another."""


class LedgerError(VersecraftError):
    """A ledger that another process holds, or that cannot be written."""


class CoverageError(VersecraftError):
    """The mixture that was asked for cannot be built from the examples at hand."""


class WorkshopError(VersecraftError):
    """A session that cannot go on, because a model gave no answer of use.

    Attributes:
        session: The `Session` so far; it is on disk too.
    """

    def __init__(self, message: str, session: Any) -> None:
        super().__init__(message)
        self.session = session


class MissingExtra(VersecraftError):
    """An optional dependency is not installed."""

    def __init__(self, job: str, extra: str) -> None:
        super().__init__(
            f"{job} needs the extra {extra!r}. Install it with: pip install 'versecraft[{extra}]'"
        )


class BackendError(VersecraftError):
    """A request without an answer.

    Attributes:
        kind: One of `ErrorKind`.
        retryable: Whether the same request may succeed later.
        retry_after: Seconds the server asked to wait, if it did.
        overloaded: The server asks every caller to slow down (429, 503, 529).
        fatal: No further request can succeed (wrong key, spend cap): the run stops.
        lost: The request went out and no answer came back, so it may have been paid for.
        usage: Tokens that were paid for although there is no answer.
        model: The model that the server named, if it did.
        request_id: The server's id of the request, if it gave one.
        stop_reason: Why the model stopped, if it said.
        text: What the model said before it was cut.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind = "http",
        retryable: bool = False,
        retry_after: float | None = None,
        overloaded: bool = False,
        fatal: bool = False,
        lost: bool = False,
        usage: Usage | None = None,
        model: str | None = None,
        request_id: str | None = None,
        stop_reason: str | None = None,
        text: str = "",
    ) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.retryable = retryable
        self.retry_after = retry_after
        self.overloaded = overloaded
        self.fatal = fatal
        self.lost = lost
        self.usage = usage
        self.model = model
        self.request_id = request_id
        self.stop_reason = stop_reason
        self.text = text
