"""A small machine: hostile guests are small, and there are many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend

FRAMES = 1 << 14


@pytest.fixture
def hv() -> Iterator[StubBackend]:
    """As in tests/conftest.py, on a machine of 64 MiB."""
    backend = pyxcsr.open_hypervisor("stub")
    assert isinstance(backend, StubBackend)
    backend.stub.reset(frames=FRAMES)
    with backend:
        yield backend
        for domid in list(backend.stub.domains):
            backend.stub.destroy(domid)
    leaks = backend.stub.leaks()
    backend.stub.reset()
    assert leaks == {}, f"left behind: {leaks}"
