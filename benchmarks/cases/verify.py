"""Verifying a stream in memory: a file, of which pages are passed over, and a pipe, beside Xen's own verifier.

All by processor time, in one process; the pipe's other end is a process of its own. Xen's verifier is a part of
Debian's xen-utils-4.17; without it its rows are left out. It looks at the structure alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import pyxcsr
from benchmarks.context import Context
from benchmarks.guests import machine
from benchmarks.measure import Action, computed, in_turn
from benchmarks.rows import Goal, Row, compared, of_values
from pyxcsr.hypervisor.stub.text import StubGuest
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.rules.verify import verify

SPEED, OVER_XEN = Goal(2.0), Goal(4.0)
LIBRARIES = Path("/usr/lib")


def _saved(guest: StubGuest, size: str, path: Path) -> None:
    with machine(size) as hv, path.open("wb") as out:
        domid = hv.stub.create(guest)
        pyxcsr.save(hv, domid, out, live=False)
        hv.stub.destroy(domid)


def _by_pyxcsr(fd: int) -> None:
    report = verify(StreamReader(fd))
    assert report.ok, report.complaints


def _by_xen() -> Optional[Callable[[int], None]]:
    """Xen's verifier, if it is installed."""
    for library in sorted(LIBRARIES.glob("xen-*/lib/python"), reverse=True):
        if (library / "xen" / "migration" / "libxc.py").exists():
            sys.path.append(str(library))
            from xen.migration.libxc import VerifyLibxc  # type: ignore[import-not-found]

            return lambda fd: _run(VerifyLibxc, fd)
    return None


def _run(verifier: Any, fd: int) -> None:
    with open(fd, "rb", closefd=False) as file:

        def exactly(size: int) -> bytes:
            got = file.read(size)
            if len(got) != size:
                raise OSError("Stream truncated")
            return got

        verifier(lambda _: None, exactly).verify()


def _of_file(path: Path, way: Callable[[int], None]) -> Action:
    def action() -> float:
        with path.open("rb", buffering=0) as file:
            return computed(lambda: way(file.fileno()))

    return action


def _of_pipe(path: Path, way: Callable[[int], None]) -> Action:
    def action() -> float:
        with subprocess.Popen(["cat", os.fspath(path)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            return computed(lambda: way(child.stdout.fileno()))  # type: ignore[union-attr]

    return action


def run(context: Context) -> Iterator[Row]:
    """The rows."""
    size = context.size("1G", "8M")
    guests = {"PV": StubGuest.pv64(mem=size, writer="none"), "PVH": StubGuest.pvh(mem=size, writer="none")}
    theirs = _by_xen()
    for kind, guest in guests.items():
        path = Path(f"/dev/shm/verify-{os.getpid()}")
        context.say(f"verifying a {kind} guest's stream of {size}")
        try:
            _saved(guest, size, path)
            yield from _rows(context, f"{kind}, {size}", path, theirs)
        finally:
            path.unlink(missing_ok=True)


def _rows(context: Context, what: str, path: Path, theirs: Optional[Callable[[int], None]]) -> Iterator[Row]:
    ways = [_by_pyxcsr] if theirs is None else [_by_pyxcsr, theirs]
    gigabytes = path.stat().st_size / 1e9
    for where, of, goal in (("a file in memory", _of_file, SPEED), ("a pipe", _of_pipe, None)):
        seconds = in_turn(context.repeats, *(of(path, way) for way in ways))
        speed = [gigabytes / x for x in seconds[0]]
        yield of_values("verify", f"{what}, {where}: ours", speed, unit="GB/s", goal=goal)
        if theirs is not None:
            beside = OVER_XEN if goal else None
            fields: dict[str, Any] = {"goal": beside, "names": ("Xen's", "ours"), "scale": 1e3, "unit": "ms"}
            yield compared("verify", f"{what}, {where}: over Xen's verifier", seconds[1], seconds[0], **fields)
