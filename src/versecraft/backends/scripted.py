"""A backend that a function speaks for: for tests, docs and trying a task out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from ..errors import BackendError, BadInput
from ..hookspecs import hookimpl
from ..records import Usage
from . import Backend, Reply, Request


class Scripted:
    """Answers each request with what a function returns, or raises what it returns.

    Args:
        fn: Takes the request; returns the answer's text, or an exception to be raised.
        concurrency: Requests in flight at once.
        timeout: Seconds for one attempt.
    """

    price = None

    def __init__(
        self,
        fn: Callable[[Request], str | Exception],
        *,
        concurrency: int = 8,
        timeout: float = 300.0,
    ) -> None:
        self.fn = fn
        self.id = f"scripted:{getattr(fn, '__qualname__', type(fn).__name__)}"
        self.concurrency = concurrency
        self.timeout = timeout

    async def complete(self, request: Request) -> Reply:
        """What the function says."""
        said = self.fn(request)
        if isinstance(said, Exception):
            raise said if isinstance(said, BackendError) else BackendError(str(said)) from said
        sent = len(request.system + request.turn)
        usage = Usage(requests=1, input=sent // 4, output=len(said) // 4)
        return Reply(text=said, model=self.id, usage=usage, stop_reason="end_turn")


def _named(rest: str, **options: float) -> Backend:
    """Answers with a function of yours: scripted:package.module:function."""
    module, _, name = rest.partition(":")
    try:
        fn = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(
            f"scripted:{rest} names no function ({error}). Write scripted:package.module:function."
        ) from error
    return Scripted(fn, **options)  # type: ignore[arg-type]


@hookimpl
def versecraft_backends() -> Mapping[str, Callable[..., Backend]]:
    """Registers `scripted:`."""
    return {"scripted": _named}
