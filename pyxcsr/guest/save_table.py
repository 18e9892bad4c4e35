"""The table of saves: guest type to its ops. A wing is loaded when a guest of its type is saved."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.stream.format import DomainType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyxcsr.guest.ops import SaveContext, SaveOps


def _pv(context: SaveContext) -> SaveOps:
    from pyxcsr.guest.pv.save import PvSaveOps

    return PvSaveOps(context)


def _hvm(context: SaveContext) -> SaveOps:
    from pyxcsr.guest.hvm.save import HvmSaveOps

    return HvmSaveOps(context)


SAVE_OPS: Mapping[DomainType, Callable[[SaveContext], SaveOps]] = {
    DomainType.PV: _pv,
    DomainType.HVM: _hvm,
}


def save_ops(context: SaveContext) -> SaveOps:
    """The ops for a domain."""
    return SAVE_OPS[DomainType.HVM if context.info.hvm else DomainType.PV](context)
