"""MemoryImage: pages, addresses, registers and page tables, against the stub's own words and made-up tables."""

from __future__ import annotations

import gzip
import os
import random
import re
from pathlib import Path

import pytest
from support import streams
from support.image import MemoryImage as Judge
from support.same import check_same_pages

import pyxcsr
from image.guests import KINDS, Saved, save_guest
from pyxcsr import (
    InputError,
    MemoryImage,
    PageError,
    PageTableError,
    PageType,
    StreamError,
    StreamTruncated,
    UsageError,
)
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.image import registers
from pyxcsr.image.pagemap import PageMap
from pyxcsr.image.walk import walk
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import DomainType

PAGE = 4096
DOCS = Path(__file__).parents[2] / "docs/image.md"


@pytest.fixture(params=KINDS)
def saved(request: pytest.FixtureRequest, hv: StubBackend, tmp_path: Path) -> Saved:
    return save_guest(hv, request.param, tmp_path / "stream")


def test_each_page_and_type(saved: Saved) -> None:
    with MemoryImage(saved.path) as image, saved.path.open("rb") as file:
        assert list(image.pfns()) == sorted(saved.pages)
        assert all(image.page(pfn) == page for pfn, page in saved.pages.items())
        assert all(image.type_of(pfn) == kind for pfn, kind in saved.types.items())
        judge = Judge(file.fileno())
        assert list(image.map.known()) == sorted(judge.entries)
        assert sum(image.types().values()) == len(judge.entries)
        for pfn in list(judge.entries)[::97]:
            assert (image.page(pfn), image.type_of(pfn)) == (judge.page(pfn), judge.type_of(pfn))
        assert image.page(1 << 39) is None and image.type_of(1 << 39) is PageType.XTAB


def test_from_pipes_and_compressed_files(saved: Saved, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(saved.path.read_bytes(), 1))
    with MemoryImage(packed) as image:
        check_same_pages({pfn: image.page(pfn) for pfn in image.pfns()}, saved.pages)
    with saved.path.open("rb") as file:
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        with MemoryImage(file.fileno()) as image:
            assert image.page(min(saved.pages)) == saved.pages[min(saved.pages)]
    shifted = tmp_path / "shifted"
    shifted.write_bytes(b"ahead" + saved.path.read_bytes())
    with shifted.open("rb") as file:
        os.lseek(file.fileno(), 5, os.SEEK_SET)
        with MemoryImage(file.fileno()) as image:
            check_same_pages({pfn: image.page(pfn) for pfn in image.pfns()}, saved.pages)


def test_addresses(saved: Saved) -> None:
    with MemoryImage(saved.path) as image:
        first = next(x[0] for x in image.map.ranges() if x[1] > 2)
        assert image.read((first << 12) + 4000, 4200) == b"".join(saved.pages[first + x] for x in range(3))[4000:8200]
        hole = next(x for x in range(1 << 20) if x not in saved.pages)
        with pytest.raises(PageError, match=f"pfn 0x{hole:x} has no content") as caught:
            image.read((hole << 12) - 8 if hole - 1 in saved.pages else hole << 12, 16)
        assert caught.value.pfn == hole
        text = saved.pages[first][4090:] + saved.pages[first + 1][:30]
        assert (first << 12) + 4090 in list(image.find(text))
        with pytest.raises(UsageError):
            list(image.find(b""))


def test_find_finds_each_place(tmp_path: Path) -> None:
    pages = {pfn: bytearray(b"." * PAGE) for pfn in [*range(3, 600), 700]}
    for at in (3 << 12, (5 << 12) - 3, (259 << 12) - 2, (600 << 12) - 6, 700 << 12):
        for i, x in enumerate(b"needle"):
            pages[at + i >> 12][at + i & 0xFFF] = x
    records = [rec.PageData.build([(pfn, PageType.NOTAB, bytes(page)) for pfn, page in pages.items()])]
    with MemoryImage(hvm_stream(tmp_path, records)) as image:
        assert list(image.find(b"needle")) == [3 << 12, (5 << 12) - 3, (259 << 12) - 2, (600 << 12) - 6, 700 << 12]
        assert len(list(image.find(b"n"))) == 5


