"""Checksum files: written with a stream, checked by verify and restore; what damages a stream is found."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyxcsr
from pyxcsr.cli import checksum
from pyxcsr.cli.main import main
from pyxcsr.errors import ChecksumMismatch, OutputError, UsageError

xxhash = pytest.importorskip("xxhash", reason="needs xxhash: pip install 'pyxcsr[checksum]'")
GUEST = "pv64:mem=4M,vcpus=1"


def saved(path: Path, *options: str) -> int:
    return main(["save", "--backend", "stub", "--quiet", *options, GUEST, os.fspath(path)])


def restored(path: Path, *options: str) -> int:
    return main(["restore", "--backend", "stub", "--quiet", *options, os.fspath(path)])


@pytest.fixture
def image(tmp_path: Path) -> Path:
    assert saved(tmp_path / "image", "--checksum") == 0
    return tmp_path / "image"


def test_it_is_that_of_the_whole_file(image: Path) -> None:
    expected = xxhash.xxh3_128_hexdigest(image.read_bytes())
    assert checksum.beside(image).read_text() == f"{expected}  image\n"
    assert checksum.beside(image).stat().st_mode & 0o777 == 0o600
    assert sorted(x.name for x in image.parent.iterdir()) == ["image", "image.xxh128"]


@pytest.mark.skipif(not shutil.which("xxhsum"), reason="needs xxhsum: apt-get install xxhash")
def test_xxhsum_understands_it(image: Path) -> None:
    subprocess.run(["xxhsum", "-c", "image.xxh128"], cwd=image.parent, check=True)


def test_what_is_whole_is_taken(image: Path) -> None:
    for option in ([], ["--checksum"], ["--no-checksum"]):
        assert restored(image, *option) == 0
        assert main(["verify", *option, os.fspath(image)]) == 0


@pytest.mark.parametrize("seed", range(5))
def test_one_bit_is_enough(image: Path, capsys: pytest.CaptureFixture[str], seed: int) -> None:
    """Anywhere in a page's content, where no rule of the format could find it."""
    data = bytearray(image.read_bytes())
    at = random.Random(seed).randrange(len(data) // 4, len(data) // 2)
    data[at] ^= 1 << seed
    image.write_bytes(data)
    assert restored(image) == 2
    assert "was damaged or changed" in capsys.readouterr().err
    assert main(["verify", "--json", os.fspath(image)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"] and "was damaged" in report["checksum"]


def test_a_cut_stream(image: Path) -> None:
    os.truncate(image, image.stat().st_size - 8)
    assert restored(image) == 2
    with image.open("rb") as file, pytest.raises(ChecksumMismatch) as caught:
        checksum.check(os.fspath(image), file.fileno(), None)
    assert len(caught.value.expected) == len(caught.value.found) == 32


def test_none_to_compare_with(tmp_path: Path) -> None:
    assert saved(tmp_path / "plain") == 0
    assert not checksum.beside(tmp_path / "plain").exists()
    assert restored(tmp_path / "plain") == 0
    assert restored(tmp_path / "plain", "--checksum") == 2
    assert main(["verify", "--checksum", os.fspath(tmp_path / "plain")]) == 2


def test_a_checksum_file_that_is_none(image: Path) -> None:
    checksum.beside(image).write_text("see elsewhere\n")
    assert restored(image) == 2
    assert restored(image, "--no-checksum") == 0


def test_an_older_streams_checksum_goes_with_it(image: Path) -> None:
    assert saved(image, "--force") == 0
    assert not checksum.beside(image).exists()
    assert restored(image) == 0
    assert saved(image, "--force", "--checksum") == 0
    assert restored(image, "--checksum") == 0


def test_a_save_that_fails_leaves_the_older_one_whole(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(ready: Path, text: bytes) -> None:
        raise OutputError(f"{ready}: cannot be written", errno=28, offset=0)

    monkeypatch.setattr("pyxcsr.cli.output._write_checksum", broken)
    assert saved(image, "--force", "--checksum") == 1
    assert restored(image, "--checksum") == 0
    assert sorted(x.name for x in image.parent.iterdir()) == ["image", "image.xxh128"]


def test_where_there_is_no_file_to_put_it_beside(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert saved(tmp_path / "fifo", "--checksum") == 2


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xxhash", None)
    with pytest.raises(UsageError, match="apt-get install python3-xxhash"):
        checksum.load()
    assert saved(tmp_path / "image", "--checksum") == 2
    assert not list(tmp_path.iterdir())


def test_a_stream_with_a_checksum_is_not_restored_unchecked(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xxhash", None)
    assert restored(image) == 2
    assert restored(image, "--no-checksum") == 0


def test_through_the_interface(image: Path) -> None:
    assert issubclass(pyxcsr.ChecksumMismatch, pyxcsr.XcsrError)
