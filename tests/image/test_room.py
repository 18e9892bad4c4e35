"""A disk that is full, and places that are not OUT: whatever a stream says, nothing is left that looks complete."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import tempfile
from pathlib import Path

import pytest
from cli.programs import COMMAND, run
from container.test_checkpoints import remus
from fuzz.corpus import seed
from fuzz.mutate import Mutator
from support import streams

from image.test_dump import memory, one, written
from pyxcsr.cli import main
from pyxcsr.stream.format import PFN_LIMIT, DomainType

HOSTILE = 60
"""Streams, each a whole one with some changes."""


def limited(nr_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (nr_bytes, nr_bytes))


def files(folder: Path) -> list[str]:
    return sorted(os.path.relpath(os.path.join(at, x), folder) for at, _, names in os.walk(folder) for x in names)


@pytest.mark.parametrize(
    "words", [["index"], ["convert", "--checkpoint", "last"], ["convert", "--to", "libxl"], ["dump", "--format=lime"]]
)
def test_no_room(tmp_path: Path, words: list[str]) -> None:
    path = written(tmp_path / "s", streams.pv64(), DomainType.PV)
    if "--checkpoint" in words:
        path.write_bytes(remus(3))
    out = [] if words == ["index"] else [tmp_path / "out"]
    done = run(*words, path, *out, preexec_fn=lambda: limited(1000))
    assert done.returncode == 1 and b"too large" in done.stderr, done.stderr
    assert files(tmp_path) == ["s"]
    assert run(*words, path, *out).returncode == 0  # it is the room that was missing


FULL = """mount -t tmpfs -o size=1m none "$1" || exit 77
cd "$1"; shift; "$@"; status=$?
echo "left: $(ls -A)"; exit $status"""


@pytest.mark.parametrize("how", ["elf", "raw", "lime"])
@pytest.mark.parametrize("piped", [False, True])
def test_a_full_disk(tmp_path: Path, how: str, piped: bool) -> None:
    """A file system of 1 MiB, in which a guest of 8 MiB is to be dumped, and the pages out of a pipe put aside."""
    path = written(tmp_path / "s", memory(*(one(pfn) for pfn in range(2048))))
    (tmp_path / "disk").mkdir()
    dump = [*COMMAND, "dump", "--format", how, "-", "out"]
    command = ["unshare", "-Urm", "sh", "-c", FULL, "sh", str(tmp_path / "disk"), *dump]
    with path.open("rb") as file, subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as cat:
        given = cat.stdout if piped else path.open("rb")
        done = subprocess.run(command, stdin=given, capture_output=True, check=False, timeout=100)
    if done.returncode == 77 or b"unshare" in done.stderr:
        pytest.skip("no file system can be mounted here")
    assert done.returncode == 1 and b"No space left" in done.stderr, done.stderr
    assert done.stdout == b"left: \n"


def test_hostile_streams_leave_one_file_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever is in a stream, what comes of it is OUT, the index, or nothing, and nothing in the temporary folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    rng = random.Random(int(os.environ.get("PYXCSR_FUZZ_SEED", "1")))
    mutate, lent = Mutator(rng), [seed(x) for x in ("made-up-pv64", "made-up-hvm", "made-up-libvirt", "made-up-pv32")]
    outcomes = set()
    for _ in range(HOSTILE):
        (tmp_path / "s").write_bytes(mutate(rng.choice(lent), lent))
        how = rng.choice(["elf", "raw", "lime"])
        for words, made in ((["dump", "--format", how], "out"), (["index"], "s.pyxcsr-index")):
            out = [str(tmp_path / "out")] if made == "out" else []
            status = main.main([*words, "--quiet", str(tmp_path / "s"), *out])
            outcomes.add(status)
            assert files(tmp_path) == sorted(["s", *([made] if status == 0 else [])])
            (tmp_path / made).unlink(missing_ok=True)
    capfd.readouterr()
    assert outcomes == {0, 1, 2}


def test_the_highest_pfn(tmp_path: Path) -> None:
    """Where the file system has no such files, that is said, and nothing is left."""
    path = written(tmp_path / "s", memory(one(1), one(PFN_LIMIT - 1)))
    done = run("dump", "--format", "raw", path, tmp_path / "out", preexec_fn=lambda: limited(1 << 40))
    assert done.returncode == 1 and b"large" in done.stderr, done.stderr
    assert files(tmp_path) == ["s"]
    assert run("dump", path, tmp_path / "out").returncode == 0
    assert (tmp_path / "out").stat().st_size < 64 << 10
