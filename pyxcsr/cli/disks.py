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
        node = next((x for x in _nodes(store) if _is(store, x, name, target)), None)
    except HypervisorError as error:
        warn(f"whether {what} is a guest's disk is not known: {error}")
        return
    if node is not None:
        guest, device = node.split("/")[-2:]
        raise UsageError(
            f"{what} is a disk of domain {guest}, which would be overwritten: name another file or device. If that "
            f"domain does not use it any more, detach it first (xl block-detach {guest} {device}); if there is no such "
            f"domain, what is left of it can be removed (xenstore-rm {node})"
        )


def _nodes(store: Store) -> Iterator[str]:
    """Where each disk that dom0 serves is described: by who serves it, the guest's id, and the device's number."""
    for kind in SERVED_BY:
        for guest in store.xenstore_directory(f"{BACKENDS}/{kind}"):
            for device in store.xenstore_directory(f"{BACKENDS}/{kind}/{guest}"):
                yield f"{BACKENDS}/{kind}/{guest}/{device}"


def _is(store: Store, node: str, name: str, target: os.stat_result) -> bool:
    """Whether the disk is the same file or device: by the device's number, or by the path that it was opened with."""
    if stat.S_ISBLK(target.st_mode):
        number = f"{os.major(target.st_rdev):x}:{os.minor(target.st_rdev):x}".encode()
        if store.xenstore_read(f"{node}/physical-device") == number:
            return True
    params = store.xenstore_read(f"{node}/params") or b""
    begin = 0 if params.startswith(b"/") else params.find(b":/") + 1  # "aio:/dev/vg/disk", "tap:qcow2:/disks/a"
    path = params[begin:]
    if not path.startswith(b"/") or b"\0" in path or not _may_be(path, name):
        return False
    try:
        there = os.stat(path)
    except OSError:  # it has gone: then it is not the target
        return False
    if stat.S_ISBLK(there.st_mode) and stat.S_ISBLK(target.st_mode):
        return there.st_rdev == target.st_rdev
    return os.path.samestat(there, target)


def _may_be(path: bytes, name: str) -> bool:
    """Whether a guest's disk is looked at: not every file, because one that lies on a server that has gone is waited
    for without end, and saves are made just then. So a file is known by its name, also where links lead to its folder.
    """
    real = os.fsencode(os.path.realpath(name))
    names = {os.path.basename(os.fsencode(name)), os.path.basename(real)}
    return path.startswith(b"/dev/") or os.path.basename(path) in names
