"""Is a file or a block device, which a stream is about to be written to, the disk of a guest?

The kernel keeps a second user off a device that is mounted, but not off one that it serves to a guest; and a file that
is replaced under a guest lives on without a name until the guest ends, and is lost then. Xenstore knows both.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from pyxcsr.cli.output import is_standard_output
from pyxcsr.errors import HypervisorError, UsageError
from pyxcsr.plain import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import Callable, Optional

BACKENDS = "/local/domain/0/backend"

SERVED_BY = ("vbd", "vbd3", "qdisk")
"""Who may serve a disk in dom0: the kernel, blktap, or QEMU."""


class Store(Protocol):
    """The part of a Hypervisor that is needed here."""

    def xenstore_read(self, path: str, /) -> Optional[bytes]:
        """The value of a node; None if there is none."""

    def xenstore_directory(self, path: str, /) -> list[str]:
        """The names below a node; none if there is no such node."""


def check_no_disk(store: Store, name: str, warn: Callable[[str], None]) -> None:
    """Raises UsageError if what ``name`` leads to is served to a guest as its disk.

    ``warn`` is told if Xenstore cannot be asked: a save does not fail over that.
    """
    standard = is_standard_output(name)
    try:
        target = os.fstat(1) if standard else os.stat(name)
    except OSError:
        return  # a file yet to be made; or one that cannot be opened either, which is said then
    if not (stat.S_ISREG(target.st_mode) or stat.S_ISBLK(target.st_mode)):
        return
    what = "standard output" if standard else name
    try:
        guest = next((x for x, node in _nodes(store) if _is(store, node, target)), None)
    except HypervisorError as error:
        warn(f"whether {what} is a guest's disk is not known: {error}")
        return
    if guest is not None:
        raise UsageError(
            f"{what} is a disk of domain {guest}, which would be overwritten: name another file or device. If that "
            f"domain does not use it any more, detach it first (xl block-detach {guest})"
        )


def _nodes(store: Store) -> Iterator[tuple[str, str]]:
    """Each disk that dom0 serves: the guest's id, and where it is described."""
    for kind in SERVED_BY:
        for guest in store.xenstore_directory(f"{BACKENDS}/{kind}"):
            for device in store.xenstore_directory(f"{BACKENDS}/{kind}/{guest}"):
                yield guest, f"{BACKENDS}/{kind}/{guest}/{device}"


def _is(store: Store, node: str, target: os.stat_result) -> bool:
    """Whether the disk is the same file or device: by the device's number, or by the path that it was opened with."""
    if stat.S_ISBLK(target.st_mode):
        number = f"{os.major(target.st_rdev):x}:{os.minor(target.st_rdev):x}".encode()
        if store.xenstore_read(f"{node}/physical-device") == number:
            return True
    params = store.xenstore_read(f"{node}/params") or b""
    path = params if params.startswith(b"/") else params.partition(b":")[2]  # "aio:/dev/vg/disk", by QEMU
    if not path.startswith(b"/") or b"\0" in path:
        return False
    try:
        there = os.stat(path)
    except OSError:  # it has gone: then it is not the target
        return False
    if stat.S_ISBLK(there.st_mode) and stat.S_ISBLK(target.st_mode):
        return there.st_rdev == target.st_rdev
    return os.path.samestat(there, target)