def hvm_stream(folder: Path, pages: list[rec.Record]) -> Path:
    records = [x for x in streams.hvm() if not isinstance(x, rec.PageData)]
    at = next(i for i, x in enumerate(records) if isinstance(x, rec.StaticDataEnd)) + 1
    path = folder / "made"
    path.write_bytes(streams.assemble([*records[:at], *pages, *records[at:]], DomainType.HVM))
    return path


def test_numpy(saved: Saved) -> None:
    np = pytest.importorskip("numpy")
    with MemoryImage(saved.path) as image:
        for pfn in list(saved.pages)[::311]:
            view = image.array(pfn)
            assert view.dtype == np.uint8 and bytes(view) == saved.pages[pfn] and not view.flags.writeable
        del view
        with pytest.raises(PageError):
            image.array(1 << 39)


def test_registers(saved: Saved, hv: StubBackend) -> None:
    guest = hv.stub.guest(next(iter(hv.stub.domains)))
    with MemoryImage(saved.path) as image:
        assert image.vcpus() == [0] and image.kind == ("PV" if saved.pv else "HVM")
        known = image.registers(0)
        assert known.levels == 4 and image.type_of(known.top >> 12).level == (4 if saved.pv else 0)
        if saved.pv:
            assert saved.mfns[known.top >> 12] == guest.vcpu(0, "cr3") >> 12
        with pytest.raises(UsageError, match="no registers of vcpu 7"):
            image.registers(7)
        with pytest.raises(AttributeError, match="no register 'xyz'"):
            _ = known.xyz


def test_the_kernels_own_addresses(hv: StubBackend, tmp_path: Path) -> None:
    """The stub's PV kernel has its stack mapped where its registers say."""
    saved = save_guest(hv, "pv64", tmp_path / "stream")
    with MemoryImage(saved.path) as image:
        known = image.registers(0)
        found = image.walk(known.rsp - 8)
        assert [x.level for x in found.steps] == [4, 3, 2, 1] and found.steps[0].pfn == known.top >> 12
        assert [image.type_of(x.pfn).level for x in found.steps] == [4, 3, 2, 1]
        assert found.paddr >> 12 in saved.pages and image.translate(known.rsp - 8) == found.paddr
        text = image.read_virtual(known.rsp - 8192, 8192)
        assert text == b"".join(image.read(image.translate(known.rsp - x), PAGE) for x in (8192, 4096))


def test_tables_that_are_none(hv: StubBackend, tmp_path: Path) -> None:
    """The stub's HVM guests have random numbers for page tables: a walk ends, and says where."""
    with MemoryImage(save_guest(hv, "pvh", tmp_path / "stream").path) as image:
        for at in (*range(0, 1 << 47, 1 << 43), *range((1 << 64) - (1 << 47), 1 << 64, 1 << 43)):
            with pytest.raises((PageError, PageTableError), match="pfn 0x"):
                image.translate(at)


# Page tables of all kinds


def memory(tables: dict[int, dict[int, int]], size: int = 8) -> Tables:
    slots = ((pfn << 12 | slot * size, entry) for pfn, table in tables.items() for slot, entry in table.items())
    return Tables({at: (entry, size) for at, entry in slots})


class Tables:
    def __init__(self, entries: dict[int, tuple[int, int]]) -> None:
        self.entries, self.reads = entries, 0

    def __call__(self, paddr: int, count: int) -> bytes:
        self.reads += 1
        entry, size = self.entries.get(paddr, (0, count))
        assert size == count
        return entry.to_bytes(count, "little")


