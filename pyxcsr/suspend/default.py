"""Who suspends a guest if nobody else was named: it goes by the guest's type."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from pyxcsr.devicemodel.base import DeviceModel
    from pyxcsr.suspend.base import Suspend
    from pyxcsr.suspend.hvm import HvmControl


def default_suspend(
    hv: HvmControl,
    domid: int,
    hvm: bool,
    device_model: Optional[DeviceModel],
    cancel: Optional[Callable[[], bool]],
    timeout: float = 60.0,
) -> Suspend:
    """For an HVM or PVH guest (``hvm``) HvmSuspend, which also stops ``device_model`` if that is a Qemu; else
    XenstoreSuspend. Modules are loaded when they are needed, for programs that start while a guest's user waits."""
    if not hvm:
        from pyxcsr.suspend.xenstore import XenstoreSuspend

        return XenstoreSuspend(hv, domid, timeout=timeout, cancel=cancel)
    from pyxcsr.suspend.hvm import HvmSuspend

    if device_model is None:
        return HvmSuspend(hv, domid, None, timeout, cancel)
    from pyxcsr.devicemodel.qemu import Qemu

    return HvmSuspend(hv, domid, device_model if isinstance(device_model, Qemu) else None, timeout, cancel)
