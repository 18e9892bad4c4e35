"""One save of a guest at a time: a lock for each guest, which the kernel takes away from whoever dies."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import time

from pyxcsr.control.folder import Folder, Unusable, lock_name, socket_name
from pyxcsr.control.names import folder_name
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import suppress

if TYPE_CHECKING:
    from typing import Optional

TRIES = 6
BETWEEN = 0.01
"""Seconds between two attempts: one who only asks who holds a lock holds it himself for a moment."""

LONGEST = 256
"""Bytes of a lock file that are read."""


NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""There is none, or something else in its place: no save of this user's can have its lock there."""


class Holder:
    """Who saves a guest. ``pid`` 0: the lock does not tell (yet)."""

    __slots__ = ("pid", "program")

    def __init__(self, pid: int, program: str) -> None:
        self.pid, self.program = pid, program

    def __str__(self) -> str:
        return f"process {self.pid} ({self.program})" if self.pid else "another process"


class Held(Exception):
    """Somebody else has the lock."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(str(holder))
        self.holder = holder


class GuestLock:
    """The lock of a guest, held. Raises Held; Unusable and OSError if there can be no such lock.

    ``former``: who had it and was killed, so that the file was left; its ``pid`` is 0 if there was nobody.
    """

    __slots__ = ("_fd", "_folder", "_name", "former")

    def __init__(self, folder: Folder, domid: int) -> None:
        self._folder, self._name = folder, lock_name(domid)
        self._fd = self._taken()
        self.former = _told(self._fd)
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, os.fsencode(f"{os.getpid()} {program()}\n"), 0)
        except OSError:  # it is held all the same; only nobody will know by whom
            pass

    def _taken(self) -> int:
        for left in reversed(range(TRIES)):
            fd, taken = _opened(self._folder, self._name, os.O_RDWR | os.O_CREAT), False
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                taken = _is_at(fd, self._folder, self._name)  # or has been removed by the one who had it before
                if taken:
                    return fd
            except BlockingIOError:
                if not left:
                    raise Held(_told(fd)) from None
                time.sleep(BETWEEN)
            finally:
                if not taken:  # whatever happens: a lock that is left open is held
                    os.close(fd)
        raise Unusable(f"{self._folder.path}/{self._name} is removed again and again")

    def release(self) -> None:
        """Lets go of it and removes it. Again: nothing happens."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            if _is_at(fd, self._folder, self._name):
                os.unlink(self._name, dir_fd=self._folder.fd)
        except OSError:  # a lock that nobody holds is swept up by the next one
            _clear(fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_UN)  # a process forked meanwhile may have it open, too
        finally:
            os.close(fd)


def _clear(fd: int) -> None:
    """Nobody's name in a lock that is left behind: it is not that of a save that was killed."""
    with suppress(OSError):
        os.ftruncate(fd, 0)


def _opened(folder: Folder, name: str, flags: int) -> int:
    fd = os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600, dir_fd=folder.fd)
    ours = False
    try:
        facts = os.fstat(fd)
        ours = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid()
    finally:
        if not ours:
            os.close(fd)
    if not ours:
        raise Unusable(f"{folder.path}/{name} is not a lock of ours, and is left alone")
    return fd


def _is_at(fd: int, folder: Folder, name: str) -> bool:
    try:
        there = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))


def _told(fd: int) -> Holder:
    try:
        text = os.pread(fd, LONGEST, 0)
    except OSError:  # it is held all the same
        text = b""
    pid, _, name = os.fsdecode(text).strip().partition(" ")
    return Holder(int(pid), name or "unknown") if pid.isascii() and pid.isdigit() else Holder(0, "unknown")


def program() -> str:
    """What this process is called."""
    path = sys.argv[0] if sys.argv else ""
    name = os.path.basename(path)
    if name == "__main__.py":  # of python -m PACKAGE
        name = os.path.basename(os.path.dirname(path))
    return name or "python"


def holder_of(folder: Folder, domid: int) -> Optional[Holder]:
    """Who saves a domain; None: nobody through us. Raises Unusable, OSError."""
    try:
        fd = _opened(folder, lock_name(domid), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _told(fd)
    finally:
        os.close(fd)
    return None


def holder(domid: int, run_dir: Optional[str] = None) -> Optional[Holder]:
    """Who saves a domain through pyxcsr, in whatever process of this machine; None: nobody.

    ``run_dir``: the folder that saves have their locks in, if it is not /run/pyxcsr. None if that folder cannot be
    used, because then no save uses it either. Raises OSError.
    """
    name = folder_name(run_dir)
    if name is None:
        return None
    try:
        with Folder(name) as folder:
            return holder_of(folder, domid)
    except Unusable:
        return None
    except OSError as error:
        if error.errno in NO_FOLDER:
            return None
        raise


def is_being_saved(domid: int, run_dir: Optional[str] = None) -> bool:
    """Whether pyxcsr, in whatever process of this machine, saves a domain now.

    ``run_dir``: the folder that saves have their locks in, if it is not /run/pyxcsr. False if that folder cannot be
    used, because then no save uses it either. Raises OSError.
    """
    return holder(domid, run_dir) is not None


def sweep(folder: Folder, domid: int) -> bool:
    """Removes what a dead save has left, unless somebody saves the domain. Raises Unusable, OSError.

    Returns whether a save was killed, which has tidied up nothing: say :func:`was_killed` then, as nothing else will
    be left to tell of it. A save that ends removes its socket before its lock, and its lock before it lets go of it.
    """
    try:
        lock = GuestLock(folder, domid)
    except Held:
        return False
    try:
        left = folder.remove_socket(socket_name(domid))
    finally:
        lock.release()
    return left or lock.former.pid > 0


def was_killed(domid: int) -> str:
    """For who has swept up after a save that was killed."""
    return f"a save of domain {domid} was killed: `pyxcsr recover {domid}` undoes what it has left in the guest"
