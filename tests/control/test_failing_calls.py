"""Each call that a save's control makes into the system fails, the first of its kind, a later one and the last one: the
save succeeds all the same, and so does the next one, with its socket and its lock."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from support.judge import judge

import pyxcsr
from control.scene import GUEST, save
from pyxcsr.control import aside, folder, lock, outlet, server
from pyxcsr.hypervisor.open import StubBackend

MODULES = (aside, folder, lock, outlet, server)
SPARED = {"close", "fsencode", "fsdecode", "getpid", "geteuid", "path", "fspath"}
"""What cannot fail, or must not be left undone by a test."""

FAST = {"bandwidth": "24M"}
ERRNOS = {"open": errno.EMFILE, "mkdir": errno.EACCES, "write": errno.ENOSPC, "flock": errno.ENOLCK}
Call = tuple[str, str]

FAILED = {"_socket": 4, "aside": 2, "folder": 3, "lock": 8, "outlet": 3, "server": 6}
"""The modules whose calls fail, and how many have to at least."""


class Counted:
    """A module whose functions count, by name; the ``nth`` call of ``fails`` raises."""

    def __init__(self, where: str, real: Any, calls: Counter[Call], fails: Optional[Call], nth: int) -> None:
        self._where, self._real, self._calls, self._fails, self._nth = where, real, calls, fails, nth

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if not callable(real) or (isinstance(real, type) and name != "socket") or name in SPARED:
            return real
        call = self._where, name

        def counted(*args: Any, **more: Any) -> Any:
            self._calls[call] += 1
            if call == self._fails and self._calls[call] == self._nth:
                raise OSError(ERRNOS.get(name, errno.EIO), f"{name} fails")
            made = real(*args, **more)
            if name != "socket":
                return made
            return Counted(f"{self._where}.{name}", made, self._calls, self._fails, self._nth)

        return counted


@contextlib.contextmanager
def counting(fails: Optional[Call] = None, nth: int = 0) -> Iterator[Counter[Call]]:
    calls: Counter[Call] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for module in MODULES:
            for name in ("os", "fcntl"):
                if hasattr(module, name):
                    where = module.__name__.rpartition(".")[2]
                    patch.setattr(module, name, Counted(where, getattr(module, name), calls, fails, nth))
        patch.setitem(sys.modules, "_socket", Counted("_socket", sys.modules["_socket"], calls, fails, nth))
        yield calls


def watch(path: Path, stop: threading.Event) -> None:
    """A client that does all that one can, for as long as the save has a socket."""
    while not stop.is_set():
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0.5)
            client.connect(str(path))
            for line in b'{"pyxcsr": 1, "do": "watch"}', b'{"pyxcsr": 1, "do": "tune", "max_downtime": "2s"}', b"x":
                client.sendall(line + b"\n")
            while client.recv(4096) and not stop.is_set():
                pass
        time.sleep(0.01)


def saved(hv: StubBackend, domid: int, path: Path, run_dir: Path) -> pyxcsr.SaveReport:
    """With a client and a file of events."""
    stop = threading.Event()
    thread = threading.Thread(target=watch, args=(run_dir / f"{domid}.sock", stop))
    thread.start()
    try:
        return save(hv, domid, path, run_dir, events=str(path.with_name("events")), policy="adaptive", **FAST)
    finally:
        stop.set()
        thread.join()


def usual_calls(hv: StubBackend, domid: int, image: Path, run_dir: Path) -> Counter[Call]:
    """Those of a save in which nothing fails."""
    with counting() as usual:
        assert saved(hv, domid, image, run_dir).warnings == []
    hv.domain_resume(domid)
    return usual


@pytest.mark.parametrize("module", FAILED)
def test_each_call_fails(
    module: str, hv: StubBackend, tmp_path: Path, run_dir: Path, patient: None
) -> None:
    domid, image = hv.stub.create(GUEST), tmp_path / "s"
    usual = usual_calls(hv, domid, image, run_dir)
    assert {where.partition(".")[0] for where, _ in usual} == set(FAILED), "none is left out"
    assert {"flock", "open", "unlink", "bind", "listen", "fchmod"} <= {name for _, name in usual}, usual
    failed = 0
    for call, times in sorted(x for x in usual.items() if x[0][0].partition(".")[0] == module):
        for nth in sorted({1, (times + 1) // 2, times}):
            before = len(os.listdir("/proc/self/fd"))
            with counting(call, nth) as calls:
                try:
                    report: Optional[pyxcsr.SaveReport] = saved(hv, domid, image, run_dir)
                except pyxcsr.UsageError as error:  # a file of events that cannot be opened, as with any wrong argument
                    assert call[0] == "outlet" and "events cannot be written to" in str(error)
                    report = None
            assert len(os.listdir("/proc/self/fd")) <= before, (call, nth, "something is left open")
            failed += calls[call] >= nth
            if report is not None:
                judge(hv, domid, image)
                assert len(report.warnings) <= 2, (call, nth, report.warnings)
                hv.domain_resume(domid)
            state = hv.stub.guest(domid).state()
            assert state.running and not state.logdirty, (call, nth)
    assert failed >= FAILED[module], failed
    assert saved(hv, domid, image, run_dir).warnings == [] and list(run_dir.iterdir()) == []

