"""One save of a guest at a time: locks, the folder that they are in, and what dead saves leave."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import pyxcsr
from pyxcsr.control.client import running, running_save
from pyxcsr.control.folder import Folder, Unusable
from pyxcsr.control.lock import GuestLock, Held, holder_of, is_being_saved, program
from pyxcsr.errors import notes_on

HOLD = """
import sys, time
from pyxcsr.control.folder import Folder
from pyxcsr.control.lock import GuestLock
folder = Folder(sys.argv[1], make=True)
lock = GuestLock(folder, 7)
print("held", flush=True)
time.sleep(60)
"""


def test_a_lock_and_its_end(run_dir: Path) -> None:
    assert not is_being_saved(7, str(run_dir)), "there is not even a folder"
    with Folder(str(run_dir), make=True) as folder:
        assert run_dir.stat().st_mode & 0o777 == 0o700
        lock = GuestLock(folder, 7)
        assert (run_dir / "7.lock").stat().st_mode & 0o777 == 0o600
        assert is_being_saved(7, str(run_dir)) and not is_being_saved(8, str(run_dir))
        with pytest.raises(Held) as held:
            GuestLock(folder, 7)
        holder = held.value.holder
        assert (holder.pid, holder.program) == (os.getpid(), program())
        lock.release()
        lock.release()
        assert not is_being_saved(7, str(run_dir)) and list(run_dir.iterdir()) == []
        GuestLock(folder, 7).release()


def test_one_who_only_asks_does_not_keep_a_save_away(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyxcsr.control.lock.BETWEEN", 1.0)  # a machine that is busy is late to let go
    with Folder(str(run_dir), make=True) as folder, open(run_dir / "7.lock", "w") as asks:
        assert holder_of(folder, 7) is None
        fcntl.flock(asks, fcntl.LOCK_SH)
        soon = threading.Timer(0.02, fcntl.flock, (asks, fcntl.LOCK_UN))
        soon.start()
        GuestLock(folder, 7).release()
        soon.join()


def test_a_lock_of_a_process_that_was_killed(run_dir: Path) -> None:
    """The kernel takes it away; what is left in the folder is swept up by the next one who looks."""
    with subprocess.Popen([sys.executable, "-c", HOLD, run_dir], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert is_being_saved(7, str(run_dir))
        with Folder(str(run_dir)) as folder, pytest.raises(Held, match=f"process {other.pid} "):
            GuestLock(folder, 7)
        other.kill()
    assert (run_dir / "7.lock").exists() and not is_being_saved(7, str(run_dir))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(run_dir / "7.sock"))
    assert running(str(run_dir)) == [] and len(list(run_dir.iterdir())) == 2, "nobody would be told of it"
    killed: list[int] = []
    for _ in range(2):
        assert running(str(run_dir), killed.append) == [] and list(run_dir.iterdir()) == []
    assert killed == [7]


@pytest.mark.parametrize("left", ["lock", "socket", "empty"])
def test_what_tells_of_a_save_that_was_killed(run_dir: Path, left: str) -> None:
    """Its name in the lock, or its socket. A lock without a name is of one that begins, or that looks."""
    run_dir.mkdir(mode=0o700)
    if left == "socket":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(run_dir / "7.sock"))
    else:
        (run_dir / "7.lock").write_text("" if left == "empty" else "4711 pyxcsr\n")
    killed: list[int] = []
    with pytest.raises(pyxcsr.UsageError, match="'db1' is not being saved") as caught:
        running_save("db1", str(run_dir), killed.append)
    assert ["`pyxcsr recover 7`" in x for x in notes_on(caught.value)] == [True] * (left != "empty") and killed == []
    assert list(run_dir.iterdir()) == []


def test_a_lock_without_a_socket_is_of_a_save_that_goes_on(run_dir: Path) -> None:
    """As while its file is being synced, with its socket gone."""
    killed: list[int] = []
    with Folder(str(run_dir), make=True) as folder:
        lock = GuestLock(folder, 7)
        (one,) = running(str(run_dir), killed.append)
        assert one.domid == 7 and killed == [] and (run_dir / "7.lock").exists()
        lock.release()
        GuestLock(folder, 7).release()
        assert running(str(run_dir), killed.append) == [] and killed == []


def test_a_lock_that_is_removed_while_it_is_taken(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two who have locked two files of one name would both save."""
    with Folder(str(run_dir), make=True) as folder:
        first, flock, removed = GuestLock(folder, 7), fcntl.flock, []

        def slow(fd: int, how: int) -> None:
            if not removed and how & fcntl.LOCK_EX:
                removed.append(True)
                monkeypatch.setattr(fcntl, "flock", flock)
                first.release()
                monkeypatch.setattr(fcntl, "flock", slow)
            flock(fd, how)

        monkeypatch.setattr(fcntl, "flock", slow)
        second = GuestLock(folder, 7)
        assert removed and is_being_saved(7, str(run_dir))
        with pytest.raises(Held):
            GuestLock(folder, 7)
        second.release()


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_that_others_can_write_to(run_dir: Path, mode: int) -> None:
    run_dir.mkdir()
    run_dir.chmod(mode)
    with pytest.raises(Unusable, match="can be written to by others"):
        Folder(str(run_dir), make=True)
    with pytest.raises(pyxcsr.UsageError, match="can be written to by others"):
        running(str(run_dir))
    assert not is_being_saved(7, str(run_dir))


