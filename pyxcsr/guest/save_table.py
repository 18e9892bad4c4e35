"""The table of saves: guest type to its ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyxcsr.guest.hvm.save import HvmSaveOps
from pyxcsr.guest.ops import SaveOps
from pyxcsr.guest.pv.save import PvSaveOps
from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor
from pyxcsr.report import P2mReport
from pyxcsr.stream.format import DomainType

SaveOpsFactory = Callable[[Hypervisor, DomainInfo, Callable[[], None], P2mReport, float], SaveOps]

SAVE_OPS: Mapping[DomainType, SaveOpsFactory] = {
    DomainType.PV: PvSaveOps,
    DomainType.HVM: HvmSaveOps,
}


def save_ops(
    hv: Hypervisor, info: DomainInfo, cancel: Callable[[], None], p2m: P2mReport, settle_seconds: float
) -> SaveOps:
    """The ops for a domain. ``cancel``: called while they wait; may raise.

    ``p2m``: says whether changes of the p2m are followed, and is where they are counted; ``settle_seconds``: how long
    the guest may take over one of them.
    """
    kind = DomainType.HVM if info.hvm else DomainType.PV
    return SAVE_OPS[kind](hv, info, cancel, p2m, settle_seconds)
