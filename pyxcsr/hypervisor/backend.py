"""libxenctrl through cffi, as a whole."""

from __future__ import annotations

from pyxcsr.hypervisor.domains import DomainCalls, XenstoreCalls
from pyxcsr.hypervisor.saving import Save, Sink
from pyxcsr.hypervisor.scheduling import SchedulingCalls
from pyxcsr.hypervisor.state import HvmCalls, PvCalls
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.switches import EXTENTS, HOLES, ORDINARY, ROWS, is_on

if TYPE_CHECKING:
    from typing import Optional, TypeVar

    from pyxcsr.hypervisor.interface import MeterHandle, P2mHandle, RestoreHandle, SaveHandle, SinkHandle, SourceHandle

    Mine = TypeVar("Mine", bound="Backend")


class Backend(DomainCalls, XenstoreCalls, SchedulingCalls, PvCalls, HvmCalls):
    """An open hypervisor. See :class:`pyxcsr.hypervisor.interface.Hypervisor` for the contract."""

    def __enter__(self: Mine) -> Mine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- saving a domain

    def new_save(self, domid: int, nr_pfns: int, p2m: Optional[P2mHandle]) -> SaveHandle:
        out = self._ffi.new("xcsr_save **")
        cdata = self._ffi.NULL if p2m is None else self._p2m(p2m)
        self._call(self._lib.xcsr_save_new, domid, nr_pfns, cdata, out, domid=domid)
        save = Save(self, out[0], domid)
        if not is_on(ORDINARY):
            save.without_ordinary()
        if not is_on(ROWS):
            save.without_rows()
        if not is_on(HOLES):
            save.with_holes()
        return save

    def open_sink(self, fd: int) -> SinkHandle:
        return Sink(self, fd)

    def logdirty_off(self, domid: int) -> bool:
        return bool(self._number(self._lib.xcsr_logdirty_off, "uint32_t *", domid, domid=domid))

    def new_meter(self, domid: int, nr_pfns: int) -> MeterHandle:
        from pyxcsr.hypervisor.measuring import Meter

        out = self._ffi.new("xcsr_meter **")
        self._call(self._lib.xcsr_meter_new, domid, nr_pfns, out, domid=domid)
        return Meter(self, out[0], domid, nr_pfns)

    # -- building one

    def open_source(self, fd: int) -> SourceHandle:
        from pyxcsr.hypervisor.building import Source

        return Source(self, fd)

    def new_restore(self, domid: int, limit: int, width: int = 8) -> RestoreHandle:
        from pyxcsr.hypervisor.building import Restore

        out = self._ffi.new("xcsr_restore **")
        self._call(self._lib.xcsr_restore_new, domid, limit, width, out, domid=domid)
        restore = Restore(self, out[0], domid)
        if not is_on(EXTENTS):
            restore.without_rows()
        return restore

    def seed_grants(
        self, domid: int, console_mfn: int, store_mfn: int, console_domid: int, store_domid: int, hvm: bool = False
    ) -> None:
        numbers = (console_mfn, store_mfn, console_domid, store_domid, hvm)
        self._call(self._lib.xcsr_seed_grants, domid, *numbers, domid=domid)
