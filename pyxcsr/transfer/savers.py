"""Processes that save a domain, as /proc tells of them.

Xen does not say who uses a domain's log-dirty mode, and has one bitmap for all. Programs of any toolstack on this host
can be seen in /proc; what cannot be seen is a save by a toolstack in another domain, or from within a container whose
processes are not this one's.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, Optional, Protocol

from pyxcsr.control.folder import Folder, Unusable, socket_name
from pyxcsr.control.lock import GuestLock, Held, holder
from pyxcsr.control.names import folder_name
from pyxcsr.errors import BeingSaved, HypervisorError
from pyxcsr.hypervisor.names import domain_name

LIBXL, OURS, XENGUEST = "libxl-save-helper", "pyxcsr-save-helper", "xenguest"
NAMES = (LIBXL, OURS, XENGUEST)
"""libxl's helper, ours in its place, and XenServer's, which its emu-manager starts."""

PROGRAM = "pyxcsr"
SAVES = "save"
COMMANDS = (SAVES, "migrate")
"""The latter has xl's helper save the guest, which uses log-dirty mode and is seen itself."""

XL = "xl"
CARRIES = ("save", "migrate", "remus")
"""Commands of xl's that have a helper save the domain."""

COMM = 15
"""Characters of a name that the kernel keeps."""

SAVE, LIVE = "--save-domain", 1
"""How a save helper is called: SAVE STREAM_FD BACK_FD DOMID FLAGS ...; LIVE is a flag."""

DEVICES = ("/dev/xen/privcmd", "/proc/xen/privcmd", "/dev/xen/hypercall")


class Saver(NamedTuple):
    """A process that saves the domain, or may do so. ``live``: whether it uses log-dirty mode; None: not known."""

    pid: int
    name: str
    live: Optional[bool]

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


