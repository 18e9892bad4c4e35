"""A vcpu's context, re-expressed in pfns.

Offsets are those of struct vcpu_guest_context for x86_64 (xen/include/public/arch-x86/xen.h); a test compares
them with the compiler's.
"""

from __future__ import annotations

import struct
from typing import Optional

from pyxcsr.errors import GuestStateError
from pyxcsr.frames import PAGE_SHIFT
from pyxcsr.hypervisor.interface import P2mHandle

SIZE = 5168
RDX = 616
GDT_FRAMES = 4832
GDT_ENTS = 4960
CTRLREG = 4984

GDT_PER_FRAME = 512
MAX_GDT_ENTS = 7168
"""FIRST_RESERVED_GDT_ENTRY: beyond are Xen's own."""

_U64 = struct.Struct("<Q")


class _Context:
    """A context being rewritten, with the vcpu's name for messages."""

    def __init__(self, blob: bytes, vcpu: int, p2m: P2mHandle) -> None:
        self.blob, self._vcpu, self._p2m = bytearray(blob), vcpu, p2m

    def get(self, offset: int) -> int:
        value: int = _U64.unpack_from(self.blob, offset)[0]
        return value

    def put(self, offset: int, value: int) -> None:
        _U64.pack_into(self.blob, offset, value)

    def pfn_of(self, mfn: int, field: str) -> int:
        pfn: Optional[int] = self._p2m.pfn_of(mfn)
        if pfn is None:
            raise self.wrong(field, mfn, f"names mfn {mfn:#x}, which is not the guest's")
        return pfn

    def wrong(self, field: str, value: int, what: str) -> GuestStateError:
        name = f"vcpu{self._vcpu}.{field}"
        return GuestStateError(f"{name} {what}", field=name, value=value, vcpu=self._vcpu, mfn=value)


def normalise_context(blob: bytes, vcpu: int, p2m: P2mHandle) -> bytes:
    """The context with pfns for mfns: start_info (vcpu 0), GDT frames, cr3 and, if used, cr1.

    Raises GuestStateError (field, value) where the guest's state names a frame that is not its own.
    """
    if len(blob) != SIZE:
        raise GuestStateError(f"vcpu{vcpu}: a context of {len(blob)} octets, not {SIZE}", field="vcpu", value=len(blob))
    context = _Context(blob, vcpu, p2m)
    if vcpu == 0:
        context.put(RDX, context.pfn_of(context.get(RDX), "rdx (start_info)"))
    _gdt(context)
    for register in (3, 1):
        _page_table_base(context, register)
    return bytes(context.blob)


def start_info_mfn(blob: bytes) -> int:
    """The frame that vcpu 0's context names as start_info: the guest's own word for it."""
    mfn: int = _U64.unpack_from(blob, RDX)[0]
    return mfn


def _gdt(context: _Context) -> None:
    ents = context.get(GDT_ENTS)
    if ents > MAX_GDT_ENTS:
        raise context.wrong("gdt_ents", ents, f"is {ents}; at most {MAX_GDT_ENTS} are the guest's")
    for i in range(-(-ents // GDT_PER_FRAME)):
        at = GDT_FRAMES + 8 * i
        context.put(at, context.pfn_of(context.get(at), f"gdt_frames[{i}]"))


def _page_table_base(context: _Context, register: int) -> None:
    """cr3 holds the kernel's table; cr1's place holds the user's, with bit 0 set in the stream, or 0."""
    at = CTRLREG + 8 * register
    value = context.get(at)
    if register == 1 and not value:
        return
    pfn = context.pfn_of(value >> PAGE_SHIFT, f"ctrlreg[{register}]")
    context.put(at, pfn << PAGE_SHIFT | (register == 1))
