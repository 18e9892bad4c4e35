"""The device model of a guest that is saved behind libxl."""

from __future__ import annotations

from pyxcsr.devicemodel.through_libxl import ThroughLibxl
from pyxcsr.errors import SuspendError, UsageError
from pyxcsr.helper.protocol import SWITCH_QEMU_LOGDIRTY, ChannelClosed
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional, Union

    from pyxcsr.helper.protocol import Channel
    from pyxcsr.hypervisor.backend import Backend
    from pyxcsr.hypervisor.open import StubBackend


def device_model_for(
    hv: Union[Backend, StubBackend], domid: int, channel: Channel, live: bool
) -> Optional[ThroughLibxl]:
    """None: the guest has none, or is not saved ``live`` and libxl takes no messages for it.

    Raises HypervisorError; UsageError for a live save of a guest that has one if libxl takes no messages for it: what
    the device model writes would be lost. Raises SuspendError for such a guest that is suspended already: libxl takes
    its device model's state when it is asked to suspend the guest, and what it sends without having been asked is the
    file of that state that a former save has left.
    """
    takes_messages = channel.has_callback(SWITCH_QEMU_LOGDIRTY)
    if hv.backend != "xen":  # what the stub's guest has is not for its id to say
        return ThroughLibxl(channel.switch_qemu_logdirty, domid) if takes_messages else None
    from pyxcsr.devicemodel.place import has_device_model

    info = hv.domain_info(domid)
    if not info.hvm or not has_device_model(hv, domid):
        return None
    if info.suspended:
        raise SuspendError(
            f"domain {domid} is suspended already, so that libxl would not take its device model's state now, and "
            f"might send an older one: let it go on first (`pyxcsr recover {domid}`)",
            domid=domid,
        )
    if takes_messages:
        return OrBySocket(channel.switch_qemu_logdirty, domid)
    if live:
        raise UsageError(
            f"domain {domid} has a device model, and libxl offers no callback by which it is told to note what it "
            "writes: it cannot be saved live",
            domid=domid,
        )
    return None


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
