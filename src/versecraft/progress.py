"""Showing how far a run is: a bar in a terminal or notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_EVERY = 10.0  # seconds between plain lines


class Meter:
    """Counts steps, and says how it goes."""

    def __init__(self, name: str, total: int) -> None:
        self.name = name
        self.total = total
        self.done = 0
        self.failed = 0
        self.dollars = 0.0
        self.bar: Progress | None = None
        self.bar_id: TaskID | None = None
        self.lines = False
        self._begun = self._said = time.monotonic()

    def step(self, *, failed: bool, dollars: float) -> None:
        """One more is finished."""
        self.done += 1
        self.failed += failed
        self.dollars = dollars
        if self.bar is not None and self.bar_id is not None:
            self.bar.update(
                self.bar_id,
                completed=self.done,
                rate=self._rate(),
                failed=self.failed,
                dollars=self.dollars,
            )
        elif self.lines and time.monotonic() - self._said > _EVERY:
            self.say(self.line())

    def line(self) -> str:
        """How it stands, in one line."""
        rate = self._rate()
        left = (self.total - self.done) / rate if rate else 0.0
        return (
            f"{self.name}: {self.done:,} of {self.total:,}, {rate:.1f}/s, {self.failed:,} failed, "
            f"${self.dollars:,.2f}, {left:,.0f} s left"
        )

    def _rate(self) -> float:
        return self.done / max(time.monotonic() - self._begun, 1e-3)

    def say(self, text: str) -> None:
        """Writes a line to stderr, above the bar where there is one."""
        self._said = time.monotonic()
        try:
            if self.bar is not None:
                self.bar.console.print(text)
            elif self.lines:
                print(text, file=sys.stderr, flush=True)  # noqa: T201 -- the plain form of the bar
        except OSError:  # nobody reads it any more; the work goes on
            self.bar, self.lines = None, False


@contextmanager
def open_meter(name: str, total: int, *, shown: bool) -> Iterator[Meter]:
    """A meter for `total` steps; silent when not `shown` or when there is nothing to do."""
    meter = Meter(name, total)
    if not shown or not total:
        yield meter
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        meter.lines = True
        yield meter
        meter.say(meter.line())
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f}/s, {task.fields[failed]} failed,"),
        TextColumn("${task.fields[dollars]:,.2f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        meter.bar = bar
        meter.bar_id = bar.add_task(name, total=total, rate=0.0, failed=0, dollars=0.0)
        yield meter
