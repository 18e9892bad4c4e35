"""A suspended guest goes on, and its QEMU with it."""

from __future__ import annotations

from pyxcsr.arguments import check_domain
from pyxcsr.errors import DeviceModelError, SuspendError
from pyxcsr.plain import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import Optional

    from pyxcsr.devicemodel.qemu import Qemu
    from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor

ATTEMPTS = 2


def resume(hv: Hypervisor, domid: int) -> None:
    """Lets a guest that a save has left suspended go on where it was, and its QEMU, which the save has stopped.

    The opposite of destroying it. ``Hypervisor.domain_resume`` is Xen's part alone: devices that QEMU has would stand
    still. Raises HypervisorError; DeviceModelError if QEMU does not go on, with the guest itself running;
    SuspendError if Xen calls the guest suspended all the same.
    """
    check_domain(hv, domid)
    runs, problem = goes_on(hv, domid)
    if problem is not None:
        raise problem
    if not runs:
        raise still_suspended(domid)


def still_suspended(domid: int) -> SuspendError:
    """The error for a domain that Xen calls suspended although it was asked to let it go on."""
    return SuspendError(f"Xen was asked to let domain {domid} go on, but it is still suspended", domid=domid)


class Resumable(Protocol):
    """The part of a Hypervisor that is needed here."""

    @property
    def backend(self) -> str:
        """What it is linked with."""

    def domain_info(self, domid: int, /) -> DomainInfo:
        """The domain's state. Raises DomainNotFound."""

    def domain_resume(self, domid: int, /) -> None:
        """Lets a suspended domain go on."""


def goes_on(hv: Resumable, domid: int) -> tuple[bool, Optional[DeviceModelError]]:
    """Does :func:`let_go_on`, and looks at what has come of it: whether Xen calls the domain suspended no more, and why
    its devices stand still, if they do. Raises HypervisorError."""
    problem = None
    try:
        let_go_on(hv, domid)
    except DeviceModelError as error:
        problem = error
    return not hv.domain_info(domid).suspended, problem


def let_go_on(hv: Resumable, domid: int) -> None:
    """Resumes a suspended domain that somebody else has suspended, libxl for example, which then has stopped its QEMU.

    Raises HypervisorError; DeviceModelError if its QEMU does not go on: the domain itself runs then.
    """
    qemu = qemu_of(hv, domid)
    try:
        if qemu is not None:  # first, as libxl does it: the guest waits for its devices
            devices_go_on(qemu)
    finally:
        hv.domain_resume(domid)


def devices_go_on(qemu: Qemu) -> None:
    """QEMU goes on; it may have done so before. Raises DeviceModelError if it does not at the last attempt either."""
    for left in reversed(range(ATTEMPTS)):  # a guest whose devices stand still is lost to its users
        try:
            qemu.go_on()
            return
        except Exception:
            if not left:
                raise


def qemu_of(hv: Resumable, domid: int) -> Optional[Qemu]:
    """The domain's QEMU, to be spoken to by us; None: it has none, as far as can be seen from here.

    It need not be a device model (devicemodel/place.py). To one that runs ``cont`` says nothing new, so that it is sent
    to any: devices that stand still would be worse.
    """
    if hv.backend != "xen":  # a guest of the stub has the id of a real one
        return None
    from pyxcsr.devicemodel.place import has_qemu
    from pyxcsr.devicemodel.qemu import Qemu

    return Qemu(domid) if has_qemu(domid) else None
