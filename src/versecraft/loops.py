"""Running coroutines from plain functions, also where an event loop is running already."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["in_own_loop"]


def in_own_loop(
    work: Callable[[], Coroutine[Any, Any, None]], stop: Callable[[], None] | None = None
) -> None:
    """Runs `work()` in an event loop of its own thread, and waits for its end.

    Args:
        work: Makes the coroutine to be run.
        stop: Called on Ctrl-C, in that loop where it runs already. If None, the work is cancelled
            and `KeyboardInterrupt` is raised.

    Raises:
        BaseException: What `work` raised.
    """
    failure: list[BaseException] = []
    task: list[asyncio.Task[Any]] = []

    async def whole() -> None:
        if current := asyncio.current_task():
            task.append(current)
        await work()

    runner: list[asyncio.AbstractEventLoop] = []
    ended = threading.Event()

    def main() -> None:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as r:
                runner.append(r.get_loop())
                r.run(whole())
        except BaseException as error:
            failure.append(error)
        finally:
            ended.set()

    def tell() -> None:
        try:
            runner[0].call_soon_threadsafe(stop or task[0].cancel)
        except (IndexError, RuntimeError):  # the loop is not open yet, or closed already
            if stop:
                stop()

    thread = threading.Thread(target=main, name="versecraft", daemon=True)
    # By default the garbage collector runs every 700 objects, several times in each request; here
    # that is a tenth of all CPU time, for cycles that few requests make.
    collect = gc.get_threshold()
    gc.set_threshold(20_000, *collect[1:])
    try:
        while not ended.is_set():
            try:
                if thread.ident is None:
                    thread.start()
                # Not thread.join(): interrupted, it takes the thread for ended (CPython 3.11).
                # With a timeout, since Windows lets nothing interrupt a wait without one.
                ended.wait(0.2)
            except KeyboardInterrupt:
                tell()
    finally:
        if thread.ident is not None:
            ended.wait()
        gc.set_threshold(*collect)
    if failure and stop is None and isinstance(failure[0], asyncio.CancelledError):
        raise KeyboardInterrupt
    if failure:
        raise failure[0]


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
