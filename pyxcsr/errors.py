"""Every exception of the package, with the facts that go with it.

Facts are attributes (``error.pfn``, ``error.mfn``, ``error.offset`` ...), so that programs need not
parse text. Each class declares those that it can have; one that is not known in this case is None. The text says
what happened and, if the reader can do something about it, what.
"""

from __future__ import annotations

import os

from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import contextmanager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Literal, Optional

    CancelledBy = Literal["caller", "policy", "limit", "control"]

_NOTED, _NOTES = "_noted", "__notes__"


class XcsrError(Exception):
    """Base of all errors that pyxcsr raises on purpose.

    ``facts`` holds what is known about the failure, by name; each is an attribute too.
    """

    facts: dict[str, Any]
    domid: Optional[int] = None
    errno: Optional[int] = None
    untouched: bool = False
    """True where it is known that nothing was done before the error: guest, domain and output are as they were."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = {}
        self.learn(**facts)

    def learn(self, **facts: Any) -> None:
        """Adds facts that became known after the error was raised."""
        self.facts.update(facts)
        self.__dict__.update(facts)

    def __reduce__(self) -> Any:
        return (_rebuild, (type(self), self.args, vars(self)))


def _rebuild(kind: type[XcsrError], args: tuple[Any, ...], state: dict[str, Any]) -> XcsrError:
    """The same error: ``state`` has its facts, its notes, whether it is ``untouched``, and what others have added."""
    error = kind.__new__(kind)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    error.facts = dict(error.facts)  # a copy's own, as its notes are: copy.copy() comes here, too
    for name in (_NOTED, _NOTES):
        if name in state:
            error.__dict__[name] = list(state[name])
    return error


def note(error: BaseException, text: str) -> None:
    """Adds to an error what else went wrong, on every Python."""
    if hasattr(error, "add_note"):
        error.add_note(text)
    elif error.args and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]}; {text}", *error.args[1:])
        error.__dict__.setdefault(_NOTED, []).append(text)  # __notes__ would be said twice
    else:  # out of memory, for example, which has no text to add to
        error.__notes__ = [*getattr(error, "__notes__", ()), text]  # type: ignore[attr-defined, unused-ignore]


def notes_on(error: BaseException) -> list[str]:
    """What :func:`note` has added: also where an older Python has it in the error's text alone."""
    return [*error.__dict__.get(_NOTED, ()), *getattr(error, _NOTES, ())]


@contextmanager
def untouched_so_far() -> Iterator[None]:
    """Of what is raised within, it is known that nothing was done before it."""
    try:
        yield
    except XcsrError as error:
        error.untouched = True
        raise


@contextmanager
def touched_by_now() -> Iterator[None]:
    """Of what is raised within, it is not known that nothing was done: also of the error of another operation, which a
    callback of the caller's may let through."""
    try:
        yield
    except XcsrError as error:
        error.untouched = False
        raise


class UsageError(XcsrError):
    """The caller asked for something that makes no sense. Nothing was done, if the error is ``untouched``; else it is
    what a function of the caller's returned, or did, that makes none.

    ``path``, ``line``: where it stands, if it stands in a settings file.
    """

    path: Optional[str] = None
    line: Optional[int] = None


class NotSupported(XcsrError):
    """A kind of guest or stream that this release does not handle. Facts: domid, if any; and what it is about.

    ``pod_entries``, ``pod_cache_pages``, ``tot_pages``: of a guest whose populate on demand cannot be waited for;
    ``record``, ``length``: of a record in a stream.
    """

    pod_entries: Optional[int] = None
    pod_cache_pages: Optional[int] = None
    tot_pages: Optional[int] = None
    record: Optional[str] = None
    length: Optional[int] = None


class BackendUnavailable(XcsrError):
    """The backend asked for was not built, or cannot run here. Facts: backend."""

    backend: Optional[str] = None


