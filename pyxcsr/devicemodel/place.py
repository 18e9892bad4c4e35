"""Where a domain's QEMU listens, and which QEMU that is."""

from __future__ import annotations

import os

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional


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
