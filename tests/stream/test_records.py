"""Each record: encode gives the bytes of the specification, decode gives the record back."""

from __future__ import annotations

import dataclasses
from array import array
from functools import partial
from typing import Any

import pytest

from pyxcsr.errors import NotSupported, StreamError
from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.stream import format as fmt
from pyxcsr.stream import records as rec

PAGE_A = bytes([0xA5]) * PAGE_SIZE
PAGE_B = bytes(range(256)) * 16

SAMPLES: list[tuple[rec.Record, str]] = [
    (rec.End(), ""),
    (rec.Verify(), ""),
    (rec.Checkpoint(), ""),
    (rec.StaticDataEnd(), ""),
    (rec.PvInfo(8, 4), "08 04 000000000000"),
    (rec.P2mFrames(0, 0x3FF, array("Q", [5, 6])), "00000000 ff030000 0500000000000000 0600000000000000"),
    (rec.VcpuBasic(3, b"\x01\x02"), "03000000 00000000 0102"),
    (rec.VcpuExtended(3, b"\x01"), "03000000 00000000 01"),
    (rec.VcpuXsave(3, b"\x01"), "03000000 00000000 01"),
    (rec.VcpuMsrs(3, bytes(16)), "03000000 00000000" + "00" * 16),
    (rec.SharedInfo(PAGE_B), PAGE_B.hex()),
    (rec.TscInfo(1, 2, 3, 4), "01000000 02000000 0300000000000000 04000000 00000000"),
    (rec.HvmContext(b"abc"), "616263"),
    (rec.HvmParams([(1, 0xFE)]), "01000000 00000000 0100000000000000 fe00000000000000"),
    (rec.CpuidPolicy(bytes(24)), "00" * 24),
    (rec.MsrPolicy(bytes(16)), "00" * 16),
    (rec.Toolstack(b"x"), "78"),
    (rec.CheckpointDirtyPfnList(bytes(8)), "00" * 8),
]


@pytest.mark.parametrize(("record", "body"), SAMPLES, ids=lambda value: getattr(value, "name", "body"))
def test_encode_decode(record: rec.Record, body: str) -> None:
    encoded = record.encode()
    assert encoded == bytes.fromhex(body)
    decoded = rec.decode(record.code, encoded, offset=40)
    assert decoded == record
    assert type(decoded) is type(record)
    assert decoded.offset == 40


def test_every_record_type_has_a_class_and_a_sample() -> None:
    assert set(rec.RECORD_CLASSES) == set(fmt.RecordType)
    assert {record.code for record, _ in SAMPLES} | {fmt.RecordType.PAGE_DATA} == set(fmt.RecordType)


def test_records_are_frozen() -> None:
    info = rec.PvInfo(8, 4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.width = 4  # type: ignore[misc]


def test_page_data() -> None:
    record = rec.PageData.build(
        [(7, PageType.NOTAB, PAGE_A), (8, PageType.XTAB, b""), (0x100000, PageType.L1TAB_PINNED, PAGE_B)]
    )
    body = record.encode()
    assert body[:32].hex(" ", 8) == "0300000000000000 0700000000000000 08000000000000f0 0000100000000090"
    decoded = rec.PageData.decode(memoryview(body))
    assert decoded == record
    assert decoded.pfns == [7, 8, 0x100000]
    assert decoded.type_bits == bytes([0, 15, 9])
    assert decoded.nr_pages == 2
    assert list(decoded.items()) == [(7, 0, PAGE_A), (8, 15, None), (0x100000, 9, PAGE_B)]


@pytest.mark.parametrize("kind", list(range(16)))
def test_page_data_length_follows_the_types(kind: int) -> None:
    has_data = kind in (0, 1, 2, 3, 4, 9, 10, 11, 12)
    head = fmt.PAGE_DATA_HEADER.pack(1, 0) + (kind << 60 | 5).to_bytes(8, "little")
    for pages in (0, 1, 2):
        body = head + PAGE_A * pages
        if pages == has_data:
            assert rec.PageData.decode(body).nr_pages == has_data
        else:
            with pytest.raises(StreamError, match="must be"):
                rec.PageData.decode(body)


def test_page_data_build_refuses_contents_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="0 bytes do not fit NOTAB"):
        rec.PageData.build([(1, PageType.NOTAB, b"")])
    with pytest.raises(ValueError, match="4096 bytes do not fit XTAB"):
        rec.PageData.build([(1, PageType.XTAB, PAGE_A)])


@pytest.mark.parametrize(
    ("code", "length"),
    [
        (0x00, 1),
        (0x01, 7),
        (0x02, 7),
        (0x02, 9),
        (0x03, 7),
        (0x03, 12),
        (0x04, 7),
        (0x05, 0),
        (0x06, 4),
        (0x0C, 7),
        (0x07, 4095),
        (0x07, 4097),
        (0x08, 23),
        (0x08, 25),
        (0x0A, 7),
        (0x0A, 9),
        (0x0D, 8),
        (0x0E, 8),
        (0x10, 8),
    ],
)
def test_wrong_length(code: int, length: int) -> None:
    with pytest.raises(StreamError) as caught:
        rec.decode(code, bytes(length), offset=1234)
    assert caught.value.offset == 1234
    assert caught.value.record == fmt.record_name(code)
    assert str(length) in str(caught.value)