class Cancelled(XcsrError):
    """The caller's cancel callback, a signal, a limit, or the policy's ABORT ended the operation. Facts: by, and domid.

    ``by``: "policy" if a policy answered ABORT, "limit" if the time for the whole was over, "control" if another
    process asked for it (`pyxcsr cancel`), else "caller".
    ``limit``: the one that ended it, "timeout" or "abort_if_busy". ``signal``: its number, if a command was ended so.
    ``acknowledged``: of a save that was cancelled while the guest was being suspended, as in SuspendTimeout.
    """

    by: CancelledBy
    limit: Optional[str] = None
    signal: Optional[int] = None
    acknowledged: Optional[bool] = None

    def __init__(self, message: str, *, by: CancelledBy = "caller", **facts: Any) -> None:
        super().__init__(message, by=by, **facts)


class BeingSaved(XcsrError):
    """A save of this guest is under way on this machine: a second one, a measurement or a recovery would harm it.

    One that came while this save was made has ended this one, and may be called complete although it is wrong.

    Facts: domid, errno; and of the other one: pid, program.
    """

    pid: Optional[int] = None
    program: Optional[str] = None


class ControlError(XcsrError):
    """A save that another process makes could not be reached, or did not answer. Facts: domid, pid, errno."""

    pid: Optional[int] = None


class HypervisorError(XcsrError):
    """A libxenctrl call failed. Facts: op (the call), errno, and what it was about.

    That is domid, vcpu, mfn; path (of xenstore); offset and record, of the stream that was being written or read.
    """

    op: str
    errno: int
    vcpu: Optional[int] = None
    mfn: Optional[int] = None
    path: Optional[str] = None
    offset: Optional[int] = None
    record: Optional[str] = None

    def __init__(self, message: str, *, op: str, errno: int, **facts: Any) -> None:
        super().__init__(message, op=op, errno=errno, **facts)

    @property
    def strerror(self) -> str:
        """The system's text for ``errno``."""
        return os.strerror(self.errno)


class DomainNotFound(HypervisorError):
    """There is no domain with that id (or name). Facts: domid, or name."""

    name: Optional[str] = None


class DomainDying(XcsrError):
    """The domain is being destroyed or has crashed; it cannot be saved. Facts: domid."""


class PrivilegeError(HypervisorError):
    """Not root, not dom0, or the privcmd devices are missing."""


class VersionMismatch(HypervisorError):
    """libxenctrl is of another release than the running hypervisor, which has refused a domctl with EACCES."""


class LogDirtyUnsupported(HypervisorError):
    """The hypervisor cannot track this guest's writes, so it cannot be saved live. Facts: domid."""


class SuspendError(XcsrError):
    """The guest did not suspend. Facts: domid; and reason, the shutdown code, if it shut down for another reason."""

    reason: Optional[int] = None


class SuspendTimeout(SuspendError):
    """The guest did not suspend in time. Facts: domid, seconds, acknowledged.

    ``acknowledged`` False: the request was withdrawn. True: the guest has taken the request, which can no longer be
    withdrawn, so that the guest may still suspend.
    """

    seconds: Optional[float] = None
    acknowledged: Optional[bool] = None


class DeviceModelError(XcsrError):
    """The device model of an HVM guest (its QEMU) did not do what it was told. Facts: domid, op, path, answer."""

    op: Optional[str] = None
    path: Optional[str] = None
    answer: Optional[int] = None


class GuestStateError(XcsrError):
    """A value that the guest controls is one that no correct guest would have there.

    Facts: field, value; and where it is, if it has such a place: vcpu, pfn, mfn, level, index, type.
    """

    field: Optional[str] = None
    value: Optional[int] = None
    vcpu: Optional[int] = None
    pfn: Optional[int] = None
    mfn: Optional[int] = None
    level: Optional[int] = None
    index: Optional[int] = None
    type: Optional[int] = None


class P2mError(GuestStateError):
    """The guest's p2m cannot be found or used.

    Facts: field, value; level, index, mfn, max_mfn, vaddr, limit where known.
    """

    max_mfn: Optional[int] = None
    vaddr: Optional[int] = None
    limit: Optional[int] = None


