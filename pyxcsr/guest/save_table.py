"""The table of saves: from a guest's type to its ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyxcsr.guest.hvm.save import HvmSaveOps
from pyxcsr.guest.ops import SaveContext, SaveOps
from pyxcsr.guest.pv.save import PvSaveOps
from pyxcsr.stream.format import DomainType

SAVE_OPS: Mapping[DomainType, Callable[[SaveContext], SaveOps]] = {
    DomainType.PV: PvSaveOps,
    DomainType.HVM: HvmSaveOps,
}


def save_ops(context: SaveContext) -> SaveOps:
    """The ops for a domain."""
    return SAVE_OPS[DomainType.HVM if context.info.hvm else DomainType.PV](context)
