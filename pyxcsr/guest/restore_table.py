"""The table of restores: guest type to its ops. Apart from that of saves, which need not load these."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyxcsr.guest.hvm.restore import HvmRestoreOps
from pyxcsr.guest.ops import RestoreOps, Rings
from pyxcsr.guest.pv.restore import PvRestoreOps
from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor
from pyxcsr.stream.format import DomainType

RestoreOpsFactory = Callable[[Hypervisor, DomainInfo, Rings, Callable[[], None]], RestoreOps]

RESTORE_OPS: Mapping[DomainType, RestoreOpsFactory] = {
    DomainType.PV: PvRestoreOps,
    DomainType.HVM: HvmRestoreOps,
}
