"""Inputs that are compressed: every command reads through the program for it, from files, pipes and sockets."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import socket
import subprocess
import threading
import zlib
from pathlib import Path

import pytest
from support.same import check_same

from cli.programs import GUEST, SAVE, run
from pyxcsr.errors import InputError, UsageError
from pyxcsr.stream.compressed import COMPRESSIONS, plain

PROGRAMS = sorted({x.command[0] for x in COMPRESSIONS})
OPTIONS = {"bzip2": "-c1", "lz4": "-cq1B4"}
"""Small blocks: what is cut off takes the rest of its block with it."""
READERS = [["verify", "--quiet"], ["inspect"], ["restore", "--backend", "stub", "--max-mem", "64M"]]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "s"
    assert run(GUEST, path, command=SAVE).returncode == 0
    return path


def compressed(path: Path, program: str, folder: Path) -> Path:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    out = folder / f"{path.name}.{program}"
    with out.open("wb") as to, path.open("rb") as content:
        subprocess.run([program, OPTIONS.get(program, "-cq1")], stdin=content, stdout=to, check=True)
    assert out.stat().st_size < path.stat().st_size
    return out


@pytest.mark.parametrize("program", PROGRAMS)
def test_commands_read_through_it(image: Path, tmp_path: Path, program: str) -> None:
    packed = compressed(image, program, tmp_path)
    for words in READERS:
        done = run(*words, packed)
        assert done.returncode == 0, done.stderr
    assert run("convert", "--to", "libxl", packed, tmp_path / "libxl").returncode == 0
    assert run("convert", tmp_path / "libxl", tmp_path / "again").returncode == 0
    check_same((tmp_path / "again").read_bytes(), image.read_bytes())


@pytest.mark.parametrize("words", READERS)
def test_a_pipe_is_read_through_and_a_plain_one_is_left_as_it_is(
    image: Path, tmp_path: Path, words: list[str]
) -> None:
    for path in (image, compressed(image, "gzip", tmp_path)):
        with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
            done = run(*words, "-", stdin=cat.stdout)
        assert done.returncode == 0, done.stderr


def fed(content: bytes, write: int, step: int) -> threading.Thread:
    """Writes so many bytes at a time, the first six slowly, and closes."""

    def feed() -> None:
        with open(write, "wb", buffering=0) as to:
            for at in range(0, len(content), step):
                to.write(content[at : at + step])

    thread = threading.Thread(target=feed)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", ["pipe", "socket"])
@pytest.mark.parametrize("step", [1, 100])
def test_no_byte_is_lost(kind: str, step: int, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"a line of text\n" * 50)
    cases = [b"", b"\x1f", b"BZ", b"plain", compressed(text, "gzip", tmp_path).read_bytes()]
    for content in cases:
        if kind == "pipe":
            read, write = os.pipe()
        else:
            ours, theirs = socket.socketpair()
            read, write = ours.detach(), theirs.detach()
        thread = fed(content, write, step)
        with plain(read) as fd, open(fd, "rb", closefd=False) as out:
            got = out.read()
        thread.join()
        os.close(read)
        assert got == (text.read_bytes() if content == cases[-1] else content)


def test_a_damaged_file_is_an_error_even_behind_a_whole_stream(image: Path, tmp_path: Path) -> None:
    packed = compressed(image, "gzip", tmp_path)
    damaged = bytearray(packed.read_bytes())
    damaged[-6] ^= 1  # of the checksum, behind all data
    packed.write_bytes(damaged)
    for words in READERS:
        done = run(*words, packed)
        assert done.returncode in (1, 2) and b"gzip" in done.stderr and b"crc" in done.stderr, done.stderr
    done = run("convert", "--to", "libxl", packed, tmp_path / "out")
    assert done.returncode == 1 and not (tmp_path / "out").exists()


def test_a_cut_file_says_so_and_what_the_program_says(image: Path, tmp_path: Path) -> None:
    packed = compressed(image, "gzip", tmp_path)
    packed.write_bytes(packed.read_bytes()[:-20000])
    done = run("restore", "--backend", "stub", packed)
    assert done.returncode == 1 and b"the stream ends" in done.stderr and b"unexpected end of file" in done.stderr


@pytest.fixture(scope="module")
def remus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stream of four checkpoints, the last of which is not whole."""
    path = tmp_path_factory.mktemp("remus") / "s"
    words = ["--checkpointed", "10ms", "--checkpoints", "4"]
    assert run("pv64:mem=8M,writes=20", path, command=[*SAVE, *words]).returncode == 0
    os.truncate(path, path.stat().st_size - 5000)
    return path


CHECKPOINTED = ("verify --checkpointed", "inspect", "convert --checkpoint last", "convert --checkpoint 2")
EACH = [("gzip", words) for words in CHECKPOINTED] + [(x, CHECKPOINTED[2]) for x in PROGRAMS if x != "gzip"]


@pytest.mark.parametrize(("program", "words"), EACH)
def test_a_checkpointed_stream_that_was_cut_behind_the_compressor(
    remus: Path, tmp_path: Path, program: str, words: str
) -> None:
    """Its sender has died: what there is of it can be used, and it is said that the program's checks were not made."""
    packed = compressed(remus, program, tmp_path)
    os.truncate(packed, packed.stat().st_size - 300)
    out = [tmp_path / "out"] if "convert" in words else []
    done = run(*words.split(), packed, *out)
    assert done.returncode == 0, done.stderr
    assert b"file is cut off: its checksum could not be compared" in done.stdout + done.stderr
    assert not out or run("verify", *out).returncode == 0


