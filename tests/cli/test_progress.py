"""The progress line: as wide as the terminal, how fast now, what is held up, and never in the way."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

import pyxcsr
from cli.programs import COMMAND, SAVE, run
from pyxcsr.cli import progress
from pyxcsr.cli.progress import MIB, ProgressLine, Rate, of_reading, of_restore, of_save, progress_line
from pyxcsr.report import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """One of 80 columns: it has no descriptor to ask."""

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        return self.getvalue().rsplit("\r", 1)[-1].rstrip()


def at(mib: int, done: int = 50, phase: str = "pass", iteration: int = 0) -> Progress:
    return Progress(phase, iteration, done, 100, mib * MIB, 100, 0.0)


def test_one_line_is_rewritten_and_wiped() -> None:
    out, clock = Terminal(), Clock()
    line = ProgressLine(out, of_save, "stalled: nothing written", clock)
    line(at(0, 0))
    clock.now += 1
    line(at(40))
    assert out.shown == "pass 0 (guest running):  50% of 100 pages, 40 MiB, 40 MiB/s, 0:01"
    clock.now += 1
    line(at(50, phase="final", iteration=1))
    assert out.shown == "pass 1 (guest paused):  50% of 100 pages, 50 MiB, 25 MiB/s, 0:02"
    assert "\n" not in out.getvalue()
    before = len(out.shown)
    line.done()
    last = out.getvalue().split("\r")[-2]
    assert last.strip() == "" and len(last) >= before
    line.done()
    assert out.getvalue().split("\r")[-2] == last, "once"


def test_the_rate_is_the_current_one_and_a_stall_is_said() -> None:
    out, clock = Terminal(), Clock()
    line = ProgressLine(out, of_save, "stalled: nothing written", clock)
    for second in range(10):
        line(at(100 * second))
        clock.now += 1
    assert "100 MiB/s" in out.shown
    clock.now += 1
    line(at(910))
    clock.now += 1
    line(at(920))
    assert "MiB/s" in out.shown and "84 MiB/s" not in out.shown, "not the average since the start"
    rate = int(out.shown.split(" MiB/s")[0].split()[-1])
    assert rate < 50
    for _ in range(8):
        clock.now += 1
        line.tick()
    assert "920 MiB, stalled: nothing written for 8 s, 0:20" in out.shown
    clock.now += 1
    line(at(1000))
    assert "stalled" not in out.shown


def test_rate() -> None:
    rate = Rate()
    assert rate.bytes_per_second == 0 and rate.idle(5) == 0
    rate.add(1, 0)
    rate.add(2, 10)
    assert rate.bytes_per_second == 10 and rate.idle(4) == 2
    for second in range(3, 20):
        rate.add(second, 10)
    assert rate.bytes_per_second == 0


def test_elsewhere_a_line_for_each_pass_and_one_for_a_stall() -> None:
    out, clock = io.StringIO(), Clock()
    line = ProgressLine(out, of_save, "stalled: nothing written", clock)
    line(at(1, 100))
    line(at(2, 10, iteration=1))
    for _ in range(5):
        clock.now += 1
        line.tick()
    line(at(3, 100, iteration=1))
    line(at(3, 0, "suspend"))
    line.done()
    lines = out.getvalue().splitlines()
    assert "\r" not in out.getvalue() and len(lines) == 3
    assert lines[0].startswith("pass 0 (guest running): 100%") and "nothing written for" in lines[1]
    assert lines[2].startswith("pass 1 (guest running): 100%")


def test_what_a_restore_does() -> None:
    now = Progress("pass", 0, 512, 0, 3 * MIB, 0, 1.0)
    assert of_restore(12 * MIB)(now)[0] == "restoring:  25% of 12 MiB, 2 MiB of memory"
    assert of_restore(None)(now)[0] == "restoring: 512 pages"
    assert "page tables" in of_restore(None)(Progress("tail", 0, 512, 0, 3 * MIB, 0, 1.0))[0]
    assert of_reading("a", 6 * MIB)(now)[0] == "reading a:  50% of 6 MiB"


def test_whether_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert progress_line(None, of_save, "") is None and progress_line(False, of_save, "") is None
    assert isinstance(progress_line(True, of_save, ""), ProgressLine)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(progress_line(None, of_save, ""), ProgressLine) and progress_line(False, of_save, "") is None
    monkeypatch.setattr("sys.stderr", None)
    assert progress_line(True, of_save, "") is None


def test_the_line_goes_on_while_the_output_is_waited_for() -> None:
    out, clock = Terminal(), Clock()
    line = ProgressLine(out, of_save, "stalled: nothing written", clock)
    ticking = progress.Ticking(lambda: False, line)
    line(at(5))
    clock.now += 7
    assert ticking() is False and "nothing written for 7 s" in out.shown
    assert progress.Ticking(lambda: True, None)() is True


# On a real terminal


def width(fd: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def shown_on_a_terminal(words: list[str], columns: int, resized: int = 0) -> tuple[int, str]:
    """The status, and all that comes to a terminal of so many columns, which may become fewer."""
    ours, theirs = pty.openpty()
    width(theirs, columns)
    got, begun = b"", time.monotonic()
    with subprocess.Popen(words, stderr=theirs, stdout=subprocess.DEVNULL) as process:
        os.close(theirs)
        while True:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    piece = os.read(ours, 4096)
                except OSError:
                    break
                got += piece
                if resized and len(got) > 200:
                    width(ours, resized)
                    got, resized = b"", 0
            assert time.monotonic() - begun < 60
        status = process.wait(60)
    os.close(ours)
    return status, got.decode()


def slow_reader(mem: str) -> list[str]:
    """A save whose reader takes its time, so that the line is drawn again and again."""
    reader = f"{sys.executable} -c 'import sys, time\nwhile sys.stdin.buffer.read(3000000): time.sleep(0.1)'"
    return [*SAVE, "--receiver", reader, f"pv64:mem={mem}"]


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_no_line_is_longer_than_the_terminal(columns: int) -> None:
    status, text = shown_on_a_terminal(slow_reader("64M"), columns)
    assert status == 0
    pictures = text.split("\r")
    assert len([x for x in pictures if "pass 0" in x]) >= 5, text
    assert "\n" not in text, "no line is left behind"
    assert max(map(len, pictures)) < columns


def test_the_line_follows_a_resize() -> None:
    status, text = shown_on_a_terminal(slow_reader("96M"), 80, 30)
    pictures = text.split("\r")[3:]  # those that were drawn before the terminal shrank are on their way
    assert status == 0 and max(map(len, pictures)) < 30 and any("pass" in x for x in pictures)


def test_a_stalled_output_is_shown(tmp_path: Path) -> None:
    words = [*SAVE, "--receiver", "sleep 4; cat > /dev/null", "pv64:mem=64M"]
    status, text = shown_on_a_terminal(words, 80)
    assert status == 0 and re.search(r"nothing written for [23] s", text), text


def test_restore_and_verify_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a short name fits into the line, however long the folder's is
    assert run("pv64:mem=64M", tmp_path / "s", "--quiet", command=SAVE).returncode == 0
    status, text = shown_on_a_terminal([*COMMAND, "restore", "--backend", "stub", str(tmp_path / "s")], 80)
    assert status == 0 and re.search(r"restoring: +\d+% of \d+ MiB", text) and "of 0 pages" not in text
    status, text = shown_on_a_terminal([*COMMAND, "verify", "s"], 120)
    assert status == 0 and re.search(r"reading s.*% of \d+ MiB", text) and "\n" not in text
    status, text = shown_on_a_terminal([*COMMAND, "verify", "--quiet", str(tmp_path / "s")], 120)
    assert (status, text) == (0, "")


def test_a_guest_is_saved_the_same_with_progress(tmp_path: Path) -> None:
    with pyxcsr.open_hypervisor("stub") as hv, open(tmp_path / "s", "wb") as out:
        domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=50))  # type: ignore[union-attr]
        screen = Terminal()
        line = ProgressLine(screen, of_save, "stalled: nothing written")
        report = pyxcsr.save(hv, domid, out, progress=line)
        line.done()
        hv.stub.destroy(domid)  # type: ignore[union-attr]
    shown = [x.rstrip() for x in screen.getvalue().split("\r")]
    assert any(x.startswith("pass 0 (guest running): 100% of 2048 pages, 8 MiB") for x in shown), shown
    assert any("(guest paused): 100%" in x for x in shown) and any(x.startswith("suspend ...") for x in shown)
    assert len(report.passes) > 1