class P2mChanged(P2mError):
    """The guest changed the structure of its p2m while it was being saved. Facts: before, after: of p2m_generation.

    ``follows``: how many changes had been followed, if there were too many.
    """

    before: Optional[int] = None
    after: Optional[int] = None
    follows: Optional[int] = None


class PageTableError(GuestStateError):
    """An entry of a page table cannot be expressed in pfns: it names no page of the guest, or maps a superpage.

    Facts: level (1 to 4), index (slot), pfn (of the table), mfn (that the entry names).
    """


class PageError(GuestStateError):
    """A page that must be sent cannot be. Facts: pfn, mfn, type."""


class OutputError(XcsrError):
    """The stream could not be written. Facts: errno, offset; command and status of a receiver that failed."""

    errno: int = 0
    offset: Optional[int] = None
    command: Optional[str] = None
    status: Optional[int] = None

    @property
    def strerror(self) -> str:
        """The system's text for ``errno``."""
        return os.strerror(self.errno)


class InputError(XcsrError):
    """The stream could not be read. Facts: errno, offset."""

    errno: int = 0
    offset: Optional[int] = None

    @property
    def strerror(self) -> str:
        """The system's text for ``errno``."""
        return os.strerror(self.errno)


class StreamError(XcsrError):
    """The stream is not what the specification says. Facts: offset (bytes), record (name or None).

    And, as far as they are known: what it is about (pfn, mfn, level, index, vcpu, type, field, param), the value found,
    and sizes or positions that do not fit (length, at, start_pfn, end_pfn, nr_pfns, claimed).
    """

    offset: int
    record: Optional[str]
    pfn: Optional[int] = None
    mfn: Optional[int] = None
    level: Optional[int] = None
    index: Optional[int] = None
    vcpu: Optional[int] = None
    type: Optional[int] = None
    field: Optional[str] = None
    value: Optional[int] = None
    param: Optional[int] = None
    length: Optional[int] = None
    at: Optional[int] = None
    start_pfn: Optional[int] = None
    end_pfn: Optional[int] = None
    nr_pfns: Optional[int] = None
    claimed: Optional[int] = None

    def __init__(self, message: str, *, offset: int, record: Optional[str] = None, **facts: Any) -> None:
        super().__init__(message, offset=offset, record=record, **facts)


class StreamTruncated(StreamError):
    """The stream ends before it should. Facts: offset, record; wanted, got (bytes) where known."""

    wanted: Optional[int] = None
    got: Optional[int] = None


class NotAStream(StreamError):
    """The first bytes are not those of a libxc migration stream (garbage, legacy, or a container)."""


class IncompleteStream(StreamError):
    """The stream has its END record, but lacks something that the guest refers to.

    Facts: offset, record, missing (a count); pfn, the first; table: the pfn of the page table that refers to it.
    """

    missing: Optional[int] = None
    table: Optional[int] = None


class ChecksumMismatch(XcsrError):
    """A stream does not have the checksum that its checksum file says. Facts: expected, found (hexadecimal)."""

    expected: Optional[str] = None
    found: Optional[str] = None


class VerifyMismatch(StreamError):
    """Pages sent a second time differ from those restored. Facts: offset, record, differing (a count), pfn (first)."""

    differing: Optional[int] = None


class MigrateError(XcsrError):
    """A guest was not migrated, or it is not known whether it was. Facts: guest, host, side, where, domid, status.

    ``side``: "sender" or "receiver", which failed first; the latter also if the connection did; None: nothing was done.
    ``where`` the guest runs, by what both ends list: "here", "there", "both", "nowhere", "unknown". ``status``: of xl.
    """

    guest: Optional[str] = None
    host: Optional[str] = None
    side: Optional[str] = None
    where: Optional[str] = None
    status: Optional[int] = None


class ProbeError(XcsrError):
    """An end of a migration could not be asked, or did not answer as it should. Facts: side, a host or "here"."""

    side: Optional[str] = None
