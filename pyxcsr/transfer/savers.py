"""Processes that save a domain, as /proc tells of them.

Xen does not say who uses a domain's log-dirty mode, and has one bitmap for all. Programs of any toolstack on this host
can be seen in /proc; what cannot be seen is a save by a toolstack in another domain, or from within a container whose
processes are not this one's.
"""

from __future__ import annotations

import errno
import os

from pyxcsr.control.folder import Folder, Unusable, socket_name
from pyxcsr.control.lock import GuestLock, Held, holder
from pyxcsr.control.names import folder_name
from pyxcsr.errors import BeingSaved, HypervisorError
from pyxcsr.hypervisor.names import domain_name
from pyxcsr.plain import TYPE_CHECKING, NamedTuple, Protocol
from pyxcsr.plain_contexts import ExitStack, contextmanager

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Optional

LIBXL, OURS, XENGUEST = "libxl-save-helper", "pyxcsr-save-helper", "xenguest"
NAMES = (LIBXL, OURS, XENGUEST)
"""libxl's helper, ours in its place, and XenServer's, which its emu-manager starts."""

PROGRAM = "pyxcsr"
SAVES = "save"
COMMANDS = (SAVES, "migrate")
"""The latter has xl's helper save the guest, which uses log-dirty mode and is seen itself."""

XL = "xl"
DESTROYS = "destroy"
CARRIES = ("save", "migrate", "remus", DESTROYS)
"""Commands of xl's that have a helper save the domain, or end it."""

COMM = 15
"""Characters of a name that the kernel keeps."""

COMMS = (*(x[:COMM] for x in NAMES), PROGRAM)
MARKS = (LIBXL[:COMM], XENGUEST, PROGRAM)
"""One of the latter is in the arguments of each that counts, or one of the former is its name: told with few steps,
as nearly all processes of a host are others."""

PYTHON = "python"
"""The first word of ours begins so, also where it has been put in the place of libxl's and has that one's name."""

SAVE, LIVE = "--save-domain", 1
"""How a save helper is called: SAVE STREAM_FD BACK_FD DOMID FLAGS ...; LIVE is a flag."""

LONGEST = 1 << 16
"""Bytes of a process's arguments that are read."""

DEVICES = ("/dev/xen/privcmd", "/proc/xen/privcmd", "/dev/xen/hypercall")


