"""The table of restores: guest type to its ops. Apart from that of saves, which need not load these."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyxcsr.guest.hvm.restore import HvmRestoreOps
from pyxcsr.guest.ops import RestoreContext, RestoreOps
from pyxcsr.guest.pv.restore import PvRestoreOps
from pyxcsr.stream.format import DomainType

RESTORE_OPS: Mapping[DomainType, Callable[[RestoreContext], RestoreOps]] = {
    DomainType.PV: PvRestoreOps,
    DomainType.HVM: HvmRestoreOps,
}
