"""What may be written to and read from: objects that mean their descriptor, and no others."""

# ruff: noqa: SIM115

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import pyxcsr
from pyxcsr.transfer.descriptor import input_descriptor, output_descriptor


class Descriptor:
    """An object of the caller's that has a descriptor, and nothing else."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


class Teeing(Descriptor):
    """And one that does more than that."""

    def write(self, data: bytes) -> int:
        return os.write(self._fd, data)

    def read(self, size: int) -> bytes:
        return os.read(self._fd, size)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "stream"
    path.write_bytes(b"nothing")
    return path


@pytest.fixture
def tls() -> Iterator[Any]:
    ours, theirs = socket.socketpair()
    wrapped = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    wrapped.check_hostname = False
    wrapped.verify_mode = ssl.CERT_NONE
    with wrapped.wrap_socket(ours, do_handshake_on_connect=False) as secured, theirs:
        yield secured


class Hashing(io.FileIO):
    """A plain file, but for what its class does."""

    def write(self, data: Any) -> int:
        return super().write(bytes(data))

    def readinto(self, data: Any) -> int:
        return super().readinto(data) or 0


class Secret(io.BufferedWriter):
    def write(self, data: Any) -> int:
        return super().write(bytes(x ^ 1 for x in data))


class Named(io.FileIO):
    """One that does no more."""

    def note(self) -> str:
        return "mine"


OPENED: dict[str, Callable[[Path], Any]] = {
    "gzip": lambda path: gzip.open(path, "wb"),
    "gzip, as text": lambda path: gzip.open(path, "wt"),
    "bz2": lambda path: bz2.open(path, "wb"),
    "lzma": lambda path: lzma.open(path, "wb"),
    "its own write": lambda path: Hashing(path, "wb"),
    "a layer": lambda path: io.BufferedWriter(Hashing(path, "wb")),
    "a layer of its own": lambda path: Secret(io.FileIO(path, "wb")),
    "its own": lambda path: Teeing(os.open(path, os.O_WRONLY)),
    "buffered": lambda path: io.BufferedWriter(gzip.open(path, "wb")),
}


@pytest.mark.parametrize("kind", OPENED)
def test_what_does_more_is_not_written_past(kind: str, path: Path) -> None:
    out = OPENED[kind](path)
    with pytest.raises(pyxcsr.UsageError, match=r"past the write\(\) of"):
        output_descriptor(out)
    assert output_descriptor(out.fileno()) == out.fileno()
    if kind == "its own":
        os.close(out.fileno())


def test_nor_is_a_tls_connection(tls: Any) -> None:
    with pytest.raises(pyxcsr.UsageError, match=r"past the write\(\) of ssl.SSLSocket"):
        output_descriptor(tls)
    with pytest.raises(pyxcsr.UsageError, match=r"past the read\(\) of ssl.SSLSocket"):
        input_descriptor(tls)
    with tls.makefile("wb") as file, pytest.raises(pyxcsr.UsageError, match=r"past the write"):
        output_descriptor(file)


def test_nor_is_a_guest_touched(path: Path) -> None:
    with pyxcsr.open_hypervisor("stub") as hv, gzip.open(path, "wb") as out:
        domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
        with pytest.raises(pyxcsr.UsageError, match="zstd") as error:
            pyxcsr.save(hv, domid, out)
        assert error.value.untouched and hv.domain_info(domid).condition == "running"


@pytest.mark.parametrize("kind", ["gzip", "bz2", "lzma", "its own"])
def test_what_does_more_is_not_read_past(kind: str, path: Path) -> None:
    opened = {"gzip": gzip.open, "bz2": bz2.open, "lzma": lzma.open}.get(kind)
    in_ = opened(path, "rb") if opened else Teeing(os.open(path, os.O_RDONLY))
    with pytest.raises(pyxcsr.UsageError, match=r"past the read\(\) of"):
        input_descriptor(in_)


def test_plain_ones_are_taken(path: Path) -> None:
    ours, theirs = socket.socketpair()
    program = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdin is not None and program.stdout is not None
    with ours, theirs, program, path.open("r+b") as both, path.open("r+b", buffering=0) as raw, path.open("w") as text:
        files = [both, raw, ours, program.stdin, Descriptor(raw.fileno())]
        with ExitStack() as stack:
            enter = stack.enter_context
            unnamed, named = enter(tempfile.TemporaryFile()), enter(tempfile.NamedTemporaryFile())
            spooled, made = enter(tempfile.SpooledTemporaryFile()), enter(ours.makefile("wb"))
            written = enter(os.popen("cat >/dev/null", "w"))
            for out in [*files, text, unnamed, named, made, spooled, enter(Named(path, "r+b")), written]:
                assert output_descriptor(out) == out.fileno()  # type: ignore[arg-type]
            for in_ in [both, raw, ours, program.stdout, Descriptor(raw.fileno()), unnamed, named]:
                assert input_descriptor(in_) == in_.fileno()  # type: ignore[arg-type]
        program.stdin.close()


def checkpointed(stream: Any, theirs: Callable[[Any], object], read: Callable[[], object]) -> pyxcsr.RestoreReport:
    """A checkpointed save into ``stream`` and its restore, with what others write and read at each checkpoint."""
    with pyxcsr.open_hypervisor("stub") as hv:
        domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writer="thread", rate=500))
        asked = pyxcsr.Checkpointed(0.01, count=3, checkpoint=theirs)
        pyxcsr.save(hv, domid, stream, checkpointed=asked)
        stream.seek(0)
        return pyxcsr.restore(hv, hv.stub.create_empty("4M"), stream, checkpointed=True, checkpoint=read)


FILES: dict[str, Callable[[Path], Any]] = {
    "open": lambda path: path.open("r+b"),
    "unbuffered": lambda path: path.open("r+b", buffering=0),
    "named": lambda path: tempfile.NamedTemporaryFile(),
    "unnamed": lambda path: tempfile.TemporaryFile(),
    "spooled": lambda path: tempfile.SpooledTemporaryFile(),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("way", ["the object", "its descriptor"])
def test_what_others_write_at_a_checkpoint_is_in_its_place(way: str, kind: str, path: Path) -> None:
    seen = []
    with FILES[kind](path) as stream:
        fd = stream.fileno()

        def write(done: pyxcsr.Checkpoint) -> None:
            text = b"MINE%04d" % done.number
            assert (stream.write(text) if way == "the object" else os.write(fd, text)) == 8

        def read() -> bool:
            seen.append(stream.read(8) if way == "the object" else os.read(fd, 8))
            return True

        report = checkpointed(stream, write, read)
    assert seen == [b"MINE0001", b"MINE0002", b"MINE0003"]
    assert report.checkpoints == 3 and not report.failed_over


@pytest.mark.parametrize("mode", ["rb", "r+b"])
@pytest.mark.parametrize("buffering", [8192, 1 << 16, 1 << 20, 1 << 24])
def test_what_others_read_ahead_is_no_place_of_the_stream(mode: str, buffering: int, path: Path) -> None:
    """An object that has read several checkpoints at once takes a place within them for reached."""
    seen = []
    with pyxcsr.open_hypervisor("stub") as hv:
        domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
        with path.open("wb") as out:
            asked = pyxcsr.Checkpointed(0, count=6, checkpoint=lambda done: out.write(b"MINE%04d" % done.number))
            pyxcsr.save(hv, domid, out, checkpointed=asked)
        with path.open(mode, buffering=buffering) as stream:

            def read() -> bool:
                seen.append(stream.read(8))
                return True

            report = pyxcsr.restore(hv, hv.stub.create_empty("4M"), stream, checkpointed=True, checkpoint=read)
    assert seen == [b"MINE%04d" % n for n in range(1, 7)]
    assert report.checkpoints == 6 and not report.failed_over


def test_what_postcopy_writes_is_in_its_place(path: Path) -> None:
    seen = []
    with pyxcsr.open_hypervisor("stub") as hv, path.open("r+b") as stream:
        domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))

        def postcopy() -> None:
            stream.write(b"POSTCOPY")
            pyxcsr.resume(hv, domid)

        def read() -> bool:
            seen.append(os.read(stream.fileno(), 8) if len(seen) < 2 else b"")  # the last checkpoint has no postcopy
            return True

        pyxcsr.save(hv, domid, stream, checkpointed=pyxcsr.Checkpointed(0, count=3, postcopy=postcopy))
        stream.seek(0)
        report = pyxcsr.restore(hv, hv.stub.create_empty("4M"), stream, checkpointed=True, checkpoint=read)
    assert seen == [b"POSTCOPY", b"POSTCOPY", b""] and report.checkpoints == 3


def test_an_output_that_cannot_be_flushed_at_a_checkpoint(path: Path) -> None:
    with pyxcsr.open_hypervisor("stub") as hv, path.open("r+b") as stream:
        domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
        asked = pyxcsr.Checkpointed(0, count=3, checkpoint=lambda done: stream.close())
        with pytest.raises(pyxcsr.OutputError) as error:
            pyxcsr.save(hv, domid, stream, checkpointed=asked)
        assert error.value.offset and not error.value.untouched
        assert hv.domain_info(domid).condition == "running"


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("at", [2, 3])
def test_a_checkpoint_function_that_closes_the_input(whole: bool, at: int, path: Path) -> None:
    """The primary has gone, and the function says so, or that what is its own had come: the guest is there."""
    calls = []
    with path.open("r+b") as stream:

        def read() -> bool:
            calls.append(1)
            if len(calls) == at:
                stream.close()
                return whole
            return True

        report = checkpointed(stream, lambda done: None, read)
    assert report.checkpoints == (at if whole else at - 1)
    why = "cannot be read any more" if whole else "what belongs to the last checkpoint"
    assert why in (report.failed_over or "")
