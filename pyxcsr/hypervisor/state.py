"""A guest's state besides its memory through libxenctrl: PV vcpus, HVM parameters and context. Part of the backend."""

from __future__ import annotations

import errno

from pyxcsr.errors import UsageError
from pyxcsr.hypervisor.core import Core
from pyxcsr.hypervisor.interface import PodInfo
from pyxcsr.hypervisor.memory import Mapping, MemoryCalls
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from pyxcsr.hypervisor.interface import MappedFrames, P2mHandle

PV_STATE_ROOM = 24576
"""First guess for a vcpu's records."""

PV_STATE_MAX = 1 << 28
"""More than all vcpus' records can be."""


class PvCalls(MemoryCalls):
    """See :class:`pyxcsr.hypervisor.interface.Pv` for the contract."""

    def __init__(self, module: Any, name: str) -> None:
        super().__init__(module, name)
        self._state = self._ffi.new("char[]", 2 * PV_STATE_ROOM)

    def domain_width(self, domid: int) -> int:
        return self._number(self._lib.xcsr_domain_width, "uint32_t *", domid, domid=domid)

    def set_domain_width(self, domid: int, nr_bytes: int) -> None:
        self._call(self._lib.xcsr_set_width, domid, nr_bytes, domid=domid)

    def vcpu_online(self, domid: int, vcpu: int) -> bool:
        return bool(
            self._number(self._lib.xcsr_vcpu_online, "uint32_t *", domid, vcpu, domid=domid, vcpu=vcpu)
        )

    def vcpu_basic(self, domid: int, vcpu: int, width: int = 8) -> bytes:
        return self._vcpu_blob(domid, vcpu, self._lib.XCSR_VCPU_BASIC, width)

    def vcpu_extended(self, domid: int, vcpu: int) -> bytes:
        return self._vcpu_blob(domid, vcpu, self._lib.XCSR_VCPU_EXTENDED)

    def vcpu_xsave(self, domid: int, vcpu: int) -> bytes:
        return self._vcpu_blob(domid, vcpu, self._lib.XCSR_VCPU_XSAVE)

    def vcpu_msrs(self, domid: int, vcpu: int) -> bytes:
        return self._vcpu_blob(domid, vcpu, self._lib.XCSR_VCPU_MSRS)

    def _vcpu_blob(self, domid: int, vcpu: int, which: int, width: int = 8) -> bytes:
        return self._blob(self._lib.xcsr_vcpu_blob, domid, vcpu, which, width, domid=domid, vcpu=vcpu)

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

    def set_vcpu_basic(self, domid: int, vcpu: int, context: bytes, width: int = 8) -> None:
        self._call(self._lib.xcsr_set_vcpu_basic, domid, vcpu, width, context, len(context), domid=domid, vcpu=vcpu)

    def set_vcpu_extended(self, domid: int, vcpu: int, blob: bytes) -> None:
        self._call(self._lib.xcsr_set_vcpu_extended, domid, vcpu, blob, len(blob), domid=domid, vcpu=vcpu)

    def set_vcpu_xsave(self, domid: int, vcpu: int, blob: bytes) -> None:
        self._call(self._lib.xcsr_set_vcpu_xsave, domid, vcpu, blob, len(blob), domid=domid, vcpu=vcpu)

    def set_vcpu_msrs(self, domid: int, vcpu: int, blob: bytes) -> None:
        self._call(self._lib.xcsr_set_vcpu_msrs, domid, vcpu, blob, len(blob), domid=domid, vcpu=vcpu)


class HvmCalls(Core):
    """See :class:`pyxcsr.hypervisor.interface.Hvm` for the contract."""

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

    def hvm_context_size(self, domid: int) -> int:
        size = self._ffi.new("size_t *")
        self._call(self._lib.xcsr_hvm_context_size, domid, size, domid=domid)
        return int(size[0])

    def hvm_context(self, domid: int) -> bytes:
        return self._blob(self._lib.xcsr_hvm_context, domid, domid=domid)

    def set_hvm_context(self, domid: int, context: bytes) -> None:
        self._call(self._lib.xcsr_set_hvm_context, domid, context, len(context), domid=domid)