@pytest.mark.parametrize(
    ("levels", "size", "tables", "vaddr", "paddr", "mapped"),
    [
        (4, 8, {1: {273: 2 << 12 | 7}, 2: {3: 3 << 12 | 1}, 3: {4: 4 << 12 | 1}, 4: {5: 0x9_8765 << 12 | 1 | 1 << 63}},
         0xFFFF_8880_C080_5123, 0x9_8765_123, 4096),
        (4, 8, {1: {0: 2 << 12 | 1}, 2: {0: 3 << 12 | 1}, 3: {1: 8 << 21 | 0x1081}},
         0x2A_BCDE, 8 << 21 | 0xA_BCDE, 2 << 20),
        (4, 8, {1: {0: 2 << 12 | 1}, 2: {2: 3 << 30 | 0x81}}, 0x8765_4321, 3 << 30 | 0x0765_4321, 1 << 30),
        (5, 8, {1: {1: 2 << 12 | 1}, 2: {0: 3 << 12 | 1}, 3: {0: 4 << 12 | 1}, 4: {0: 5 << 12 | 1},
             5: {0: 6 << 12 | 1}}, 1 << 48, 6 << 12, 4096),
        (3, 8, {1: {3: 2 << 12 | 1}, 2: {511: 3 << 12 | 1}, 3: {511: 0x12_3456 << 12 | 1}}, 0xFFFF_FFFF_FFFF_F00F,
         0x12_3456_00F, 4096),
        (3, 8, {1: {0: 2 << 12 | 1}, 2: {1: 5 << 21 | 0x81}}, 0x20_0010, 5 << 21 | 0x10, 2 << 20),
        (3, 8, {1: {0: 2 << 12 | 0x81}, 2: {0: 3 << 12 | 1}, 3: {0: 4 << 12 | 1}}, 0, 4 << 12, 4096),
        (2, 4, {1: {1: 2 << 12 | 1}, 2: {2: 7 << 12 | 1}}, 0x40_2004, 7 << 12 | 4, 4096),
        (2, 4, {1: {1: 3 << 22 | 2 << 13 | 0x81}}, 0x41_2345, 2 << 32 | 3 << 22 | 0x1_2345, 4 << 20),
        (0, 8, {}, 0x1234_5678, 0x1234_5678, 4096),
    ],
)  # fmt: skip
def test_walks(levels: int, size: int, tables: dict[int, dict[int, int]], vaddr: int, paddr: int, mapped: int) -> None:
    read = memory(tables, size)
    found = walk(read, vaddr, 1 << 12, levels)
    assert (found.paddr, found.size) == (paddr, mapped) and read.reads == len(found.steps) <= levels


def test_walks_end_at_what_is_absent_and_cannot_loop() -> None:
    with pytest.raises(PageTableError, match="entry 0 of the level 2 table in pfn 0x3") as caught:
        walk(memory({1: {0: 2 << 12 | 1}, 2: {0: 3 << 12 | 1}}), 0, 1 << 12, 4)
    assert (caught.value.level, caught.value.index, caught.value.pfn) == (2, 0, 3)
    read = memory({1: {0: 1 << 12 | 1}})  # a table that names itself
    assert walk(read, 0, 1 << 12, 4).paddr == 1 << 12 and read.reads == 4


