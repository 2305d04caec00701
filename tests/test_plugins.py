"""Strangers join by the same door as the built-ins, and a broken one harms nobody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import venv
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
HAIKU = ROOT / "examples" / "versecraft-haiku"

# Tiny distributions, as an installer would leave them, found through PYTHONPATH.

TASK = """
    from versecraft.answers import Brief
    from versecraft.hookspecs import hookimpl
    from versecraft.kinds import Kind
    from versecraft.prompting import Prompt
    from versecraft.records import RequestItem
    from versecraft.tasks import PromptTask

    @hookimpl
    def versecraft_tasks():
        return [PromptTask(name="{name}", kind=Kind.BRIEF, input=RequestItem, output=Brief,
                           prompt=Prompt("Task: {name}. {{{{ request }}}}"))]
"""
HOOK = """
    from versecraft.hookspecs import hookimpl

    @hookimpl
    def {signature}:
        {body}
"""
LIST = """
    import json, warnings
    from versecraft import plugins

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tasks = [task.name for task in plugins.list_tasks()]
        backends = list(plugins.list_backends())
    said = [f"{w.category.__name__}: {w.message}" for w in caught]
    print(json.dumps({"tasks": tasks, "backends": backends, "warnings": said}))
"""


def hook(signature: str, body: str) -> str:
    return HOOK.format(signature=signature, body=body)


def install(folder: Path, name: str, code: str, point: str = "") -> None:
    """A distribution `name` with one module that is its entry point."""
    module = name.replace("-", "_").lower()
    (folder / f"{module}.py").write_text(textwrap.dedent(code), encoding="utf-8")
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[versecraft]\nplugin = {point or module}\n")


def run(folder: Path, code: str, plugins: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(folder)}
    env.pop("VERSECRAFT_PLUGINS", None)
    if plugins is not None:
        env["VERSECRAFT_PLUGINS"] = plugins
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip


def listed(folder: Path, plugins: str | None = None) -> dict[str, Any]:
    done = run(folder, LIST, plugins)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def error(folder: Path, plugins: str | None = None) -> str:
    """The last line of the traceback with which listing ends."""
    done = run(folder, LIST, plugins)
    assert done.returncode == 1, done.stdout
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this"),
        ("def oops(:", "SyntaxError"),
        (hook("versecraft_tasks(config)", "return []"), "declared in the hookimpl but can not be"),
        (hook("versecraft_task()", "return []"), "unknown hook 'versecraft_task'"),
        ("def versecraft_tasks(): return []", "no function marked with versecraft's hookimpl"),
        (hook("versecraft_tasks()", "raise KeyError('stanza')"), "KeyError: 'stanza'"),
        (hook("versecraft_tasks()", "return None"), "TypeError: 'NoneType'"),
        (hook("versecraft_tasks()", "return [7]"), "7 is no Task: it has no name, kind, role"),
        (hook("versecraft_backends()", "return {'odd': 7}"), "'odd': 7 is no name with something"),
        (hook("versecraft_backends()", "return ['odd']"), "ValueError"),
    ],
)
def test_a_broken_plugin_is_a_warning_that_names_its_package(
    tmp_path: Path, code: str, says: str
) -> None:
    install(tmp_path, "broken-verse", code)
    install(tmp_path, "sound-verse", TASK.format(name="sound/task"))
    found = listed(tmp_path)
    (warning,) = found["warnings"]
    assert warning.startswith("RuntimeWarning: The plugin broken-verse (broken_verse) does not wor")
    assert says in warning
    assert warning.endswith("Update or uninstall it.")
    assert "sound/task" in found["tasks"]
    assert "critique" in found["tasks"]
    assert "odd" not in found["backends"]


def test_an_entry_point_that_names_nothing_is_a_warning(tmp_path: Path) -> None:
    install(tmp_path, "broken-verse", "", point="broken_verse:plugin")
    (warning,) = listed(tmp_path)["warnings"]
    assert "broken-verse (broken_verse:plugin)" in warning


def test_of_a_plugin_with_one_good_hook_and_one_unknown_nothing_is_used(tmp_path: Path) -> None:
    code = TASK.format(name="half/task") + HOOK.format(signature="versecraft_task()", body="pass")
    install(tmp_path, "half-verse", code)
    found = listed(tmp_path)
    assert "half/task" not in found["tasks"]
    assert len(found["warnings"]) == 1


@pytest.mark.parametrize(
    ("first", "second", "owners"),
    [
        ("same/task", "same/task", ("one-verse (one_verse)", "two-verse (two_verse)")),
        ("critique", "two/task", ("versecraft.tasks.critique", "one-verse (one_verse)")),
    ],
)
def test_two_plugins_with_one_name_are_an_error_that_names_both(
    tmp_path: Path, first: str, second: str, owners: tuple[str, str]
) -> None:
    install(tmp_path, "one-verse", TASK.format(name=first))
    install(tmp_path, "two-verse", TASK.format(name=second))
    assert error(tmp_path) == (
        f"versecraft.errors.PluginError: Two plugins claim the task '{first}': {owners[0]} and "
        f"{owners[1]}. Uninstall one, or name those to load in VERSECRAFT_PLUGINS."
    )
    assert second in listed(tmp_path, "two-verse")["tasks"]


def test_two_plugins_with_one_backend_are_an_error_that_names_both(tmp_path: Path) -> None:
    for name in ("one-verse", "two-verse"):
        install(tmp_path, name, hook("versecraft_backends()", "return {'echo': print}"))
    assert "Two plugins claim the backend 'echo': one-verse" in error(tmp_path)


def test_only_the_plugins_named_are_loaded(tmp_path: Path) -> None:
    for name in ("One.Verse", "two-verse", "three-verse"):
        install(tmp_path, name.replace(".", "-"), TASK.format(name=name[:3].lower() + "/task"))

    def strangers(plugins: str | None) -> list[str]:
        return [n for n in listed(tmp_path, plugins)["tasks"] if n.endswith("/task")]

    assert strangers(None) == ["one/task", "thr/task", "two/task"]
    assert strangers("one_verse, two-verse") == ["one/task", "two/task"]
    assert strangers("") == []


def test_a_plugin_that_is_not_installed_is_an_error_that_lists_those_that_are(
    tmp_path: Path,
) -> None:
    install(tmp_path, "one-verse", TASK.format(name="one/task"))
    said = error(tmp_path, "one-verse,won-verse")
    assert said.startswith("versecraft.errors.UnknownName: No plugin named 'won-verse'. Did you ")
    assert "Did you mean 'one-verse'? Known: " in said
    assert said.endswith("Install it, or take it out of VERSECRAFT_PLUGINS.")


def test_backends_and_trainers_come_by_the_same_door(tmp_path: Path) -> None:
    code = """
        from versecraft.backends.scripted import Scripted
        from versecraft.hookspecs import hookimpl

        @hookimpl
        def versecraft_backends():
            return {"echo": lambda rest, **options: Scripted(lambda request: rest, **options)}

        @hookimpl
        def versecraft_trainers():
            return {"none": dict}
    """
    install(tmp_path, "echo-verse", code)
    use = """
        from versecraft.plugins import get_backend, get_trainer

        print(get_backend("echo:hello", concurrency=3).concurrency, get_trainer("none"))
    """
    done = run(tmp_path, use)
    assert (done.stdout, done.stderr) == ("3 {}\n", "")


# The real thing: both wheels in a fresh environment, far from the checkout.


class Fresh:
    """An environment that holds the two wheels, and sees the dependencies of the running one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = {path: build(path, folder / "wheels") for path in (ROOT, HAIKU)}
        venv.create(folder / "env", symlinks=os.name != "nt")
        self.bin = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
        python = str(self.bin / "python")
        pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
        wheels = [str(wheel) for wheel in self.wheels.values()]
        # Installed first, and first on the path: the checkout, which the .pth file of an editable
        # install names, is not seen, as such files count in an interpreter's own folder only.
        self.call(*pip, "install", "--quiet", "--no-index", "--no-deps", *wheels)
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        self.site = Path(self.call(python, "-c", where).strip())
        (self.site / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")

    def call(self, *command: str) -> str:
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VERSECRAFT_PLUGINS")}
        done = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, code: str) -> Any:
        """What the code prints, as JSON."""
        return json.loads(self.call(str(self.bin / "python"), "-c", textwrap.dedent(code)))