@pytest.mark.parametrize(("program", "words"), EACH)
def test_a_checkpointed_stream_that_is_damaged(
    remus: Path, tmp_path: Path, program: str, words: str
) -> None:
    """That is no work of a dying sender: it must not be taken for good, however many checkpoints come out of it."""
    packed = compressed(remus, program, tmp_path)
    damaged = bytearray(packed.read_bytes())
    for at in range(len(damaged) - 300, len(damaged) - 290):
        damaged[at] ^= 0x5A
    packed.write_bytes(damaged)
    out = [tmp_path / "out"] if "convert" in words else []
    done = run(*words.split(), packed, *out)
    # bzip2 gives what it has made of a damaged block, so that the stream may be found to be none first
    assert done.returncode in (1, 2) and packed.name.encode() in done.stderr, done.stderr
    assert b"cut off" not in done.stdout + done.stderr and not any(x.exists() for x in out)


@pytest.mark.parametrize("words", CHECKPOINTED[:3])
def test_one_that_was_cut_ahead_of_its_first_checkpoint(remus: Path, tmp_path: Path, words: str) -> None:
    packed = compressed(remus, "gzip", tmp_path)
    os.truncate(packed, 20000)
    done = run(*words.split(), packed, *([tmp_path / "out"] if "convert" in words else []))
    assert done.returncode in (1, 2) and b"unexpected end of file" in done.stderr, done.stderr


def test_a_program_that_is_missing_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    monkeypatch.setenv("PATH", str(tmp_path))
    for one in COMPRESSIONS:
        path.write_bytes(one.magic + bytes(20))
        with path.open("rb") as file, pytest.raises(UsageError, match=f"apt-get install {one.package}$"):
            plain(file.fileno()).__enter__()


def test_the_program_ends_with_the_block(tmp_path: Path) -> None:
    """Whatever ends it, and however much there is left to come."""
    path = tmp_path / "zeros"
    path.write_bytes(bytes(64 << 20))
    packed = compressed(path, "gzip", tmp_path)
    with packed.open("rb") as file, pytest.raises(ZeroDivisionError), plain(file.fileno()) as fd:
        assert os.read(fd, 10) == bytes(10)
        children = _children()
        assert children
        raise ZeroDivisionError
    assert not children & _children()


@pytest.mark.parametrize("left", [0, 5])
def test_its_end_is_not_waited_for_if_poll_says_so(tmp_path: Path, left: int) -> None:
    (tmp_path / "zeros").write_bytes(bytes(64 << 20))
    packed, calls = compressed(tmp_path / "zeros", "gzip", tmp_path), []

    def poll() -> None:
        calls.append(1)
        if len(calls) > left:
            raise ZeroDivisionError

    with packed.open("rb") as file, pytest.raises(ZeroDivisionError), plain(file.fileno(), poll) as fd:
        assert os.read(fd, 10) == bytes(10)
        children = _children()
        assert children
    assert not children & _children() and len(calls) == left + 1


def test_its_end_is_not_waited_for_if_the_rest_is_of_no_use(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(64 << 20))
    packed = compressed(tmp_path / "zeros", "gzip", tmp_path)
    os.truncate(packed, packed.stat().st_size - 10)
    with packed.open("rb") as file, plain(file.fileno(), rest=lambda: False) as fd:
        assert os.read(fd, 10) == bytes(10)
        children = _children()
        assert children
    assert not children & _children()


def _children() -> set[int]:
    listed = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()
    return {int(x) for x in listed.split()}


def test_what_is_no_such_file_fails(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\x1f\x8b" + bytes(100))
    with path.open("rb") as file, pytest.raises(InputError, match="decompress"), plain(file.fileno()) as fd:
        assert os.read(fd, 1) == b""


def test_one_of_which_nothing_comes_out_says_why(tmp_path: Path) -> None:
    """And not that the input is empty."""
    path = tmp_path / "s"
    path.write_bytes(gzip.compress(b"x")[:10] + bytes([7]) * 50)
    for words in (["restore", "--backend", "stub"], ["stats"]):
        done = run(*words, path)
        assert done.returncode in (1, 2) and b"(gzip: " in done.stderr and b"invalid compressed data" in done.stderr


@pytest.mark.skipif(not shutil.which("xz"), reason="xz is not installed")
def test_xz_gets_no_more_memory_than_an_honest_file_needs(tmp_path: Path) -> None:
    data = bytearray(lzma.compress(b"some text"))
    size = (data[12] + 1) * 4  # of the block's header, whose last four bytes are its checksum
    at = data.index(b"\x21\x01", 12) + 2  # LZMA2, and the one byte that tells how large its dictionary is
    data[at] = 40  # 4 GiB
    data[12 + size - 4 : 12 + size] = zlib.crc32(data[12 : 12 + size - 4]).to_bytes(4, "little")
    path = tmp_path / "s"
    path.write_bytes(data)
    with path.open("rb") as file, pytest.raises(InputError, match=r"[Mm]emory"), plain(file.fileno()) as out:
        assert os.read(out, 1) == b""
