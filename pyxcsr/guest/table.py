"""The save-ops table: guest type to the ops that save it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyxcsr.guest.hvm import HvmSaveOps
from pyxcsr.guest.ops import SaveOps
from pyxcsr.guest.pv import PvSaveOps
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
