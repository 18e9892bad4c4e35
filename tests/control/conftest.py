"""A folder for sockets and locks of each test's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyxcsr.control.outlet import EventsFile


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Not made yet. Below a folder with a short name: a socket's path has 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="pyxcsr") as parent:
        yield Path(parent) / "run"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A save waits until its last event is in the file, however busy this machine is: for tests that read the file."""
    monkeypatch.setattr(EventsFile.finish, "__defaults__", (60.0,))
