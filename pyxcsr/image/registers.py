"""A vcpu's registers, from a PV guest's context or Xen's save record of an HVM guest's vcpu.

Sources: struct vcpu_guest_context and struct cpu_user_regs (xen/include/public/arch-x86/xen*.h), struct hvm_hw_cpu
(xen/include/public/arch-x86/hvm/save.h).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from pyxcsr.frames import PAGE_SHIFT

_GENERAL = ("rax", "rbx", "rcx", "rdx", "rbp", "rsi", "rdi", "rsp", *(f"r{x}" for x in range(8, 16)))
_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldtr")
_TABLES = (*_SEGMENTS, "idtr", "gdtr")

CR0_PG, CR4_PAE, CR4_LA57, EFER_LMA = 1 << 31, 1 << 5, 1 << 12, 1 << 10


class Field(NamedTuple):
    """A register: its name, where it stands, and how many bytes it takes."""

    name: str
    at: int
    size: int


def _numbered(names: tuple[str, ...], at: int, step: int, size: Optional[int] = None) -> Iterator[Field]:
    """Registers one after another, ``step`` bytes apart; what each of them leaves of its step is padding."""
    return (Field(name, at + step * index, size or step) for index, name in enumerate(names))


_ORDER_64 = ("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi")
_TAIL_64 = (
    *(Field("rip", 648, 8), Field("cs", 656, 2), Field("rflags", 664, 8), Field("rsp", 672, 8), Field("ss", 680, 2)),
    *_numbered(("es", "ds", "fs", "gs"), 688, 8, 2),
)
_TAIL_32 = (
    *(Field("rip", 548, 4), Field("cs", 552, 2), Field("rflags", 556, 4), Field("rsp", 560, 4), Field("ss", 564, 2)),
    *_numbered(("es", "ds", "fs", "gs"), 568, 4, 2),
)
_CONTROL = tuple(f"cr{x}" for x in range(5))
_DEBUG = ("dr0", "dr1", "dr2", "dr3")

PV_FIELDS = {
    8: (
        *_numbered(_ORDER_64, 520, 8),
        *_TAIL_64,
        *(x for x in _numbered(_CONTROL, 4984, 8) if x.name != "cr1"),
        *(*_numbered(_DEBUG, 5048, 8), Field("dr6", 5096, 8), Field("dr7", 5104, 8)),
        *_numbered(("fs_base", "gs_base_kernel", "gs_base"), 5144, 8),
    ),
    4: (
        *_numbered(("rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rax"), 516, 4),
        *_TAIL_32,
        *(x for x in _numbered(_CONTROL, 2716, 4) if x.name != "cr1"),
        *(*_numbered(_DEBUG, 2748, 4), Field("dr6", 2772, 4), Field("dr7", 2776, 4)),
    ),
}
"""By the guest's width. Names are those of the 64-bit registers, whose lower half a 32-bit guest has."""

HVM_FIELDS = (
    *_numbered(_GENERAL, 512, 8),
    *_numbered(("rip", "rflags", "cr0", "cr2", "cr3", "cr4", *_DEBUG, "dr6", "dr7"), 640, 8),
    *_numbered(_SEGMENTS, 736, 4),
    *_numbered(tuple(f"{x}_limit" for x in _TABLES), 768, 4),
    *_numbered(tuple(f"{x}_base" for x in _TABLES), 808, 8),
    *_numbered(tuple(f"{x}_attributes" for x in _SEGMENTS), 888, 4),
    *_numbered(("sysenter_cs", "sysenter_esp", "sysenter_eip", "gs_base_kernel"), 920, 8),
    *_numbered(("lstar", "star", "cstar", "syscall_mask", "efer", "tsc_aux", "tsc"), 960, 8),
)


class Registers:
    """A vcpu's registers by name, as attributes and in ``values``. ``vcpu`` is its id, ``pv`` the guest's kind.

    In a PV guest's cr3 there is a pfn where Xen has an mfn, as in the page tables. ``gs_base_kernel`` is what swapgs
    would exchange with gs_base; a PV guest's gs_base is the user's. Registers that a context does not hold are not
    there: AttributeError.
    """

    __slots__ = ("levels", "pv", "top", "values", "vcpu")

    def __init__(self, vcpu: int, pv: bool, values: dict[str, int], levels: int, top: int) -> None:
        self.vcpu, self.pv, self.values = vcpu, pv, values
        self.levels, self.top = levels, top

    def __getattr__(self, name: str) -> int:
        if name in Registers.__slots__:  # not set yet, as while it is being copied
            raise AttributeError(name)
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(f"the context of vcpu {self.vcpu} has no register {name!r}") from None

    def __repr__(self) -> str:
        shown = ", ".join(f"{x}=0x{self.values[x]:x}" for x in ("rip", "rsp", "cr3") if x in self.values)
        return f"<{type(self).__name__} of vcpu {self.vcpu}: {shown}>"


def of_pv(vcpu: int, blob: bytes, width: int, levels: int) -> Registers:
    """From a PV vcpu's context as it stands in the stream, which may be shorter than it should be."""
    values = _decoded(PV_FIELDS[width], blob)
    cr3 = values["cr3"]
    if width == 4:  # Xen keeps frame numbers beyond 20 bits in the lower bits
        cr3 = (cr3 >> PAGE_SHIFT | cr3 << 20) & 0xFFFF_FFFF
        return Registers(vcpu, True, values, levels, cr3 << PAGE_SHIFT)
    return Registers(vcpu, True, values, levels, cr3 & ~0xFFF & (1 << 52) - 1)


def of_hvm(vcpu: int, body: bytes) -> Registers:
    """From the save record CPU. ``levels`` is 0 where the vcpu has no paging."""
    values = _decoded(HVM_FIELDS, body)
    levels = _levels(values)
    mask = ~0x1F & 0xFFFF_FFFF if levels == 3 else ~0xFFF & (1 << 52) - 1
    return Registers(vcpu, False, values, levels, values["cr3"] & mask)


def _levels(values: dict[str, int]) -> int:
    if not values["cr0"] & CR0_PG:
        return 0
    if values["efer"] & EFER_LMA:
        return 5 if values["cr4"] & CR4_LA57 else 4
    return 3 if values["cr4"] & CR4_PAE else 2


def _decoded(fields: tuple[Field, ...], body: bytes) -> dict[str, int]:
    return {x.name: int.from_bytes(body[x.at : x.at + x.size], "little") for x in fields}


