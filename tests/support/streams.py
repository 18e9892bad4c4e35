"""Small streams of made-up guests, as lists of records, which a test can change before they are joined."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Callable, TypeVar

from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.stream import format as fmt
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import DomainType
from support.hvm import context as hvm_context

PRESENT = 0x1
FLAGS = 0x67

# The pfns of special pages in the 64-bit guest. From NR_FIXED on, pfns are ordinary memory.
L4, L3, L2, L1, P2M, GDT, START_INFO, HOLE, USER_L4 = range(1, 10)
NR_FIXED = 10
L1_SLOT = 5

TABLES = {L4: PageType.L4TAB_PINNED, L3: PageType.L3TAB, L2: PageType.L2TAB, L1: PageType.L1TAB,
          USER_L4: PageType.L4TAB_PINNED}  # fmt: skip

R = TypeVar("R", bound=rec.Record)


def pte(pfn: int, flags: int = FLAGS) -> int:
    """A page table entry as it stands in a stream, where the frame is a pfn."""
    return pfn << 12 | flags


def table(entries: dict[int, int]) -> bytes:
    """A page table from slot -> entry."""
    return rec.packed(entries.get(slot, 0) for slot in range(512))


def page(pfn: int) -> bytes:
    """An ordinary page whose content tells its pfn."""
    return rec.packed([pfn * 2 + 1]) * (PAGE_SIZE // 8)


def contents(nr_pfns: int) -> dict[int, tuple[PageType, bytes]]:
    """pfn -> (type, content) of the 64-bit guest."""
    result = {pfn: (PageType.NOTAB, page(pfn)) for pfn in range(nr_pfns)}
    leaves = [pfn for pfn in range(nr_pfns) if pfn not in (HOLE, *TABLES)][: 512 - L1_SLOT]
    result[L4] = (TABLES[L4], table({0: pte(L3), 511: pte(L3), 260: 0xDEAD_BEEF_F067}))
    result[USER_L4] = (TABLES[USER_L4], table({0: pte(L3)}))
    result[L3] = (TABLES[L3], table({0: pte(L2)}))
    result[L2] = (TABLES[L2], table({3: pte(L1), 4: 0xFFFF_FFFF_FFFF_FFFE}))
    result[L1] = (TABLES[L1], table({L1_SLOT + at: pte(pfn) for at, pfn in enumerate(leaves)}))
    result[HOLE] = (PageType.XTAB, b"")
    return result


def page_records(
    pages: dict[int, tuple[PageType, bytes]], pfns: Iterable[int], batch: int = 8
) -> list[rec.Record]:
    """PAGE_DATA records of the given pfns, ``batch`` in each."""
    order = list(pfns)
    return [
        rec.PageData.build((pfn, *pages[pfn]) for pfn in order[at : at + batch])
        for at in range(0, len(order), batch)
    ]


def vcpu_blob(
    *, cr3: int = L4, user: int = USER_L4, gdt: Sequence[int] = (GDT,), start_info: int = 0, width: int = 8
) -> bytes:
    """A vcpu_guest_context that names these pfns."""
    layout = fmt.VCPU_LAYOUTS[width]
    blob = bytearray(layout.size)

    def put(at: int, value: int) -> None:
        blob[at : at + width] = value.to_bytes(width, "little")

    put(layout.start_info, start_info)
    put(layout.gdt_ents, 512 * len(gdt))
    for index, pfn in enumerate(gdt):
        put(layout.gdt_frames + index * width, pfn)
    put(layout.cr3, cr3 << 12)
    if layout.ctrlreg1 is not None:
        put(layout.ctrlreg1, user << 12 | 1 if user else 0)
    return bytes(blob)


def p2m_frames(nr_pfns: int, start: int = 0, frame: int = P2M) -> rec.P2mFrames:
    """P2M_FRAMES for pfns from ``start`` to ``nr_pfns`` - 1. All p2m frames are the same pfn."""
    nr_frames = (nr_pfns - 1) // 512 + 1 - start // 512
    return rec.P2mFrames(start, nr_pfns - 1, array("Q", [frame] * nr_frames))


def pv_static() -> list[rec.Record]:
    """The static part of a version 3 PV stream."""
    return [
        rec.PvInfo(8, 4),
        rec.CpuidPolicy(fmt.CPUID_LEAF.pack(0, 0xFFFF_FFFF, 13, 1, 2, 3) * 3),
        rec.MsrPolicy(fmt.MSR_POLICY_ENTRY.pack(0xCE, 0, 1 << 31)),
        rec.StaticDataEnd(),
    ]


def shared_info(nr_pfns: int = 1 << 20, at: int = 3088, size: int = 8) -> rec.SharedInfo:
    """A page in which nothing stands but that the guest has so many pfns."""
    return rec.SharedInfo(bytes(at) + nr_pfns.to_bytes(size, "little") + bytes(PAGE_SIZE - at - size))


def pv_tail(nr_vcpus: int = 2) -> list[rec.Record]:
    """What follows the memory of a PV guest, END included."""
    tail: list[rec.Record] = [rec.TscInfo(1, 2_500_000, 123, 0), shared_info()]
    for vcpu in range(nr_vcpus):
        tail += [
            rec.VcpuBasic(vcpu, vcpu_blob(start_info=START_INFO if vcpu == 0 else 0xDEAD_BEEF)),
            rec.VcpuExtended(vcpu, bytes(64)),
            rec.VcpuXsave(vcpu, bytes(16 + 576)),
            rec.VcpuMsrs(vcpu, fmt.VCPU_MSR_ENTRY.pack(0xC001_1027, 0, 0)),
        ]
    return [*tail, rec.End()]


def pv64(nr_pfns: int = 24, dirty: Iterable[int] = (L1, 12, 13), batch: int = 8) -> list[rec.Record]:
    """A live stream of a 64-bit PV guest: a full pass, and a second one with the ``dirty`` pfns."""
    pages = contents(nr_pfns)
    memory = page_records(pages, range(nr_pfns), batch) + page_records(pages, sorted(dirty), batch)
    return [*pv_static(), p2m_frames(nr_pfns), *memory, *pv_tail()]


def pv32(nr_pfns: int = 16) -> list[rec.Record]:
    """A 32-bit PV guest: three levels, 32-bit numbers in its contexts."""
    pages = {pfn: (PageType.NOTAB, page(pfn)) for pfn in range(nr_pfns)}
    pages[L3] = (PageType.L3TAB_PINNED, table({0: pte(L2, PRESENT), 3: pte(L2, PRESENT), 4: pte(1 << 30)}))
    pages[L2] = (PageType.L2TAB, table({0: pte(L1)}))
    pages[L1] = (PageType.L1TAB, table({0: pte(12)}))
    basic = vcpu_blob(cr3=L3, start_info=START_INFO, width=4)
    return [
        rec.PvInfo(4, 3),
        rec.StaticDataEnd(),
        rec.P2mFrames(0, nr_pfns - 1, array("Q", [P2M])),
        *page_records(pages, range(nr_pfns)),
        rec.TscInfo(1, 2_500_000, 123, 0),
        shared_info(at=2316, size=4),
        rec.VcpuBasic(0, basic),
        rec.End(),
    ]


def hvm(nr_pfns: int = 8) -> list[rec.Record]:
    """An HVM guest with a hole."""
    pages = {pfn: (PageType.NOTAB, page(pfn)) for pfn in range(nr_pfns)}
    pages[3] = (PageType.XTAB, b"")
    return [
        rec.CpuidPolicy(bytes(24)),
        rec.MsrPolicy(bytes(16)),
        rec.StaticDataEnd(),
        *page_records(pages, range(nr_pfns)),
        rec.TscInfo(1, 2_500_000, 123, 0),
        rec.HvmContext(hvm_context()),
        rec.HvmParams([(1, 5), (17, 6)]),
        rec.End(),
    ]


def version2(records: list[rec.Record]) -> list[rec.Record]:
    """The same guest as Xen 4.6 to 4.13 would write it."""
    new = (rec.StaticDataEnd, rec.CpuidPolicy, rec.MsrPolicy)
    return [record for record in records if not isinstance(record, new)]


def assemble(records: Iterable[rec.Record], kind: DomainType = DomainType.PV, version: int = 3) -> bytes:
    """The bytes of a stream."""
    head = rec.image_header(version) + rec.domain_header(kind, 4, 17)
    return head + b"".join(rec.frame(record) for record in records)


def pages_of(pfns: Iterable[int]) -> rec.PageData:
    """A PAGE_DATA record of ordinary pages."""
    return rec.PageData.build((pfn, PageType.NOTAB, page(pfn)) for pfn in pfns)


def find(records: list[rec.Record], kind: type[R], nth: int = 0) -> tuple[int, R]:
    """Index and record of the ``nth`` record of a class."""
    found = [(at, record) for at, record in enumerate(records) if isinstance(record, kind)]
    return found[nth]


def swap(
    records: list[rec.Record], kind: type[R], change: Callable[[R], rec.Record | None], nth: int = 0
) -> None:
    """Replaces the ``nth`` record of a class by what ``change`` makes of it, or removes it (None)."""
    at, record = find(records, kind, nth)
    new = change(record)
    records[at : at + 1] = [] if new is None else [new]
