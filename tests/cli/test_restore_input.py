"""What `pyxcsr restore` takes from a file it takes from a pipe, too; what follows the stream in a file is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import containers as c
from support.judge import save_to

import pyxcsr

COMMAND = [sys.executable, "-c", "import sys; from pyxcsr.cli.main import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A libxc stream of a guest of the stub."""
    path = tmp_path_factory.mktemp("saved") / "guest"
    with pyxcsr.open_hypervisor("stub") as hv:
        domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="2M", seed=7))  # type: ignore[union-attr]
        save_to(hv, domid, path, live=False)  # type: ignore[arg-type]
        hv.stub.destroy(domid)  # type: ignore[union-attr]
    return path.read_bytes()


def wrapped(kind: str, stream: bytes) -> bytes:
    """The stream in a container."""
    return {"libxc": stream, "libxl": c.libxl(stream), "xl": c.xl(c.libxl(stream))}[kind]


def from_pipe(data: bytes, *, blocking: bool) -> subprocess.CompletedProcess[bytes]:
    """Restores what comes, slowly, through a pipe."""
    out, into = os.pipe()
    os.set_blocking(out, blocking)

    def feed() -> None:
        with os.fdopen(into, "wb", buffering=0) as pipe:
            for at in (0, 20, 50, 300):
                pipe.write(data[at : {0: 20, 20: 50, 50: 300}.get(at)])
                time.sleep(0.1)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        words = [*COMMAND, "restore", "--backend", "stub", "--json", "-"]
        return subprocess.run(words, stdin=out, capture_output=True, check=False, timeout=60)
    finally:
        os.close(out)
        feeder.join()


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("kind", ["libxc", "libxl", "xl"])
def test_a_pipe_is_as_good_as_a_file(stream: bytes, tmp_path: Path, kind: str, blocking: bool) -> None:
    data = wrapped(kind, stream)
    (tmp_path / "file").write_bytes(data)
    words = [*COMMAND, "restore", "--backend", "stub", "--json", str(tmp_path / "file")]
    by_file = subprocess.run(words, capture_output=True, check=True, timeout=60)
    by_pipe = from_pipe(data, blocking=blocking)
    assert by_pipe.returncode == 0, by_pipe.stderr
    reports = [json.loads(done.stdout) for done in (by_file, by_pipe)]
    for report in reports:
        assert report["bytes"] == len(stream) and report["nr_pfns"] == 512
        del report["seconds"]
    assert reports[0] == reports[1]
    assert by_file.stderr == by_pipe.stderr == b""


@pytest.mark.parametrize("kind", ["libxc", "xl"])
@pytest.mark.parametrize(("behind", "words"), [("again", "a second"), ("zero", "all zero")])
def test_what_follows_in_a_file(stream: bytes, tmp_path: Path, kind: str, behind: str, words: str) -> None:
    data = wrapped(kind, stream)
    (tmp_path / "file").write_bytes(data + (data if behind == "again" else bytes(64)))
    command = [*COMMAND, "restore", "--backend", "stub", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert f"note: {len(data) if behind == 'again' else 64} bytes follow END: {words}" in done.stderr


def test_offsets_of_errors_are_those_in_the_file(stream: bytes, tmp_path: Path) -> None:
    head = c.libxl(b"")[:-8]
    (tmp_path / "file").write_bytes(c.libxl(stream[:40] + b"\x42\0\0\0\0\0\0\0" + stream[40:]))
    command = [*COMMAND, "restore", "--backend", "stub", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and f"offset {len(head) + 40}" in done.stderr


@pytest.mark.parametrize("json_too", [False, True])
@pytest.mark.parametrize(("name", "words"), [("nothing", "nothing: No such file"), (".", ".: Is a directory")])
def test_an_input_that_cannot_be_opened(tmp_path: Path, name: str, words: str, json_too: bool) -> None:
    """Nothing was done, as docs/api.md has it, and verify and inspect end the same."""
    command = [*COMMAND, "restore", "--backend", "stub", *(["--json"] if json_too else []), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr
    if json_too:
        error = json.loads(done.stdout)["error"]
        assert error["class"] == "InputError" and error["facts"]["errno"] > 0


def test_an_input_that_cannot_be_read() -> None:
    """As one on a disk that fails. Its name is said, and that nothing was done."""
    command = [*COMMAND, "restore", "--backend", "stub", "/proc/self/mem"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and done.stderr == "pyxcsr: /proc/self/mem: Input/output error\n", done


def test_a_checksum_beside_a_fifo_is_not_its_own(stream: bytes, tmp_path: Path) -> None:
    fifo = tmp_path / "f"
    os.mkfifo(fifo)
    (tmp_path / "f.xxh128").write_text("0" * 32 + "  f\n")
    writer = threading.Thread(target=lambda: fifo.write_bytes(stream))
    writer.start()
    command = [*COMMAND, "restore", "--backend", "stub", "--max-mem", "64M", str(fifo)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    writer.join()
    assert done.returncode == 0, done.stderr


def test_what_follows_on_a_device_is_not_looked_at(
    stream: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file that passes for a block device: what was on it before is no part of the stream."""
    from pyxcsr.cli import main, restore

    monkeypatch.setattr(restore.stat, "S_ISREG", lambda mode: False)
    (tmp_path / "device").write_bytes(stream + b"rest of what was there")
    assert main.main(["restore", "--backend", "stub", str(tmp_path / "device")]) == 0
    assert capfd.readouterr().err == ""
