"""What a command says never decides what becomes of its work; what could not be said is a status of its own."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.judge import judge_rules

from cli.programs import COMMAND, GUEST, SAVE, environment, run
from pyxcsr.cli import main, say, status

BUFFERING = pytest.mark.parametrize("unbuffered", [False, True])


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "s"
    assert run(GUEST, path, "--quiet", command=SAVE).returncode == 0
    return path


@pytest.fixture
def full() -> Iterator[Any]:
    with open("/dev/full", "wb") as device:
        yield device


def no_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@BUFFERING
def test_progress_that_cannot_be_written(tmp_path: Path, full: Any, unbuffered: bool) -> None:
    env = environment(unbuffered)
    done = run(GUEST, tmp_path / "s", "--progress", command=SAVE, stderr=full, env=env)
    assert done.returncode == 0 and b"live save" in done.stdout
    judge_rules(tmp_path / "s", xen=False)
    assert run("restore", "--backend", "stub", tmp_path / "s", "--progress", stderr=full, env=env).returncode == 0


@BUFFERING
def test_progress_without_a_reader(tmp_path: Path, unbuffered: bool) -> None:
    gone = no_reader()
    done = run(GUEST, tmp_path / "s", "--progress", command=SAVE, stderr=gone, env=environment(unbuffered))
    os.close(gone)
    assert done.returncode == 0 and (tmp_path / "s").exists()
    gone = no_reader()
    words = ("restore", "--backend", "stub", tmp_path / "s", "--progress")
    assert run(*words, stderr=gone, env=environment(unbuffered)).returncode == 0
    os.close(gone)


@BUFFERING
@pytest.mark.parametrize("blocking", [False, True])
def test_progress_whose_reader_reads_nothing(tmp_path: Path, blocking: bool, unbuffered: bool) -> None:
    """A pipe that is full: in blocking mode a write would hang with the guest in hand."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, bytes(65536))
    os.set_blocking(writer, blocking)
    begun = time.monotonic()
    env = environment(unbuffered)
    done = run(GUEST, tmp_path / "s", "--progress", command=SAVE, stderr=writer, env=env)
    assert done.returncode == 0 and (tmp_path / "s").exists()
    assert run("restore", "--backend", "stub", tmp_path / "s", "--progress", stderr=writer, env=env).returncode == 0
    assert time.monotonic() - begun < 60
    os.close(reader)
    os.close(writer)


@BUFFERING
def test_a_terminal_that_has_closed(tmp_path: Path, unbuffered: bool) -> None:
    ours, theirs = os.openpty()
    os.close(ours)
    env = environment(unbuffered)
    done = run(GUEST, tmp_path / "s", "--progress", command=SAVE, stderr=theirs, stdout=theirs, env=env)
    assert done.returncode == status.UNTOLD, "the report went to the terminal, too"
    words = ("restore", "--backend", "stub", tmp_path / "s", "--progress")
    assert run(*words, stderr=theirs, stdout=theirs, env=env).returncode == status.UNTOLD
    assert run(*words, stderr=theirs, env=env).returncode == 0
    os.close(theirs)
    judge_rules(tmp_path / "s", xen=False)


@BUFFERING
@pytest.mark.parametrize("how", [(), ("--json",)])
def test_a_report_that_cannot_be_written(tmp_path: Path, full: Any, how: tuple[str, ...], unbuffered: bool) -> None:
    path, env = tmp_path / "s", environment(unbuffered)
    done = run(GUEST, path, *how, command=SAVE, stdout=full, env=env)
    assert done.returncode == status.UNTOLD and b"report could not be written: No space left" in done.stderr
    judge_rules(path, xen=False)
    done = run("restore", "--backend", "stub", *how, path, stdout=full, env=env)
    assert done.returncode == status.UNTOLD
    assert run(GUEST, path, "--force", "--quiet", command=SAVE, stdout=full, env=env).returncode == 0


@BUFFERING
def test_a_report_without_a_reader(tmp_path: Path, unbuffered: bool) -> None:
    path, env = tmp_path / "s", environment(unbuffered)
    for command, words in ((SAVE, (GUEST, path)), (COMMAND, ("restore", "--backend", "stub", path))):
        gone = no_reader()
        done = run(*words, command=command, stdout=gone, env=env)
        os.close(gone)
        assert done.returncode == status.UNTOLD and b"report could not be written" in done.stderr
    judge_rules(path, xen=False)


