"""``pyxcsr convert``: out of every container and into each, the same bytes; constant memory; no half-written file."""

from __future__ import annotations

import io
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import containers as c
from support import oracle
from support import streams as build
from support.peak import STATUS

from pyxcsr.cli.convert import Output
from pyxcsr.container.copy import Conversion, convert
from pyxcsr.container.reader import Kind
from pyxcsr.errors import NotAStream, StreamError, StreamTruncated, UsageError
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.stream import format as fmt
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import DomainType

TEXT = c.text_of(c.config())
HVM_TEXT = c.text_of(c.config("hvm"))
PVH_TEXT = c.text_of(c.config("pvh"))
OTHER = c.text_of(c.config(name="other"))


def case_id(value: object) -> str:
    """A test's name without streams in it."""
    return "" if isinstance(value, (bytes, int)) else " ".join(value) if isinstance(value, tuple) else str(value)


def converted(data: bytes, to: str | None = None, config: bytes | None = None) -> tuple[bytes, Conversion]:
    out = io.BytesIO()
    done = convert(io.BytesIO(data), out.write, to=Kind(to) if to else None, config=config)
    assert done.bytes == len(out.getvalue())
    return out.getvalue(), done


@pytest.mark.parametrize(
    ("data", "to", "config", "wanted"),
    [
        (c.xl(), None, None, c.PV),
        (c.xl(), "libxc", None, c.PV),
        (c.libxl(), None, None, c.PV),
        (c.HVM_XL, "libxc", None, c.HVM),
        (c.HVM_LIBXL, None, None, c.HVM),
        (c.xl(), "libxl", None, c.libxl()),
        (c.HVM_XL, "libxl", None, c.HVM_LIBXL),
        (c.libxl(), "xl", TEXT, c.xl()),
        (c.HVM_LIBXL, "xl", HVM_TEXT, c.HVM_XL),
        (c.PV, "xl", TEXT, c.xl()),
        (c.PV, "libxl", None, c.libxl()),
        (c.HVM, "xl", PVH_TEXT, c.PVH_XL),
        (c.xl(), "xl", OTHER, c.xl(text=OTHER + b"\0")),
        (c.xl(text=b'name = "x"\n\0', must=2), None, None, c.PV),
    ],
    ids=case_id,
)
def test_conversions(data: bytes, to: str | None, config: bytes | None, wanted: bytes) -> None:
    got, done = converted(data, to, config)
    assert got == wanted
    assert done.guest == ("PV" if c.PV in data else "HVM")
    emulators = len(c.PAIRS + c.BLOB) if c.BLOB in data and wanted == c.HVM else 0
    assert done.left_out == emulators


@pytest.mark.parametrize(
    ("data", "to", "config", "words"),
    [
        (c.PV, None, None, "--to says"),
        (c.PV, "libxc", None, "already"),
        (c.libxl(), "libxl", None, "a libxl stream already"),
        (c.xl(), "xl", None, "an xl save file already"),
        (c.PV, "xl", None, "--config"),
        (c.libxl(), "xl", None, "--config"),
        (c.PV, "libxl", TEXT, "only an xl save file"),
        (c.xl(), None, TEXT, "only an xl save file"),
        (c.HVM, "libxl", None, "device model"),
        (c.HVM, "xl", HVM_TEXT, "device model"),
        (c.HVM, "xl", TEXT, "of type pv, the stream is an HVM guest's"),
        (c.PV, "xl", HVM_TEXT, "of type hvm, the stream is a PV guest's"),
        (c.PV, "xl", PVH_TEXT, "of type pvh"),
        (c.HVM_LIBXL, "xl", TEXT, "of type pv"),
        (c.PV, "xl", b"{}", "not usable"),
        (c.PV, "xl", TEXT + b"\0", "not usable"),
        (c.PV, "xl", b"[", "not usable"),
    ],
    ids=case_id,
)
def test_what_makes_no_sense(data: bytes, to: str | None, config: bytes | None, words: str) -> None:
    written: list[Any] = []
    with pytest.raises(UsageError, match=words):
        convert(io.BytesIO(data), written.append, to=Kind(to) if to else None, config=config)
    assert written == []


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", NotAStream, "empty"),
        (b"garbage and more of it", NotAStream, "not a libxc stream"),
        (c.xl(must=1), NotAStream, "legacy"),
        (c.xl(must=7), StreamError, "flags 0x4"),
        (c.libxl(header=struct.pack(">8sII", b"LibxlFmt", 1, 0)), NotAStream, "version 1"),
        (c.xl(c.PV), NotAStream, "not a libxl stream"),
        (c.libxl(b"garbage"), NotAStream, "not a libxc stream"),
        (c.libxl(c.PV[:30]), StreamError, "of 16 bytes|unknown|neither"),
        (c.LIBXL_HEADER + c.record(c.END), StreamError, "libxl END of 0 bytes"),
        (c.LIBXL_HEADER + c.record(c.LIBXC, b"x") + c.PV, StreamError, "of 1 bytes"),
        (c.libxl(c.PV, c.record(7)), StreamError, "unknown 0x00000007"),
        (c.libxl(c.PV, c.record(c.CHECKPOINT_END)), StreamError, "CHECKPOINT_END"),
        (c.libxl(c.PV, c.record(c.LIBXC) + c.PV), StreamError, "LIBXC_CONTEXT"),
        (c.libxl(c.PV[:-8] + rec.frame(rec.Checkpoint()) + c.PV[-8:]), StreamError, "checkpointed"),
        (c.libxl(c.PV[:40] + fmt.RECORD_HEADER.pack(1, fmt.RECORD_LENGTH_MAX + 1)), StreamError, "limit"),
        (c.xl() + b"x", StreamError, "goes on after"),
        (c.libxl() + b"x", StreamError, "goes on after"),
    ],
    ids=case_id,
)
def test_what_is_broken(data: bytes, error: type[StreamError], words: str) -> None:
    with pytest.raises(error, match=words) as raised:
        converted(data, "libxc")
    if data.startswith(c.LIBXL_HEADER) and c.PV in data:
        assert raised.value.offset >= 16


