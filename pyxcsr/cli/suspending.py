"""Who suspends a guest for `pyxcsr save`, and its device model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Optional

from pyxcsr.devicemodel.qemu import Qemu
from pyxcsr.hypervisor.backend import Backend
from pyxcsr.suspend.base import Suspend
from pyxcsr.suspend.default import default_suspend
from pyxcsr.transfer.device_model import device_model_found

if TYPE_CHECKING:
    from pyxcsr.devicemodel.base import DeviceModel

NO_DEVICES = (
    "domain {} has a device model, whose state a libxc stream does not hold: for `xl restore` save with --format xl"
)


class GuestParts(NamedTuple):
    """What a save needs besides Xen. ``qemu``: the guest's device model, if that is one; ``device_model``: that, or
    the stub's; None: the guest has none."""

    suspend: Suspend
    qemu: Optional[Qemu]
    device_model: Optional[DeviceModel]


def guest_parts(hv: Backend, domid: int, timeout: float, cancel: Callable[[], bool]) -> GuestParts:
    """Those of a guest. ``timeout``: seconds for the guest to answer a request to suspend."""
    hvm = hv.domain_info(domid).hvm
    model = device_model_found(hv, domid) if hvm else None
    qemu = model if isinstance(model, Qemu) else None
    return GuestParts(default_suspend(hv, domid, hvm, qemu, cancel, timeout), qemu, model)
