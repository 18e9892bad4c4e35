"""The fields of Xen's HVM save records: name, offset and bytes of each, by typecode.

Sources: the structures of Xen's public header arch-x86/hvm/save.h. What a field means is in the manuals of the
chips: 8259 (PIC), 8254 (PIT), 82093 (IO-APIC), HPET; the processors' own for the rest. CPU is in image/registers.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyxcsr.image.registers import Field


def _row(size: int, *names: str, at: int = 0) -> Iterator[Field]:
    """Fields of one size, one behind the other."""
    return (Field(name, at + size * index, size) for index, name in enumerate(names))


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{index}" for index in range(count)]


_PIT_CHANNEL = (
    ("count", 0, 4), ("latched_count", 4, 2), ("count_latched", 6, 1), ("status_latched", 7, 1), ("status", 8, 1),
    ("read_state", 9, 1), ("write_state", 10, 1), ("write_latch", 11, 1), ("rw_mode", 12, 1), ("mode", 13, 1),
    ("bcd", 14, 1), ("gate", 15, 1),
)  # fmt: skip

_MTRR_FIXED = ("64k_00000", "16k_80000", "16k_a0000", *(f"4k_{x:05x}" for x in range(0xC0000, 0x100000, 0x8000)))

SAVE_FIELDS: dict[int, tuple[Field, ...]] = {
    1: (
        *_row(4, "magic", "version"), Field("changeset", 8, 8), *_row(4, "cpuid_1_eax", "tsc_khz", at=16),
    ),
    3: (*_row(1, "irr", "imr", "isr", "irq_base", "state", "mode", "elcr", "int_output"),),
    4: (
        Field("base_address", 0, 8), *_row(4, "ioregsel", "id", at=8), *_row(8, *_numbered("redirect", 48), at=16),
    ),
    5: (
        Field("apic_base", 0, 8), *_row(4, "disabled", "timer_divisor", at=8), Field("tsc_deadline", 16, 8),
        Field("pending_esr", 24, 4),
    ),
    7: (*_row(8, "devices_0_15", "devices_16_31"),),
    8: (*_row(8, "irqs"),),
    9: (*_row(1, *_numbered("route", 4)),),
    10: (
        *(Field(f"channel_{x}_{name}", 16 * x + at, size) for x in range(3) for name, at, size in _PIT_CHANNEL),
        Field("speaker_data_on", 48, 4),
    ),
    11: (*_row(1, *_numbered("cmos", 14), "cmos_index"), Field("offset_seconds", 16, 8)),
    12: (
        Field("capability", 0, 8), Field("config", 16, 8), Field("isr", 32, 8), Field("counter", 240, 8),
        *(Field(f"timer_{x}_{name}", 256 + 32 * x + 8 * i, 8)
          for x in range(3) for i, name in enumerate(("config", "comparator", "fsb"))),
        *_row(8, *_numbered("period", 3), at=1024),
    ),
    13: (Field("timer", 0, 4), *_row(2, "pm1a_status", "pm1a_enable", at=4)),
    14: (
        Field("pat", 0, 8),
        *(Field(f"{name}_{x}", 8 + 16 * x + 8 * i, 8) for x in range(8) for i, name in enumerate(("base", "mask"))),
        *_row(8, *(f"fixed_{x}" for x in _MTRR_FIXED), "capability", "default_type", at=136),
    ),
    15: (*_row(8, "hypercall_gpa", "guest_os_id", "time_ref_count", "reference_tsc"),),
    16: (
        *_row(8, "xfeature_mask", "xcr0", "xcr0_accum"), *_row(8, "xstate_bv", "xcomp_bv", at=536),
    ),
    17: (
        Field("vp_assist", 0, 8), Field("apic_assist_pending", 8, 1), Field("simp", 16, 8),
        *_row(8, *_numbered("sint", 16), *_numbered("stimer_config", 4), *_numbered("stimer_count", 4), at=24),
    ),
    18: (*_row(8, "capabilities", "ctl2_bank0", "ctl2_bank1", "ext_ctl"),),
    19: (*_row(8, "tsc_adjust"),),
}  # fmt: skip
"""Not here: CPU (2), whose registers are image/registers.py's, the pages of LAPIC_REGS (6), and the MSRs (20)."""

SIGNED = frozenset({"offset_seconds", "tsc_adjust"})
"""Fields that may be negative."""

LAPIC_REGISTERS = {
    "id": 0x20, "version": 0x30, "tpr": 0x80, "apr": 0x90, "ppr": 0xA0, "ldr": 0xD0, "dfr": 0xE0, "svr": 0xF0,
    "esr": 0x280, "lvt_cmci": 0x2F0, "icr_low": 0x300, "icr_high": 0x310, "lvt_timer": 0x320, "lvt_thermal": 0x330,
    "lvt_pmc": 0x340, "lvt_lint0": 0x350, "lvt_lint1": 0x360, "lvt_error": 0x370, "timer_initial": 0x380,
    "timer_current": 0x390, "timer_divide": 0x3E0,
}  # fmt: skip
"""Name -> offset in the page of the local APIC. Each register has 32 bits."""

LAPIC_VECTORS = {"isr": 0x100, "tmr": 0x180, "irr": 0x200}
"""Name -> offset of a set of 256 vectors: eight registers, 16 bytes apart."""
