"""`pyxcsr save --checkpointed` and `pyxcsr restore --checkpointed`, as a user types them."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PYXCSR = [sys.executable, "-m", "pyxcsr"]
GUEST = "pv64:mem=8M,writes=20"


def run(tmp_path: Path, *words: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYXCSR, *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60, **more  # type: ignore[call-overload]
    )


def save(tmp_path: Path, what: str, *options: str) -> subprocess.CompletedProcess[str]:
    return run(tmp_path, "save", "--backend", "stub", *options, *what.split())


def test_into_a_file_and_out_of_what_is_left_of_it(tmp_path: Path) -> None:
    saved = run(tmp_path, "save", "--backend", "stub", "--checkpointed", "10ms", "--checkpoints", "4", GUEST, "s")
    assert saved.returncode == 0, saved.stderr
    assert "4 checkpoints, the guest running for 10 ms between two; each after the first one:" in saved.stdout
    whole = (tmp_path / "s").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) - 5000])
    verified = run(tmp_path, "verify", "--checkpointed", "s", "cut")
    assert verified.returncode == 0, verified.stdout
    restored = run(tmp_path, "restore", "--backend", "stub", "--checkpointed", "--json", "cut")
    assert restored.returncode == 0, restored.stderr
    report = json.loads(restored.stdout)
    assert report["checkpoints"] == 3 and "the stream ends at byte" in report["failed_over"]
    plain = run(tmp_path, "convert", "--checkpoint", "last", "cut", "plain")
    assert plain.returncode == 0, plain.stderr
    assert run(tmp_path, "verify", "plain").returncode == 0
    assert run(tmp_path, "restore", "--backend", "stub", "plain").returncode == 0


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A stream of four checkpoints."""
    folder = tmp_path_factory.mktemp("four")
    saved = run(folder, "save", "--backend", "stub", "--checkpointed", "10ms", "--checkpoints", "4", GUEST, "s")
    assert saved.returncode == 0, saved.stderr
    return (folder / "s").read_bytes()


def broken(four: bytes, way: str) -> bytes:
    """Four checkpoints, compressed, of which the last is not whole; behind it the sender may go on."""
    if way == "cut, then compressed":
        return gzip.compress(four[:-5000], 1)
    if way == "compressed, then cut":
        return gzip.compress(four, 1)[:-20000]
    return gzip.compress(four[:-5000] + bytes(4 << 20), 1)


WAYS = ("cut, then compressed", "compressed, then cut", "damaged, and more follows")


@pytest.mark.parametrize("way", WAYS)
def test_a_failover_out_of_a_compressed_file(tmp_path: Path, four: bytes, way: str) -> None:
    """What the program has against the rest of its input is no failure: the domain is the last whole checkpoint's."""
    (tmp_path / "s.gz").write_bytes(broken(four, way))
    restored = run(tmp_path, "restore", "--backend", "stub", "--checkpointed", "s.gz")
    assert restored.returncode == 0, restored.stderr
    assert restored.stdout.startswith("checkpoint 3: domain 1:") and restored.stderr == ""


@pytest.mark.parametrize("way", WAYS)
def test_a_failover_out_of_a_compressed_stream_that_stays_open(tmp_path: Path, four: bytes, way: str) -> None:
    """The rest of it is not waited for: it may never come, or never end."""
    command = [*PYXCSR, "restore", "--backend", "stub", "--checkpointed", "--silence", "1s", "-"]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command, bufsize=0, **pipes)
    try:
        assert process.stdin is not None
        left = memoryview(broken(four, way))
        with contextlib.suppress(BrokenPipeError):  # it need not take what comes behind the break
            while left:
                left = left[process.stdin.write(left) :]
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        said, _ = process.communicate()
    complete = rb"checkpoint [123]: domain 1: .* it is complete and paused \("  # gzip may hold some back
    assert re.match(complete, said), said


def test_what_follows_a_break_in_a_file_is_not_called_what_follows_end(tmp_path: Path, four: bytes) -> None:
    (tmp_path / "s").write_bytes(four[:-5000] + b"\x55" * 5000)
    restored = run(tmp_path, "restore", "--backend", "stub", "--checkpointed", "s")
    assert restored.returncode == 0 and "checkpoint 3" in restored.stdout and restored.stderr == ""


def test_to_a_receiver(tmp_path: Path) -> None:
    command = " ".join([*PYXCSR, "restore", "--backend", "stub", "--checkpointed", "-"])
    done = save(tmp_path, GUEST, "--checkpointed", "10ms", "--checkpoints", "3", "--receiver", command)
    assert done.returncode == 0, done.stderr
    assert "checkpoint 3: domain 1:" in done.stdout + done.stderr


def test_a_receiver_that_dies_leaves_the_guest_running(tmp_path: Path) -> None:
    done = save(tmp_path, GUEST, "--checkpointed", "10ms", "--receiver", "head -c 12000000 >/dev/null")
    assert done.returncode == 1
    assert "stopped reading before the end of the stream; the guest stays here" in done.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--checkpointed 200 -", "no unit"),
        ("--checkpointed 2h -", "it must be 0 to 3600 s"),
        ("--checkpointed 200ms s", "without --checkpoints N"),
        ("--checkpointed 200ms --checkpoints 0 s", "count is 0"),
        ("--checkpoints 3 s", "--checkpoints is for --checkpointed"),
        ("--checkpointed 200ms --no-live -", "live=False does not go together"),
        ("--checkpointed 200ms --verify -", "verify does not go together"),
        ("--checkpointed 200ms --timeout 1m -", "timeout does not go together"),
        ("--checkpointed 200ms --compress zstd -", "--compress and --checkpointed"),
        ("--checkpointed 200ms --format xl -", "--format xl and --checkpointed"),
    ],
)
def test_what_is_refused(tmp_path: Path, words: str, text: str) -> None:
    *options, file = words.split()
    done = save(tmp_path, f"{GUEST} {file}", *options)
    assert done.returncode == 2, done.stderr
    assert text in done.stderr and done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_an_xl_file_is_sent_through_convert(tmp_path: Path) -> None:
    saved = run(tmp_path, "save", "--backend", "stub", GUEST, "s")
    assert saved.returncode == 0
    refused = run(tmp_path, "restore", "--backend", "stub", "--silence", "2s", "s")
    assert refused.returncode == 2 and "give checkpointed=True" in refused.stderr
