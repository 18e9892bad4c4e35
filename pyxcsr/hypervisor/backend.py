"""libxenctrl through cffi: with saving.py, building.py and stub.py the only file that touches cdata.

``Backend`` is generic over the module it was given: ``pyxcsr._xen`` or ``pyxcsr._stub``. Their objects
never mix, because every handle is made by and holds on to its own backend.
"""

from __future__ import annotations

import errno
import warnings
from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Callable, Optional

from pyxcsr.errors import DomainNotFound, HypervisorError, UsageError
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.hypervisor import faults
from pyxcsr.hypervisor.child import Child
from pyxcsr.hypervisor.interface import (
    DomainInfo,
    MappedFrames,
    P2mHandle,
    PodInfo,
    RestoreHandle,
    SaveHandle,
    SinkHandle,
    SourceHandle,
    TscInfo,
)
from pyxcsr.hypervisor.library import Library
from pyxcsr.hypervisor.saving import P2m, Save, Sink

BLOB_ROOM = 16384
"""First guess for vcpu blobs; Xen says if it needs more."""

BLOB_TRIES = 4
"""How often a blob is asked for that each time has become larger than what Xen said before."""

PV_STATE_ROOM = 24576
"""First guess for a vcpu's records."""

PV_STATE_MAX = 1 << 28
"""More than all vcpus' records can be."""


