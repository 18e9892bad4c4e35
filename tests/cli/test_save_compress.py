"""Saves that go through a compressor: what comes out, and that a compressor's failure is the save's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.same import check_same

import pyxcsr
from cli.programs import GUEST, SAVE, environment, run
from cli.test_receiver import ends
from pyxcsr.cli import main
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.text import StubGuest

__all__ = ["ends"]

WORDS = ["zstd", "zstd:-5", "lz4", "zstd:1"]


def need(words: str) -> None:
    if shutil.which(words.split(":", maxsplit=1)[0]) is None:
        pytest.skip(f"{words} is not installed")


@pytest.mark.parametrize(("words", "kind"), list(zip(WORDS, ["pv64", "hvm", "pvh", "pv64"])))
def test_round_trip(tmp_path: Path, words: str, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    need(words)
    guest, out = f"{kind}:mem=8M,writes=20", os.fspath(tmp_path / "s")
    saving = ["save", "--backend", "stub", "--compress", words, "--checksum", "--json", guest, out]
    assert main.main(saving) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["compress"] == words and report["bytes_compressed"] == os.path.getsize(out) < report["bytes"]
    with open(out, "rb") as packed:
        program = [words.split(":", maxsplit=1)[0], "-dcq"]
        plain = subprocess.run(program, stdin=packed, stdout=subprocess.PIPE, check=True).stdout
    assert len(plain) == report["bytes"] and plain.startswith(b"\xff" * 8)
    assert main.main(["verify", "--quiet", "--checksum", out]) == 0
    assert main.main(["restore", "--backend", "stub", "--max-mem", "64M", "--kind", kind, "--quiet", out]) == 0
    assert sorted(os.listdir(tmp_path)) == ["s", "s.xxh128"]


def test_standard_output_and_a_receiver(tmp_path: Path) -> None:
    need("zstd")
    with (tmp_path / "a").open("wb") as to:
        assert run("--compress", "zstd", "--quiet", GUEST, "-", command=SAVE, stdout=to).returncode == 0
    assert run("--compress", "zstd", "--receiver", f"cat > {tmp_path}/b", GUEST, command=SAVE).returncode == 0
    for name in "ab":
        assert (tmp_path / name).read_bytes().startswith(b"\x28\xb5\x2f\xfd")
        assert run("verify", "--quiet", tmp_path / name).returncode == 0


@pytest.mark.parametrize("how", ["option", "variable", "fifo"])
def test_no_events_go_where_it_goes(tmp_path: Path, how: str) -> None:
    """They would be in the midst of what the compressor writes."""
    need("zstd")
    words = ["--compress", "zstd", "--quiet", GUEST, "-", *(["--events", "1"] if how == "option" else [])]
    environ = environment(**({"PYXCSR_EVENTS": "1"} if how == "variable" else {}))
    if how == "fifo":
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        words += ["--events", os.fspath(fifo)]
        reads, writes = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), os.open(fifo, os.O_WRONLY)
        os.set_blocking(reads, True)
        with open(tmp_path / "a", "wb") as to, subprocess.Popen(["cat"], stdin=reads, stdout=to) as reader:
            os.close(reads)
            done = subprocess.run([*SAVE, *words], stdout=writes, stderr=subprocess.PIPE, env=environ, check=False)
            os.close(writes)
            assert reader.wait(60) == 0
    else:
        with open(tmp_path / "a", "wb") as to:
            done = subprocess.run([*SAVE, *words], stdout=to, stderr=subprocess.PIPE, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    plain = subprocess.run(["zstd", "-dcq", tmp_path / "a"], stdout=subprocess.PIPE, check=True).stdout
    assert plain.startswith(b"\xff" * 8) and b'"pyxcsr"' not in plain
    assert run("verify", "--quiet", tmp_path / "a").returncode == 0


def test_an_xl_file_is_compressed_whole(tmp_path: Path) -> None:
    from support import containers as c

    need("zstd")
    (tmp_path / "config").write_bytes(c.text_of(c.config()))
    words = ("--format", "xl", "--config", tmp_path / "config", "--compress", "zstd", f"{GUEST},name=guest")
    assert run(*words, tmp_path / "s", command=SAVE).returncode == 0
    assert json.loads(run("inspect", "--json", tmp_path / "s").stdout)["summary"]["container"]["complete"] is True


def fake(folder: Path, script: str) -> str:
    """A PATH with a zstd that does as it is told."""
    (folder / "bin").mkdir(exist_ok=True)
    path = folder / "bin" / "zstd"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return f"{folder / 'bin'}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("script", "words", "then", "how"),
    [
        ("cat; echo no space >&2; exit 1", "no space", "resume", "--live"),
        ("cat; echo no space >&2; exit 1", "no space", "destroy", "--no-live"),
        ("cat; kill -9 $$", "signal 9", "pause", "--live"),
        ("cat; kill -9 $$", "signal 9", "destroy", "--live"),
        ("head -c 100000; exit 0", "before the", "resume", "--no-live"),
        ("head -c 100000; exit 0", "before the", "destroy", "--live"),
        ("exit 3", "status 3", "destroy", "--live"),
        ("exec <&-; sleep 60", "stopped reading before the end", "destroy", "--live"),
    ],
)
def test_a_compressor_that_fails(
    ends: list[str], tmp_path: Path, script: str, words: str, then: str, how: str,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("PATH", fake(tmp_path, script))
    where = tmp_path / "out"
    where.mkdir()
    begun = time.monotonic()
    arguments = ["save", "--backend", "stub", how, "--then", then, "--compress", "zstd", GUEST, os.fspath(where / "s")]
    assert main.main(arguments) == 1
    assert ends == ["runs"] and os.listdir(where) == []
    assert words in capfd.readouterr().err and time.monotonic() - begun < 30


@pytest.mark.parametrize("then", ["pause", "destroy"])
def test_who_watches_is_told_of_its_failure(
    ends: list[str], tmp_path: Path, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest waits for it, suspended, and so does the word that the stream is complete."""
    monkeypatch.setenv("PATH", fake(tmp_path, "cat; echo no space >&2; exit 1"))
    told = tmp_path / "events"
    words = ["save", "--backend", "stub", "--quiet", "--then", then, "--compress", "zstd", "--events", os.fspath(told)]
    assert main.main([*words, GUEST, os.fspath(tmp_path / "s")]) == 1
    last = json.loads(told.read_bytes().splitlines()[-1])
    assert (last["event"], last["result"], last["stream_complete"]) == ("end", "failed", False)
    assert ends == ["runs"] and not (tmp_path / "s").exists()


