"""The folder a project lives in: its settings, its paths, starting one and clearing one."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import tomllib
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError

from .backends import Backend, Price
from .checkpoints import learnt
from .errors import BadInput
from .plugins import get_backend
from .records import Record

__all__ = ["Settings", "Workspace"]

CONFIG = "versecraft.toml"
_PROTECTED = ("data/raw", "data/processed")
_MANIFEST = "moved.json"
_FILES = "files"  # apart from the manifest, whose name a moved path may have


class Roles(Record):
    """Who does the hard tasks (opus) and who the easy ones (local).

    Attributes:
        local_system: "guide" while `local` is a general model; "persona" once it is an educator
            that was trained on this data. A GGUF that `export` wrote says itself which tasks it has
            learnt: it is told its persona for these, and the guide for others.
    """

    opus: str = "claude:claude-opus-5-5"
    local: str = "gguf:models/educator-v1.gguf"
    local_system: Literal["guide", "persona"] = "guide"


class Quotas(Record):
    """How many items a phase takes where it does not take all."""

    good_critiques: Annotated[int, Field(ge=0)] = 200
    revision_briefs: Annotated[int, Field(ge=0)] = 100
    more_critiques: Annotated[int, Field(ge=0)] = 300
    backwards: Annotated[int, Field(ge=0)] = 100
    canaries: Annotated[int, Field(ge=0)] = 20


class Matching(Record):
    """How bad poems find their partners."""

    strategy: Literal["topical", "random"] = "topical"
    k: Annotated[int, Field(ge=1)] = 1
    orders: Literal["balanced", "both"] = "balanced"


class Training(Record):
    """How the two models are trained.

    Attributes:
        trainer: "trl", which trains anywhere, or "unsloth", for CUDA.
        base: The model that is trained further: "embedded", a GGUF file, a folder, a hub id.
        steps: How many steps; None for three times through the data.
        quantization: Of the GGUF files that are made.
        options: What else the trainer takes, such as `learning_rate` and `max_length`.
    """

    trainer: str = "trl"
    base: str = "embedded"
    options: dict[str, Any] = {}
    steps: Annotated[int, Field(ge=1)] | None = None
    quantization: str = "Q8_0"


class Balance(Record):
    """How the educator's set is mixed and split."""

    bad_share: Annotated[float, Field(gt=0, lt=1)] = 0.40
    min_tasks: Annotated[int, Field(ge=1)] = 3
    valid: Annotated[float, Field(gt=0, lt=1)] = 0.1


class Reset(Record):
    """What `versecraft reset` clears away."""

    paths: tuple[str, ...] = (
        "data/educator_training",
        "data/poet_training",
        "data/annotated",
        "persona",
        "scripts/data_generation",
        "config/data_generation.yaml",
    )


class Settings(Record):
    """The settings of a workspace, as they stand in `versecraft.toml`.

    Attributes:
        confirm_over: Dollars above which a command asks before it spends.
        backends: By scheme, what its backends take, such as `gpu_layers` of gguf.
        prices: Dollars per million tokens of models that the list that ships does not have.
    """

    seed: int = 7
    confirm_over: Annotated[float, Field(ge=0)] = 1.0
    roles: Roles = Roles()
    quotas: Quotas = Quotas()
    matching: Matching = Matching()
    balance: Balance = Balance()
    training: Training = Training()
    backends: dict[str, dict[str, Any]] = {}
    reset: Reset = Reset()
    prices: dict[str, Price] = {}


