"""What all tests share: a stub hypervisor that is made anew for each test, and checked for leaks after it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend


def pytest_configure() -> None:
    """A shell's background job ignores SIGINT, and so would all that tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def hv() -> Iterator[StubBackend]:
    """An open stub hypervisor. After the test nothing may be mapped, tracked or held."""
    backend = pyxcsr.open_hypervisor("stub")
    assert isinstance(backend, StubBackend)
    backend.stub.reset()
    with backend:
        yield backend
        domains = list(backend.stub.domains)
        for domid in domains:
            backend.stub.destroy(domid)
    leaks = backend.stub.leaks()
    backend.stub.reset()
    assert leaks == {}, f"left behind: {leaks}"
