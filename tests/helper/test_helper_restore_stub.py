"""The real program with the real core on the stub hypervisor, run as libxl runs it for a restore."""

from __future__ import annotations

import errno
import functools
import os
import re
import struct
import time
from pathlib import Path

import pytest
from fake_libxl import PROGRAM, FakeLibxl

from pyxcsr import StubGuest, XenstoreSuspend, open_hypervisor, save

GUEST = "pv64:mem=16M,vcpus=2"
HEADERS = 40  # bytes of the image header and the domain header


@functools.cache
def stream_of(guest: str = GUEST, live: bool = True) -> bytes:
    """A saved guest's stream."""
    with open_hypervisor("stub") as hv, open(os.memfd_create("stream"), "w+b") as file:
        domid = hv.stub.create(StubGuest.parse(guest))
        save(hv, domid, file, live=live, suspend=XenstoreSuspend(hv, domid))
        file.seek(0)
        return file.read()


def records(stream: bytes) -> list[tuple[int, int, int]]:
    """(type, offset, end) of each record."""
    found, at = [], HEADERS
    while at < len(stream):
        kind, length = struct.unpack_from("<II", stream, at)
        end = at + 8 + -(-length // 8) * 8
        found.append((kind, at, end))
        at = end
    return found


def without(stream: bytes, kind: int) -> bytes:
    """The stream with its last record of that type taken out."""
    _, at, end = [record for record in records(stream) if record[0] == kind][-1]
    return stream[:at] + stream[end:]


def on_stub(tmp_path: Path, feed: bytes, guest: str = GUEST, **more: object) -> FakeLibxl:
    env = {"PYXCSR_BACKEND": "stub", "PYXCSR_STUB_GUEST": guest, **more.pop("env", {})}
    return FakeLibxl(tmp_path, program=PROGRAM, mode="--restore-domain", feed=feed, env=env, **more)


@pytest.mark.parametrize("live", [True, False])
def test_success(tmp_path: Path, live: bool) -> None:
    """Not a byte more than the stream is read: what follows is libxl's."""
    with on_stub(tmp_path, stream_of(live=live) + b"libxl's own") as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
        names = [m.name for m in libxl.messages if m.name not in ("log", "progress")]
        assert names == ["static_data_done", "restore_results", "complete"]
        assert libxl.left_over() == b"libxl's own"
        (done,) = [m for m in libxl.messages if m.name == "static_data_done"]
        assert done.fields == (0,)
        (results,) = [m for m in libxl.messages if m.name == "restore_results"]
        assert results.fields[0] != results.fields[1]
        assert all(0 < int(str(gfn)) < 1 << 40 for gfn in results.fields)
        progress = [m.fields for m in libxl.messages if m.name == "progress"]
        assert progress[0][1:3] == ("restoring", 0)
        assert int(str(progress[-1][2])) >= 4000
        (summary,) = libxl.logged(5)
        assert re.match(r"domain \d+: restored from a version 3 stream, \d+ pages, 2 vcpus, ", summary)
        assert libxl.stderr == ""


def test_a_version_2_stream(tmp_path: Path) -> None:
    """It has no policies, and no record that ends them: libxl hears what is missing, and when."""
    stream = bytearray(stream_of())
    for kind in (0x10, 0x11, 0x12):  # STATIC_DATA_END, X86_CPUID_POLICY, X86_MSR_POLICY
        stream = bytearray(without(bytes(stream), kind))
    struct.pack_into(">I", stream, 12, 2)
    with on_stub(tmp_path, bytes(stream)) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
        (done,) = [m for m in libxl.messages if m.name == "static_data_done"]
        assert done.fields == (3,)


def test_libxl_cannot_make_up_for_what_is_missing(tmp_path: Path) -> None:
    with on_stub(tmp_path, without(stream_of(), 0x11)) as libxl:
        assert libxl.serve(static_data_done=-3) == 0
        assert libxl.completed == (-1, errno.EIO)
        assert "missing 0x1, answer -3" in libxl.logged(8)[0]


@pytest.mark.parametrize("kind", [0x01, 0x07, 0x04], ids=["PAGE_DATA", "SHARED_INFO", "VCPU_BASIC"])
def test_a_stream_that_lacks_something(tmp_path: Path, kind: int) -> None:
    """No results, and an error, where the stock helper may say that all is well."""
    stream = stream_of(live=False)
    if kind == 0x04:
        for _ in range(2):
            stream = without(stream, kind)
    else:
        stream = without(stream, kind)
    with on_stub(tmp_path, stream) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed[0] == -1
        assert "incomplete" in libxl.logged(8)[0]
        assert all(m.name != "restore_results" for m in libxl.messages)
        assert libxl.stderr == ""


def test_too_large_for_the_domain(tmp_path: Path) -> None:
    with on_stub(tmp_path, stream_of(), guest="pv64:mem=8M,vcpus=2") as libxl:
        assert libxl.serve() == 0
        assert libxl.completed[0] == -1
        assert all(m.name != "restore_results" for m in libxl.messages)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.9999])
def test_the_sender_dies(tmp_path: Path, share: float) -> None:
    stream = stream_of()
    with on_stub(tmp_path, stream[: int(len(stream) * share)]) as libxl:
        libxl.start_ending()
        os.close(libxl.left_fd)
        libxl.left_fd = -1
        assert libxl.serve() == 0
        assert libxl.completed[0] == -1
        assert ("ends" if share else "input is empty") in libxl.logged(8)[0]
        assert libxl.stderr == ""


@pytest.mark.alone
@pytest.mark.parametrize("share", [0.00001, 0.5])
def test_sigterm_while_the_stream_is_stalled(tmp_path: Path, share: float) -> None:
    stream = stream_of()
    with on_stub(tmp_path, stream[: max(10, int(len(stream) * share))]) as libxl:
        libxl.next_named("log")
        if share == 0.5:
            libxl.next_named("static_data_done")
            libxl.answer(0)
        time.sleep(0.5)
        start = libxl.terminate()
        libxl.next_named("complete")
        assert time.monotonic() - start < 5.0
        assert libxl.finish() == 0
        assert libxl.completed == (-1, errno.ECANCELED)
        assert "SIGTERM" in libxl.logged(8)[0]


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2])
def test_sigterm_at_any_moment(tmp_path: Path, delay: float) -> None:
    """Whatever it is doing, it ends well and tells the truth: results and success, or neither."""
    with on_stub(tmp_path, stream_of("pv64:mem=64M"), guest="pv64:mem=64M") as libxl:
        libxl.next_named("log")
        time.sleep(delay)
        libxl.terminate()
        assert libxl.serve() == 0
        results = any(m.name == "restore_results" for m in libxl.messages)
        assert libxl.completed == ((0, 0) if results else (-1, errno.ECANCELED))


def test_libxl_dies(tmp_path: Path) -> None:
    with on_stub(tmp_path, stream_of()[:100000]) as libxl:
        libxl.next_named("static_data_done")
        libxl.answer(0)
        time.sleep(0.3)
        libxl.close_pipes()
        assert libxl.exit_status() == 1
        assert "libxl cannot be told" in libxl.stderr
        assert "Traceback" not in libxl.stderr
