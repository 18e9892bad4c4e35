"""The table of restores: guest type to its ops. A wing is loaded when a guest of its type is restored."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyxcsr.guest.ops import RestoreContext, RestoreOps
from pyxcsr.stream.format import DomainType


def _pv(context: RestoreContext) -> RestoreOps:
    from pyxcsr.guest.pv.restore import PvRestoreOps

    return PvRestoreOps(context)


def _hvm(context: RestoreContext) -> RestoreOps:
    from pyxcsr.guest.hvm.restore import HvmRestoreOps

    return HvmRestoreOps(context)


RESTORE_OPS: Mapping[DomainType, Callable[[RestoreContext], RestoreOps]] = {
    DomainType.PV: _pv,
    DomainType.HVM: _hvm,
}