@pytest.mark.parametrize("then", ["pause", "destroy"])
def test_it_is_not_waited_for_beyond_the_timeout(
    ends: list[str], tmp_path: Path, then: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", fake(tmp_path, "cat > /dev/null; exec sleep 30"))
    words = ["save", "--backend", "stub", "--then", then, "--compress", "zstd", "--timeout", "4s"]
    began = time.monotonic()
    assert main.main([*words, GUEST, os.fspath(tmp_path / "s")]) == 1
    assert time.monotonic() - began < 25 and "longer than its timeout of 4 s" in capfd.readouterr().err
    assert ends == ["runs"]


def test_one_that_stalls_can_be_cancelled_and_leaves_no_process(tmp_path: Path) -> None:
    path = fake(tmp_path, f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 300")
    words = [*SAVE, "--compress", "zstd", "pv64:mem=64M", os.fspath(tmp_path / "s")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, env=environment(PATH=path)) as process:
        while not (tmp_path / "pid").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("words", ["gzip", "zstd:", "zstd:0", "zstd:20", "zstd:-51", "lz4:0", "lz4:13", "lz4:x", ""])
def test_words_that_mean_nothing(ends: list[str], words: str, tmp_path: Path) -> None:
    arguments = ["save", "--backend", "stub", "--compress", words, GUEST, os.fspath(tmp_path / "s")]
    assert main.main(arguments) == 2 and os.listdir(tmp_path) == []


def test_a_missing_program_is_told_with_its_package(tmp_path: Path) -> None:
    done = run("--compress", "lz4", GUEST, tmp_path / "s", command=SAVE, env=environment(PATH=os.fspath(tmp_path)))
    assert done.returncode == 2 and b"apt-get install lz4" in done.stderr


# From Python


def test_the_keyword(hv: StubBackend, tmp_path: Path) -> None:
    need("zstd")
    domid = hv.stub.create(StubGuest.parse("pv64:mem=8M"))
    at_complete: list[bytes] = []
    with (tmp_path / "s").open("wb") as out:
        report = pyxcsr.save(
            hv, domid, out, compress="zstd", complete=lambda _: at_complete.append((tmp_path / "s").read_bytes())
        )
    (told,) = at_complete
    check_same(told, (tmp_path / "s").read_bytes(), "the stream when complete is called, and afterwards,")
    assert report.bytes_compressed == len(told) and report.compress == "zstd"
    assert hv.domain_info(domid).suspended
    assert run("verify", "--quiet", tmp_path / "s").returncode == 0


def test_the_keyword_of_one_that_fails(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", fake(tmp_path, "cat; exit 1"))
    domid = hv.stub.create(StubGuest.parse("pv64:mem=8M"))
    completed: list[object] = []
    with (tmp_path / "s").open("wb") as out, pytest.raises(pyxcsr.OutputError) as caught:
        pyxcsr.save(hv, domid, out, compress="zstd", complete=completed.append)
    assert caught.value.facts["status"] == 1 and completed == []
    assert not hv.domain_info(domid).suspended, "the stream was given whole, and nevertheless the guest goes on"


def test_outputs_that_cannot_be(hv: StubBackend) -> None:
    need("zstd")
    domid = hv.stub.create(StubGuest.parse("pv64:mem=8M"))
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        with pytest.raises(pyxcsr.UsageError, match="non-blocking"):
            pyxcsr.save(hv, domid, write, compress="zstd")
    finally:
        os.close(read)
        os.close(write)


def test_it_is_waited_for_before_the_guest_is_suspended(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that stalls with the rest of the first pass in the pipe: it has taken that before the guest is suspended."""
    from pyxcsr.transfer import compressing

    monkeypatch.setattr(compressing, "SETTLE", 30.0)
    monkeypatch.setenv("PATH", fake(tmp_path, "head -c 800000; sleep 3; exec cat"))
    domid = hv.stub.create(StubGuest.parse("pv64:mem=1M"))
    waiting: list[float] = []
    began = time.monotonic()
    with (tmp_path / "s").open("wb") as out:
        report = pyxcsr.save(
            hv, domid, out, compress="zstd", max_iterations=1,
            progress=lambda x: waiting.append(time.monotonic() - began) if x.phase == "suspend" else None,
        )  # fmt: skip
    assert report.seconds_settling < 30.0 and waiting[0] > 3.0 and report.seconds_paused < 2.0


def test_it_is_not_waited_for_for_ever(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyxcsr.transfer import compressing

    monkeypatch.setattr(compressing, "SETTLE", 0.2)
    monkeypatch.setenv("PATH", fake(tmp_path, "head -c 800000; sleep 5; exec cat"))
    domid = hv.stub.create(StubGuest.parse("pv64:mem=1M"))
    with (tmp_path / "s").open("wb") as out:
        report = pyxcsr.save(hv, domid, out, compress="zstd", max_iterations=1)
    assert 0.2 <= report.seconds_settling < 4.0


class SlowToGoOn(pyxcsr.XenstoreSuspend):
    """As where QEMU takes its time to go on."""

    def resume(self) -> bool:
        time.sleep(0.6)
        return super().resume()


def test_one_that_works_off_its_rest_does_not_finish_after_a_cancel(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest goes on: nobody who reads the output may have a whole stream then."""
    rest, ended = tmp_path / "rest", tmp_path / "ended"
    monkeypatch.setenv("PATH", fake(tmp_path, f"cat > {rest}; touch {ended}; sleep 0.3; exec cat {rest}"))
    domid = hv.stub.create(StubGuest.parse("pv64:mem=4M"))
    with open(tmp_path / "s", "wb") as out, pytest.raises(pyxcsr.Cancelled):
        pyxcsr.save(hv, domid, out, compress="zstd", suspend=SlowToGoOn(hv, domid), cancel=ended.exists)
    assert not hv.domain_info(domid).shutdown
    time.sleep(0.6)
    assert (tmp_path / "s").read_bytes() == b""


def test_into_a_fifo(tmp_path: Path) -> None:
    need("zstd")
    os.mkfifo(tmp_path / "f")
    with (tmp_path / "s").open("wb") as to:
        reader = subprocess.Popen(["cat", os.fspath(tmp_path / "f")], stdout=to)
    done = run("--compress", "zstd", "--quiet", GUEST, tmp_path / "f", command=SAVE)
    assert done.returncode == 0, done.stderr
    assert reader.wait(30) == 0
    assert run("verify", "--quiet", tmp_path / "s").returncode == 0