@dataclass(frozen=True)
class Workspace:
    """A project's folder."""

    root: Path
    settings: Settings

    @classmethod
    def open(cls, folder: str | Path = ".") -> Self:
        """The workspace in a folder.

        Raises:
            BadInput: The folder holds no `versecraft.toml`, or one that cannot be used.
        """
        root = Path(folder).resolve()
        if not (root / CONFIG).is_file():
            raise BadInput(
                f"{root} is no workspace: it has no {CONFIG}. "
                f"Make one with: versecraft init {folder}"
            )
        return cls(root=root, settings=_read_settings(root / CONFIG))

    @classmethod
    def init(cls, folder: str | Path, *, sample: bool = False) -> Self:
        """Makes a workspace; nothing that is there already is changed.

        Args:
            folder: Where; made when missing.
            sample: Put the sample in: poems, requests, questions, and a teacher's answers that
                both roles replay, so that everything runs offline and at no cost.

        Raises:
            BadInput: The folder is a workspace already.
        """
        root = Path(folder).resolve()
        if (root / CONFIG).exists():
            raise BadInput(f"{root} is a workspace already. Use it, or choose another folder.")
        raw = root / "data" / "raw"
        if sample and raw.is_dir() and any(p for p in raw.rglob("*") if p.is_file()):
            raise BadInput(f"{raw} holds poems already. Put the sample into an empty folder.")
        shipped = Path(str(resources.files("versecraft")))
        for quality in ("good", "bad"):
            (raw / quality).mkdir(parents=True, exist_ok=True)
        (root / "runs").mkdir(exist_ok=True)
        config = (shipped / "data" / CONFIG).read_text(encoding="utf-8")
        if sample:
            # Aside first: a copy that breaks off must not look like poems of the user's.
            with TemporaryDirectory(dir=root, prefix=".sample-") as aside:
                shutil.copytree(shipped / "sample" / "raw", aside, dirs_exist_ok=True)
                for quality in ("good", "bad"):
                    (raw / quality).rmdir()
                for part in Path(aside).iterdir():
                    os.rename(part, raw / part.name)
            recorded = [shipped / "sample" / f"{name}.jsonl" for name in ("answers", "session")]
            (root / "runs" / "sample.jsonl").write_bytes(b"".join(f.read_bytes() for f in recorded))
            roles = Roles()
            for role in (roles.opus, roles.local):
                config = config.replace(f'"{role}"', '"replay:runs/sample.jsonl"')
            # The sample has revision briefs of its 16 bad poems.
            config = config.replace("revision_briefs = 100", "revision_briefs = 16")
            # Its good poems have briefs that were written for them.
            config = config.replace("backwards = 100", "backwards = 0")
        (root / CONFIG).write_text(config, encoding="utf-8")
        return cls.open(root)

    @property
    def raw(self) -> Path:
        """The user's poems; never written."""
        return self.root / "data" / "raw"

    @property
    def matches(self) -> Path:
        """Where `match` leaves the pairs."""
        return self.root / "data" / "matches.jsonl"

    @property
    def decisions(self) -> Path:
        """What a reader accepted, rejected and edited."""
        return self.root / "runs" / "decisions.jsonl"

    @property
    def cache(self) -> Path:
        """What may be deleted at any time."""
        return self.root / ".cache" / "embeddings"

    def ledger(self, phase: str, task: str) -> Path:
        """Where the answers of a task are kept; a plugin's are in a folder of its own."""
        return self.inside(f"runs/{f'plugins/{task}' if '/' in task else f'{phase}/{task}'}.jsonl")

    def system(self, role_or_spec: str, task: str) -> Literal["guide", "persona"]:
        """What a role or a backend is told: a model that was trained here knows its tasks."""
        roles = self.settings.roles
        scheme, _, rest = str(roles.model_dump().get(role_or_spec, role_or_spec)).partition(":")
        if scheme == "gguf" and (tasks := learnt(self.root / rest)):
            return "persona" if task in tasks else "guide"
        return roles.local_system if role_or_spec == "local" else "guide"

    def data_set(self, role: str) -> Path:
        """Where the data set of a role is."""
        return self.inside(f"data/{role}_training")

    def base(self, base: str) -> str:
        """A base model as the trainers take it: a path in the workspace where there is one."""
        return str(self.root / base) if (self.root / base).exists() else base

    def inside(self, path: str | Path) -> Path:
        """A path under the workspace, checked to be there.

        Raises:
            BadInput: It leads outside, be it by `..` or by a link.
        """
        found = (self.root / path).resolve()
        if not found.is_relative_to(self.root):
            raise BadInput(f"{path} leads out of the workspace {self.root}. Give a path inside it.")
        return found

    def backend(self, role_or_spec: str, **options: Any) -> Backend:
        """The backend of a role ("opus", "local") or of a spec, with paths seen from here."""
        roles = self.settings.roles.model_dump()
        spec = str(roles.get(role_or_spec, role_or_spec))
        scheme, _, rest = spec.partition(":")
        if scheme in ("replay", "gguf"):
            rest = str(self.root / rest)
        options = {**self.settings.backends.get(scheme, {}), **options}
        if scheme == "gguf" and spec == Roles().local and not Path(rest).is_file():
            raise BadInput(f"{rest} is not there yet. Make it with: versecraft run interim")
        model = rest.partition(";")[0]
        if model in self.settings.prices:
            options["price"] = self.settings.prices[model]
        return get_backend(f"{scheme}:{rest}" if rest else scheme, **options)

    def poets(self, spec: str) -> Any:
        """A model in this process as two poets, greedy and sampled; any other one as it is."""
        scheme = str(self.settings.roles.model_dump().get(spec, spec)).partition(":")[0]
        if scheme not in ("gguf", "embedded"):
            return self.backend(spec)
        return {
            "greedy": self.backend(spec, temperature=0.0),
            "T=0.8": self.backend(spec, temperature=0.8),
        }

    def lines(self, name: str) -> list[str]:
        """The lines of `data/raw/<name>.txt`, else of the list that ships; `#` begins a comment."""
        own = self.raw / f"{name}.txt"
        shipped = Path(str(resources.files("versecraft"))) / "data" / f"{name}.txt"
        file = own if own.is_file() else shipped
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise BadInput(f"{file} is not UTF-8: {error}. Save it as UTF-8.") from error
        return [t for line in text.splitlines() if (t := line.strip()) and not t.startswith("#")]


