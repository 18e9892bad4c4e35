"""Starts of programs, by the processor time that they take (user and system): what else the machine does counts little.

A helper is ready when it is about to write the stream's first byte. It gets an output that takes none, so that it
waits there, and is then ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyxcsr
from benchmarks import TOP

SLEEPS = 0.008
"""Seconds between two looks at whether the helper waits."""

TICK = 0.0005
"""Seconds of processor time that it may take between two looks if it does nothing but look for room."""

PATIENCE = 60.0
LIVE, CALLBACKS = 1, 1 << 3
TAKEN = bytes(4)
"""libxl's answer to the helper's last message."""

OPENING = """
import os, time
import pyxcsr.hypervisor.open as opening, pyxcsr.hypervisor.stub.text as text
module = opening._built("stub")
out, why = module.ffi.new("xcsr **"), module.ffi.new("xcsr_error *")
guest, spent = text.StubGuest.parse({guest!r}), time.process_time()
module.lib.xcsr_open(out, why)
spent = time.process_time() - spent
hv = opening.StubBackend(module)
before = time.process_time()
hv.stub.create(guest)
print(spent + time.process_time() - before, flush=True)
os._exit(0)
"""


def environment(**more: str) -> dict[str, str]:
    """For children: they may keep what they compile, and find the package that was imported here."""
    env = {x: y for x, y in os.environ.items() if x != "PYTHONDONTWRITEBYTECODE" and not x.startswith("PYXCSR_")}
    if Path(pyxcsr.__file__).resolve().parents[1] == TOP:
        env["PYTHONPATH"] = str(TOP)
    return {**env, **more}


def script(name: str, code: str) -> tuple[list[str], bool]:
    """An installed program, or ``code`` where it is not installed for this Python; and whether it is."""
    path = Path(sys.executable).with_name(name)
    if path.exists() and Path(pyxcsr.__file__).resolve().parents[1] != TOP:
        return [str(path)], True
    return [sys.executable, "-c", code], False


def spent(command: list[str]) -> float:
    """Seconds of processor time that a program takes from its start to its end. Raises RuntimeError if it fails."""
    child = subprocess.Popen(command, env=environment(), cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    seconds, status = _ended(child)
    if status:
        raise RuntimeError(f"{command} ended with {status}")
    return seconds


def told(code: str) -> float:
    """The seconds that a program in Python prints."""
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, env=environment(), cwd="/", capture_output=True, check=True).stdout)


def _ended(child: subprocess.Popen[bytes]) -> tuple[float, int]:
    _pid, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime, child.returncode


def ready(command: list[str], guest: str) -> float:
    """Seconds of processor time until a save helper is about to write the first byte of a stub's guest."""
    with _started(command, environment(PYXCSR_BACKEND="stub", PYXCSR_STUB_GUEST=guest)) as (child, _stream):
        try:
            return _waits(child)
        finally:
            child.kill()
            _ended(child)


def refused(command: list[str]) -> float:
    """Seconds of processor time until a save helper has told libxl that there is no Xen here."""
    with _started(command, environment(PYXCSR_BACKEND="xen")) as (child, _stream):
        seconds, status = _ended(child)
    if status:
        raise RuntimeError(f"{command} ended with {status}")
    return seconds


@contextmanager
def _started(command: list[str], env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A save helper, started as libxl does, with an output that is full."""
    answers, answered = os.pipe()
    messages, said = os.pipe()
    stream, full = os.pipe()
    try:
        os.write(answered, TAKEN)
        _fill(full)
        words = ["--save-domain", str(full), "-1", "1", str(LIVE), str(CALLBACKS), "0"]
        yield subprocess.Popen([*command, *words], env=env, cwd="/", stdin=answers, stdout=said, pass_fds=[full]), full
    finally:
        for fd in (answers, answered, messages, said, stream, full):
            os.close(fd)


def _fill(fd: int) -> None:
    os.set_blocking(fd, False)
    for size in (4096, 1):
        try:
            while True:
                os.write(fd, bytes(size))
        except BlockingIOError:
            pass


def _waits(child: subprocess.Popen[bytes]) -> float:
    """The processor time of a process once it sleeps, and does so again later with hardly any more of it."""
    before, patience = -1.0, time.monotonic() + PATIENCE
    while time.monotonic() < patience:
        time.sleep(SLEEPS)
        if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            raise RuntimeError("the helper has ended before it could save")
        threads = [Path(x) for x in Path(f"/proc/{child.pid}/task").iterdir()]
        sleeps = all((x / "stat").read_text().rpartition(")")[2].split()[0] == "S" for x in threads)
        seconds = sum(int((x / "schedstat").read_text().split()[0]) for x in threads) / 1e9
        if sleeps and before > 0 and seconds - before < TICK:
            return before
        before = seconds if sleeps else -1.0
    raise RuntimeError("the helper does not get ready to save")
