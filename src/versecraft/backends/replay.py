"""A backend that plays the answers recorded in a ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import BackendError, BadInput
from ..hookspecs import hookimpl
from ..ledger import read_rows
from . import Backend, Reply, Request


class Replay:
    """Answers by task and item id, whatever the prompt: the last answered row counts.

    Args:
        path: A ledger, such as one of an earlier run.
        concurrency: Requests in flight at once.
        timeout: Seconds for one attempt.

    Raises:
        BadInput: There is no such ledger, or no answer in it.
    """

    price = None

    def __init__(self, path: str, *, concurrency: int = 64, timeout: float = 300.0) -> None:
        file = Path(path)
        if not file.is_file():
            raise BadInput(f"There is no ledger {path!r} to replay. Check the path.")
        self.id = f"replay:{file.name}"
        self.concurrency = concurrency
        self.timeout = timeout
        self._rows = {(r.task, r.item_id): r for r in read_rows(file)[0] if r.output is not None}
        if not self._rows:
            raise BadInput(f"The ledger {path!r} holds no answer. Give one that a run has filled.")

    async def complete(self, request: Request) -> Reply:
        """The recorded answer, with the model that wrote it."""
        task, item_id = request.meta.get("task", ""), request.meta.get("item_id", "")
        row = self._rows.get((task, item_id))
        if row is None or row.output is None:
            raise BackendError(
                f"{self.id} holds no answer to {task} on {item_id}; ask a model for it instead"
            )
        bare = request.schema is None
        return Reply(
            text=row.output["text"] if bare else json.dumps(row.output, ensure_ascii=False),
            model=row.model or self.id,
            request_id=row.request_id,
            stop_reason=row.stop_reason,
        )


@hookimpl
def versecraft_backends() -> Mapping[str, Callable[..., Backend]]:
    """Registers `replay:`."""
    return {"replay": Replay}