def test_a_folder_that_may_be_read(run_dir: Path) -> None:
    run_dir.mkdir(mode=0o755)
    Folder(str(run_dir), make=True).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else(run_dir: Path) -> None:
    run_dir.mkdir(mode=0o700)
    os.chown(run_dir, 1234, 1234)
    with pytest.raises(Unusable, match="belongs to user 1234"):
        Folder(str(run_dir), make=True)


def test_what_is_no_folder(run_dir: Path) -> None:
    with pytest.raises(Unusable, match="begins with /"):
        Folder("run", make=True)
    run_dir.symlink_to(run_dir.parent)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        Folder(str(run_dir), make=True)
    assert not is_being_saved(7, str(run_dir))
    run_dir.unlink()
    run_dir.write_text("")
    with pytest.raises(NotADirectoryError):
        Folder(str(run_dir), make=True)
    assert not is_being_saved(7, str(run_dir)), "no save can have its lock there"


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_something_else_at_the_locks_place(run_dir: Path, kind: str) -> None:
    """It is neither followed nor removed."""
    run_dir.mkdir(mode=0o700)
    target, place = run_dir / "target", run_dir / "7.lock"
    target.write_text("precious")
    {"link": lambda: place.symlink_to(target), "fifo": lambda: os.mkfifo(place), "folder": place.mkdir}[kind]()
    with Folder(str(run_dir)) as folder, pytest.raises((Unusable, OSError)):
        GuestLock(folder, 7)
    assert running(str(run_dir)) == []
    assert target.read_text() == "precious" and os.path.lexists(place)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_something_else_at_the_sockets_place(run_dir: Path, kind: str) -> None:
    run_dir.mkdir(mode=0o700)
    place = run_dir / "7.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(run_dir / "other"))
        if kind == "file":
            place.write_text("precious")
        else:
            place.symlink_to(run_dir / "other")
        with Folder(str(run_dir)) as folder, pytest.raises(Unusable, match=r"7\.sock is not a socket of ours"):
            folder.remove_socket("7.sock")
        assert running(str(run_dir)) == [] and os.path.lexists(place)


def test_a_long_folder_name(run_dir: Path) -> None:
    """A socket below it is reached all the same."""
    long = run_dir.parent / ("n" * 120)
    with Folder(str(long), make=True) as folder:
        assert folder.address("7.sock").startswith("/proc/self/fd/")
        with socket.socket(socket.AF_UNIX) as there:
            there.bind(folder.address("7.sock"))
            assert (long / "7.sock").is_socket()
