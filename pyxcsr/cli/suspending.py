"""Who suspends a guest for `pyxcsr save`, and its device model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Optional

from pyxcsr.hypervisor.backend import Backend
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.suspend.base import Suspend
from pyxcsr.suspend.default import default_suspend

if TYPE_CHECKING:
    from pyxcsr.devicemodel.base import DeviceModel
    from pyxcsr.devicemodel.qemu import Qemu

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
    qemu: Optional[Qemu] = None
    if hvm and hv.backend == "xen":
        from pyxcsr.devicemodel.place import has_device_model
        from pyxcsr.devicemodel.qemu import Qemu

        # one that does not listen any more is an error, told when it is asked for the first time
        qemu = Qemu(domid) if has_device_model(hv, domid) else None
    model: Optional[DeviceModel] = qemu
    if hvm and isinstance(hv, StubBackend):
        from pyxcsr.hypervisor.stub.devmodel import device_model_of

        model = device_model_of(hv.stub.guest(domid))
    return GuestParts(default_suspend(hv, domid, hvm, qemu, cancel, timeout), qemu, model)
