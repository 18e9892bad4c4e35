"""What a container says of an HVM guest's device model: libxl's EMULATOR_XENSTORE_DATA and EMULATOR_CONTEXT records.

Source: docs/specs/libxl-migration-stream in Xen's tree.
"""

from __future__ import annotations

from typing import Optional, Protocol

from pyxcsr.container.reader import EMULATOR_HEADER, LibxlType, record

QEMU_UPSTREAM = 2
"""The emulator's id. Its index is always 0: a guest has one."""

PHYSMAP_KEYS = ("start_addr", "size", "name")


class Xenstore(Protocol):
    """The part of a Hypervisor that is needed here."""

    def xenstore_read(self, path: str, /) -> Optional[bytes]:
        """A node's value, or None if there is no such node."""

    def xenstore_directory(self, path: str, /) -> list[str]:
        """The names of the nodes right below a node; none if there is no such node."""


def emulator_records(hv: Xenstore, domid: int, state: bytes) -> bytes:
    """The records, as they stand in the container. ``state``: what QEMU has saved of its devices."""
    head = EMULATOR_HEADER.pack(QEMU_UPSTREAM, 0)
    physmap = _physmap(hv, f"/local/domain/0/device-model/{domid}/physmap")
    told = record(LibxlType.EMULATOR_XENSTORE_DATA, head + physmap) if physmap else b""
    return told + record(LibxlType.EMULATOR_CONTEXT, head + state)


def _physmap(hv: Xenstore, path: str) -> bytes:
    """Where QEMU has put memory of its own (video memory) into the guest: keys and values, each with its NUL."""
    out = b""
    for entry in hv.xenstore_directory(path):
        for key in PHYSMAP_KEYS:
            value = hv.xenstore_read(f"{path}/{entry}/{key}")
            if value is not None:
                out += f"physmap/{entry}/{key}".encode() + b"\0" + value + b"\0"
    return out