@pytest.mark.parametrize(("levels", "half"), [(4, 1 << 47), (5, 1 << 56)])
def test_addresses_that_are_not_canonical(levels: int, half: int) -> None:
    """As a processor does, whose fault it would be: the bits above those that name slots are not left out."""
    table = {slot: 1 << 12 | 1 for slot in range(512)}  # it names itself in all its slots: whatever is walked is mapped
    end = 1 << 64
    for vaddr in (0, half - 1, end - half, end - 1):
        assert walk(memory({1: table}), vaddr, 1 << 12, levels).paddr == 1 << 12 | vaddr & 4095
    wrong = (half, 2 * half - 1, end - half - 1, 1 << 63, (end - half) ^ 1 << 60, end, 2 * end - 1, -1, -half)
    for vaddr in wrong:
        read = memory({1: table})
        with pytest.raises(PageTableError, match=f"{vaddr:#x} is not canonical") as caught:
            walk(read, vaddr, 1 << 12, levels)
        assert (caught.value.level, caught.value.index, caught.value.pfn) == (levels, vaddr * 256 // half & 511, 1)
        assert read.reads == 0


def test_modes_of_hvm_vcpus() -> None:
    def levels(**values: int) -> int:
        body = bytearray(1032)
        for field in registers.HVM_FIELDS:
            body[field.at : field.at + field.size] = values.get(field.name, 0).to_bytes(field.size, "little")
        return registers.of_hvm(0, bytes(body)).levels

    pg, pae, la57, lma = 1 << 31, 1 << 5, 1 << 12, 1 << 10
    assert levels() == 0 and levels(cr0=pg) == 2 and levels(cr0=pg, cr4=pae) == 3
    assert levels(cr0=pg, cr4=pae, efer=lma) == 4 and levels(cr0=pg, cr4=pae | la57, efer=lma) == 5


def test_a_32_bit_pv_guest(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(streams.assemble(streams.pv32()))
    with MemoryImage(path) as image:
        assert image.registers(0).levels == 3 and image.registers(0).top == streams.L3 << 12
        assert image.translate(0x123) == 12 << 12 | 0x123 and image.read_virtual(0, PAGE) == streams.page(12)


# Bad input


def test_broken_streams(saved: Saved, tmp_path: Path) -> None:
    data = saved.path.read_bytes()
    for end in (0, 10, 30, 60, 5000, len(data) // 2, len(data) - 8, len(data) - 1):
        (tmp_path / "cut").write_bytes(data[:end])
        with pytest.raises(StreamError):
            MemoryImage(tmp_path / "cut")
        if end > 40:
            with pytest.raises(StreamTruncated):
                MemoryImage(tmp_path / "cut")


def test_a_file_that_shrinks_is_told(saved: Saved) -> None:
    with MemoryImage(saved.path) as image:
        os.truncate(saved.path, 1000)
        with pytest.raises(InputError, match="the file has changed"):
            for pfn in saved.pages:
                image.page(pfn)


def test_scattered_pfns_are_refused_before_they_take_memory() -> None:
    pages = PageMap()
    for x in range(16000):
        pages.note([x << 20], bytes([15]), [])
    assert not pages.scattered
    for x in range(16000, 17000):
        pages.note([x << 20], bytes([15]), [])
    assert pages.scattered


def test_runs_and_ranges() -> None:
    pages = PageMap()
    pages.note([511, 512, 513], bytes(3), range(8, 8 + 3 * PAGE, PAGE))
    pages.note([514], bytes(1), [8 + 3 * PAGE])
    pages.note([516], bytes(1), [8 + 4 * PAGE])
    pages.note([517, 515], bytes([0, 15]), [8])
    assert list(pages.ranges()) == [(511, 4), (516, 2)] and pages.end() == 518 and pages.nr_with_content() == 6
    assert [tuple(x) for x in pages.runs(3)] == [
        (511, 8, 3), (514, 8 + 3 * PAGE, 1), (516, 8 + 4 * PAGE, 1), (517, 8, 1)
    ]  # fmt: skip
    assert pages.count_types() == {0: 6, 15: 1} and list(pages.known()) == [*range(511, 518)]


def test_runs_are_those_that_a_plain_walk_finds() -> None:
    """Of pages in rows, of single ones that come again elsewhere, and of types in between."""
    rng = random.Random(1)
    pages, words = PageMap(), {}
    for _ in range(300):
        first, count = rng.choice((rng.randrange(6000), 512 * rng.randrange(12))), rng.choice((1, 2, 7, 9, 64, 600))
        place, kind = rng.choice((first, rng.randrange(10000))) * PAGE, rng.choice((0, 0, 0, 1, 12, 15))
        has_data = kind != 15
        pages.note(range(first, first + count), bytes([kind]) * count, range(place, place + count * PAGE, PAGE))
        words.update({first + x: place + x * PAGE if has_data else None for x in range(count)})
    for longest in (1, 5, 64, 10000):
        wanted: list[list[int]] = []
        for pfn, at in sorted(words.items()):
            if at is None:
                continue
            last = wanted[-1] if wanted else [0, 0, 0]
            if (pfn, at) == (last[0] + last[2], last[1] + last[2] * PAGE) and 0 < last[2] < longest:
                last[2] += 1
            else:
                wanted.append([pfn, at, 1])
        assert [list(x) for x in pages.runs(longest)] == wanted
    assert len(wanted) > 30 and max(x[2] for x in wanted) > 512
    assert pages.flags_of(500, 1100) == b"".join(pages.flags(x) for x in range(4))[500:1600]


# The document


def test_the_documents_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hv: StubBackend) -> None:
    """docs/image.md's Python, as it is written, on a guest of the stub named as it names one."""
    save_guest(hv, "pv64", tmp_path / "guest.xcs", holes=0)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)
    assert len(blocks) >= 3
    for block in blocks:
        exec(block, names)
        image = names["image"]
        assert isinstance(image, pyxcsr.MemoryImage)
        image.close()
