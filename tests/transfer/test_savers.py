"""Which processes save a domain, told from a /proc made of files; and ending one, with real processes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import pytest

from pyxcsr.control.folder import Folder
from pyxcsr.control.lock import GuestLock
from pyxcsr.errors import BeingSaved
from pyxcsr.transfer.savers import NoSavers, Saver, Savers, refuse_beside

XENGUEST = "/usr/libexec/xen/bin/xenguest"
HELPER = "/usr/lib/xen-4.17/bin/libxl-save-helper"
SCRIPT = ("/usr/bin/python3", "/usr/local/bin/pyxcsr-save-helper")
SAVE_7 = ("--save-domain", "12", "-1", "7")
RESTORE = ("--restore-domain", "12", "-1", "7", "3", "0", "2", "0", "136", "0")
LIVE, PLAIN = ("1", "136", "0"), ("0", "136", "0")

NOBODYS, NOR_ITS = ((x << 22) + os.getpid() for x in (1, 2))
"""Of no domain, and of no other process in which these tests run."""


def process(proc: Path, pid: int, *words: str, comm: str = "", state: str = "S") -> None:
    """One more process in the folder."""
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cmdline").write_bytes(b"".join(os.fsencode(x) + b"\0" for x in words))
    name = comm or os.path.basename(words[0])
    (folder / "comm").write_text(name[:15] + "\n")
    (folder / "stat").write_text(f"{pid} ({name[:15]}) {state} 1 1")


@pytest.mark.parametrize(
    ("words", "comm", "expected"),
    [
        ((HELPER, *SAVE_7, *LIVE), "", Saver(50, "libxl-save-helper", True)),
        ((HELPER, *SAVE_7, *PLAIN), "", Saver(50, "libxl-save-helper", False)),
        ((HELPER, "--save-domain", "12", "-1", "8", *LIVE), "", None),
        ((HELPER, "--save-domain", "7", "-1", "77", *LIVE), "", None),
        ((HELPER, *RESTORE), "", None),
        ((HELPER, *SAVE_7), "", Saver(50, "libxl-save-helper", None)),
        ((HELPER, "--save-domain", "12"), "", Saver(50, "libxl-save-helper", None, sure=False)),
        ((HELPER,), "", Saver(50, "libxl-save-helper", None, sure=False)),
        ((*SCRIPT, *SAVE_7, *LIVE), "pyxcsr-save-helper", Saver(50, "pyxcsr-save-helper", True)),
        ((SCRIPT[0], "-I", SCRIPT[1], *SAVE_7, *LIVE), "python3", Saver(50, "pyxcsr-save-helper", True)),
        ((SCRIPT[0], HELPER, *SAVE_7, *LIVE), "libxl-save-helper", Saver(50, "pyxcsr-save-helper", True)),
        (("/odd/name", *SAVE_7, *LIVE), "libxl-save-helper", Saver(50, "libxl-save-helper", True)),
        ((XENGUEST, "-debug", "-domid", "7", "-mode", "listen"), "", Saver(50, "xenguest", None)),
        ((XENGUEST, "-debug", "-domid", "8", "-mode", "listen"), "", None),
        ((XENGUEST, "-mode", "listen"), "", Saver(50, "xenguest", None, sure=False)),
        (("/usr/bin/python3", "/usr/bin/pyxcsr", "save", "--live", "7", "x"), "pyxcsr", Saver(50, "pyxcsr save", True)),
        (("/usr/bin/python3", "/usr/bin/pyxcsr", "save", "db1", "x"), "pyxcsr", Saver(50, "pyxcsr save", True)),
        (("/usr/bin/python3", "/usr/bin/pyxcsr", "save", "--no-live", "7", "x"), "", Saver(50, "pyxcsr save", False)),
        (("/usr/bin/python3", "/usr/bin/pyxcsr", "save", "db2", "x"), "pyxcsr", None),
        (("/usr/bin/python3", "/usr/bin/pyxcsr", "migrate", "7", "x"), "pyxcsr", Saver(50, "pyxcsr migrate", False)),
        (("/usr/bin/python3", "/usr/bin/pyxcsr", "dirty-rate", "7"), "pyxcsr", None),
        (("/usr/sbin/xl", "migrate", "7", "there"), "", None),
        (("less", "/tmp/libxl-save-helper.log"), "", None),
    ],
)
def test_what_counts(tmp_path: Path, words: tuple[str, ...], comm: str, expected: Optional[Saver]) -> None:
    process(tmp_path, 1, "/sbin/init")
    process(tmp_path, 50, *words, comm=comm)
    (tmp_path / "self").mkdir()
    (tmp_path / "version").touch()
    assert Savers(7, "db1", str(tmp_path)).now() == ([expected] if expected else [])


@pytest.mark.parametrize(("state", "counts"), [("R", True), ("Z", False), ("X", False)])
def test_without_arguments(tmp_path: Path, state: str, counts: bool) -> None:
    """A process that has ended has none, and one that has only just been started has none yet."""
    process(tmp_path, 50, comm="libxl-save-helper", state=state)
    assert Savers(7, proc=str(tmp_path)).now() == ([Saver(50, "libxl-save-helper", None, sure=False)] if counts else [])


def test_what_goes_while_it_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "60").mkdir()
    (tmp_path / "61").touch()
    process(tmp_path, 62, HELPER, *SAVE_7, *LIVE)
    (tmp_path / "62" / "comm").unlink()
    assert [x.pid for x in Savers(7, proc=str(tmp_path)).now()] == [62]
    assert NoSavers(7, proc=str(tmp_path)).now() == []
    with pytest.raises(OSError, match="none"):
        Savers(7, proc=str(tmp_path / "none")).now()


@pytest.mark.parametrize(
    ("target", "expected"),
    [("/dev/xen/privcmd", True), ("/proc/xen/privcmd", True), ("/dev/null", False), (None, True), ("", False)],
)
def test_whether_it_may_have_called_xen(tmp_path: Path, target: Optional[str], expected: bool) -> None:
    """Only one that has not opened the hypervisor's device has not, for certain."""
    process(tmp_path, 50, HELPER, *SAVE_7, *LIVE)
    if target is not None:
        (tmp_path / "50" / "fd").mkdir()
        (tmp_path / "50" / "fd" / "1").symlink_to("pipe:[1]")
    if target:
        (tmp_path / "50" / "fd" / "2").symlink_to(target)
    assert Savers(7, proc=str(tmp_path)).may_have_begun(Saver(50, "", None)) is expected


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that calls itself a save helper, and waits; no longer than the body, if that fails, too."""
    command = ["/usr/lib/libxl-save-helper", "-c", "import time; time.sleep(600)", *words]
    with subprocess.Popen(command, executable=sys.executable) as child:
        try:
            until = time.monotonic() + 60
            while b"time.sleep" not in Path(f"/proc/{child.pid}/cmdline").read_bytes() and time.monotonic() < until:
                time.sleep(0.01)
            yield child
        finally:
            child.kill()


REFUSALS = {"before 5.3": errno.ENOSYS, "filter": errno.EPERM, "too many files": errno.EMFILE}


@pytest.mark.parametrize("kernel", ["new", "python for an old one", *REFUSALS])
def test_a_real_process_is_found_and_ended(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """With the domid of no domain, so that nobody else's process has it. That it cannot be opened does not mean that it
    has gone."""

    def refuse(pid: int) -> int:
        raise OSError(REFUSALS[kernel], os.strerror(REFUSALS[kernel]))

    if kernel in REFUSALS:
        monkeypatch.setattr(os, "pidfd_open", refuse)
    elif kernel != "new":
        monkeypatch.delattr(os, "pidfd_open")
    words = ("--save-domain", "12", "-1", str(NOBODYS), *LIVE)
    with started(*words) as child:
        savers = Savers(NOBODYS)
        (found,) = savers.now()
        assert found == Saver(child.pid, "libxl-save-helper", True) and str(child.pid) in str(found)
        assert not savers.may_have_begun(found)
        assert savers.end(found) is True
        assert child.wait(60) == -signal.SIGTERM
    assert savers.now() == [] and savers.end(found) is False


@pytest.mark.parametrize("program", ["backup.py", "pyxcsr-save-helper"])
def test_a_save_of_ours_is_found_by_its_lock(tmp_path: Path, program: str) -> None:
    """Whatever its program is called; one that is known by its name, too, is told of once."""
    proc, run = tmp_path / "proc", tmp_path / "run"
    proc.mkdir()
    run.mkdir(0o700)
    savers = Savers(7, proc=str(proc), run_dir=str(run))
    if program == "pyxcsr-save-helper":
        process(proc, 61, *SCRIPT, *SAVE_7, *LIVE)
    with open(run / "7.lock", "w") as lock:
        lock.write(f"61 {program}\n")
        lock.flush()
        assert len(savers.now()) == (program == "pyxcsr-save-helper"), "a lock that nobody holds"
        fcntl.flock(lock, fcntl.LOCK_EX)
        (found,) = savers.now()
        assert (found.pid, found.name) == (61, program)
        assert Savers(8, proc=str(proc), run_dir=str(run)).now() == []


def test_a_save_in_this_process_is_found_by_its_lock(tmp_path: Path) -> None:
    """Another thread's: one of our own commands is not found by its arguments, which are those of who looks."""
    proc, run = tmp_path / "proc", tmp_path / "run"
    proc.mkdir()
    run.mkdir(0o700)
    process(proc, os.getpid(), "/usr/bin/python3", "/usr/bin/pyxcsr", "save", "7", "x")
    savers = Savers(7, proc=str(proc), run_dir=str(run))
    assert savers.now() == []
    with Folder(str(run)) as folder:
        lock = GuestLock(folder, 7)
        assert [x.pid for x in savers.now()] == [os.getpid()]
        lock.release()
    assert savers.now() == []


