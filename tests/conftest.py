"""What all tests share: a stub hypervisor that is made anew for each test, and checked for leaks after it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from support.lacks import lacking

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.switches import VARIABLE


def pytest_configure() -> None:
    """A shell's background job ignores SIGINT and SIGQUIT, and so would all that tests start and interrupt."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where nothing may be missing, a run whose tests were skipped because something is has failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # a worker process: what started it counts
        return
    reasons = [x.longrepr[2] for x in reporter.stats.get("skipped", ()) if isinstance(x.longrepr, tuple)]
    missing = lacking(reasons)
    if missing:
        reporter.write_line("\nskipped, but may not be here:\n" + "\n".join(missing), red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def with_all_paths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what paths do that can be switched off. All others must pass without them, too."""
    if request.node.get_closest_marker("paths") is not None:
        monkeypatch.delenv(VARIABLE, raising=False)


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
