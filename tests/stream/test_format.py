"""Sizes and offsets of the stream format, as the specification and Xen's headers give them."""

from __future__ import annotations

import struct

import pytest

from pyxcsr.frames import PageType
from pyxcsr.stream import format as fmt
from pyxcsr.stream.format import RecordType


@pytest.mark.parametrize(
    ("layout", "size", "offsets"),
    [
        (fmt.IMAGE_HEADER, 24, (0, 8, 12, 16, 18, 20)),
        (fmt.DOMAIN_HEADER, 16, (0, 4, 6, 8, 12)),
        (fmt.RECORD_HEADER, 8, (0, 4)),
        (fmt.PAGE_DATA_HEADER, 8, (0, 4)),
        (fmt.PV_INFO, 8, (0, 1, 2)),
        (fmt.P2M_FRAMES_HEADER, 8, (0, 4)),
        (fmt.VCPU_HEADER, 8, (0, 4)),
        (fmt.TSC_INFO, 24, (0, 4, 8, 16, 20)),
        (fmt.HVM_PARAMS_HEADER, 8, (0, 4)),
        (fmt.HVM_PARAMS_ENTRY, 16, (0, 8)),
        (fmt.CPUID_LEAF, 24, (0, 4, 8, 12, 16, 20)),
        (fmt.MSR_POLICY_ENTRY, 16, (0, 4, 8)),
        (fmt.VCPU_MSR_ENTRY, 16, (0, 4, 8)),
    ],
)
def test_layout(layout: struct.Struct, size: int, offsets: tuple[int, ...]) -> None:
    assert layout.size == size
    assert _offsets(layout) == offsets


def _offsets(layout: struct.Struct) -> tuple[int, ...]:
    """Where each field starts: set one field at a time and see which byte changes first."""
    zero = layout.unpack(bytes(layout.size))
    found = []
    for index, value in enumerate(zero):
        fields = list(zero)
        fields[index] = b"\xff" * len(value) if isinstance(value, bytes) else _all_ones(layout, zero, index)
        packed = layout.pack(*fields)
        found.append(next(at for at, byte in enumerate(packed) if byte))
    return tuple(found)


def _all_ones(layout: struct.Struct, zero: tuple[int, ...], index: int) -> int:
    for bits in (64, 32, 16, 8):
        fields = list(zero)
        fields[index] = (1 << bits) - 1
        try:
            layout.pack(*fields)
        except struct.error:
            continue
        return (1 << bits) - 1
    raise AssertionError(f"field {index} takes no number")


def test_byte_orders() -> None:
    assert fmt.IMAGE_HEADER.pack(fmt.IMAGE_MARKER, fmt.IMAGE_ID, 3, 0, 0, 0) == bytes.fromhex(
        "ffffffffffffffff 58454e46 00000003 0000 0000 00000000"
    )
    assert fmt.DOMAIN_HEADER.pack(1, 12, 0, 4, 17) == bytes.fromhex("01000000 0c00 0000 04000000 11000000")
    assert fmt.RECORD_HEADER.pack(3, 0x10) == bytes.fromhex("03000000 10000000")


def test_record_types() -> None:
    assert [int(kind) for kind in RecordType] == list(range(0x13))
    assert RecordType(0x0C).name == "X86_PV_VCPU_MSRS"
    assert fmt.record_name(0x03) == "X86_PV_P2M_FRAMES"
    assert fmt.record_name(0x13) == "unknown 0x00000013"
    assert fmt.record_name(0x8000_0001) == "unknown optional 0x80000001"


@pytest.mark.parametrize(("length", "padding"), [(0, 0), (1, 7), (7, 1), (8, 0), (9, 7), (4096, 0)])
def test_padding(length: int, padding: int) -> None:
    assert fmt.padding_of(length) == padding


def test_limits() -> None:
    assert fmt.RECORD_LENGTH_MAX == 134217728
    assert fmt.RECORD_ALIGN == 8
    assert fmt.BATCH_PAGES == 1024


def test_entry() -> None:
    assert fmt.pack_entry(0x123, PageType.NOTAB) == 0x123
    assert fmt.pack_entry(0x123, PageType.XTAB) == 0xF000_0000_0000_0123
    assert fmt.pack_entry((1 << 52) - 1, PageType.L4TAB_PINNED) == 0xC00F_FFFF_FFFF_FFFF
    assert fmt.ENTRY_RESERVED_MASK == 0x0FF0_0000_0000_0000
    for kind in PageType:
        assert fmt.unpack_entry(fmt.pack_entry(77, kind)) == (77, kind)
    for bad in (1 << 52, -1):
        with pytest.raises(ValueError, match="does not fit"):
            fmt.pack_entry(bad, PageType.NOTAB)


def test_vcpu_layouts() -> None:
    # size, word, user_regs.rdx, gdt_frames, gdt_ents, ctrlreg[3], ctrlreg[1]: offsetof() on Xen's headers
    assert fmt.VCPU_LAYOUTS[8] == (5168, 8, 616, 4832, 4960, 4984 + 3 * 8, 4984 + 8)
    assert fmt.SHARED_INFO_NR_PFNS == {8: (3088, 8), 4: (2316, 4)}
    assert fmt.VCPU_LAYOUTS[4] == (2800, 4, 524, 2640, 2704, 2716 + 3 * 4, None)