class Backend:
    """An open hypervisor. See :class:`pyxcsr.hypervisor.interface.Hypervisor` for the contract."""

    def __init__(self, module: Any, name: str) -> None:
        self.backend = name
        self._ffi = module.ffi
        self._lib = Library(module.lib)
        self._handle: Any = None
        out, why = self._ffi.new("xcsr **"), self._ffi.new("xcsr_error *")
        rc = self._lib.xcsr_open(out, why)
        if rc:
            raise self._exception(why, {"backend": name})
        self._handle = out[0]
        self._state = self._ffi.new("char[]", 2 * PV_STATE_ROOM)
        self._children: dict[int, Any] = {}  # what must be released before the handle, in order of making

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            warnings.warn("a hypervisor was left open", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def close(self) -> None:
        """Releases everything that was made through it; waits for a call in progress in another thread."""
        with self._lib.releasing(), ExitStack() as stack:
            if self._handle is None:
                return
            stack.callback(self._close_handle)
            for child in list(self._children.values()):  # the last made goes first
                stack.callback(child.close)  # one that fails does not keep the others open

    def _close_handle(self) -> None:
        handle, self._handle = self._handle, None
        self._lib.xcsr_close(handle)
        self._lib.closed()

    def _adopt(self, child: Any) -> None:
        self._children[id(child)] = child

    def _releasing(self) -> AbstractContextManager[None]:
        return self._lib.releasing()

    def _disown(self, child: Any) -> None:
        self._children.pop(id(child), None)

    # -- errors

    def _exception(self, record: Any, facts: dict[str, Any]) -> Exception:
        numbers = {x: int(getattr(record, x)) for x in ("pfn", "mfn", "level", "index", "type")}
        text, op = self._text(record.text), self._text(record.op)
        return faults.exception(record.kind, record.err, op, text, numbers, facts)

    def _text(self, chars: Any) -> str:
        raw: bytes = self._ffi.string(chars)  # ours: always ends with NUL
        return raw.decode(errors="replace")

    def _check(self, rc: int, **facts: Any) -> None:
        """Returns if ``rc`` is 0; otherwise raises what the handle's error record describes."""
        if rc == 0:
            return
        if -rc in (faults.OTHER_PROCESS, faults.OTHER_THREAD):
            raise faults.misuse(rc)
        raise self._exception(self._lib.xcsr_error_of(self._h), facts)

    @property
    def _h(self) -> Any:
        if self._handle is None:
            raise UsageError("this hypervisor has been closed")
        return self._handle

    def _call(self, function: Callable[..., int], *args: Any, **facts: Any) -> None:
        self._check(function(self._h, *args), **facts)

    def _number(self, function: Callable[..., int], kind: str, *args: Any, **facts: Any) -> int:
        return self._receive(function, kind, self._h, *args, **facts)

    def _receive(self, function: Callable[..., int], kind: str, *args: Any, **facts: Any) -> int:
        """Calls a function whose last argument receives one number."""
        out = self._ffi.new(kind)
        self._check(function(*args, out), **facts)
        return int(out[0])

    # -- domains

    def xen_version(self) -> tuple[int, int]:
        major, minor = self._ffi.new("uint32_t *"), self._ffi.new("uint32_t *")
        self._call(self._lib.xcsr_xen_version, major, minor)
        return int(major[0]), int(minor[0])

    def _domain(self, c: Any) -> DomainInfo:
        return DomainInfo(
            domid=c.domid,
            hvm=bool(c.hvm),
            paused=bool(c.paused),
            dying=bool(c.dying),
            shutdown_reason=c.shutdown_reason if c.shutdown else None,
            tot_pages=c.tot_pages,
            max_pages=c.max_pages,
            max_vcpu_id=c.max_vcpu_id,
            nr_online_vcpus=c.nr_online_vcpus,
            shared_info_mfn=c.shared_info_mfn,
        )

    def domains(self) -> list[DomainInfo]:
        room = 64
        out, nr = self._ffi.new("xcsr_domain[]", room), self._ffi.new("uint32_t *")
        found: list[DomainInfo] = []
        while True:
            first = found[-1].domid + 1 if found else 0
            self._call(self._lib.xcsr_domain_list, first, room, out, nr)
            found += [self._domain(out[i]) for i in range(nr[0])]
            if nr[0] < room:
                return found

    def domain_info(self, domid: int) -> DomainInfo:
        if not 0 <= domid < 0x7FF0:  # DOMID_FIRST_RESERVED
            raise DomainNotFound(
                f"{domid} is not a domain id", op="domain_info", errno=errno.ESRCH, domid=domid
            )
        out = self._ffi.new("xcsr_domain *")
        self._call(self._lib.xcsr_domain_info, domid, out, domid=domid)
        return self._domain(out)

    def domain_width(self, domid: int) -> int:
        return self._number(self._lib.xcsr_domain_width, "uint32_t *", domid, domid=domid)

    def domain_pause(self, domid: int) -> None:
        self._call(self._lib.xcsr_domain_pause, domid, domid=domid)

    def domain_unpause(self, domid: int) -> None:
        self._call(self._lib.xcsr_domain_unpause, domid, domid=domid)

    def domain_destroy(self, domid: int) -> None:
        self._call(self._lib.xcsr_domain_destroy, domid, domid=domid)

    def domain_shutdown(self, domid: int, reason: int) -> None:
        self._call(self._lib.xcsr_domain_shutdown, domid, reason, domid=domid)

    def domain_resume(self, domid: int) -> None:
        self._call(self._lib.xcsr_domain_resume, domid, domid=domid)

    def logdirty_off(self, domid: int) -> bool:
        return bool(self._number(self._lib.xcsr_logdirty_off, "uint32_t *", domid, domid=domid))

    def domain_tsc(self, domid: int) -> TscInfo:
        out = self._ffi.new("xcsr_tsc *")
        self._call(self._lib.xcsr_domain_tsc, domid, out, domid=domid)
        return TscInfo(mode=out.mode, khz=out.khz, nsec=out.nsec, incarnation=out.incarnation)

    # -- vcpus and policy

    def _blob(self, function: Callable[..., int], *args: Any, **facts: Any) -> bytes:
        """Calls a function that fills a buffer; again with the size it asks for, which may grow meanwhile."""
        room = BLOB_ROOM
        for _ in range(BLOB_TRIES):
            buffer, length = self._ffi.new("char[]", room), self._ffi.new("size_t *", room)
            rc = function(self._h, *args, buffer, length)
            if rc != -errno.ENOBUFS:
                break
            room = length[0]
        self._check(rc, **facts)
        return bytes(self._ffi.buffer(buffer, length[0]))

    def vcpu_online(self, domid: int, vcpu: int) -> bool:
        return bool(
            self._number(self._lib.xcsr_vcpu_online, "uint32_t *", domid, vcpu, domid=domid, vcpu=vcpu)
        )

    def vcpu_basic(self, domid: int, vcpu: int) -> bytes:
        return self._vcpu_blob(domid, vcpu, self._lib.XCSR_VCPU_BASIC)

    def vcpu_extended(self, domid: int, vcpu: int) -> bytes:
        return self._vcpu_blob(domid, vcpu, self._lib.XCSR_VCPU_EXTENDED)

    def vcpu_xsave(self, domid: int, vcpu: int) -> bytes:
        return self._vcpu_blob(domid, vcpu, self._lib.XCSR_VCPU_XSAVE)

    def vcpu_msrs(self, domid: int, vcpu: int) -> bytes:
        return self._vcpu_blob(domid, vcpu, self._lib.XCSR_VCPU_MSRS)

    def _vcpu_blob(self, domid: int, vcpu: int, which: int) -> bytes:
        return self._blob(self._lib.xcsr_vcpu_blob, domid, vcpu, which, domid=domid, vcpu=vcpu)

    def pv_state(self, domid: int, max_vcpu: int, shared_info: MappedFrames, p2m: P2mHandle) -> bytes:
        if not isinstance(shared_info, Mapping) or shared_info._backend is not self:
            raise UsageError("these frames belong to another hypervisor handle")
        cdata, page, room = self._p2m(p2m), shared_info._live(), PV_STATE_ROOM * (max_vcpu + 2)
        length = self._ffi.new("size_t *")
        while True:
            if len(self._state) < room:
                self._state = self._ffi.new("char[]", room)
            length[0] = len(self._state)
            rc = self._lib.xcsr_pv_state(self._h, cdata, domid, max_vcpu, page, self._state, length)
            if rc != -errno.ENOBUFS or room >= PV_STATE_MAX:
                break
            room *= 2
        self._check(rc, domid=domid)
        return bytes(self._ffi.buffer(self._state, length[0]))

    def cpu_policy(self, domid: int) -> tuple[bytes, bytes]:
        rooms = [BLOB_ROOM, BLOB_ROOM]
        for _ in range(2):
            buffers = [self._ffi.new("char[]", x) for x in rooms]
            lengths = [self._ffi.new("size_t *", x) for x in rooms]
            rc = self._lib.xcsr_cpu_policy(self._h, domid, buffers[0], lengths[0], buffers[1], lengths[1])
            if rc != -errno.ENOBUFS:
                break
            rooms = [x[0] for x in lengths]
        self._check(rc, domid=domid)
        leaves, msrs = (bytes(self._ffi.buffer(b, n[0])) for b, n in zip(buffers, lengths))
        return leaves, msrs

    # -- HVM

    def nr_gpfns(self, domid: int) -> int:
        return self._number(self._lib.xcsr_nr_gpfns, "uint64_t *", domid, domid=domid)

    def pod_target(self, domid: int) -> PodInfo:
        out = self._ffi.new("xcsr_pod *")
        self._call(self._lib.xcsr_pod_target, domid, out, domid=domid)
        return PodInfo(out.tot_pages, out.cache_pages, out.entries)

    def hvm_param(self, domid: int, index: int) -> int:
        return self._number(self._lib.xcsr_hvm_param, "uint64_t *", domid, index, domid=domid)

    def set_hvm_param(self, domid: int, index: int, value: int) -> None:
        self._call(self._lib.xcsr_set_hvm_param, domid, index, value, domid=domid)

    def hvm_context(self, domid: int) -> bytes:
        return self._blob(self._lib.xcsr_hvm_context, domid, domid=domid)

    def set_hvm_context(self, domid: int, context: bytes) -> None:
        self._call(self._lib.xcsr_set_hvm_context, domid, context, len(context), domid=domid)

    # -- xenstore

    def xenstore_directory(self, path: str) -> list[str]:
        try:
            names = self._blob(self._lib.xcsr_xenstore_list, path.encode(), path=path)
        except HypervisorError as error:
            if error.errno == errno.ENOENT:
                return []
            raise
        return [x.decode(errors="replace") for x in names.split(b"\0")[:-1]]

    def xenstore_read(self, path: str) -> Optional[bytes]:
        buffer, length = self._ffi.new("char[]", BLOB_ROOM), self._ffi.new("size_t *", BLOB_ROOM)
        rc = self._lib.xcsr_xenstore_read(self._h, path.encode(), buffer, length)
        if rc == -errno.ENOENT:
            return None
        self._check(rc, path=path)
        return bytes(self._ffi.buffer(buffer, length[0]))

    def xenstore_write(self, path: str, value: bytes) -> None:
        self._call(self._lib.xcsr_xenstore_write, path.encode(), value, len(value), path=path)

    def xenstore_compare_and_write(self, path: str, expected: bytes, new: bytes) -> bool:
        args = (path.encode(), expected, len(expected), new, len(new))
        return bool(self._number(self._lib.xcsr_xenstore_swap, "uint32_t *", *args, path=path))

    # -- memory

    def nr_mfns(self) -> int:
        return self._number(self._lib.xcsr_nr_mfns, "uint64_t *")

    def m2p(self, mfn: int) -> int:
        return self._number(self._lib.xcsr_m2p_get, "uint64_t *", mfn)

    def _frames(self, mfns: Sequence[int]) -> Any:
        return self._ffi.from_buffer("uint64_t[]", mfns if isinstance(mfns, array) else array("Q", mfns))

    def map_frames(self, domid: int, mfns: Sequence[int]) -> Mapping:
        out = self._ffi.new("void **")
        self._call(self._lib.xcsr_map, domid, len(mfns), self._frames(mfns), out, domid=domid)
        return Mapping(self, out[0], len(mfns))

    def read_frames(self, domid: int, mfns: Sequence[int]) -> bytes:
        out = bytearray(len(mfns) * PAGE_SIZE)
        into = self._ffi.from_buffer("char[]", out, require_writable=True)
        self._call(self._lib.xcsr_read_frames, domid, len(mfns), self._frames(mfns), into, domid=domid)
        return bytes(out)

    def map_p2m(self, domid: int, nr_pfns: int, leaf_mfns: Sequence[int]) -> P2m:
        out = self._ffi.new("xcsr_p2m **")
        leaves = self._frames(leaf_mfns)
        self._call(self._lib.xcsr_p2m_map, domid, nr_pfns, len(leaf_mfns), leaves, out, domid=domid)
        return P2m(self, out[0], nr_pfns, len(leaf_mfns), domid)

    def _p2m(self, p2m: P2mHandle) -> Any:
        if not isinstance(p2m, P2m) or p2m._backend is not self:
            raise UsageError("this p2m belongs to another hypervisor handle")
        return p2m._live()

    # -- saving

    def new_save(self, domid: int, nr_pfns: int, p2m: Optional[P2mHandle]) -> SaveHandle:
        out = self._ffi.new("xcsr_save **")
        cdata = self._ffi.NULL if p2m is None else self._p2m(p2m)
        self._call(self._lib.xcsr_save_new, domid, nr_pfns, cdata, out, domid=domid)
        return Save(self, out[0], domid)

    def open_sink(self, fd: int) -> SinkHandle:
        return Sink(self, fd)

    # -- building a domain

    def open_source(self, fd: int) -> SourceHandle:
        from pyxcsr.hypervisor.building import Source

        return Source(self, fd)

    def new_restore(self, domid: int, limit: int, translated: bool = False) -> RestoreHandle:
        from pyxcsr.hypervisor.building import Restore

        out = self._ffi.new("xcsr_restore **")
        self._call(self._lib.xcsr_restore_new, domid, limit, translated, out, domid=domid)
        return Restore(self, out[0], domid)

    def write_frame(self, domid: int, mfn: int, offset: int, data: bytes) -> None:
        self._call(self._lib.xcsr_write_frame, domid, mfn, offset, data, len(data), domid=domid, mfn=mfn)

    def clear_frames(self, domid: int, frames: Sequence[int]) -> None:
        self._call(self._lib.xcsr_clear_frames, domid, len(frames), self._frames(frames), domid=domid)

    def set_domain_width(self, domid: int, nr_bytes: int) -> None:
        self._call(self._lib.xcsr_set_width, domid, nr_bytes, domid=domid)

    def set_domain_tsc(self, domid: int, tsc: TscInfo) -> None:
        c = self._ffi.new("xcsr_tsc *")
        c.mode, c.khz, c.nsec, c.incarnation = tsc.mode, tsc.khz, tsc.nsec, tsc.incarnation
        self._call(self._lib.xcsr_set_tsc, domid, c, domid=domid)

    def set_cpu_policy(self, domid: int, leaves: bytes, msrs: bytes) -> None:
        self._call(self._lib.xcsr_set_cpu_policy, domid, leaves, len(leaves), msrs, len(msrs), domid=domid)

    def set_vcpu_basic(self, domid: int, vcpu: int, context: bytes) -> None:
        self._call(self._lib.xcsr_set_vcpu_basic, domid, vcpu, context, len(context), domid=domid, vcpu=vcpu)

    def set_vcpu_extended(self, domid: int, vcpu: int, blob: bytes) -> None:
        self._call(self._lib.xcsr_set_vcpu_extended, domid, vcpu, blob, len(blob), domid=domid, vcpu=vcpu)

    def set_vcpu_xsave(self, domid: int, vcpu: int, blob: bytes) -> None:
        self._call(self._lib.xcsr_set_vcpu_xsave, domid, vcpu, blob, len(blob), domid=domid, vcpu=vcpu)

    def set_vcpu_msrs(self, domid: int, vcpu: int, blob: bytes) -> None:
        self._call(self._lib.xcsr_set_vcpu_msrs, domid, vcpu, blob, len(blob), domid=domid, vcpu=vcpu)

    def seed_grants(
        self, domid: int, console_mfn: int, store_mfn: int, console_domid: int, store_domid: int, hvm: bool = False
    ) -> None:
        numbers = (console_mfn, store_mfn, console_domid, store_domid, hvm)
        self._call(self._lib.xcsr_seed_grants, domid, *numbers, domid=domid)


class Mapping(Child):
    """Frames of a guest, mapped until closed."""

    over = "these frames are not mapped any more"

    def __init__(self, backend: Backend, at: Any, nr: int) -> None:
        super().__init__(backend, at)
        self._nr = nr

    def __enter__(self) -> Mapping:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def load64(self, offset: int) -> int:
        if offset % 8 or not 0 <= offset < self._nr * PAGE_SIZE:
            raise UsageError(f"offset {offset} is not one of a 64-bit word in {self._nr} frames")
        char = self._backend._ffi.cast("char *", self._live())
        return int(self._backend._lib.xcsr_load64(char + offset))

    def copy(self) -> bytes:
        return bytes(self._backend._ffi.buffer(self._live(), self._nr * PAGE_SIZE))

    def _free(self, cdata: Any) -> None:
        self._backend._call(self._backend._lib.xcsr_unmap, cdata, self._nr)
