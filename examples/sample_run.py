"""The whole way on the sample, offline and at no cost: poems in, balanced training sets out.

python examples/sample_run.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich import print as show

import versecraft as vc
from versecraft.phases import PHASES, Project


def main(folder: Path) -> None:
    """Runs every phase in `folder`; what is answered already is not asked again."""
    if not (folder / "versecraft.toml").exists():
        vc.Workspace.init(folder, sample=True)
    project = Project(vc.Workspace.open(folder))
    show(project.corpus)
    show(project.match())
    for step in (step for phase in PHASES.values() for step in phase):
        run = vc.generate(project.plan(step), progress=False)
        project.leave(step)
        print(f"{step.phase} {step.task}: {run.answered} answered, {run.cached} there already")
    examples = list(project.examples())
    for role in ("poet", "educator"):
        mixture = vc.Balancer().balance(e for e in examples if e.role == role)
        data = vc.build_dataset(mixture, role=role)
        where = data.write(folder / "data" / f"{role}_training")
        print(f"{role}: {len(data.train)} rows to train on, {len(data.valid)} held out, in {where}")
    show(mixture)
    print("The answers were written for the sample. With poems and a key of your own:")
    print("  versecraft init PROJECT, then versecraft --help")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "versecraft-sample"))
