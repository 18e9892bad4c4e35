"""A hypervisor on a machine as it was at first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend


@contextmanager
def anew() -> Iterator[StubBackend]:
    """So that the same guest does the same."""
    with pyxcsr.open_hypervisor("stub") as backend:
        assert isinstance(backend, StubBackend)
        backend.stub.reset()
        yield backend