def _read_settings(file: Path) -> Settings:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} is not TOML: {error}. Mend that line.") from error
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_problem(e["loc"], e["type"], e["msg"]) for e in error.errors())
        raise BadInput(f"{file} cannot be used: {problems}. Mend the file.") from error


def _problem(loc: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(map(str, loc))
    if kind != "extra_forbidden":
        return f"{name}: {message}"
    known: Any = Settings
    for part in loc[:-1]:
        field = known.model_fields.get(str(part)) if hasattr(known, "model_fields") else None
        known = field.annotation if field else None
    names = list(getattr(known, "model_fields", {}))
    close = difflib.get_close_matches(str(loc[-1]), names, n=1)
    guess = f", did you mean {close[0]!r}" if close else f", known are {', '.join(names)}"
    return f"{name} is no setting{guess}"


# Clearing away what an earlier attempt left. Nothing is deleted: it moves to .trash/<time>/.


@dataclass(frozen=True)
class Move:
    """A path that a reset would move away or brings back, or must leave, and why."""

    path: str
    leave: str | None = None


def plan_reset(root: Path, paths: tuple[str, ...]) -> list[Move]:
    """What a reset of these paths would do; nothing is touched.

    A path stays when it is missing, leads out of the folder, or is, holds or lies in `data/raw`
    or `data/processed`, be it through `..`, a link or another spelling.
    """
    root = root.resolve()
    moves: list[Move] = []
    taken: list[Path] = []
    for path in sorted(paths, key=lambda p: len(Path(os.path.normpath(p)).parts)):
        # What is checked is what is moved: `link/..` means one thing to the system, another here.
        place = Path(os.path.normpath(root / path))
        leave = _reason_to_leave(root, place)
        if leave is None and any(place.is_relative_to(other) for other in taken):
            leave = "goes with the folder it is in"
        if leave is None:
            taken.append(place)
            path = place.relative_to(root).as_posix()
        moves.append(Move(path, leave))
    return moves


def reset(root: Path, moves: list[Move]) -> Path:
    """Moves what `plan_reset` allows into `.trash/<time>/` and returns that folder."""
    root = root.resolve()
    # Asked once more, so that moves made up elsewhere cannot touch what is protected.
    allowed = [m.path for m in plan_reset(root, tuple(m.path for m in moves)) if m.leave is None]
    trash = root / ".trash" / datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    (trash / _FILES).mkdir(parents=True)
    # Written first, so that undo also works after a reset that died half-way.
    (trash / _MANIFEST).write_text(json.dumps(allowed), encoding="utf-8")
    for path in allowed:
        there = trash / _FILES / path
        there.parent.mkdir(parents=True, exist_ok=True)
        os.rename(root / path, there)
    return trash


def undo_reset(root: Path) -> list[Move]:
    """Brings back what the last reset moved away.

    Raises:
        BadInput: There is no reset to undo, or something stands in the way.
    """
    root = root.resolve()
    resets = sorted(f.parent for f in (root / ".trash").glob(f"*/{_MANIFEST}"))
    if not resets:
        raise BadInput(f"There is no reset to undo in {root}. Nothing was changed.")
    trash = resets[-1]
    files = trash / _FILES
    paths = json.loads((trash / _MANIFEST).read_text(encoding="utf-8"))
    here = [p for p in paths if os.path.lexists(files / p)]
    blocked = [p for p in here if os.path.lexists(root / p)]
    if blocked:
        raise BadInput(
            f"{', '.join(blocked)} exist again. Move them away, then run versecraft reset --undo."
        )
    for path in here:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        os.rename(files / path, root / path)
    shutil.rmtree(trash)
    return [Move(path) for path in here]


def _reason_to_leave(root: Path, place: Path) -> str | None:
    if not os.path.lexists(place):
        return "is not there"
    real = place.resolve()
    if not place.is_relative_to(root) or not place.parent.resolve().is_relative_to(root):
        return "leads out of this folder"
    if place == root:
        return "is the folder itself"
    for name in _PROTECTED:
        kept = root / name
        if not os.path.lexists(kept):
            continue
        for one, other in ((place, kept), (real, kept.resolve())):
            if one.is_relative_to(other) or other.is_relative_to(one):
                return f"is, holds or leads to {name}"
        for link in (p for p in kept.rglob("*") if p.is_symlink()):
            if link.resolve().is_relative_to(real):
                return f"holds what {link.relative_to(root)} leads to"
        # Another spelling of the same folder, where the file system ignores case.
        if any(p.exists() and kept.exists() and p.samefile(kept) for p in (real, *real.parents)):
            return f"is {name} under another name"
    if place.is_relative_to(root / ".trash"):
        return "is the trash"
    return None
