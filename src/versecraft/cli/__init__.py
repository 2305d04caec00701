"""The command line: each command parses, calls one function and prints its result."""

from __future__ import annotations

import sys
import warnings
from typing import NoReturn

from ..errors import VersecraftError
from . import checking as checking
from . import data as data
from . import evaluation as evaluation
from . import project as project
from . import publishing as publishing
from . import quickstart as quickstart
from . import reporting as reporting
from . import reviewing as reviewing
from . import training as training
from . import writing as writing
from .app import app, say, show_warning

__all__ = ["app", "main"]


def main() -> NoReturn:
    """Runs the command line; errors of versecraft become a message and exit code 1."""
    with warnings.catch_warnings(record=False):
        warnings.showwarning = show_warning
        try:
            app()
        except VersecraftError as error:
            say(f"Error: {error}")
            sys.exit(1)
        except OSError as error:
            say(f"Error: {error}. Make room or mend the path, then run it again; nothing is lost.")
            sys.exit(1)
    sys.exit(0)
