"""Contrastive training data and small fine-tuned models for poetry.

An educator reads a poem as a workshop teacher does; a poet turns a brief into a poem and nothing
but a poem. Every name here is a plain function, a frozen record or a value; importing them loads
no model library.
"""

from . import errors as errors
from . import testing as testing
from .answers import Answer, Loc
from .backends import Backend, BatchBackend, BatchState, Price, Reply, Request
from .backwards import pairs_of
from .balancing import Balancer
from .batching import cancel
from .corpus import read_corpus
from .dataset import build_dataset
from .evaluating import evaluate
from .exporting import export
from .figures import Report
from .generating import generate
from .hookspecs import hookimpl
from .kinds import Kind, KindReport, classify
from .matching import Matcher, Matches
from .overview import WorkspaceReport
from .planning import items, plan
from .plugins import get_backend, get_task, get_trainer, list_backends, list_tasks
from .prompting import Prompt
from .publishing import publish
from .records import Corpus, Example, Item, Match, Poem, Row, Usage
from .reporting import report
from .runs import Plan, Run, read_run
from .sessions import Session
from .tasks import PromptTask, Task
from .trainers import Checkpoint, Trainer
from .training_data import Mixture, Split
from .workshop import Workshop
from .workspace import Workspace
from .xray import XRay, xray

__all__ = [
    "Answer",
    "Backend",
    "Balancer",
    "BatchBackend",
    "BatchState",
    "Checkpoint",
    "Corpus",
    "Example",
    "Item",
    "Kind",
    "KindReport",
    "Loc",
    "Match",
    "Matcher",
    "Matches",
    "Mixture",
    "Plan",
    "Poem",
    "Price",
    "Prompt",
    "PromptTask",
    "Reply",
    "Report",
    "Request",
    "Row",
    "Run",
    "Session",
    "Split",
    "Task",
    "Trainer",
    "Usage",
    "Workshop",
    "Workspace",
    "WorkspaceReport",
    "XRay",
    "build_dataset",
    "cancel",
    "classify",
    "errors",
    "evaluate",
    "export",
    "generate",
    "get_backend",
    "get_task",
    "get_trainer",
    "hookimpl",
    "items",
    "list_backends",
    "list_tasks",
    "pairs_of",
    "plan",
    "publish",
    "read_corpus",
    "read_run",
    "report",
    "testing",
    "xray",
]
