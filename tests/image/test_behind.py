"""A dump goes to the disk while it is written, where the kernel can be told so."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from array import array
from pathlib import Path
from typing import Optional

import pytest

from image.test_dump import memory, written
from pyxcsr.cli import main
from pyxcsr.errors import OutputError
from pyxcsr.image import behind
from pyxcsr.image.behind import CANNOT, STEP, Behind
from pyxcsr.image.dump import Format, dump
from pyxcsr.stream import records as rec

PAGE = 4096
NR_PAGES = 5 * STEP // (2 * PAGE)
"""Two steps and a half."""

BEGIN = 2


class Kernel:
    """In the place of the system's call: notes what it is told, and how much was in the file by then."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.told: list[tuple[int, int]] = []
        self.sizes: list[int] = []

    def __call__(self, fd: int, start: int, count: int, how: int) -> int:
        assert how == BEGIN
        self.told.append((start, start + count))
        self.sizes.append(os.fstat(fd).st_size)
        ctypes.set_errno(self.number)
        return -1 if self.number else 0


def in_place(monkeypatch: pytest.MonkeyPatch, call: Optional[Kernel]) -> None:
    monkeypatch.setattr(behind, "sync_file_range", lambda: call)


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    firsts = range(1, 1 + NR_PAGES, 256)
    pages = (rec.PageData(array("Q", range(x, x + 256)), bytes([x % 251 + 1]) * (256 * PAGE)) for x in firsts)
    return written(tmp_path / "s", memory(*pages))


def dumped(stream: Path, how: Format) -> bytes:
    out = stream.with_name("out")
    with stream.open("rb") as file, out.open("w+b") as made:
        dump(file.fileno(), made.fileno(), how)
    return out.read_bytes()


@pytest.mark.parametrize("how", list(Format))
def test_the_kernel_is_told_in_steps(monkeypatch: pytest.MonkeyPatch, stream: Path, how: Format) -> None:
    """Each byte is in the file when the kernel is told to begin with it, and it is told of none twice."""
    kernel = Kernel()
    in_place(monkeypatch, kernel)
    data = dumped(stream, how)
    assert len(kernel.told) == 2 and kernel.told[0][0] == 0
    assert kernel.told[0][1] == kernel.told[1][0]
    assert all(end == size for (_, end), size in zip(kernel.told, kernel.sizes))
    assert all(end - start >= STEP for start, end in kernel.told)
    assert sum(end - start for start, end in kernel.told) < len(data) < 3 * STEP


@pytest.mark.parametrize("how", list(Format))
@pytest.mark.parametrize("number", [*CANNOT, None])
def test_without_such_a_call_the_dump_is_the_same(
    monkeypatch: pytest.MonkeyPatch, stream: Path, how: Format, number: Optional[int]
) -> None:
    """The kernel has said that it cannot, and is not asked again; or there is nothing to ask with."""
    wanted = dumped(stream, how)
    kernel = Kernel(number) if number else None
    in_place(monkeypatch, kernel)
    assert dumped(stream, how) == wanted
    assert kernel is None or len(kernel.told) == 1


def test_a_disk_that_fails_meanwhile(
    monkeypatch: pytest.MonkeyPatch, stream: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is left."""
    in_place(monkeypatch, Kernel(errno.EIO))
    assert main.main(["dump", "--format", "raw", str(stream), str(stream.with_name("out"))]) == 1
    assert "cannot write: Input/output error" in capfd.readouterr().err
    assert os.listdir(stream.parent) == [stream.name]


def test_the_system_has_the_call(tmp_path: Path) -> None:
    """It takes a file, says of a pipe that it cannot, and that a closed descriptor is none."""
    assert behind.sync_file_range() is not None
    with (tmp_path / "file").open("w+b") as file:
        file.write(bytes(2 * STEP))
        file.flush()
        following = Behind(file.fileno())
        following.written(0, STEP)
        following.written(STEP, STEP)
    with pytest.raises(OutputError) as caught:
        following.written(2 * STEP, STEP)
    assert (caught.value.errno, caught.value.offset) == (errno.EBADF, 2 * STEP)
    read, write = os.pipe()
    of_pipe = Behind(write)
    of_pipe.written(0, STEP)
    os.close(read)
    os.close(write)
    of_pipe.written(STEP, STEP)  # would be refused as closed, were it asked


def test_a_python_without_ctypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert behind.sync_file_range() is None