class Savers:
    """Looks for processes that save a domain. ``name``: the domain's, by which a command may call it.

    ``run_dir``: where saves by this package have their locks (:mod:`pyxcsr.control`), whatever their program is called.
    By such a lock a save in this process is found, too.
    """

    def __init__(
        self, domid: int, name: Optional[str] = None, proc: str = "/proc", run_dir: Optional[str] = None
    ) -> None:
        self._domid, self._proc, self._run_dir = domid, proc, run_dir
        self._called = {str(domid), name or str(domid)}

    def now(self) -> list[Saver]:
        """Those that are there now. Raises OSError if /proc, or the folder with the locks, cannot be read."""
        found = [self._saver(x) for x in self._pids() if x != os.getpid()]
        savers = [x for x in found if x is not None]
        own = self._holds_lock()
        return savers if own is None or own.pid in (x.pid for x in savers) else [*savers, own]

    def carriers(self) -> list[Saver]:
        """xl at work for a save or a migration of the domain, as far as its arguments tell. It has the suspended guest
        in hand for longer than its helper lives, and gives it away or destroys it in the end.

        Such a one is none of :meth:`now`'s: it must not be told to end. Raises OSError if /proc cannot be read.
        """
        return [Saver(x, XL, None) for x in self._pids() if self._is_carrier(self._words(x))]

    def _pids(self) -> list[int]:
        return [int(x) for x in os.listdir(self._proc) if x.isdigit()]

    def _is_carrier(self, words: list[str]) -> bool:
        if not words or os.path.basename(words[0]) != XL or not self._called & set(words[1:]):
            return False
        command = next((x for x in words[1:] if not x.startswith("-")), "")
        return len(command) > 1 and any(x.startswith(command) for x in CARRIES)  # xl takes "mig" for migrate

    def _holds_lock(self) -> Optional[Saver]:
        """Who saves the domain through this package; that may be another thread of this process."""
        held = holder(self._domid, self._run_dir)
        return None if held is None else Saver(held.pid, held.program, None)

    @contextmanager
    def shut_out(self, what: str) -> Iterator[None]:
        """While the body runs no save of the domain begins through this package. Raises BeingSaved if one has begun.

        For work that must be done even where there can be no lock: then it is done without.
        """
        with ExitStack() as held:
            name = folder_name(self._run_dir)
            try:
                if name is not None:
                    folder = held.enter_context(Folder(name, make=True))
                    held.callback(GuestLock(folder, self._domid).release)
                    folder.remove_socket(socket_name(self._domid))  # of a dead save: nobody need be told of it any more
            except Held as other:
                refuse_beside([Saver(other.holder.pid, other.holder.program, None)], self._domid, what)
            except (OSError, Unusable):  # no save has a lock there either
                pass
            yield

    def may_have_begun(self, saver: Saver) -> bool:
        """Whether it may have called Xen. One that has not opened the hypervisor's device cannot have."""
        folder = os.path.join(self._proc, str(saver.pid), "fd")
        try:
            return any(_target(os.path.join(folder, x)) in DEVICES for x in os.listdir(folder))
        except OSError:
            return True

    def end(self, saver: Saver) -> bool:
        """Tells it to give up, as libxl does: SIGTERM, on which it ends its save with an error. False: it has gone."""
        if saver.pid <= 0:  # it has its lock, and has not even written yet who it is: it has not begun
            return False
        try:
            fd = os.pidfd_open(saver.pid)
        except (OSError, AttributeError) as error:
            if isinstance(error, OSError) and error.errno == errno.ESRCH:
                return False
            # a kernel before 5.3, or a Python made for one, or it is refused (by a filter of system calls, for want of
            # descriptors or memory): that says nothing of the process, which has only its number then
            return self._told(saver, lambda: os.kill(saver.pid, signal.SIGTERM))
        try:  # what has this number now keeps it while fd is open
            return self._told(saver, lambda: signal.pidfd_send_signal(fd, signal.SIGTERM))
        finally:
            os.close(fd)

    def _told(self, saver: Saver, tell: Callable[[], None]) -> bool:
        if not self._is_there(saver):  # another process has got its number
            return False
        try:
            tell()
        except ProcessLookupError:
            return False
        return True

    def _is_there(self, saver: Saver) -> bool:
        own = self._holds_lock()
        return self._saver(saver.pid) is not None or (own is not None and own.pid == saver.pid)

    def _saver(self, pid: int) -> Optional[Saver]:
        """What a process is, if it is one that saves the domain."""
        words = self._words(pid)
        names = list(self._names(pid, words))
        for name in NAMES:
            if any(x in (name, name[:COMM]) for x in names):
                return self._helper(pid, name, words) if words or self._lives(pid) else None
        if PROGRAM in names and self._called & set(words) and set(COMMANDS) & set(words):
            command = next(x for x in words if x in COMMANDS)
            return Saver(pid, f"{PROGRAM} {command}", command == SAVES and "--no-live" not in words)
        return None

    def _helper(self, pid: int, name: str, words: list[str]) -> Optional[Saver]:
        """A save helper; None if its arguments say that it works on another domain, or restores one."""
        domid: Optional[str] = None
        live: Optional[bool] = None
        if name == XENGUEST:
            domid = _after(words, "-domid", 1)
        elif SAVE in words:
            domid, flags = _after(words, SAVE, 3), _after(words, SAVE, 4)
            live = bool(int(flags) & LIVE) if flags and re.fullmatch("[0-9]{1,9}", flags) else None
        elif len(words) > 1:
            return None
        return Saver(pid, name, live) if domid in (None, str(self._domid)) else None

    def _names(self, pid: int, words: list[str]) -> Iterator[str]:
        """By which it may be known: its first words (a script's first one is its interpreter), and the kernel's."""
        yield from (os.path.basename(x) for x in words[:3] if not x.startswith("-"))
        yield self._read(pid, "comm").rstrip("\n")

    def _words(self, pid: int) -> list[str]:
        text = self._read(pid, "cmdline")
        return text.rstrip("\0").split("\0") if text else []

    def _lives(self, pid: int) -> bool:
        """A process that has ended and is still listed has no arguments; nor has one that just begins."""
        state = self._read(pid, "stat").rpartition(")")[2].split()
        return bool(state) and state[0] not in "ZXx"

    def _read(self, pid: int, name: str) -> str:
        """Empty if the process has gone."""
        try:
            with open(os.path.join(self._proc, str(pid), name), "rb") as file:
                return os.fsdecode(file.read(1 << 16))
        except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
            return ""


class NoSavers(Savers):
    """For a hypervisor whose guests live in this process: nobody else can save them."""

    def now(self) -> list[Saver]:
        return []

    def carriers(self) -> list[Saver]:
        return []

    @contextmanager
    def shut_out(self, what: str) -> Iterator[None]:
        yield


class Asked(Protocol):
    """The part of a Hypervisor that is needed here."""

    @property
    def backend(self) -> str:
        """What it is linked with."""

    def xenstore_read(self, path: str, /) -> Optional[bytes]:
        """A node's value, or None."""


def savers_of(hv: Asked, domid: int, run_dir: Optional[str] = None) -> Savers:
    """Who may save a domain of this hypervisor. Raises nothing: without xenstore it is not known by its name.

    ``run_dir``: as for :class:`Savers`.
    """
    if hv.backend == "stub":
        return NoSavers(domid)
    try:
        name = domain_name(hv, domid)
    except HypervisorError:
        name = None
    return Savers(domid, None if name is None else os.fsdecode(name), run_dir=run_dir)


def refuse_beside(savers: list[Saver], domid: int, what: str) -> None:
    """Raises BeingSaved if there are any: ``what`` (as "domain 1 cannot be measured") would do harm."""
    if savers:
        names, first = " and ".join(map(str, savers)), savers[0]
        raise BeingSaved(
            f"{what}: {names} saves it; wait until that is over",
            errno=errno.EBUSY, domid=domid, pid=first.pid, program=first.name,
        )  # fmt: skip


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _after(words: list[str], word: str, far: int) -> Optional[str]:
    """The argument that stands so far behind a word; None if there is none."""
    at = words.index(word) + far if word in words else len(words)
    return words[at] if at < len(words) else None
