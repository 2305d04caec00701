"""The whole way on the sample, offline and at no cost: poems in, a balanced training set out.

python examples/sample_run.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich import print as show

import versecraft as vc
from versecraft.phases import PHASES, Project


def main(folder: Path) -> None:
    if not (folder / "versecraft.toml").exists():
        vc.Workspace.init(folder, sample=True)
    project = Project(vc.Workspace.open(folder))
    show(project.corpus)
    show(project.match())
    for phase in PHASES.values():
        for step in phase:
            run = vc.generate(project.plan(step))
            project.leave(step, run)
            show(run.report())
    mixture = vc.Balancer().balance(project.examples())
    show(mixture)
    for role in ("educator", "poet"):
        data = vc.build_dataset(mixture, role=role, valid=0.1)
        show(data)
        print("Written to", data.write(folder / "data" / f"{role}_training"))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "versecraft-sample"))