def build(project: Path, into: Path) -> Path:
    before = set(into.glob("*.whl"))
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", into, project],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = set(into.glob("*.whl")) - before
    return wheel


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    return Fresh(tmp_path_factory.mktemp("fresh"))


def files(folder: Path, under: str) -> set[str]:
    found = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {f"{under}/{p.relative_to(folder).as_posix()}" for p in found}


@pytest.mark.slow
def test_the_wheels_hold_the_package_with_prompts_data_and_types_and_no_tests(
    fresh: Fresh,
) -> None:
    for project, package, more in (
        (ROOT, "versecraft", files(ROOT / "prompts", "versecraft/prompts")),
        (HAIKU, "versecraft_haiku", set[str]()),
    ):
        with ZipFile(fresh.wheels[project]) as wheel:
            held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert held == files(project / "src" / package, package) | more
        assert f"{package}/py.typed" in held
        assert any(name.startswith(f"{package}/prompts/") for name in held)
        assert not any("test_" in name for name in held)


@pytest.mark.slow
def test_importing_the_installed_package_loads_nothing_heavy(fresh: Fresh) -> None:
    found = fresh.python(
        """
        import json, sys
        import versecraft

        versecraft.list_tasks()
        heavy = {"torch", "anthropic", "llama_cpp", "sklearn", "scipy", "numpy", "aiohttp", "rich",
                 "sentence_transformers", "transformers", "datasets", "pyarrow", "matplotlib"}
        print(json.dumps([versecraft.__file__, sorted(heavy & sys.modules.keys())]))
        """
    )
    assert Path(found[0]).is_relative_to(fresh.folder / "env")
    assert found[1] == []


