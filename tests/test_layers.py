"""Who may import whom, what importing costs, and what stands at the front door."""

from __future__ import annotations

import ast
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import versecraft

SRC = Path(__file__).parents[1] / "src" / "versecraft"

LAYERS = (
    {
        "errors", "answers", "records", "kinds", "phrases", "prosody", "pages", "repairs", "rules",
        "lines", "classifier", "encoder", "lexicon",
        "revisions", "languages", "sounds", "meters", "forms", "rendering",
        "schemes", "clauses",
    },
    {
        "prompting", "backends", "training_data", "duplicates", "embedding", "formats", "loops",
        "progress", "adapters", "grammar", "weights", "bases", "cards", "tokenising", "sessions",
        "figures", "quoting",
    },
    {"tasks", "trainers", "grouping", "firewall", "xray", "sampling", "anthropic_api", "diversity"},
    {"hookspecs", "ledger", "checkpoints", "decoding", "canaries", "critics"},
    {"fitting", "decisions"},
    {"plugins", "runs", "tasks.*", "backends.*", "trainers.*"},
    {"workspace", "attempts", "backwards", "batches"},
    {"batching"},
    {
        "corpus", "matching", "planning", "generating", "balancing", "dataset",
        "exporting", "parity", "publishing",
    },
    {"asking"},
    {"workshop", "evaluating"},
    {"steps"},
    {"project", "overview"},
    {"phases", "standing", "importing", "reviewing", "reporting"},
    {"quickstart"},
    {"", "cli", "cli.*", "testing"},
)  # fmt: skip
"""Lowest first; "" is the package itself. A module imports from layers below its own."""

AMONG_THEMSELVES = (LAYERS[0], LAYERS[-1])
"""The words everything else is built from, and the doors: these layers import sideways too."""

HEAVY = {
    "aiohttp", "anthropic", "datasets", "datasketch", "llama_cpp", "matplotlib", "model2vec",
    "numpy", "pandas", "peft", "pyarrow", "rich", "scipy", "sentence_transformers", "sklearn",
    "starlette", "tokenizers", "torch", "transformers", "trl", "unsloth", "uvicorn",
}  # fmt: skip

MODULES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in sorted(SRC.rglob("*.py"))
}


def layer(module: str) -> int | None:
    """Number of the layer a module stands in; None when the table above lacks it."""
    names = {module, f"{module.rpartition('.')[0]}.*"} if "." in module else {module}
    return next((n for n, layer in enumerate(LAYERS) if names & layer), None)


def imported(module: str, path: Path) -> Iterator[str]:
    """The modules of versecraft that a module imports, wherever in its text."""
    package = ["versecraft", *(part for part in module.split(".") if part)]
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            targets = [f"{base}.{name.name}" for name in node.names]
        else:
            continue
        for target in targets:
            root, _, name = target.partition(".")
            if root == "versecraft":
                yield name if name in MODULES else name.rpartition(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_lower_layers_only(module: str) -> None:
    own = layer(module)
    assert own is not None, f"{module} stands in no layer; add it to LAYERS"
    for other in imported(module, MODULES[module]):
        if LAYERS[own] not in AMONG_THEMSELVES or layer(other) != own:
            found = layer(other)
            assert found is not None
            assert found < own, f"{module} imports {other or 'the front door'}, not below it"


def test_the_reading_of_imports_finds_each_kind(tmp_path: Path) -> None:
    path = tmp_path / "odd.py"
    path.write_text(
        "import json, versecraft.errors\nfrom versecraft import kinds\nfrom . import Backend\n"
        "from .claude import Claude\nfrom .. import hookspecs\nfrom ..records import Poem\n"
        "def f():\n    from ..tasks.poem import poem\n"
    )
    assert list(imported("backends.odd", path)) == [
        "errors", "kinds", "backends", "backends.claude", "hookspecs", "records", "tasks.poem"
    ]  # fmt: skip


def at_import(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run when a module is imported."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield node
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for child in node.orelse:
            yield from at_import(child)
    elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        for child in ast.iter_child_nodes(node):
            yield from at_import(child)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_a_heavy_library_at_the_top(module: str) -> None:
    for node in at_import(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
        roots = {name.partition(".")[0] for name in names if not getattr(node, "level", 0)}
        assert not roots & HEAVY, f"import {roots & HEAVY} inside the function that needs it"


def test_each_name_at_the_front_door_exists_and_is_documented() -> None:
    for name in versecraft.__all__:
        said = getattr(versecraft, name).__doc__ or ""
        assert said.strip(), f"{name} has no docstring"
        assert not said.startswith(f"{name}("), f"the docstring of {name} is a dataclass's default"


def test_the_front_door_lists_each_public_name_once() -> None:
    modules = {module.name for module in pkgutil.iter_modules(versecraft.__path__)}
    public = {
        name
        for name, value in vars(versecraft).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert len(set(versecraft.__all__)) == len(versecraft.__all__)
    assert public <= set(versecraft.__all__)
    functions = {n for n in versecraft.__all__ if inspect.isfunction(getattr(versecraft, n))}
    # `vc.xray` is the function; `from versecraft.xray import …` still reaches the module.
    assert functions & modules == {"xray"}, "a function that shares a module's name hides it"
