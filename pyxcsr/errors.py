"""Every exception of the package, with the facts that go with it.

Facts are attributes (``error.pfn``, ``error.mfn``, ``error.offset`` ...), so that programs need not
parse text. The text says what happened and, if the reader can do something about it, what.
"""

from __future__ import annotations

import os
from typing import Any, Optional


class XcsrError(Exception):
    """Base of all errors that pyxcsr raises on purpose.

    ``facts`` holds what is known about the failure; each is readable as an attribute too.
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("facts")
        if facts is not None and name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__!r} has no fact {name!r}")

    def __reduce__(self) -> Any:
        return (_rebuild, (type(self), self.args, self.facts))


def _rebuild(kind: type[XcsrError], args: tuple[Any, ...], facts: dict[str, Any]) -> XcsrError:
    error = kind.__new__(kind)
    Exception.__init__(error, *args)
    error.facts = facts
    return error


class UsageError(XcsrError):
    """The caller asked for something that makes no sense. Nothing was done."""


class NotSupported(XcsrError):
    """A kind of guest or stream that this release does not handle. Facts: domid, if any."""


class BackendUnavailable(XcsrError):
    """The backend asked for was not built, or cannot run here. Facts: backend."""


class Cancelled(XcsrError):
    """The caller's cancel callback, a signal, or the policy's ABORT ended the operation. Facts: domid, if any."""


class HypervisorError(XcsrError):
    """A libxenctrl call failed. Facts: op (the call), errno, and what it was about (domid, mfn ...)."""

    def __init__(self, message: str, *, op: str, errno: int, **facts: Any) -> None:
        super().__init__(message, op=op, errno=errno, **facts)

    @property
    def strerror(self) -> str:
        """The system's text for ``errno``."""
        return os.strerror(self.facts["errno"])


class DomainNotFound(HypervisorError):
    """There is no domain with that id (or name). Facts: domid."""


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


class SuspendTimeout(SuspendError):
    """The guest did not suspend in time. Facts: domid, seconds, acknowledged.

    ``acknowledged`` False: the request was withdrawn. True: the guest has taken the request, which can no longer be
    withdrawn, so that the guest may still suspend.
    """


class DeviceModelError(XcsrError):
    """The device model of an HVM guest (its QEMU) did not do what it was told. Facts: domid, op, path."""


class GuestStateError(XcsrError):
    """A value that the guest controls is one that no correct guest would have there. Facts: field, value."""


class P2mError(GuestStateError):
    """The guest's p2m cannot be found or used. Facts: field, value; level, index, mfn, max_mfn, vaddr where known."""


class P2mChanged(P2mError):
    """The guest changed the structure of its p2m while it was being saved. Facts: before, after: of p2m_generation."""


class PageTableError(GuestStateError):
    """An entry of a page table cannot be expressed in pfns: it names no page of the guest, or maps a superpage.

    Facts: level (1 to 4), index (slot), pfn (of the table), mfn (that the entry names).
    """


class PageError(GuestStateError):
    """A page that must be sent cannot be. Facts: pfn, mfn, type."""


class OutputError(XcsrError):
    """The stream could not be written. Facts: errno, offset."""

    @property
    def strerror(self) -> str:
        """The system's text for ``errno``."""
        return os.strerror(self.facts["errno"])


class InputError(XcsrError):
    """The stream could not be read. Facts: errno, offset."""

    @property
    def strerror(self) -> str:
        """The system's text for ``errno``."""
        return os.strerror(self.facts["errno"])


class StreamError(XcsrError):
    """The stream is not what the specification says. Facts: offset (bytes), record (name or None)."""

    def __init__(self, message: str, *, offset: int, record: Optional[str] = None, **facts: Any) -> None:
        super().__init__(message, offset=offset, record=record, **facts)


class StreamTruncated(StreamError):
    """The stream ends before it should. Facts: offset, record, wanted, got."""


class NotAStream(StreamError):
    """The first bytes are not those of a libxc migration stream (garbage, legacy, or a container)."""


class IncompleteStream(StreamError):
    """The stream has its END record, but lacks something that the guest refers to.

    Facts: offset, record, missing (a count), pfn.
    """


class ChecksumMismatch(XcsrError):
    """A stream does not have the checksum that its checksum file says. Facts: expected, found (hexadecimal)."""


class VerifyMismatch(StreamError):
    """Pages sent a second time differ from those restored. Facts: offset, record, differing (a count), pfn (first)."""
