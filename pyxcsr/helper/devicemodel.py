"""The device model of a guest that is saved behind libxl."""

from __future__ import annotations

from pyxcsr.devicemodel.through_libxl import ThroughLibxl
from pyxcsr.helper.protocol import SWITCH_QEMU_LOGDIRTY, ChannelClosed
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
        return OrBySocket(channel.switch_qemu_logdirty, domid)
    return ThroughLibxl(channel.switch_qemu_logdirty, domid)


class OrBySocket(ThroughLibxl):
    """Asks libxl, and QEMU itself once libxl is gone: its connection to QEMU's socket has ended with it.

    Else QEMU would go on telling Xen of its writes when xl is killed, or libvirt's daemon ends, in a live save.
    """

    def track(self, on: bool) -> None:
        """Raises ChannelClosed if libxl has got the message, and gone: what it told QEMU is not known then."""
        try:
            super().track(on)
        except ChannelClosed as gone:
            if gone.facts["direction"] != "messages" or self.instance() is None:  # a message is written whole, or not
                raise
            from pyxcsr.devicemodel.qemu import Qemu

            Qemu(self._domid).track(on)
