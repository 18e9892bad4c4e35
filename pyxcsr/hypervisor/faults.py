"""The one place where C's error records become exceptions."""

from __future__ import annotations

import errno
import os

from pyxcsr.errors import (
    DomainNotFound,
    GuestStateError,
    HypervisorError,
    IncompleteStream,
    InputError,
    LogDirtyUnsupported,
    OutputError,
    P2mError,
    PageError,
    PageTableError,
    PrivilegeError,
    StreamError,
    StreamTruncated,
    UsageError,
    VersionMismatch,
)
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from pyxcsr.errors import XcsrError

OTHER_PROCESS = 10001
OTHER_THREAD = 10002

# enum xcsr_error_kind; a test compares them
E_OUTPUT, E_PTE, E_PAGE, E_P2M, E_INPUT, E_STREAM, E_STATE, E_CONTEXT = 2, 3, 4, 5, 6, 7, 8, 9

OPENING = ("xc_interface_open", "xenforeignmemory_open", "xs_open")
ENABLE = "XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY"

NO_LOGDIRTY = (
    "this hypervisor cannot track the guest's writes (Xen is built without shadow paging, as Debian's is, "
    "which PV guests need for it), so the guest cannot be saved live; a non-live save (--no-live) works"
)
PASSTHROUGH = (
    "Xen refuses log-dirty mode for a domain with PCI devices assigned to it, or one already tracked; detach them "
    "(xl pci-detach), or save it non-live (--no-live), which needs no log-dirty mode"
)
VERSION = (
    "libxenctrl's release is not the running hypervisor's, which refuses its requests; "
    "install or build pyxcsr against the libxenctrl of the running Xen (see `xl info`)"
)
NO_ROOM = {
    errno.EFBIG: "the limit on the size of files (`ulimit -f`) is too low for the stub: its memory is a file of 8 GiB",
    errno.EMFILE: "this process has too many files open (`ulimit -n`)",
    errno.ENFILE: "this host has too many files open",
    errno.ENOMEM: "this process has no memory or address space left for it (`ulimit -v`)",
}
"""What keeps a hypervisor from being opened and is no matter of privilege."""
OF_STATE = ("xc_domain_hvm_setcontext", "XEN_DOMCTL_set_ext_vcpucontext")
"""Calls by whose EPERM Xen before 4.16 refuses what a guest's state says, which is no matter of privilege."""
PRIVILEGE = "pyxcsr must run as root in dom0, with /dev/xen/privcmd and /dev/xen/hypercall present"


def misuse(rc: int) -> UsageError:
    """The exception for a handle used where it must not be."""
    if rc == -OTHER_PROCESS:
        return UsageError(
            "this hypervisor handle was opened in another process; open one of your own after a fork"
        )
    return UsageError("this hypervisor handle is in use by another thread; open one handle a thread")


def _call_error(op: str, code: int, text: str, facts: dict[str, Any]) -> HypervisorError:
    message = f"{op}: {text}: {os.strerror(code)}"
    kind: type[HypervisorError] = HypervisorError
    if op == ENABLE and code in (errno.EOPNOTSUPP, errno.ENOSYS):
        kind, message = LogDirtyUnsupported, f"{message}; {NO_LOGDIRTY}"
    elif op == ENABLE and code == errno.EINVAL:
        kind, message = LogDirtyUnsupported, f"{message}; {PASSTHROUGH}"
    elif code == errno.ESRCH:
        kind = DomainNotFound
    elif code == errno.EACCES and op.startswith(("xc_", "XEN_")) and op not in OPENING:
        kind, message = VersionMismatch, f"{message}; {VERSION}"
    elif op in OPENING and code in NO_ROOM:
        message = f"{message}; {NO_ROOM[code]}"
    elif op in OPENING or (code == errno.EPERM and op not in ("xenforeignmemory_map", *OF_STATE)):
        kind, message = PrivilegeError, f"{message}; {PRIVILEGE}"
    return kind(message, op=op, errno=code, **facts)


def _some(record: dict[str, int], *names: str) -> dict[str, int]:
    return {x: record[x] for x in names}


def exception(
    kind: int, code: int, op: str, text: str, record: dict[str, int], facts: dict[str, Any]
) -> XcsrError:
    """The exception for an error record: ``record`` holds its pfn, mfn, level, index, type."""
    if kind == E_OUTPUT:
        advice = "; the reader has gone" if code == errno.EPIPE else ""
        return OutputError(
            f"cannot write the stream {text}: {os.strerror(code)}{advice}", errno=code, **facts
        )
    if kind == E_PTE:
        return PageTableError(text, errno=code, **_some(record, "level", "index", "pfn", "mfn"), **facts)
    if kind == E_PAGE:
        return PageError(
            f"{text}: {os.strerror(code)}", errno=code, **_some(record, "pfn", "mfn", "type"), **facts
        )
    if kind == E_P2M:
        where = _some(record, "index", "mfn", *(("level",) if record["level"] else ()))
        if record["level"] or record["type"]:  # what is wrong with it Xen has said, who knows whose it is
            where["pfn"] = record["pfn"]
        return P2mError(text, errno=code, field="p2m", value=record["mfn"], **where, **facts)
    if kind == E_INPUT:
        return _input_error(code, text, facts)
    if kind == E_STATE:
        vcpu, mfn = record["index"], record["mfn"]
        return GuestStateError(text, field=f"vcpu{vcpu}.{op}", value=mfn, vcpu=vcpu, mfn=mfn, **facts)
    if kind == E_CONTEXT:
        return _context_error(code, op, text, record, facts)
    if kind == E_STREAM:
        place: dict[str, Any] = {"offset": 0, "record": op, **record, **facts}
        return StreamError(f"{op} at offset {place['offset']}: {text}", **place)
    return _call_error(op, code, text, facts)


def _context_error(code: int, op: str, text: str, record: dict[str, int], facts: dict[str, Any]) -> XcsrError:
    """Of a vcpu's context in a stream: see XCSR_E_CONTEXT."""
    if code == errno.ERANGE:
        place: dict[str, Any] = {"offset": 0, "record": "X86_PV_VCPU_BASIC", "field": op, **facts}
        return StreamError(text, value=record["mfn"], **place)
    field, pfn = f"vcpu{record['index']}.{op}", record["pfn"]
    where: dict[str, Any] = {"offset": 0, "record": "END", "pfn": pfn, "field": field, **facts}
    if code == errno.ENOENT:
        return IncompleteStream(f"the stream is incomplete: {text}", missing=1, **where)
    return StreamError(text, type=record["type"], **where)


def _input_error(code: int, text: str, facts: dict[str, Any]) -> XcsrError:
    if code == errno.ENODATA:
        where: dict[str, Any] = {"offset": 0, **facts}
        return StreamTruncated(text, **where)
    return InputError(f"{text}: {os.strerror(code)}", errno=code, **{"offset": 0, **facts})