def test_page_data_count_beyond_the_body() -> None:
    with pytest.raises(StreamError, match="too few for 4294967295 entries"):
        rec.PageData.decode(b"\xff\xff\xff\xff" + bytes(20))


@pytest.mark.parametrize(
    ("width", "start", "end", "wanted"),
    [(8, 0, 511, 1), (8, 0, 512, 2), (4, 0, 1023, 1), (8, 511, 512, 2), (4, 1024, 4095, 3)],
)
def test_frames_wanted(width: int, start: int, end: int, wanted: int) -> None:
    assert rec.P2mFrames(start, end, []).frames_wanted(width) == wanted


def test_policies() -> None:
    leaf = fmt.CPUID_LEAF.pack(7, 0, 1, 2, 3, 4)
    assert rec.CpuidPolicy(leaf * 2).leaves == [(7, 0, 1, 2, 3, 4)] * 2
    assert rec.CpuidPolicy(leaf + b"x").leaves == [(7, 0, 1, 2, 3, 4)]
    assert rec.MsrPolicy(fmt.MSR_POLICY_ENTRY.pack(0xCE, 0, 5)).msrs == [(0xCE, 0, 5)]
    assert rec.VcpuMsrs(0, fmt.VCPU_MSR_ENTRY.pack(0xC001_1027, 0, 5)).msrs == [(0xC001_1027, 0, 5)]


def test_unknown() -> None:
    record = rec.decode(0x8000_0013, b"abc")
    assert record == rec.Unknown(0x8000_0013, b"abc")
    assert isinstance(record, rec.Unknown) and record.optional
    assert not rec.Unknown(0x13, b"").optional


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9])
def test_frame(length: int) -> None:
    framed = rec.frame(rec.HvmContext(b"\xee" * length))
    assert framed == fmt.RECORD_HEADER.pack(9, length) + b"\xee" * length + bytes(-length % 8)


def test_frame_refuses_what_no_receiver_takes() -> None:
    rec.frame(rec.HvmContext(bytes(fmt.RECORD_LENGTH_MAX)))
    with pytest.raises(NotSupported) as caught:
        rec.frame(rec.HvmContext(bytes(fmt.RECORD_LENGTH_MAX + 1)))
    assert caught.value.record == "HVM_CONTEXT"


def test_headers() -> None:
    assert rec.image_header() == bytes.fromhex("ffffffffffffffff 58454e46 00000003 0000 0000 00000000")
    assert rec.image_header(version=2)[12:16] == bytes([0, 0, 0, 2])
    assert rec.domain_header(fmt.DomainType.PV, 4, 17) == bytes.fromhex(
        "01000000 0c00 0000 04000000 11000000"
    )
    assert rec.ImageHeader(3, 0, 0x1234_5678_9ABC).encode()[18:] == bytes.fromhex("1234 56789abc")
    header = rec.DomainHeader(2, 4, 20)
    assert rec.DomainHeader.decode(header.encode()) == header
    assert not header.is_pv


@pytest.mark.parametrize("nr", [0, 1, 2047, 2048, 2049, 5000])
@pytest.mark.parametrize("kind", [list, partial(array, "Q")])
def test_p2m_frames_are_the_same_in_pieces(nr: int, kind: Any) -> None:
    record = rec.P2mFrames(0, 512 * nr, kind(range(7, 7 + nr)))
    pieces = list(rec.framed(record))
    assert b"".join(pieces) == rec.frame(record) and max(map(len, pieces)) <= 16384


def test_other_records_are_one_piece() -> None:
    for record in (rec.End(), rec.PvInfo(8, 4), rec.VcpuMsrs(3, b"123")):
        assert list(rec.framed(record)) == [rec.frame(record)]


def test_p2m_frames_that_no_receiver_takes_are_refused() -> None:
    record = rec.P2mFrames(0, 1, range(fmt.RECORD_LENGTH_MAX // 8))
    with pytest.raises(NotSupported, match="P2M_FRAMES record of 134217736 bytes"):
        next(iter(rec.framed(record)))


def test_a_record_from_what_items_gives() -> None:
    """The loop in which a program rewrites a stream."""
    record = rec.PageData.build([(1, PageType.NOTAB, PAGE_A), (2, PageType.XTAB, b""), (3, PageType.L1TAB, PAGE_A)])
    again = rec.PageData.build(list(record.items()))
    assert again.encode() == record.encode()
    with pytest.raises(ValueError, match="0 bytes do not fit NOTAB"):
        rec.PageData.build([(1, 0, None)])
