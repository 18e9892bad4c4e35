"""The tables: guest type to the ops that save it, and to those that restore it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyxcsr.guest.hvm import HvmRestoreOps, HvmSaveOps
from pyxcsr.guest.ops import RestoreOps, Rings, SaveOps
from pyxcsr.guest.pv import PvSaveOps
from pyxcsr.guest.pv_restore import PvRestoreOps
from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor
from pyxcsr.stream.format import DomainType

SaveOpsFactory = Callable[[Hypervisor, DomainInfo, Callable[[], None]], SaveOps]

SAVE_OPS: Mapping[DomainType, SaveOpsFactory] = {
    DomainType.PV: PvSaveOps,
    DomainType.HVM: HvmSaveOps,
}


def save_ops(hv: Hypervisor, info: DomainInfo, cancel: Callable[[], None]) -> SaveOps:
    """The ops for a domain. ``cancel``: called while they wait; may raise."""
    return SAVE_OPS[DomainType.HVM if info.hvm else DomainType.PV](hv, info, cancel)


RestoreOpsFactory = Callable[[Hypervisor, DomainInfo, Rings, Callable[[], None]], RestoreOps]

RESTORE_OPS: Mapping[DomainType, RestoreOpsFactory] = {
    DomainType.PV: PvRestoreOps,
    DomainType.HVM: HvmRestoreOps,
}
