"""The device model of a guest that is saved behind libxl."""

from __future__ import annotations

from pyxcsr.devicemodel.through_libxl import ThroughLibxl
from pyxcsr.helper.protocol import SWITCH_QEMU_LOGDIRTY
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional, Union

    from pyxcsr.helper.protocol import Channel
    from pyxcsr.hypervisor.backend import Backend
    from pyxcsr.hypervisor.open import StubBackend


def device_model_for(hv: Union[Backend, StubBackend], domid: int, channel: Channel) -> Optional[ThroughLibxl]:
    """None: the guest has none, or libxl takes no messages for it. Raises HypervisorError."""
    if not channel.has_callback(SWITCH_QEMU_LOGDIRTY):
        return None
    if hv.backend == "xen":  # what the stub's guest has is not for its id to say
        from pyxcsr.devicemodel.place import has_device_model

        if not hv.domain_info(domid).hvm or not has_device_model(hv, domid):
            return None
    return ThroughLibxl(channel.switch_qemu_logdirty, domid)