def test_a_program_that_holds_the_lock_is_ended(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir(0o700)
    program = (
        "import fcntl, os, sys, time; f = open(sys.argv[1], 'w'); f.write(f'{os.getpid()} backup.py'); f.flush(); "
        "fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", program, str(run / "7.lock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        savers = Savers(7, run_dir=str(run))
        (found,) = [x for x in savers.now() if x.name == "backup.py"]
        assert savers.end(found) is True and child.wait(60) == -signal.SIGTERM
    assert savers.end(found) is False


def test_a_lock_that_does_not_tell_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 0 would be everyone in this process's group."""
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("somebody was told to end"))
    run = tmp_path / "run"
    run.mkdir(0o700)
    savers = Savers(7, proc=str(tmp_path), run_dir=str(run))
    with open(run / "7.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (found,) = savers.now()
        assert found.pid == 0 and savers.end(found) is False


def test_another_process_with_its_number_is_left_alone() -> None:
    with started("--save-domain", "12", "-1", str(NOBODYS), *LIVE) as child:
        assert Savers(NOR_ITS).end(Saver(child.pid, "libxl-save-helper", True)) is False
        assert child.poll() is None


@pytest.mark.parametrize(
    ("words", "carries"),
    [
        (("/usr/sbin/xl", "migrate", "db1", "host2"), True),
        (("xl", "-v", "mig", "--debug", "7", "host2"), True),
        (("/usr/lib/xen-4.17/bin/xl", "save", "-c", "db1", "/var/db1"), True),
        (("xl", "remus", "7", "host2"), True),
        (("xl", "migrate", "db2", "host2"), False),
        (("xl", "migrate-receive"), False),
        (("xl", "list", "db1"), False),
        (("xl", "s", "db1"), False),
        (("less", "migrate", "db1"), False),
    ],
)
def test_an_xl_that_has_the_guest_in_hand(tmp_path: Path, words: tuple[str, ...], carries: bool) -> None:
    """It is told of apart: a measurement tells those that save to end."""
    process(tmp_path, 50, *words)
    savers = Savers(7, "db1", str(tmp_path))
    assert savers.carriers() == ([Saver(50, "xl", None)] if carries else []) and savers.now() == []


def test_an_xl_that_destroys_the_guest_has_it_in_hand(tmp_path: Path) -> None:
    """A guest that is resumed meanwhile would be destroyed with all that it did."""
    process(tmp_path, 50, "/usr/sbin/xl", "destroy", "7")
    (carrier,) = Savers(7, "db1", str(tmp_path)).carriers()
    with pytest.raises(BeingSaved, match=r"xl destroy \(process 50\) destroys it; wait until that is over"):
        refuse_beside([carrier], 7, "domain 7 is left alone")
