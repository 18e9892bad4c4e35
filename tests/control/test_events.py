"""Events of a save in a file or on a descriptor; whatever becomes of these, the save goes on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest
from support.judge import judge

import pyxcsr
from control.scene import GUEST, save, wait_for
from pyxcsr.control import outlet
from pyxcsr.control.aside import Aside
from pyxcsr.control.control import Control
from pyxcsr.control.outlet import MOST, EventsFile, Outlet
from pyxcsr.hypervisor.open import StubBackend

FAST = {"bandwidth": None}


def lines(data: bytes) -> list[dict[str, Any]]:
    assert data.endswith(b"\n")
    return [json.loads(x) for x in data.splitlines()]


def kinds(data: bytes) -> list[str]:
    return [x["event"] for x in lines(data)]


def test_a_file(hv: StubBackend, tmp_path: Path, patient: None) -> None:
    domid = hv.stub.create(GUEST)
    path = tmp_path / "events"
    path.write_text('{"what": "was there"}\n')
    report = save(hv, domid, tmp_path / "s", None, events=str(path), **FAST)
    data = path.read_bytes()
    assert data.startswith(b'{"what": "was there"}\n'), "it is appended to"
    told = lines(data)[1:]
    assert report.warnings == [] and told[0]["event"] == "begin" and told[-1]["event"] == "end"
    assert told[0]["policy"] == told[-1]["policy"] == "libxc"
    passes = [x for x in told if x["event"] == "pass"]
    assert [(x["iteration"], x["dirty"], x["pages"], x["bytes"]) for x in passes] == [
        (x.iteration, x.dirty, x.pages, x.bytes) for x in report.passes
    ]
    phases = [x["phase"] for x in told if x["event"] == "progress"]
    assert phases[0] == "setup" and phases[-1] == "done" and "suspend" in phases
    assert told[-1]["bytes"] == report.bytes and told[-1]["predicted_pause"] == report.predicted_pause
    assert [x["time"] for x in told] == sorted(x["time"] for x in told)
    assert save(hv, domid, tmp_path / "s", None, events=str(path), live=False, **FAST).warnings == []
    assert kinds(path.read_bytes()[len(data) :])[0] == "begin"


def test_a_save_that_fails(hv: StubBackend, tmp_path: Path, patient: None) -> None:
    hv.stub.fail("xc_logdirty_control", 1, 5)
    path = tmp_path / "events"
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", suspend="crash"))
    with pytest.raises(pyxcsr.XcsrError):
        save(hv, domid, tmp_path / "s", None, events=str(path), **FAST)
    end = lines(path.read_bytes())[-1]
    assert (end["event"], end["result"], end["stream_complete"]) == ("end", "failed", False)
    assert end["error"] in ("HypervisorError", "SuspendError", "DomainDying") and end["message"]


@pytest.mark.parametrize("kind", ["pipe", "socket", "file"])
def test_a_descriptor(hv: StubBackend, tmp_path: Path, kind: str) -> None:
    domid = hv.stub.create(GUEST)
    if kind == "pipe":
        ours, theirs = os.pipe()
    elif kind == "socket":
        ours, theirs = (x.detach() for x in socket.socketpair())
    else:
        theirs = os.open(tmp_path / "events", os.O_RDWR | os.O_CREAT)
        os.write(theirs, b'{"event": "before"}\n')
        ours = os.open(tmp_path / "events", os.O_RDONLY)
    report = save(hv, domid, tmp_path / "s", None, events=theirs, **FAST)
    assert report.warnings == [] and os.get_blocking(theirs), "the caller's descriptor is left as it is"
    os.close(theirs)
    with open(ours, "rb") as reader:
        told = kinds(reader.read())
    assert told[-1] == "end" and told[0] == ("before" if kind == "file" else "begin")


@pytest.mark.parametrize("kind", ["pipe", "pipe without proc", "socket"])
def test_nobody_reads(hv: StubBackend, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The save does not wait for a reader that stands still; what does not fit is left out, whole lines of it."""
    domid = hv.stub.create(GUEST)
    if kind == "pipe without proc":
        opened = os.open
        elsewhere = lambda path, *args, **more: opened(str(path).replace("proc", "X"), *args, **more)  # noqa: E731
        monkeypatch.setattr(os, "open", elsewhere)
    if kind != "socket":
        ours, theirs = os.pipe()
        os.set_blocking(theirs, False)
    else:
        ours, theirs = (x.detach() for x in socket.socketpair())
        os.set_blocking(theirs, False)
    try:
        while True:
            os.write(theirs, b" " * 4095 + b"\n")
    except BlockingIOError:
        os.set_blocking(theirs, True)
    report = save(hv, domid, tmp_path / "s", None, events=theirs, **FAST)
    assert report.seconds < 10 and len(report.warnings) == 1
    assert f"events were not written to {theirs}: it does not take them fast enough" in report.warnings[0]
    judge(hv, domid, tmp_path / "s")
    os.close(theirs)
    os.close(ours)