class Saver(NamedTuple):
    """A process that saves the domain, or may do so. ``live``: whether it uses log-dirty mode; None: not known.

    ``sure``: its arguments name the domain, or its lock does; False: it may as well work on another one.
    """

    pid: int
    name: str
    live: Optional[bool]
    sure: bool = True

    @property
    def ours(self) -> bool:
        """Whether it saves through this package, as its name says: then it asks for the guest's lock, and looks for
        others itself."""
        return self.name.startswith(PROGRAM)

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
        savers = self.among(self.pids())
        own = self.holds_lock()
        return savers if own is None or own.pid in (x.pid for x in savers) else [*savers, own]

    def pids(self) -> list[int]:
        """All processes. Raises OSError if /proc cannot be read."""
        return [int(x) for x in os.listdir(self._proc) if x.isdigit()]

    def among(self, pids: Collection[int]) -> list[Saver]:
        """Those of ``pids`` that save the domain, but for this process. Raises OSError."""
        found = [self._saver(x) for x in pids if x != os.getpid()]
        return [x for x in found if x is not None]

    def ancestors(self) -> set[int]:
        """The processes that have started this one, each the one before. Raises OSError."""
        found, pid = set[int](), os.getpid()
        while True:
            words = self._stat(pid)
            pid = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
            if pid <= 0 or pid in found:
                return found
            found.add(pid)

    def carriers(self) -> list[Saver]:
        """xl at work for a save or a migration of the domain, as far as its arguments tell, or destroying it.

        It has the suspended guest in hand for longer than its helper lives, and gives it away or ends it afterwards.

        Such a one is none of :meth:`now`'s: it must not be told to end. Raises OSError if /proc cannot be read.
        """
        found = [self._carrier(x, self._words(x)) for x in self.pids()]
        return [x for x in found if x is not None]

    def _carrier(self, pid: int, words: list[str]) -> Optional[Saver]:
        if not words or os.path.basename(words[0]) != XL or not self._called & set(words[1:]):
            return None
        word = next((x for x in words[1:] if not x.startswith("-")), "")
        command = next((x for x in CARRIES if len(word) > 1 and x.startswith(word)), None)  # xl takes "mig" for migrate
        return None if command is None else Saver(pid, f"{XL} {DESTROYS}" if command == DESTROYS else XL, None)

    def holds_lock(self) -> Optional[Saver]:
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
        return self.opened(saver) is not False

    def opened(self, saver: Saver) -> Optional[bool]:
        """Whether it has opened the hypervisor's device, for all that can be seen; None: there is no such process."""
        folder = os.path.join(self._proc, str(saver.pid), "fd")
        try:
            return any(_target(os.path.join(folder, x)) in DEVICES for x in os.listdir(folder))
        except (FileNotFoundError, ProcessLookupError):
            return None
        except OSError:
            return True

    def end(self, saver: Saver) -> bool:
        """Tells it to give up, as libxl does: SIGTERM, on which it ends its save with an error. False: it has gone."""
        if saver.pid <= 0:  # it has its lock, and has not even written yet who it is: it has not begun
            return False
        import signal  # takes time to load, and a save has no use for it

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
        own = self.holds_lock()
        return self._saver(saver.pid) is not None or (own is not None and own.pid == saver.pid)

    def _saver(self, pid: int) -> Optional[Saver]:
        """What a process is, if it is one that saves the domain."""
        text, comm = self._read(pid, "cmdline"), self._read(pid, "comm").rstrip("\n")
        if comm not in COMMS and not any(x in text for x in MARKS):
            return None
        words = _split(text)
        names = [*_first_words(words), comm]
        for name in NAMES:
            if any(x in (name, name[:COMM]) for x in ([*names[:1], comm] if name == XENGUEST else names)):
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
            live = bool(int(flags) & LIVE) if flags and _is_number(flags) else None
        elif len(words) > 1:
            return None
        if name == LIBXL and words and os.path.basename(words[0]).startswith(PYTHON):
            name = OURS
        return Saver(pid, name, live, domid is not None) if domid in (None, str(self._domid)) else None

    def _words(self, pid: int) -> list[str]:
        return _split(self._read(pid, "cmdline"))

    def _lives(self, pid: int) -> bool:
        """A process that has ended and is still listed has no arguments; nor has one that just begins."""
        words = self._stat(pid)
        return bool(words) and words[0] not in "ZXx"

    def _stat(self, pid: int) -> list[str]:
        """Of a process's figures those behind its name: its state, its parent, and more."""
        return self._read(pid, "stat").rpartition(")")[2].split()

    def _read(self, pid: int, name: str) -> str:
        """Empty if the process has gone."""
        try:
            fd = os.open(f"{self._proc}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.fsdecode(os.read(fd, LONGEST))
            finally:
                os.close(fd)
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


def does(savers: list[Saver]) -> str:
    """What they do with the domain, in words."""
    return "destroys it" if all(x.name.endswith(DESTROYS) for x in savers) else "saves it"


def refuse_beside(savers: list[Saver], domid: int, what: str) -> None:
    """Raises BeingSaved if there are any: ``what`` (as "domain 1 cannot be measured") would do harm."""
    if savers:
        names, first = " and ".join(map(str, savers)), savers[0]
        raise BeingSaved(
            f"{what}: {names} {does(savers)}; wait until that is over",
            errno=errno.EBUSY, domid=domid, pid=first.pid, program=first.name,
        )  # fmt: skip


def _split(text: str) -> list[str]:
    """A process's arguments."""
    return text.rstrip("\0").split("\0") if text else []


def _first_words(words: list[str]) -> Iterator[str]:
    """By which it may be known: its first words (a script's first one is its interpreter)."""
    return (os.path.basename(x) for x in words[:3] if not x.startswith("-"))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _after(words: list[str], word: str, far: int) -> Optional[str]:
    """The argument that stands so far behind a word; None if there is none."""
    at = words.index(word) + far if word in words else len(words)
    return words[at] if at < len(words) else None