def test_a_raw_stream_with_something_behind() -> None:
    with pytest.raises(StreamError, match="goes on after") as raised:
        converted(c.PV + b"x", "libxl")
    assert raised.value.offset == len(c.PV)


def test_offsets_are_those_of_the_input() -> None:
    stream = rec.image_header() + rec.domain_header(7, 4, 17)  # type: ignore[arg-type]
    with pytest.raises(StreamError) as raised:
        converted(c.libxl(stream))
    assert raised.value.offset == 24 + 24
    for cut in (34, 24 + 30):  # within either header
        with pytest.raises(StreamTruncated, match=f"ends at byte {cut}") as raised:
            converted(c.libxl()[:cut])
        assert raised.value.offset == (24 if cut == 34 else 24 + 24)


@pytest.mark.parametrize(("data", "to"), [(c.xl(), "libxc"), (c.HVM_XL, "libxl"), (c.PV, "libxl")], ids=case_id)
def test_cut_anywhere(data: bytes, to: str) -> None:
    rnd = random.Random(to)
    for cut in [*(rnd.randrange(1, len(data)) for _ in range(60)), len(data) - 1, len(data) - 8, 48, 60]:
        with pytest.raises((StreamTruncated, NotAStream)):
            converted(data[:cut], to)


def test_what_comes_out_is_what_xen_takes(tmp_path: Path) -> None:
    for to, config in (("libxl", None), ("xl", TEXT)):
        (tmp_path / to).write_bytes(converted(c.PV, to, config)[0])
        accepted, said = oracle.accepts(tmp_path / to, container=to)
        assert accepted, said


# The program

CODE = "import sys; from pyxcsr.cli.main import main; sys.exit(main())"


def run(*words: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", CODE, "convert", *map(str, words)]
    return subprocess.run(command, input=data, capture_output=True, timeout=120, check=False)


def test_there_and_back(tmp_path: Path) -> None:
    source, raw, again = tmp_path / "s.xl", tmp_path / "raw", tmp_path / "again.xl"
    source.write_bytes(c.xl())
    done = run(source, raw)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{raw}: libxc stream of a PV guest, {len(c.PV)} bytes, from an xl save file\n"
    assert raw.read_bytes() == c.PV and raw.stat().st_mode & 0o777 == 0o600
    done = run("--to", "xl", "--config", source, raw, again)
    assert done.returncode == 0 and again.read_bytes() == c.xl()
    assert sorted(tmp_path.iterdir()) == sorted([source, raw, again])


def test_pipes() -> None:
    done = run("-", "-", data=c.HVM_XL)
    assert done.returncode == 0 and done.stdout == c.HVM
    assert b"libxc stream of an HVM guest" in done.stderr
    assert f"{len(c.PAIRS + c.BLOB)} bytes of the device model's state were left out".encode() in done.stderr


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"precious")
    done = run("-", out, data=c.xl())
    assert done.returncode == 2 and b"--force" in done.stderr and out.read_bytes() == b"precious"
    assert run("--force", "-", out, data=c.xl()).returncode == 0 and out.read_bytes() == c.PV


