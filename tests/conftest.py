"""Fixtures: the loopback model server in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class ModelServer:
    """A running `messages_server.py`."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def faults(self, **faults: float) -> None:
        """Sets the faults, and forgets what was asked so far, batches and cache included."""
        self._set("faults", faults)

    def change(self, **faults: float) -> None:
        """Sets the faults, and forgets nothing."""
        self._set("faults?keep=1", faults)

    def stats(self) -> dict[str, Any]:
        """What the server was asked and answered since `faults`."""
        with urllib.request.urlopen(f"{self.url}/stats") as response:
            return dict(json.load(response))

    def paid(self) -> dict[str, dict[str, int]]:
        """How often each was paid since `faults`: turn digests under "live", ids under "batch"."""
        with urllib.request.urlopen(f"{self.url}/paid") as response:
            return dict(json.load(response))

    def _set(self, path: str, faults: dict[str, float]) -> None:
        request = urllib.request.Request(f"{self.url}/{path}", json.dumps(faults).encode())
        with urllib.request.urlopen(request):
            pass


@pytest.fixture(scope="session")
def _model_server() -> Iterator[ModelServer]:
    script = Path(__file__).with_name("messages_server.py")
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield ModelServer(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def model_server(_model_server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> ModelServer:
    """The loopback server without faults, with the SDK's environment pointing at it."""
    _model_server.faults()
    monkeypatch.setenv("ANTHROPIC_BASE_URL", _model_server.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test-0123456789")
    return _model_server
