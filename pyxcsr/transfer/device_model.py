"""The device model of a guest, found where its owner has named none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Union

from pyxcsr.devicemodel.place import has_device_model
from pyxcsr.devicemodel.qemu import Qemu
from pyxcsr.hypervisor.open import StubBackend

if TYPE_CHECKING:
    from pyxcsr.hypervisor.interface import Hypervisor
    from pyxcsr.hypervisor.stub.devmodel import StubDeviceModel


def device_model_found(hv: Hypervisor, domid: int) -> Optional[Union[Qemu, StubDeviceModel]]:
    """That of a guest which Xen calls HVM; None: it has none. Raises HypervisorError.

    A QEMU that does not listen any more is found, too: an error then tells of it when it is spoken to first, where a
    save without it would lack what it writes.
    """
    if isinstance(hv, StubBackend):
        from pyxcsr.hypervisor.stub.devmodel import device_model_of

        return device_model_of(hv.stub.guest(domid))
    return Qemu(domid) if has_device_model(hv, domid) else None
