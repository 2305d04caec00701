"""Finding tasks, backends and trainers by name, the built-in ones and those of plugins."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import pluggy

from . import hookspecs
from .backends import Backend
from .errors import PluginError, UnknownName, VersecraftError
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
    "versecraft.backends.gguf",
    "versecraft.backends.claude_batch",
    "versecraft.backends.openai",
    "versecraft.backends.replay",
    "versecraft.backends.scripted",
    "versecraft.trainers.trl",
    "versecraft.trainers.unsloth",
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
    """All tasks, the built-in ones first.

    Raises:
        PluginError: Two plugins claim one name.
        UnknownName: `VERSECRAFT_PLUGINS` names a plugin that is not installed.
    """
    return list(_unique("task", _each("versecraft_tasks", _tasks)).values())


def get_backend(spec: str, **options: Any) -> Backend:
    """The backend that a spec such as `claude:claude-opus-5-5` names.

    Args:
        spec: A scheme, and after a colon what that backend needs to know.
        options: `concurrency`, `timeout` (seconds for one attempt as a whole) and what else the
            backend's own signature takes.

    Raises:
        UnknownName: There is no such scheme.
        PluginError: The backend does not take these options, or is none.
    """
    scheme, _, rest = spec.partition(":")
    factories = list_backends()
    if scheme not in factories:
        raise UnknownName("backend", scheme, factories, f"It was asked for as {spec!r}.")
    try:
        backend = factories[scheme](rest, **options)
    except VersecraftError:
        raise
    except Exception as error:
        raise PluginError(
            f"The backend {spec!r} cannot be made with {sorted(options)}: {error!r}. Check "
            "the spec and the options against the backend's own signature."
        ) from error
    if not any(callable(getattr(backend, name, None)) for name in ("complete", "submit")):
        raise PluginError(
            f"{spec!r} made {backend!r}, which has no `complete` and no `submit`; mend the plugin."
        )
    return backend


def list_backends() -> dict[str, Callable[..., Backend]]:
    """The factories of backends by scheme."""
    return _unique("backend", _each("versecraft_backends", _factories))


def get_trainer(name: str, **options: Any) -> Trainer:
    """The trainer of that name, such as `trl` or `unsloth`.

    Args:
        name: What the trainer is called.
        options: The trainer's own settings, such as `steps` or `learning_rate`.

    Raises:
        UnknownName: There is none; says which there are.
        PluginError: The trainer does not take these options.
    """
    trainers = _unique("trainer", _each("versecraft_trainers", _factories))
    if name not in trainers:
        raise UnknownName("trainer", name, trainers)
    try:
        trainer: Trainer = trainers[name](**options)
    except VersecraftError:
        raise
    except Exception as error:
        raise PluginError(
            f"The trainer {name!r} cannot be made with {options}: {error}. Check the options "
            "against the trainer's own signature."
        ) from error
    return trainer


def lacks(task: object) -> list[str]:
    """The attributes that something lacks to be a `Task`."""
    return [part for part in vars(Task) if not part.startswith("_") and not hasattr(task, part)]


def _tasks(said: Iterable[Task[Any, Any]]) -> list[tuple[str, Task[Any, Any]]]:
    tasks = list(said)
    for task in tasks:
        if missing := lacks(task):
            raise TypeError(f"{task!r} is no Task: it has no {', '.join(missing)}")
    return [(task.name, task) for task in tasks]


def _factories(said: Mapping[str, Callable[..., Any]]) -> list[tuple[str, Callable[..., Any]]]:
    factories = list(dict(said).items())
    for name, factory in factories:
        if not isinstance(name, str) or not callable(factory):
            raise TypeError(f"{name!r}: {factory!r} is no name with something to call")
    return factories


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


def _each(hook: str, read: Callable[[Any], list[tuple[str, T]]]) -> Iterator[tuple[str, T, str]]:
    """Name, value and owner of what the plugins return from a hook; a failure is a warning."""
    for impl in getattr(_manager().hook, hook).get_hookimpls():
        try:
            found = read(impl.function())
        except (Exception, SystemExit) as error:
            _warn(impl.plugin_name, error)
            continue
        yield from ((name, value, impl.plugin_name) for name, value in found)


@cache
def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("versecraft")
    manager.add_hookspecs(hookspecs)
    for module in _BUILT_IN:
        manager.register(import_module(module), name=module)
    for point in _wanted():
        owner = point.dist.name if point.dist else point.value
        name = f"{owner} ({point.value})"
        try:
            _register(manager, point.load(), name)
        except (Exception, SystemExit) as error:
            manager.unregister(name=name)
            _warn(name, error)
    return manager


def _register(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    manager.register(plugin, name=name)
    manager.check_pending()
    if not manager.get_hookcallers(plugin):
        raise PluginError("it has no function marked with versecraft's hookimpl")


def _wanted() -> list[EntryPoint]:
    """The plugins that are installed, or those of them that `VERSECRAFT_PLUGINS` names."""
    points = sorted(
        entry_points(group="versecraft"), key=lambda p: (p.dist.name if p.dist else "", p.name)
    )
    names = os.environ.get("VERSECRAFT_PLUGINS")
    if names is None:
        return points
    installed = {_canonical(p.dist.name): p.dist.name for p in points if p.dist}
    wanted = {_canonical(name): name.strip() for name in names.split(",") if name.strip()}
    for name in wanted.keys() - installed.keys():
        raise UnknownName(
            "plugin",
            wanted[name],
            installed.values(),
            "Install it, or take it out of VERSECRAFT_PLUGINS.",
        )
    return [p for p in points if p.dist and _canonical(p.dist.name) in wanted]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _warn(owner: str, error: BaseException) -> None:
    warnings.warn(
        f"The plugin {owner} does not work and is left out: {type(error).__name__}: "
        f"{' '.join(str(error).split())}. Update or uninstall it.",
        RuntimeWarning,
        stacklevel=2,
    )
