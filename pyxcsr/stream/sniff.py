"""What a file is that does not begin like a libxc stream, and what can be done with it."""

from __future__ import annotations

from pyxcsr.stream import format as fmt

TO_STANDARD_INPUT = "FILE | pyxcsr COMMAND -"
"""How the advice to decompress ends; a command puts its own words there."""

_CONTAINERS = (
    (
        b"LibxlFmt",
        "a libxl stream, which holds the libxc stream after its LIBXC_CONTEXT record",
        "take the libxc stream out with `pyxcsr convert`",
    ),
    (
        b"Xen saved domain, xl",
        "a save file of xl, which holds a configuration, a libxl stream and, in it, the libxc stream",
        "restore it with `xl restore`, or take the libxc stream out with `pyxcsr convert`",
    ),
    (b"libvirt-xml", "a save file of libvirt", "take the libxc stream out with `pyxcsr convert`"),
    (b"LibvirtQemud", "a save file of libvirt, of a QEMU or KVM guest", "restore it with `virsh restore`"),
    (b"XenSavedDomv2-\n", "a suspend image of XenServer or XCP-ng", "take the libxc stream out with `pyxcsr convert`"),
    (b"XenSavedDomain", "a legacy suspend image of XenServer, of Xen 4.5 or older", "restore it there"),
    (b"\x1f\x8b", "compressed with gzip", f"decompress it: `zcat {TO_STANDARD_INPUT}`"),
    (b"\xfd7zXZ\0", "compressed with xz", f"decompress it: `xzcat {TO_STANDARD_INPUT}`"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", f"decompress it: `zstdcat {TO_STANDARD_INPUT}`"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", f"decompress it: `lz4cat {TO_STANDARD_INPUT}`"),
    (b"\x7fELF", "an ELF file (a program or a core dump)", "give a stream that `pyxcsr save` wrote"),
)

_LEGACY_PFNS_MIN = 0xFF
_LEGACY_PFNS_MAX = 1 << 32
_EXTENDED_INFO_32 = b"\xff\xff\xff\xff"


def describe(head: bytes) -> str:
    """What ``head``, the first bytes (up to 24) of an input that is not a libxc stream, belong to."""
    if not head:
        return "the input is empty: nothing was saved into it, or the saver failed at once"
    for magic, what, advice in _CONTAINERS:
        if head.startswith(magic):
            return f"not a libxc stream but {what}; {advice}"
    if _is_legacy(head):
        return (
            "not a version 2 or 3 stream but, as it seems, a legacy (version 1) image of Xen 4.5 or older; "
            "convert it with `convert-legacy-stream`, which comes with Xen, or restore it with a Xen that can"
        )
    return f"not a libxc stream: it begins with {head[:8].hex(' ')}, not with eight bytes ff"


def _is_legacy(head: bytes) -> bool:
    """A legacy image begins with the p2m's size, an unsigned long of the saver.

    Then comes a p2m frame list or, as an unsigned long of all ones, the mark of extended information.
    """
    if len(head) < 16:
        return False
    size64 = int.from_bytes(head[:8], "little")
    size32 = int.from_bytes(head[:4], "little")
    if _LEGACY_PFNS_MIN < size64 < _LEGACY_PFNS_MAX:
        return True
    return size32 > _LEGACY_PFNS_MIN and head[4:8] == _EXTENDED_INFO_32


def describe_header(image_id: int, version: int, options: int) -> str | None:
    """Why an image header with the right marker cannot be read here, or None if it can."""
    if image_id != fmt.IMAGE_ID:
        return f"not a libxc stream: after the marker comes 0x{image_id:08x}, not 0x{fmt.IMAGE_ID:08x}"
    if version not in fmt.IMAGE_VERSIONS:
        return (
            f"a libxc stream of version {version}; this release reads versions 2 (Xen 4.6 to 4.13) and 3 "
            "(Xen 4.14 and later)"
        )
    if options & fmt.OPTION_BIG_ENDIAN:
        return "a big-endian libxc stream; no x86 saver writes one, and this release reads little-endian ones"
    return None