def test_onto_itself(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(c.xl())
    assert run("--force", path, path).returncode == 0
    assert path.read_bytes() == c.PV


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
@pytest.mark.parametrize("data", [c.xl(), c.libxl()])
def test_standard_output_is_the_input(tmp_path: Path, name: str, data: bytes) -> None:
    """As a device, which a shell does not cut when it opens it for standard output."""
    path = tmp_path / "f"
    path.write_bytes(data)
    with open(path, "r+b") as both:
        command = [sys.executable, "-c", CODE, "convert", str(path), name]
        done = subprocess.run(command, stdout=both, stderr=subprocess.PIPE, timeout=120, check=False)
    assert done.returncode == 2 and b"would be overwritten" in done.stderr
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("words", "data", "status", "said"),
    [
        (("-", "out"), c.xl()[:-1], 1, b"ends at byte"),
        (("-", "out"), c.PV, 2, b"--to says"),
        (("-", "out"), b"garbage", 2, b"not a libxc stream"),
        (("none", "out"), b"", 2, b"none: No such file"),
        ((".", "out"), b"", 2, b"directory"),
        (("--to", "xl", "--config", "none", "-", "out"), c.PV, 2, b"none: No such file"),
        (("--to", "xl", "--config", ".", "-", "out"), c.PV, 2, b"directory"),
        (("--to", "xl", "-", "out"), c.PV, 2, b"--config"),
        (("-", "none/out"), c.xl(), 2, b"No such file"),
        (("--to", "qemu", "-", "out"), c.xl(), 2, b"invalid choice"),
    ],
    ids=case_id,
)
def test_failures_leave_nothing(
    words: tuple[str, ...], data: bytes, status: int, said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*words, data=data)
    assert done.returncode == status, done.stderr
    assert said in done.stderr and b"Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk() -> None:
    done = run("--force", "-", "/dev/full", data=c.xl())
    assert done.returncode == 1 and b"No space left" in done.stderr and b"Traceback" not in done.stderr


@contextmanager
def waiting_for_the_end(folder: Path, first: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A conversion into ``folder`` that has all but the input's last bytes. ``first``: what its program does first."""
    command = [sys.executable, "-c", f"{first}\n{CODE}", "convert", "-", str(folder / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(c.xl()[:-8])
        process.stdin.flush()
        ends = time.monotonic() + 30
        while not any(path.stat().st_size > 1000 for path in folder.iterdir()):
            assert time.monotonic() < ends
            time.sleep(0.02)
        yield process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_signals_leave_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """Ended while it waits for more input."""
    with waiting_for_the_end(tmp_path) as process:
        assert process.stderr
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(30) == 128 + number
    assert list(tmp_path.iterdir()) == []
    assert b"Traceback" not in said


def test_what_was_ignored_when_it_began_stays_so(tmp_path: Path) -> None:
    """As nohup does with SIGHUP."""
    with waiting_for_the_end(tmp_path, "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)") as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        process.communicate(c.xl()[-8:], timeout=30)
    assert process.returncode == 0 and (tmp_path / "out").read_bytes() == c.PV


_MEASURE = STATUS + """
import os, sys
from pyxcsr.container.reader import Kind
from pyxcsr.container.copy import convert
count = 0
def put(data):
    global count
    count += len(data)
before = status("VmHWM")
convert(0, put, to=Kind(sys.argv[1]))
print(count, (status("VmHWM") - before) >> 10)
"""


@pytest.mark.parametrize("to", ["libxl", "libxc"])
def test_memory_is_constant(to: str) -> None:
    """Half a gibibyte through a pipe, records of 128 MiB among them."""
    pages = (fmt.RECORD_LENGTH_MAX - 8) // (PAGE_SIZE + 8)
    length = 8 + pages * (PAGE_SIZE + 8)
    command = [sys.executable, "-c", _MEASURE, to]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        head = rec.image_header() + rec.domain_header(DomainType.PV, 4, 17)
        total = len(head) + 8
        if to == "libxc":
            process.stdin.write(c.LIBXL_HEADER + c.record(c.LIBXC))
        process.stdin.write(head)
        for _ in range(4):
            process.stdin.write(fmt.RECORD_HEADER.pack(1, length))
            left = length + fmt.padding_of(length)
            total += 8 + left
            while left:
                left -= process.stdin.write(bytes(min(left, 1 << 20)))
        process.stdin.write(bytes(8) + (c.record(c.END) if to == "libxc" else b""))
        process.stdin.close()
        count, kib = map(int, process.stdout.read().split())
    assert count == total + (32 if to == "libxl" else 0)
    assert kib < 16 << 10


def test_a_pipe_that_does_not_block() -> None:
    """Short writes, and none at all until the reader comes."""
    out, into = os.pipe()
    os.set_blocking(into, False)
    got = bytearray()

    def read() -> None:
        while len(got) < len(c.PV):
            time.sleep(0.01)
            got.extend(os.read(out, 10_000))

    thread = threading.Thread(target=read)
    thread.start()
    convert(io.BytesIO(c.xl()), Output(into).put)
    thread.join(30)
    os.close(out)
    os.close(into)
    assert bytes(got) == c.PV


def test_a_reader_that_is_slow(tmp_path: Path) -> None:
    """A FIFO, read in small pieces."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got = bytearray()

    def read() -> None:
        fd = os.open(fifo, os.O_RDONLY)
        while True:
            piece = os.read(fd, 5000)
            if not piece:
                break
            got.extend(piece)
        os.close(fd)

    thread = threading.Thread(target=read)
    thread.start()
    done = run("-", fifo, data=c.xl())
    thread.join(30)
    assert done.returncode == 0, done.stderr
    assert bytes(got) == c.PV
    assert build.assemble(build.pv64()) == c.PV
