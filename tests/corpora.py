"""Real corpora, which are not part of the repository: tests that read them skip without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CORPORA = Path(
    os.environ.get("VERSECRAFT_CORPORA") or Path(__file__).parents[2] / "shared" / "corpora"
)
needs_corpora = pytest.mark.skipif(
    not CORPORA.is_dir(), reason=f"no corpora in {CORPORA}; set VERSECRAFT_CORPORA"
)
