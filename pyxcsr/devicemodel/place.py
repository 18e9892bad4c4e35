"""Where a domain's QEMU listens, which QEMU that is, and whether it is the guest's device model."""

from __future__ import annotations

import os

from pyxcsr.plain import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import Optional

IOREQ_PAGES = (5, 6, 32)  # IOREQ_PFN, BUFIOREQ_PFN, IOREQ_SERVER_PFN
"""HVM_PARAM_*, public/hvm/params.h: pages for what the guest asks of its device model."""


class Described(Protocol):
    """The part of a Hypervisor that is needed here."""

    @property
    def backend(self) -> str:
        """What it is linked with."""

    def hvm_param(self, domid: int, index: int, /) -> int:
        """An HVM parameter."""

    def xenstore_read(self, path: str, /) -> Optional[bytes]:
        """The node's content, or None if there is no such node."""


def socket_path(domid: int) -> str:
    """Where libxl has the QEMU of a domain listen."""
    return f"/var/run/xen/qmp-libxl-{domid}"


def instance_at(path: str) -> Optional[str]:
    """By its socket, which a QEMU makes anew when it starts: a file of its own. None: nobody listens there."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return f"{found.st_ino}-{found.st_ctime_ns}"


def has_qemu(domid: int) -> bool:
    """Whether libxl has started a QEMU for a domain.

    It need not be a device model: PV and PVH guests, too, have a QEMU if a disk of theirs is a file that only QEMU can
    read (qcow2), or if they have a virtual display or a channel. Such a one writes the guest's memory through grants,
    which Xen itself sees; libxl neither stops it nor asks it for a state, and does not tell it of log-dirty mode.
    """
    return os.path.exists(socket_path(domid))


def has_device_model(hv: Described, domid: int) -> bool:
    """Whether a guest that Xen calls HVM was made with a device model.

    libxl notes each guest's type in xenstore: a guest of type hvm has a device model, one of type pvh has none. Xen
    itself calls both HVM, and with some releases a PVH guest, too, has pages for requests to a device model; and a QEMU
    may listen for either (:func:`has_qemu`). So these are looked at only for a guest that libxl has not made.
    """
    kind = hv.xenstore_read(f"/libxl/{domid}/type")
    if kind is not None:
        return kind == b"hvm"
    if hv.backend == "xen" and has_qemu(domid):  # a guest of the stub has the id of a real one
        return True
    return any(hv.hvm_param(domid, index) for index in IOREQ_PAGES)
