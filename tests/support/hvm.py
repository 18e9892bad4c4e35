"""HVM contexts of made-up guests, packed by hand as Xen's public headers say."""

from __future__ import annotations

import struct

HEADER, CPU, PIC, IOAPIC, LAPIC, LAPIC_REGS, MTRR, XSAVE, MSR = 1, 2, 3, 4, 5, 6, 14, 16, 20
END = struct.pack("<HHI", 0, 0, 0)


def record(typecode: int, instance: int, body: bytes) -> bytes:
    """A save record."""
    return struct.pack("<HHI", typecode, instance, len(body)) + body


def header(magic: int = 0x54381286, version: int = 1, tsc_khz: int = 2_500_000) -> bytes:
    """The save record that comes first."""
    return record(HEADER, 0, struct.pack("<IIQII", magic, version, (1 << 64) - 1, 0x306C3, tsc_khz))


def xsave(vcpu: int, xcr0: int = 7, accum: int = 7, area: int = 832) -> bytes:
    """A vcpu's XSAVE area with its head."""
    return record(XSAVE, vcpu, struct.pack("<QQQ", 7, xcr0, accum) + bytes(area))


def msrs(vcpu: int, *indices: int) -> bytes:
    """A vcpu's MSRs, all zero."""
    entries = b"".join(struct.pack("<IIQ", index, 0, 0) for index in indices)
    return record(MSR, vcpu, struct.pack("<II", len(indices), 0) + entries)


def records(nr_vcpus: int = 1) -> list[bytes]:
    """The save records of a guest, without END."""
    vcpus = range(nr_vcpus)
    return [
        header(),
        *(record(CPU, vcpu, bytes(1032)) for vcpu in vcpus),
        *(record(PIC, chip, bytes(8)) for chip in range(2)),
        record(IOAPIC, 0, bytes(400)),
        *(record(LAPIC, vcpu, bytes(24)) for vcpu in vcpus),
        *(record(LAPIC_REGS, vcpu, bytes(1024)) for vcpu in vcpus),
        *(record(MTRR, vcpu, bytes(240)) for vcpu in vcpus),
        *(xsave(vcpu) for vcpu in vcpus),
        *(msrs(vcpu, 0x48, 0x140) for vcpu in vcpus),
    ]


def context(nr_vcpus: int = 1) -> bytes:
    """A whole context."""
    return b"".join(records(nr_vcpus)) + END
