"""Domains through libxenctrl: facts, life, TSC, CPU policy; and xenstore. Part of the backend."""

from __future__ import annotations

import errno

from pyxcsr.errors import DomainNotFound, HypervisorError
from pyxcsr.hypervisor.core import BLOB_ROOM, Core
from pyxcsr.hypervisor.interface import DomainInfo, TscInfo
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Optional


class DomainCalls(Core):
    """See :class:`pyxcsr.hypervisor.interface.Domains` and X86 for the contract."""

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

    def domain_tsc(self, domid: int) -> TscInfo:
        out = self._ffi.new("xcsr_tsc *")
        self._call(self._lib.xcsr_domain_tsc, domid, out, domid=domid)
        return TscInfo(mode=out.mode, khz=out.khz, nsec=out.nsec, incarnation=out.incarnation)

    def set_domain_tsc(self, domid: int, tsc: TscInfo) -> None:
        c = self._ffi.new("xcsr_tsc *")
        c.mode, c.khz, c.nsec, c.incarnation = tsc.mode, tsc.khz, tsc.nsec, tsc.incarnation
        self._call(self._lib.xcsr_set_tsc, domid, c, domid=domid)

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

    def set_cpu_policy(self, domid: int, leaves: bytes, msrs: bytes) -> None:
        self._call(self._lib.xcsr_set_cpu_policy, domid, leaves, len(leaves), msrs, len(msrs), domid=domid)


class XenstoreCalls(Core):
    """See :class:`pyxcsr.hypervisor.interface.Xenstore` for the contract."""

    def xenstore_read(self, path: str) -> Optional[bytes]:
        buffer, length = self._ffi.new("char[]", BLOB_ROOM), self._ffi.new("size_t *", BLOB_ROOM)
        rc = self._lib.xcsr_xenstore_read(self._h, path.encode(), buffer, length)
        if rc == -errno.ENOENT:
            return None
        self._check(rc, path=path)
        return bytes(self._ffi.buffer(buffer, length[0]))

    def xenstore_directory(self, path: str) -> list[str]:
        try:
            names = self._blob(self._lib.xcsr_xenstore_list, path.encode(), path=path)
        except HypervisorError as error:
            if error.errno == errno.ENOENT:
                return []
            raise
        return [x.decode(errors="replace") for x in names.split(b"\0")[:-1]]

    def xenstore_write(self, path: str, value: bytes) -> None:
        self._call(self._lib.xcsr_xenstore_write, path.encode(), value, len(value), path=path)

    def xenstore_compare_and_write(self, path: str, expected: bytes, new: bytes) -> bool:
        args = (path.encode(), expected, len(expected), new, len(new))
        return bool(self._number(self._lib.xcsr_xenstore_swap, "uint32_t *", *args, path=path))
