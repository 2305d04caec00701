"""Finding tasks, backends and trainers by name, the built-in ones and those of plugins."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import pluggy

from . import hookspecs
from .backends import Backend
from .errors import PluginError, UnknownName
from .tasks import Task
from .trainers import Trainer

T = TypeVar("T")

_BUILT_IN = (
    "versecraft.tasks.critique",
    "versecraft.tasks.comparison",
    "versecraft.tasks.autopsy",
    "versecraft.tasks.brief",
    "versecraft.tasks.revision_brief",
    "versecraft.tasks.lesson",
    "versecraft.tasks.poem",
    "versecraft.backends.claude",
    "versecraft.backends.openai",
    "versecraft.backends.replay",
    "versecraft.backends.scripted",
)


def get_task(name: str) -> Task[Any, Any]:
    """The task of that name.

    Raises:
        UnknownName: There is none; says which there are.
        PluginError: Two plugins claim one name.
    """
    tasks = {task.name: task for task in list_tasks()}
    if name not in tasks:
        raise UnknownName("task", name, tasks, "A plugin must be installed to add tasks.")
    return tasks[name]


def list_tasks() -> list[Task[Any, Any]]:
    """All tasks, the built-in ones first."""
    owned = (
        (task.name, task, owner) for owner, tasks in _each("versecraft_tasks") for task in tasks
    )
    return list(_unique("task", owned).values())


def get_backend(spec: str, **options: Any) -> Backend:
    """The backend that a spec such as `claude:claude-opus-5-5` names.

    Args:
        spec: A scheme, and after a colon what that backend needs to know.
        options: `concurrency`, `timeout` (seconds for one attempt as a whole) and what else the
            backend's own signature takes.

    Raises:
        UnknownName: There is no such scheme.
    """
    scheme, _, rest = spec.partition(":")
    factories = list_backends()
    if scheme not in factories:
        raise UnknownName("backend", scheme, factories, f"It was asked for as {spec!r}.")
    return factories[scheme](rest, **options)


def list_backends() -> dict[str, Callable[..., Backend]]:
    """The factories of backends by scheme."""
    return _mappings("backend", "versecraft_backends")


def get_trainer(name: str) -> Trainer:
    """The trainer of that name.

    Raises:
        UnknownName: There is none; says which there are.
    """
    trainers: dict[str, Callable[[], Trainer]] = _mappings("trainer", "versecraft_trainers")
    if name not in trainers:
        raise UnknownName("trainer", name, trainers)
    return trainers[name]()


def _mappings(what: str, hook: str) -> dict[str, Any]:
    owned = ((name, value, owner) for owner, found in _each(hook) for name, value in found.items())
    return _unique(what, owned)


def _unique(what: str, owned: Iterator[tuple[str, T, str]]) -> dict[str, T]:
    found: dict[str, T] = {}
    owners: dict[str, str] = {}
    for name, value, owner in owned:
        if name in found:
            raise PluginError(
                f"Two plugins claim the {what} {name!r}: {owners[name]} and {owner}. Uninstall "
                "one, or name those to load in VERSECRAFT_PLUGINS."
            )
        found[name], owners[name] = value, owner
    return found


def _each(hook: str) -> Iterator[tuple[str, Any]]:
    """What each plugin returns from a hook; a plugin that fails is a warning."""
    for impl in getattr(_manager().hook, hook).get_hookimpls():
        try:
            result = impl.function()
            yield impl.plugin_name, dict(result) if isinstance(result, Mapping) else list(result)
        except Exception as error:
            _warn(impl.plugin_name, error)


@cache
def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("versecraft")
    manager.add_hookspecs(hookspecs)
    for module in _BUILT_IN:
        manager.register(import_module(module), name=module)
    for point in _wanted():
        owner = point.dist.name if point.dist else point.value
        try:
            manager.register(point.load(), name=f"{owner} ({point.value})")
        except Exception as error:
            _warn(owner, error)
    manager.check_pending()
    return manager


def _wanted() -> list[EntryPoint]:
    points = sorted(
        entry_points(group="versecraft"), key=lambda p: (p.dist.name if p.dist else "", p.name)
    )
    names = os.environ.get("VERSECRAFT_PLUGINS")
    if names is None:
        return points
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    installed = {p.dist.name for p in points if p.dist}
    if wanted - installed:
        raise UnknownName(
            "plugin", sorted(wanted - installed)[0], installed, "VERSECRAFT_PLUGINS asks for it."
        )
    return [p for p in points if p.dist and p.dist.name in wanted]


def _warn(owner: str, error: Exception) -> None:
    warnings.warn(
        f"The plugin {owner} does not work and is left out: {type(error).__name__}: {error}. "
        "Update or uninstall it.",
        RuntimeWarning,
        stacklevel=2,
    )
