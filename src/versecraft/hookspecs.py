"""The three hooks by which tasks, backends and trainers join versecraft.

A plugin is a package with an entry point in the group `versecraft` that names a module with
functions marked `@hookimpl`. The built-in tasks and backends use the same hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pluggy

from .backends import Backend
from .tasks import Task
from .trainers import Trainer

hookspec = pluggy.HookspecMarker("versecraft")
hookimpl = pluggy.HookimplMarker("versecraft")


@hookspec
def versecraft_tasks() -> Iterable[Task[Any, Any]]:  # type: ignore[empty-body]
    """The tasks that this plugin adds."""


@hookspec
def versecraft_backends() -> Mapping[str, Callable[..., Backend]]:  # type: ignore[empty-body]
    """Backends by scheme; each is called with what follows the scheme's colon.

    A factory also takes the keyword arguments `concurrency` and `timeout`.
    """


@hookspec
def versecraft_trainers() -> Mapping[str, Callable[..., Trainer]]:  # type: ignore[empty-body]
    """Trainers by name; each is called with its own settings, all of which have defaults."""
