"""What follows END: named, the same by every command; on a block device only noted, and nothing of it is read."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support import containers as c
from support import streams as build

from pyxcsr.container.copy import convert
from pyxcsr.container.reader import Kind
from pyxcsr.container.survey import survey_input
from pyxcsr.container.verify import verify_input
from pyxcsr.errors import StreamError
from pyxcsr.stream import source
from pyxcsr.stream.after_end import AfterEnd, look
from pyxcsr.stream.source import Source
from pyxcsr.stream.survey import Line

PV = build.assemble(build.pv64())

BEHIND = {
    "zero": (bytes(100_000), "all zero"),
    "stream": (PV, "a second libxc stream, which receivers do not look at"),
    "libxl": (c.libxl(), "a second libxl stream, which receivers do not look at"),
    "xl": (c.xl(), "a second xl save file, which receivers do not look at"),
    "devices": (
        b"DeviceModelRecord0002\4\0\0\0QEVM",
        "the device model's state as in a legacy image, which convert-legacy-stream leaves there",
    ),
    "other": (b"\0\1\2", "beginning with 00 01 02, no stream that is known here"),
    "late": (bytes(5000) + b"\1", "beginning with 00 00 00 00 00 00 00 00, no stream that is known here"),
}


def after(data: bytes, **options: bool) -> AfterEnd | None:
    """What is said to follow the stream PV in a file of PV and ``data``."""
    from_file = Source(io.BytesIO(PV + data))
    from_file.skip(len(PV))
    return look(from_file, **options)


@pytest.mark.parametrize("name", BEHIND)
def test_what_follows(name: str) -> None:
    data, what = BEHIND[name]
    assert after(data) == AfterEnd(len(PV), len(data), what, legacy_devices=name == "devices")


def test_nothing_follows() -> None:
    assert after(b"") is None


def test_without_counting_nothing_is_read() -> None:
    file = Source(io.BytesIO(b"x" * 100))
    assert look(file, count=False) == AfterEnd(
        0, None, "beginning with 78 78 78 78 78 78 78 78, no stream that is known here"
    )
    assert file.offset == 0 and len(file.read(100)) == 100


@pytest.mark.parametrize("whole", [PV, c.libxl(), c.xl()], ids=["libxc", "libxl", "xl"])
@pytest.mark.parametrize("name", BEHIND)
def test_in_a_file(whole: bytes, name: str) -> None:
    data, what = BEHIND[name]
    report = verify_input(io.BytesIO(whole + data))
    assert [(each.rule, each.offset) for each in report.complaints] == [("after-end", len(whole))]
    assert report.complaints[0].text == f"{len(data)} bytes follow END: {what}" and report.notes == []
    lines: list[Line] = []
    sums = survey_input(io.BytesIO(whole + data), lines.append)
    assert lines[-1] == Line(len(whole), "after END", len(data), what)
    assert sums.after_end == f"{len(data)} bytes follow END: {what}" and sums.problems == []
    with pytest.raises(StreamError, match="goes on after its last END"):
        convert(io.BytesIO(whole + data), lambda _: None, to=Kind.LIBXL if whole is PV else Kind.LIBXC)


@pytest.mark.parametrize("whole", [PV, c.libxl(), c.xl()], ids=["libxc", "libxl", "xl"])
@pytest.mark.parametrize("name", ["zero", "stream", "other"])
def test_on_a_block_device(whole: bytes, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that passes for a device: what was on it before is no part of the stream."""
    monkeypatch.setattr(source.stat, "S_ISBLK", lambda mode: True)
    (tmp_path / "device").write_bytes(whole + BEHIND[name][0])
    words = f"{len(BEHIND[name][0])} bytes of the device follow END: they are no part of the stream"
    with open(tmp_path / "device", "rb", buffering=0) as file:
        report = verify_input(file.fileno())
        assert report.ok and [(note.rule, note.text) for note in report.notes] == [("after-end", words)]
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == len(whole)
        file.seek(0)
        assert survey_input(file, lambda _: None).after_end == words
        file.seek(0)
        written = io.BytesIO()
        done = convert(file, written.write, to=Kind.LIBXL if whole is PV else Kind.LIBXC)
        assert done.after_end is not None and done.after_end.text == words
        assert PV in written.getvalue()


def test_a_device_of_just_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source.stat, "S_ISBLK", lambda mode: True)
    (tmp_path / "device").write_bytes(PV)
    with open(tmp_path / "device", "rb") as file:
        report = verify_input(file)
    assert report.ok and report.notes == []


def run(*words: str, data: bytes) -> subprocess.CompletedProcess[bytes]:
    """A command that reads a slow pipe in non-blocking mode."""
    out, into = os.pipe()
    os.set_blocking(out, False)

    def feed() -> None:
        with suppress(BrokenPipeError), os.fdopen(into, "wb", buffering=0) as pipe:
            for at in range(0, len(data), 50_000):
                time.sleep(0.05)
                pipe.write(data[at : at + 50_000])

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        command = [sys.executable, "-c", "import sys; from pyxcsr.cli.main import main; sys.exit(main())", *words]
        return subprocess.run(command, stdin=out, capture_output=True, check=False, timeout=60)
    finally:
        os.close(out)
        feeder.join()


def test_commands_wait_for_non_blocking_input(tmp_path: Path) -> None:
    for words in (("verify", "-"), ("inspect", "-"), ("convert", "-", str(tmp_path / "out"))):
        done = run(*words, data=c.xl())
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_bytes() == PV


def test_commands_name_a_second_stream(tmp_path: Path) -> None:
    done = run("verify", "--json", "-", data=PV + PV)
    (complaint,) = json.loads(done.stdout)["complaints"]
    assert done.returncode == 1 and "a second libxc stream" in complaint["text"]
    done = run("inspect", "-", data=PV + PV)
    assert done.returncode == 0 and b"after END" in done.stdout and b"a second libxc stream" in done.stdout
    done = run("convert", "--to", "libxl", "-", str(tmp_path / "out"), data=PV + PV)
    assert done.returncode == 1 and b"a second libxc stream" in done.stderr and not (tmp_path / "out").exists()