@pytest.mark.slow
def test_the_example_plugin_is_used_from_python(fresh: Fresh) -> None:
    found = fresh.python(
        """
        import json
        import versecraft as vc
        from versecraft.testing import Scripted

        said = {"image": {"quote": "The tap drips on"}, "against": {"quote": "snow takes the yard"},
                "season": "winter", "season_word": {"quote": "snow"},
                "cut": "One small sound goes on while the yard is covered.",
                "leave_out": ["that anyone waits"]}
        text = "The tap drips on.\\nBehind the glass\\nsnow takes the yard."
        poem = vc.Poem(text=text, quality="bad")
        teacher = Scripted(lambda request: json.dumps(said))
        plan = vc.plan(vc.get_task("haiku/condense"), [poem], teacher, ledger="haiku.jsonl")
        run = vc.generate(plan, progress=False)
        (row,), (example,) = run.rows, run.examples()
        print(json.dumps([run.answered, row.output["against"]["line"], example.model_dump()]))
        """
    )
    assert found[:2] == [1, 3]
    assert found[2]["messages"][1]["content"].startswith(
        "Task: haiku/condense.\n\n<poem>\n  1  The"
    )
    assert found[2]["quality"] == "bad"


@pytest.mark.slow
def test_the_example_plugin_is_used_from_the_command_line(fresh: Fresh) -> None:
    versecraft = str(fresh.bin / "versecraft")
    tasks = json.loads(fresh.call(versecraft, "tasks", "--json"))
    (haiku,) = [task for task in tasks if task["name"] == "haiku/condense"]
    assert (haiku["kind"], haiku["role"], haiku["backend"]) == ("brief", "educator", "opus")
    assert "critique" in [task["name"] for task in tasks]

    fresh.call(versecraft, "init", "shop")
    raw = fresh.folder / "shop" / "data" / "raw"
    (raw / "good" / "one.txt").write_text("The tap drips on.\nBehind the glass\nsnow is falling.")
    (raw / "bad" / "one.txt").write_text("The tap drips on.\nIn my sad heart\nsnow is crying.")
    (fresh.site / "teacher.py").write_text(
        "import json, re\n"
        "def say(request):\n"
        "    first, last = re.findall(r'^ +[13]  (.+)[.]$', request.turn, re.MULTILINE)\n"
        "    return json.dumps({'image': {'quote': first}, 'against': {'quote': last},\n"
        "        'season': 'winter', 'season_word': {'quote': 'snow'},\n"
        "        'cut': 'One small sound goes on beside a large silence.',\n"
        "        'leave_out': ['the heart']})\n"
    )
    options = ["--backend", "scripted:teacher:say", "--workspace", "shop", "--json"]
    (run,) = json.loads(fresh.call(versecraft, "generate", "haiku/condense", *options))
    assert (run["task"], run["items"], run["answered"]) == ("haiku/condense", 2, 2)


@pytest.mark.slow
def test_the_example_plugin_passes_its_own_tests(fresh: Fresh) -> None:
    shutil.copytree(HAIKU / "tests", fresh.folder / "tests")
    shutil.copy(HAIKU / "pyproject.toml", fresh.folder)
    said = fresh.call(str(fresh.bin / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert " passed" in said


@pytest.mark.slow
def test_a_plugin_author_sees_types(fresh: Fresh) -> None:
    (fresh.folder / "author.py").write_text(
        "from versecraft import get_task\n"
        "from versecraft_haiku.condense import condense\n"
        "get_task('haiku/condense')\n"
        "reveal_type(condense)\n"
        "get_task(3)  # type: ignore[arg-type]\n",
        encoding="utf-8",
    )
    python = ["--python-executable", str(fresh.bin / "python"), "--cache-dir", "mypy"]
    plugin = str(HAIKU / "src" / "versecraft_haiku")
    said = fresh.call(sys.executable, "-m", "mypy", "--strict", *python, "author.py", plugin)
    assert "PromptTask[versecraft_haiku.condense.SeasonItem, versecraft_haiku" in said