def test_a_disk_that_does_not_answer(hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of a server that is away: the save does not wait for it, and says how much is missing."""
    answers, write, path = threading.Event(), os.write, tmp_path / "events"

    def slow(fd: int, data: Any) -> int:
        if os.path.samestat(os.fstat(fd), path.stat()):
            answers.wait(60)
        return write(fd, data)

    domid, before = hv.stub.create(GUEST), len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "write", slow)
    report = save(hv, domid, tmp_path / "s", None, events=str(path), **FAST)
    assert report.seconds < 10 and len(report.warnings) == 1 and "events were not written" in report.warnings[0]
    missing = int(report.warnings[0].split()[0])
    judge(hv, domid, tmp_path / "s")
    assert path.read_bytes() == b"" and missing > 5
    answers.set()
    wait_for(path.read_bytes)
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before)  # the thread has closed what it had in hand
    assert kinds(path.read_bytes()) == ["begin"], "what waited is given up"


def test_a_reader_that_is_too_slow_at_first(hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last event tells how many are missing before it, and comes whatever is missing."""
    domid = hv.stub.create(GUEST)
    monkeypatch.setattr(outlet, "MOST", 2000)
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(theirs, b" " * 4095 + b"\n")
    os.set_blocking(theirs, True)
    read = bytearray()

    def reads(now: pyxcsr.Progress) -> None:
        if now.phase == "done":
            read.extend(os.read(ours, 1 << 20))

    report = save(hv, domid, tmp_path / "s", None, events=theirs, progress=reads, **FAST)
    os.close(theirs)
    with open(ours, "rb") as reader:
        told = [json.loads(x) for x in (bytes(read) + reader.read()).splitlines() if x.strip()]
    assert told[0]["event"] == "begin" and told[-1]["event"] == "end" and told[-1]["left_out"] > 0
    assert [x for x in report.warnings if x.startswith(f"{told[-1]['left_out']} events were not written")]


def test_a_piece_that_cannot_be_written_is_an_error_of_the_next(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    aside = Aside(full)
    assert aside.write(b"one\n") == 4
    wait_for(lambda: not aside.busy)
    for act in (aside.finish, lambda: aside.write(b"two\n")):
        with pytest.raises(OSError, match="No space left"):
            act()
    assert aside.leave()
    os.close(full)


def test_the_reader_has_gone(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(GUEST)
    with subprocess.Popen(["head", "-n", "1"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
        assert reader.stdin is not None
        gone = lambda now: reader.wait(10) if now.phase == "pass" else None  # noqa: E731
        report = save(hv, domid, tmp_path / "s", None, events=reader.stdin.fileno(), progress=gone, **FAST)
    assert len(report.warnings) == 1 and "any more: Broken pipe" in report.warnings[0]
    judge(hv, domid, tmp_path / "s")


def test_the_disk_is_full(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(GUEST)
    report = save(hv, domid, tmp_path / "s", None, events="/dev/full", **FAST)
    assert report.warnings == ["events cannot be written to /dev/full any more: No space left on device"]
    judge(hv, domid, tmp_path / "s")


@pytest.mark.parametrize("compress", [None, "zstd"])
@pytest.mark.parametrize("by", ["descriptor", "path"])
def test_where_the_stream_goes_no_events_go(
    hv: StubBackend, tmp_path: Path, compress: Optional[str], by: str
) -> None:
    """Also where a program stands between the save and its output."""
    if compress is not None and shutil.which(compress) is None:
        pytest.skip(f"{compress} is not installed")
    domid = hv.stub.create(GUEST)
    with open(tmp_path / "s", "wb") as out:
        events = out.fileno() if by == "descriptor" else os.fspath(tmp_path / "s")
        report = pyxcsr.save(hv, domid, out, control=Control("", events), compress=compress)
    assert len(report.warnings) == 1 and "the stream goes there" in report.warnings[0]
    if compress is not None:
        with open(tmp_path / "t", "wb") as plain:
            subprocess.run([compress, "-dcq", tmp_path / "s"], stdout=plain, check=True)
        os.replace(tmp_path / "t", tmp_path / "s")
    judge(hv, domid, tmp_path / "s")


@pytest.mark.parametrize("how", ["saved", "cancelled", "failed", "ended"])
def test_a_control_serves_one_save(hv: StubBackend, tmp_path: Path, how: str) -> None:
    """Its file is closed afterwards, and the descriptor's number may be the next stream's."""
    control, first, second = Control("", os.fspath(tmp_path / "e")), hv.stub.create(GUEST), hv.stub.create(GUEST)
    with open(os.devnull, "wb") as out:
        if how == "saved":
            pyxcsr.save(hv, first, out, control=control)
        elif how == "ended":
            control.end()
        else:
            with pytest.raises(pyxcsr.XcsrError):
                domid = first if how == "cancelled" else 77
                pyxcsr.save(hv, domid, out, control=control, cancel=lambda: how == "cancelled")
    with open(tmp_path / "s", "w+b") as out:
        with pytest.raises(pyxcsr.UsageError, match="make another one") as refused:
            pyxcsr.save(hv, second, out, control=control)
        assert out.read() == b""
    assert refused.value.untouched and hv.stub.guest(second).running


def test_a_control_that_serves_a_save_serves_no_other(
    hv: StubBackend, tmp_path: Path, run_dir: Path, patient: None
) -> None:
    """The first save keeps its lock, its socket and its file."""
    control = Control(os.fspath(run_dir), os.fspath(tmp_path / "e"))
    domid, other = hv.stub.create(GUEST), hv.stub.create(GUEST)
    refused: list[pyxcsr.UsageError] = []

    def progress(now: pyxcsr.Progress) -> None:
        if now.phase == "pass" and not refused:
            with open(os.devnull, "wb") as null, pytest.raises(pyxcsr.UsageError, match="make another one") as error:
                pyxcsr.save(hv, other, null, control=control)
            refused.append(error.value)
            assert sorted(x.name for x in run_dir.iterdir()) == [f"{domid}.lock", f"{domid}.sock"]

    with open(tmp_path / "s", "wb") as out:
        report = pyxcsr.save(hv, domid, out, control=control, progress=progress)
    assert len(refused) == 1 and report.warnings == []
    assert kinds((tmp_path / "e").read_bytes())[-1] == "end"


def test_a_file_that_is_left_writes_nowhere(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "one", os.O_WRONLY | os.O_CREAT)
    aside = Aside(fd)
    assert aside.leave()
    os.close(fd)
    with open(tmp_path / "two", "wb", buffering=0) as other:
        assert other.fileno() == fd, "it has the number"
        aside.write(b"a line\n")
        wait_for(lambda: not aside.busy)
    assert (tmp_path / "two").read_bytes() == b""


def test_a_stream_that_is_not_open(hv: StubBackend, tmp_path: Path) -> None:
    """Events change nothing about the error."""
    domid = hv.stub.create(GUEST)
    with pytest.raises(pyxcsr.OutputError, match="999 is not open"):
        pyxcsr.save(hv, domid, 999, control=Control("", str(tmp_path / "e")))


@pytest.mark.parametrize("where", ["/nothing/there", "999", "/", "a\0b"])
def test_what_cannot_be_opened(where: str) -> None:
    with pytest.raises(pyxcsr.UsageError, match="events cannot be written to"):
        Control("", where)


def test_a_fifo_without_a_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    began = time.monotonic()
    with pytest.raises(pyxcsr.UsageError):
        Control("", str(tmp_path / "f"))
    assert time.monotonic() - began < 5


def test_what_waits_is_bounded() -> None:
    takes = [0]
    got = bytearray()

    def write(data: bytes) -> int:
        if not takes[0]:
            raise BlockingIOError
        takes[0] -= 1
        got.extend(data[:1000])
        return len(data[:1000])

    out = Outlet(write)
    for n in range(2000):
        out.put(b"%06d\n" % n * 10)
        out.flush()
    assert len(out._waiting) <= MOST and out.dropped == 2000 - MOST // 70
    takes[0] = 1000
    out.flush()
    assert bytes(got) == b"".join(b"%06d\n" % n * 10 for n in range(MOST // 70))


def test_what_is_waited_for_at_the_end_is_looked_at_often_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind xl the guest may be paused until then: a line that is taken at once must not cost it a long nap."""
    now, naps = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        now[0] += seconds
        naps.append(seconds)

    def write(data: bytes) -> int:
        if now[0] < taken_at:
            raise BlockingIOError
        return len(data)

    monkeypatch.setattr(outlet, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    file = EventsFile(os.devnull)
    file.outlet, taken_at = Outlet(write), 0.00035
    file.outlet.put(b"a line\n")
    assert file.finish() == 0 and naps == [0.0001] * 4
    naps.clear()
    taken_at = 9.0
    file.outlet.put(b"another one\n")
    assert file.finish() == 1, "it is given up"
    assert naps[:20] == [0.0001] * 20 and set(naps[21:]) == {0.002} and 0.1 <= sum(naps) < 0.103
    file.close()


def test_it_is_closed(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    control = Control("", str(tmp_path / "e"))
    control.end()
    control.end()
    file = EventsFile(str(tmp_path / "e"))
    file.close()
    file.close()
    assert len(os.listdir("/proc/self/fd")) <= before
