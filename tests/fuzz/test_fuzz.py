"""A short run of each engine; ``python -m fuzz`` runs longer. What was found once is tested by name elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import pyxcsr
from fuzz import c_target, epoch_engine, image_engine
from fuzz.corpus import HERE, LIMIT, seed, seeds
from fuzz.engine import fuzz
from pyxcsr.image import beside
from pyxcsr.image.spool import InPlace
from pyxcsr.transfer.failover import CheckpointedRestorer

EXECUTIONS = 120
EPOCHS = 60
FOLLOW = CheckpointedRestorer._follow
FUZZ_SEED = int(os.environ.get("PYXCSR_FUZZ_SEED", "1"))
SECONDS = 6


def test_the_seeds_are_small_and_good(targets: Any) -> None:
    assert len(seeds()) >= 9
    assert sum(x.stat().st_size for x in HERE.iterdir()) < LIMIT
    for data in seeds():
        targets(data)
    assert targets.accepted == 7, "the streams of the stub's guests can be restored"


@pytest.mark.skipif("libasan" in Path("/proc/self/maps").read_text(), reason="measures memory")
def test_a_short_run(targets: Any) -> None:
    before = sys.gettrace()
    out = fuzz(targets, seeds(), seconds=100.0, seed=FUZZ_SEED, most=EXECUTIONS)
    assert out.findings == []
    assert out.executions >= EXECUTIONS and out.lines > 1500 and len(out.corpus) > len(seeds())
    assert sys.gettrace() is before


@pytest.mark.parametrize("reader", ["decode", "without_pages"])
def test_it_finds(targets: Any, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    """A reader that breaks is found, also the one that passes pages over: else a run without findings means nothing."""
    from pyxcsr.stream import records

    def broken(*args: Any, **options: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(records.PageData, reader, broken)
    out = fuzz(targets, [seed("stub-plain")], seconds=5.0, seed=1, most=1)
    assert [text.split(":")[0] for text, _ in out.findings] == ["ZeroDivisionError"]


WASTEFUL = """
import os
from fuzz.targets import Finding, Targets

def wasteful(fd):
    os.write(os.open("/dev/null", os.O_WRONLY), bytes(bytearray(b"x") * (64 << 20)))

fd = os.memfd_create("stream")
try:
    Targets()._bounded({target}, fd, 1)
except Finding as found:
    print(found)
"""


@pytest.mark.parametrize(("target", "found"), [("wasteful", "MiB for 1 bytes"), ("os.fstat", "")])
def test_it_measures(target: str, found: str, targets: Any) -> None:
    """An input that takes much more memory than its length is found, and no other.

    In a process of its own: what a worker of pytest holds may go while memory is measured, and make room for it.
    """
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WASTEFUL.replace("{target}", target)]
    done = subprocess.run(command, env=paths, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(found) and bool(done.stdout) == bool(found), done.stdout


@pytest.mark.skipif("libasan" in Path("/proc/self/maps").read_text(), reason="measures memory")
def test_what_runs_apart_does_not_answer_for_our_memory() -> None:
    ours = bytearray(b"x") * (256 << 20)
    tells = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    told = subprocess.run([*c_target.APART, sys.executable, "-c", tells], capture_output=True, text=True, check=True)
    assert int(told.stdout) < len(ours) >> 11  # KiB


@pytest.mark.toolchain
def test_a_short_run_in_c(tmp_path: Path) -> None:
    problem = c_target.missing()
    if problem:
        pytest.skip(problem)
    c_target.seed_inputs(seeds(), tmp_path / "corpus")
    done = c_target.run(c_target.build(tmp_path), tmp_path / "corpus", SECONDS)
    assert done.crash == ""
    assert done.executions > 300 and done.edges > 200


@pytest.mark.skipif("libasan" in Path("/proc/self/maps").read_text(), reason="measures memory")
def test_a_short_run_of_images() -> None:
    out, executions, forged = image_engine.run(seconds=1e6, seed=FUZZ_SEED, most=EXECUTIONS)
    assert out.findings == []
    assert out.executions == EXECUTIONS and executions == 5 * EXECUTIONS and forged > 0 and out.lines > 1500


def test_images_that_are_wrong_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of which a chunk comes back empty, and pages out of a pipe one place too far."""
    with monkeypatch.context() as broken:
        broken.setattr(beside, "words", lambda data: array("Q", bytes(len(data))))
        found = image_engine.run(seconds=1e6, seed=FUZZ_SEED, most=20)[0].findings
        assert any(text.startswith("Misled: the index is not") for text, _ in found)
    monkeypatch.setattr(InPlace, "_place", lambda self, pfn: pfn * 4096 + 4096)
    found = image_engine.run(seconds=1e6, seed=FUZZ_SEED, most=20)[0].findings
    assert any(text.startswith("Misled: raw out of a file") for text, _ in found)


@pytest.mark.skipif("libasan" in Path("/proc/self/maps").read_text(), reason="measures memory")
def test_a_short_run_of_checkpoints() -> None:
    out, target = epoch_engine.run(seconds=1e6, seed_of_chance=FUZZ_SEED, most=EPOCHS)
    assert out.findings == []
    assert target.executions == EPOCHS and target.failed_over > EPOCHS // 4 and target.refused > EPOCHS // 20


def eager(restorer: Any, spool: Any, replay: Any) -> str:
    """A restorer that puts in what it has of a checkpoint, whole or not."""
    why = FOLLOW(restorer, spool, replay)
    if why and spool.size:
        with suppress(pyxcsr.XcsrError):
            restorer._put_in(spool, replay)
    return str(why)


def test_a_part_of_a_checkpoint_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CheckpointedRestorer, "_follow", eager)
    out, _ = epoch_engine.run(seconds=1e6, seed_of_chance=FUZZ_SEED, most=20)
    assert any("changes ['" in text for text, _ in out.findings)
