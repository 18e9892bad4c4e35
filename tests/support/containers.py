"""libxl streams and xl save files of made-up guests, packed by hand and not by the code that is tested."""

from __future__ import annotations

import json
import struct
from typing import Any

from pyxcsr.stream.format import DomainType
from support import streams as build

PV = build.assemble(build.pv64())
HVM = build.assemble(build.hvm(), DomainType.HVM)

MAGIC = b"Xen saved domain, xl format\n \x00 \r"
END, LIBXC, XENSTORE, EMULATOR, CHECKPOINT_END, CHECKPOINT_STATE = range(6)

LIBXL_HEADER = struct.pack(">QII", 0x4C6962786C466D74, 2, 0)


def record(code: int, body: bytes = b"", padding: bytes | None = None) -> bytes:
    """A libxl record."""
    return struct.pack("<II", code, len(body)) + body + (bytes(-len(body) % 8) if padding is None else padding)


def emulator(code: int, data: bytes, number: int = 2) -> bytes:
    """A record of an emulator's state."""
    return record(code, struct.pack("<II", number, 0) + data)


PAIRS = emulator(XENSTORE, b"physmap/c0000/start_addr\0f0000000\0physmap/c0000/name\0vga.vram\0")
BLOB = emulator(EMULATOR, b"QEVM" + bytes(range(256)) * 40)


def libxl(stream: bytes = PV, *after: bytes, header: bytes = LIBXL_HEADER) -> bytes:
    """A libxl stream. ``after``: records between the libxc stream and END."""
    return b"".join([header, record(LIBXC), stream, *after, record(END)])


def config(kind: str = "pv", name: str = "guest", **b_info: Any) -> dict[str, Any]:
    """A guest's configuration, as libxl has it in JSON."""
    memory = {"max_vcpus": 4, "avail_vcpus": [0, 1, 2], "max_memkb": 1 << 20, "target_memkb": 1 << 18, "video_memkb": 0}
    return {
        "c_info": {"type": kind, "name": name, "uuid": "00112233-4455-6677-8899-aabbccddeeff"},
        "b_info": {**memory, **b_info},
        "on_crash": "preserve",
    }


def text_of(what: dict[str, Any]) -> bytes:
    """A configuration as libxl writes it, but without the NUL at its end."""
    return json.dumps(what, indent=4).encode() + b"\n"


def xl_header(length: int, *, must: int = 3, may: int = 0, order: int = 0x01020304) -> bytes:
    """The header of an xl save file."""
    return MAGIC + struct.pack("<4I", order, must, may, length)


def xl(inner: bytes | None = None, text: bytes | None = None, **flags: int) -> bytes:
    """An xl save file; ``text`` is the configuration with its NUL."""
    text = text_of(config()) + b"\0" if text is None else text
    data = struct.pack("<I", len(text)) + text
    return xl_header(len(data), **flags) + data + (libxl() if inner is None else inner)


def libvirt(inner: bytes | None = None, xml: bytes | None = None, version: int = 2, unused: bytes = bytes(40)) -> bytes:
    """A save file of libvirt's libxl driver; ``xml`` with its NUL."""
    xml = b"<domain type='xen'>\n  <name>guest</name>\n</domain>\n\0" if xml is None else xml
    head = b"libvirt-xml\n \x00 \r" + struct.pack("<II", version, len(xml)) + unused
    return head + xml + (libxl() if inner is None else inner)


def part(code: int, content: bytes = b"", length: int | None = None) -> bytes:
    """A part of XenServer's suspend image."""
    return struct.pack("<qq", code, len(content) if length is None else length) + content


XENOPS, IMAGE, QEMU_TRAD, QEMU_XEN, IMAGE_END = 0xF, 0xF0, 0xF00, 0xF01, 0xFFFF


def suspend_image(stream: bytes = PV, *after: bytes, ahead: bytes = part(XENOPS, b"((time 0)(word_size 64))")) -> bytes:
    """XenServer's suspend image. ``after``: parts behind the libxc stream."""
    return b"".join([b"XenSavedDomv2-\n", ahead, part(IMAGE), stream, *after, part(IMAGE_END)])


HVM_LIBXL = libxl(HVM, PAIRS, BLOB)
HVM_XL = xl(HVM_LIBXL, text_of(config("hvm")) + b"\0")
PVH_XL = xl(libxl(HVM), text_of(config("pvh")) + b"\0")