def test_a_report_beside_a_stream_that_cannot_be_written(full: Any) -> None:
    done = run(GUEST, "-", command=SAVE, stderr=full)
    assert done.returncode == status.UNTOLD and done.stdout


@BUFFERING
@pytest.mark.parametrize("words", [("verify",), ("verify", "--json"), ("inspect",), ("inspect", "--json")])
def test_a_good_stream_has_no_complaints_because_of_a_full_disk(
    image: Path, full: Any, words: tuple[str, ...], unbuffered: bool
) -> None:
    assert run(*words, image, stdout=full, env=environment(unbuffered)).returncode == status.UNTOLD


def test_a_bad_stream_stays_bad_on_a_full_disk(image: Path, tmp_path: Path, full: Any) -> None:
    (tmp_path / "cut").write_bytes(image.read_bytes()[:100000])
    assert run("verify", tmp_path / "cut", stdout=full).returncode == status.FAILED
    assert run("inspect", tmp_path / "cut", stdout=full).returncode == status.FAILED


@pytest.mark.parametrize("words", [["--help"], ["save", "--help"], ["--version"]])
def test_help_that_cannot_be_written(full: Any, words: list[str]) -> None:
    assert run(*words, stdout=full).returncode == status.UNTOLD
    gone = no_reader()
    assert run(*words, stdout=gone).returncode == status.UNTOLD
    os.close(gone)


def test_closed_outputs(tmp_path: Path) -> None:
    """Nothing that is opened later is taken for them."""
    words = [*SAVE, GUEST, str(tmp_path / "s")]
    done = subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *words], check=False, timeout=60)
    assert done.returncode == status.UNTOLD
    judge_rules(tmp_path / "s", xen=False)
    done = subprocess.run(["sh", "-c", '"$@" --force --quiet <&- >&- 2>&-', "sh", *words], check=False, timeout=60)
    assert done.returncode == 0


@BUFFERING
@pytest.mark.parametrize("words", [("inspect", "--json", "--all"), ("inspect", "--all")])
def test_a_slow_reader_of_a_descriptor_in_non_blocking_mode(
    tmp_path: Path, words: tuple[str, ...], unbuffered: bool
) -> None:
    assert run("pv64:mem=32M", tmp_path / "s", "--quiet", command=SAVE).returncode == 0
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    got: list[bytes] = []

    def read_slowly() -> None:
        time.sleep(0.5)
        while piece := os.read(reader, 1000):
            got.append(piece)
            time.sleep(0.001)

    thread = threading.Thread(target=read_slowly)
    thread.start()
    done = run(*words, tmp_path / "s", stdout=writer, env=environment(unbuffered))
    os.close(writer)
    thread.join()
    os.close(reader)
    plain = run(*words, tmp_path / "s").stdout
    assert done.returncode == 0 and b"".join(got) == plain
    if "--json" in words:
        assert json.loads(plain)["summary"]["complete"] is True


def test_a_bug_says_that_it_is_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from pyxcsr.cli import inspect

    def fall_over(*_words: object, **_named: object) -> None:
        raise ZeroDivisionError("not meant to be")

    monkeypatch.setattr(inspect, "survey_input", fall_over)
    assert main.main(["inspect", os.devnull]) == status.BUG
    told = capsys.readouterr().err
    assert "this is a bug in pyxcsr" in told and "report it" in told and "ZeroDivisionError: not meant to be" in told


def test_what_cannot_be_encoded_is_no_error() -> None:
    assert say.encoded("a\udcffé", "utf-8") == b"a\xff\xc3\xa9"
    assert say.encoded("a\udcff", "ascii") == b"a\xff"
    assert say.encoded("é", "ascii") == b"\\xe9"


@pytest.mark.parametrize(
    "command", ["save", "restore", "recover", "dirty-rate", "plot", "verify", "inspect", "convert", "demo"]
)
def test_every_help_has_the_statuses(command: str) -> None:
    text = b" ".join(run(command, "--help").stdout.split())
    for words in (b"Exit status: 0 ", b"; 1 ", b"; 2 ", b"; 3 done, but the report", b"70 a bug", b"128 + N"):
        assert words in text


def test_the_table_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    for number in (status.DONE, status.FAILED, status.UNUSABLE, status.UNTOLD, status.BUG):
        assert f"\n| {number} | " in page
    assert "\n| 128 + N | " in page


def test_as_a_module() -> None:
    assert run("--version").stdout.startswith(b"pyxcsr ")
    assert run("demo", "--mem", "8MiB", "--no-progress", command=COMMAND).returncode == 0
