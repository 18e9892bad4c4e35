"""Files that are brought to the disk while they are written."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.judge import judge

import pyxcsr
from pyxcsr.hypervisor import backend
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer.save import save

MIB = 1 << 20
WINDOW, STEP = 32 * MIB, 8 * MIB


def never() -> None:
    raise AssertionError("a file is not slow")


def arrived(hv: StubBackend, sink: backend.Sink) -> int:
    return int(hv._lib.xcsr_sink_arrived(sink._live()))


@pytest.fixture
def seen(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes were known to be on the disk when a sink was closed."""
    found: list[int] = []
    close = backend.Sink.close

    def watch(sink: backend.Sink) -> None:
        if sink._cdata is not None:
            found.append(arrived(hv, sink))
        close(sink)

    monkeypatch.setattr(backend.Sink, "close", watch)
    return found


@pytest.mark.parametrize("before", [b"what was there"])
@pytest.mark.parametrize("flags", [0, os.O_APPEND])
def test_no_more_than_the_window_is_left(hv: StubBackend, tmp_path: Path, before: bytes, flags: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(before)
    fd = os.open(path, os.O_WRONLY | flags)
    os.lseek(fd, 0, os.SEEK_END)
    piece = os.urandom(3 * MIB + 8)
    sink = hv.open_sink(fd)
    sink.durable(16 * len(piece))
    assert os.fstat(fd).st_size == len(before)
    for nr in range(1, 17):
        sink.write(piece, never)
        written = nr * len(piece)
        assert arrived(hv, sink) == max(0, (written - WINDOW) // STEP * STEP)
    sink.close()
    os.fsync(fd)
    os.close(fd)
    assert path.read_bytes() == before + 16 * piece


def test_room_is_asked_for_at_once(hv: StubBackend, tmp_path: Path) -> None:
    with open(tmp_path / "f", "wb") as out:
        try:
            os.posix_fallocate(out.fileno(), 0, 4096)
        except OSError:
            pytest.skip("this file system cannot")
        sink = hv.open_sink(out.fileno())
        sink.durable(20 * MIB)
        assert os.fstat(out.fileno()).st_blocks * 512 >= 20 * MIB
        sink.close()


def test_other_outputs_are_written_to_as_before(hv: StubBackend) -> None:
    with open("/dev/null", "wb") as out:
        sink = hv.open_sink(out.fileno())
        sink.durable(MIB)
        sink.write(bytes(64 * MIB), never)
        assert arrived(hv, sink) == 0
        sink.close()


def test_a_file_that_cannot_be_brought_to_the_disk_is_left_to_the_fsync(hv: StubBackend, tmp_path: Path) -> None:
    with open(tmp_path / "f", "wb") as out, open("/dev/null", "wb") as null:
        sink = hv.open_sink(out.fileno())
        sink.durable(MIB)
        os.dup2(null.fileno(), out.fileno())  # sync_file_range refuses a device
        sink.write(bytes(64 * MIB), never)
        assert arrived(hv, sink) == 0 and sink.offset == 64 * MIB
        sink.close()


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
def test_a_paused_guest_does_not_wait_for_the_disk(
    hv: StubBackend, tmp_path: Path, seen: list[int], live: bool
) -> None:
    hv.stub.reset(frames=1 << 16)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="48M", writes=0, pt_updates=0))
    with open(tmp_path / "s", "wb") as out:
        save(hv, domid, out, live=live, durable=True)
    assert seen == [48 * MIB - WINDOW if live else 0]
    judge(hv, domid, tmp_path / "s")


def test_a_guest_that_is_paused_in_a_live_pass_does_not_either(
    hv: StubBackend, tmp_path: Path, seen: list[int]
) -> None:
    """All of the first pass is written while it is, since it is asked for before the first page."""
    hv.stub.reset(frames=1 << 16)
    domid, limits = hv.stub.create(pyxcsr.StubGuest.pv64(mem="48M", writes=0, pt_updates=0)), pyxcsr.Limits()
    limits.suspend_now = True
    with open(tmp_path / "s", "wb") as out:
        report = save(hv, domid, out, durable=True, limits=limits)
    assert [x.suspended for x in report.passes] == [False, True] and report.passes[0].bytes > 47 * MIB
    assert seen == [0]
    judge(hv, domid, tmp_path / "s")


@pytest.fixture
def small_files() -> Iterator[None]:
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * MIB, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_no_room_is_told_by_the_write(hv: StubBackend, tmp_path: Path, small_files: None) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="16M"))
    with open(tmp_path / "s", "wb") as out, pytest.raises(pyxcsr.OutputError) as caught:
        save(hv, domid, out, durable=True)
    assert caught.value.errno == errno.EFBIG and caught.value.offset == 10 * MIB
    assert hv.stub.guest(domid).running and hv.stub.leaks() == {}
