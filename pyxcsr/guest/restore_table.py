"""The table of restores: from a guest's type to its ops. It is apart so that a save need not load these."""

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
