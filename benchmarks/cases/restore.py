"""A restore: ours beside libxenguest's, and beside a bare read of the same bytes into memory."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import pyxcsr
from benchmarks.context import Context
from benchmarks.goals import RESTORED
from benchmarks.guests import describe, machine, memory_of, pages_of
from benchmarks.measure import Seconds, in_turn, less_stub, timed
from benchmarks.native import pump, reference
from benchmarks.rows import Goal, Row, compared
from benchmarks.savers import Ours

OF_BARE = Goal(0.95)
HEAD_START = 0.02
"""How many seconds the process that feeds a socket has to begin."""


@contextmanager
def _file(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _fed(path: Path) -> Iterator[int]:
    """A socket from which the file comes."""
    ours, theirs = socket.socketpair()
    with ours, subprocess.Popen([str(pump()), "feed", str(path), "1"], stdout=theirs.fileno()) as process:
        theirs.close()
        time.sleep(HEAD_START)
        yield ours.fileno()
        process.wait()


class Bench:
    """A stream, the bytes of its pages, and domains to restore into, one at a time."""

    def __init__(self, context: Context, hv: Any, size: str, folder: Path) -> None:
        self.hv, self.size, self.library, self.repeats = hv, size, context.library, context.repeats
        self.pages = pages_of(size)
        self.stream, self.raw = folder / f"stream-{os.getpid()}", folder / f"raw-{os.getpid()}"
        self.ffi, self.lib = reference()
        self._save()
        self._memory = mmap.mmap(-1, self.pages * 4096)
        self.memory = self.ffi.from_buffer("char[]", self._memory)
        self.lib.ref_touch(self.memory, self.pages)

    def _save(self) -> None:
        domid = self.hv.stub.create(describe(self.size))
        with open(self.stream, "wb") as out:
            Ours(self.hv, domid).save(out.fileno())
        with open(self.raw, "wb") as out, memory_of(self.hv, domid, self.pages) as mapping:
            address = self.ffi.cast("void *", int(self.hv._ffi.cast("uintptr_t", mapping._cdata)))
            assert self.lib.ref_writev(out.fileno(), address, self.pages) == 0
        self.hv.stub.destroy(domid)

    def close(self) -> None:
        """Removes the files."""
        self.stream.unlink()
        self.raw.unlink()

    def bare(self, source: Any) -> float:
        """How long a bare read takes, in seconds."""
        with source(self.raw) as fd:
            return timed(lambda: self._bare(fd))

    def _bare(self, fd: int) -> None:
        rc = self.lib.ref_read_pages(fd, self.memory, self.pages)
        if rc:
            raise OSError(-rc, "the bare read failed")

    def _restored(self, source: Any, restore: Callable[[int, int], None]) -> float:
        domid = self.hv.stub.create_empty(self.size)
        with source(self.stream) as fd:
            before = self.hv.stub.inside
            seconds = timed(lambda: restore(domid, fd))
            inside = self.hv.stub.inside - before
        self.hv.stub.destroy(domid)
        return Seconds(seconds, inside)

    def ours(self, source: Any) -> float:
        """How long our restore takes, in seconds."""
        return self._restored(source, self._by_pyxcsr)

    def _by_pyxcsr(self, domid: int, fd: int) -> None:
        pyxcsr.restore(self.hv, domid, fd, store_evtchn=1, console_evtchn=2)

    def theirs(self, source: Any) -> float:
        """How long libxenguest's restore takes, in seconds."""
        return self._restored(source, self._by_libxenguest)

    def _by_libxenguest(self, domid: int, fd: int) -> None:
        assert self.library is not None
        done = self.library.restore(fd, domid, store_evtchn=1, console_evtchn=2)
        if done.rc:
            raise OSError(done.errno, "libxenguest's restore failed")

    def seconds(self, source: Any) -> dict[str, list[float]]:
        """The seconds that each way takes, in turn."""
        ways = {"bare": self.bare, "ours": self.ours}
        if self.library:
            ways["theirs"] = self.theirs
        return dict(zip(ways, in_turn(self.repeats, *(lambda way=x: way(source) for x in ways.values()))))


def _rows(what: str, pages: int, seconds: dict[str, list[float]]) -> Iterator[Row]:
    fields: dict[str, Any] = {"scale": 1e9 / pages, "unit": "ns/page"}
    names, title = ("bare read", "ours"), f"from {what}: of bare read"
    yield compared("restore", title, seconds["bare"], seconds["ours"], goal=OF_BARE, names=names, **fields)
    net = less_stub(seconds["ours"])
    yield compared("restore", f"{title}, less the stub's part", seconds["bare"], net, names=names, **fields)
    if "theirs" in seconds:
        names, title = ("libxenguest", "ours"), f"from {what}: over libxenguest"
        yield compared("restore", title, seconds["theirs"], seconds["ours"], goal=RESTORED, names=names, **fields)


def run(context: Context) -> Iterator[Row]:
    """Rows for a file in memory and a socket."""
    size = context.size("1G", "16M")
    with machine(size) as hv:
        bench = Bench(context, hv, size, Path("/dev/shm"))
        try:
            for what, source in (("tmpfs", _file), ("socketpair", _fed)):
                context.say(f"restore of {size} from {what}")
                yield from _rows(what, bench.pages, bench.seconds(source))
        finally:
            bench.close()
