"""What a guest's memory looks like: an obvious walker, not the project's own, finds every p2m page."""

from __future__ import annotations

import struct
import time
from typing import Any, Optional

import pytest

from pyxcsr.errors import UsageError
from pyxcsr.frames import INVALID_MFN, PAGE_SIZE, PageType
from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.hypervisor.stub.panel import StubError
from pyxcsr.hypervisor.stub.text import StubGuest

PRESENT, PSE = 1, 0x80
GIB = 1 << 30


def entries(page: bytes) -> tuple[int, ...]:
    return struct.unpack("<512Q", page)


class Machine:
    """Reads a guest's frames by mfn, once each."""

    def __init__(self, hv: Any, guest: StubDomain) -> None:
        self.stub, self.guest = hv.stub, guest
        self.seen: dict[int, tuple[int, ...]] = {}

    def page(self, mfn: int) -> tuple[int, ...]:
        if mfn not in self.seen:
            owner, pfn, _ = self.stub.frame(mfn)
            assert owner == self.guest.domid
            assert pfn is not None
            self.seen[mfn] = entries(self.guest.read_page(pfn))
        return self.seen[mfn]

    def translate(self, cr3: int, vaddr: int) -> Optional[int]:
        """The mfn at an address; checks the type of each table on the way."""
        mfn = cr3 >> 12
        for level in (4, 3, 2, 1):
            assert self.stub.frame(mfn)[2] & 7 == level
            entry = self.page(mfn)[vaddr >> (3 + 9 * level) & 511]
            if not entry & PRESENT:
                return None
            assert level == 1 or not entry & PSE
            mfn = entry >> 12 & ((1 << 40) - 1)
        return mfn


def make(hv: Any, **values: Any) -> tuple[StubDomain, Machine]:
    values.setdefault("writer", "none")
    guest = hv.stub.guest(hv.stub.create(StubGuest.pv64(**values)))
    return guest, Machine(hv, guest)


def check_leaves(guest: StubDomain, machine: Machine, leaf_mfns: list[int]) -> None:
    """The p2m's pages are those the stub says, and hold exactly what it says the guest has."""
    assert [machine.stub.frame(mfn)[1] for mfn in leaf_mfns] == guest.leaf_pfns()
    memory = set(guest.pfns_with_memory())
    nr_pfns = guest.nr_pfns
    assert guest.shared_info("max_pfn") == nr_pfns
    found = 0
    for index, mfn in enumerate(leaf_mfns):
        page = machine.page(mfn)
        if page.count(INVALID_MFN) == 512:
            assert not memory & set(range(index * 512, index * 512 + 512))
            continue
        for offset, entry in enumerate(page):
            pfn = index * 512 + offset
            assert (entry != INVALID_MFN) == (pfn in memory)
            if entry != INVALID_MFN:
                assert entry == guest.mfn(pfn)
                assert machine.stub.frame(entry)[:2] == (guest.domid, pfn)
                found += 1
    assert found == len(memory)


GUESTS: list[dict[str, Any]] = [
    {"mem": "16M"},
    {"mem": "16M", "holes": 0.4, "seed": 1},
    {"mem": "5M", "seed": 2, "p2m_vaddr": 0xFFFFC90000123000},
    {"mem": "1284M", "holes": 0.98, "seed": 3, "p2m_vaddr": 0xFFFFC9003FF80000},  # several L2, L3 entries
    {"mem": "16M", "spare_p2m": "2G", "seed": 4, "p2m_vaddr": 0xFFFFC97FFFFFF000},  # over an L4 entry's edge
    {"mem": "16M", "spare_p2m": "20M", "share_invalid": False, "seed": 5},
    {"mem": "8M", "span": "8G", "seed": 6},
    {"mem": "8M", "span": "8G", "seed": 7, "p2m_vaddr": 0xFFFFC9000007F000},
    {"mem": "16M", "tree": "both", "spare_p2m": "3G", "seed": 8},
]


@pytest.mark.parametrize("values", GUESTS, ids=lambda v: StubGuest.pv64(**v).describe())
def test_page_tables_lead_to_the_p2m(hv: Any, values: dict[str, Any]) -> None:
    guest, machine = make(hv, **values)
    cr3, vaddr = guest.shared_info("p2m_cr3"), guest.shared_info("p2m_vaddr")
    mfns = [machine.translate(cr3, vaddr + i * PAGE_SIZE) for i in range(guest.state().nr_leaves)]
    assert None not in mfns
    check_leaves(guest, machine, [mfn for mfn in mfns if mfn is not None])


@pytest.mark.parametrize("tree", ["both", "only"])
def test_tree_leads_to_the_p2m(hv: Any, tree: str) -> None:
    guest, machine = make(hv, mem="16M", spare_p2m="3G", holes=0.2, tree=tree, seed=9)
    assert (guest.shared_info("p2m_cr3") == 0) == (tree == "only")
    top = machine.page(guest.shared_info("pfn_to_mfn_frame_list_list"))
    count = guest.state().nr_leaves
    mfns = [machine.page(top[i // 512])[i % 512] for i in range(count)]
    check_leaves(guest, machine, mfns)


def test_no_tree_is_said_to_be_invalid(hv: Any) -> None:
    guest, _ = make(hv, mem="4M")
    assert guest.shared_info("pfn_to_mfn_frame_list_list") == INVALID_MFN


@pytest.mark.parametrize("order", [0, 3])
@pytest.mark.parametrize("seed", range(4))
def test_frames_and_pfns(hv: Any, seed: int, order: int) -> None:
    hv.stub.reset(seed=seed, extent_order=order)
    guest, _ = make(hv, mem="8M", holes=0.3, seed=seed)
    pfns = guest.pfns_with_memory()
    mfns = [guest.mfn(pfn) for pfn in pfns]
    assert len(set(mfns)) == len(mfns) == guest.state().tot_pages
    assert 0.55 < len(pfns) / 2048 < 0.85
    assert all(0 < mfn < hv.stub.max_page for mfn in mfns)
    neighbours = sum(a + 1 == b for a, b in zip(mfns, mfns[1:]))
    assert neighbours < len(mfns) / 100 if order == 0 else len(mfns) / 2 < neighbours <= len(mfns) * 7 / 8
    assert sum(int(pfn) == int(mfn) for pfn, mfn in zip(pfns, mfns)) == 0


def test_same_seed_same_machine(hv: Any) -> None:
    def picture(seed: int, guest_seed: int) -> tuple[list[int], bytes]:
        hv.stub.reset(seed=seed)
        guest, _ = make(hv, mem="4M", seed=guest_seed, fixmap=False)
        with_mfns = {*guest.leaf_pfns(), guest.state().start_info_pfn}
        pages = guest.expected_pages([pfn for pfn in range(1024) if pfn not in with_mfns])
        return [guest.mfn(pfn) for pfn in range(1024)], b"".join(pages)

    first = picture(1, 1)
    assert picture(1, 1) == first
    assert picture(2, 1)[0] != first[0]
    assert picture(2, 1)[1] == first[1]  # what a save sees does not depend on the machine
    assert picture(1, 2)[1] != first[1]


def test_extents(hv: Any) -> None:
    hv.stub.reset(extent_order=9)
    guest, _ = make(hv, mem="16M")
    mfns = [guest.mfn(pfn) for pfn in range(4096)]
    assert sum(a + 1 == b for a, b in zip(mfns, mfns[1:])) > 4000
    assert sum(a + 1 != b for a, b in zip(mfns, mfns[1:])) > 3


def test_roots_and_xen_slots(hv: Any) -> None:
    guest, machine = make(hv, mem="4M", vcpus=3)
    assert guest.pfns_of_type(PageType.L4TAB_PINNED) == sorted(
        [guest.state().kernel_root_pfn, guest.state().user_root_pfn]
    )
    kernel = machine.page(guest.mfn(guest.state().kernel_root_pfn))
    for slot in range(256, 272):
        owner, pfn, kind = hv.stub.frame(kernel[slot] >> 12)
        assert (owner, pfn, kind) == (0x7FF2, None, 0xF)
    for vcpu, user in ((0, True), (1, True), (2, False)):
        assert guest.vcpu(vcpu, "cr3") >> 12 == guest.mfn(guest.state().kernel_root_pfn)
        assert guest.vcpu(vcpu, "cr1") == (guest.mfn(guest.state().user_root_pfn) << 12 if user else 0)


def test_direct_map(hv: Any) -> None:
    """Every pfn with memory is mapped where Linux has it; what Xen reads as tables read-only."""
    guest, machine = make(hv, mem="4M", holes=0.2, seed=3)
    cr3 = guest.vcpu(0, "cr3")
    memory = set(guest.pfns_with_memory())
    kinds: dict[int, PageType] = dict(zip(sorted(memory), guest.types(sorted(memory))))
    gdt = guest.vcpu(0, "gdt_frame0")
    for pfn in range(1024):
        vaddr = 0xFFFF888000000000 + pfn * PAGE_SIZE
        assert machine.translate(cr3, vaddr) == (guest.mfn(pfn) if pfn in memory else None)
        if pfn in memory:
            l1 = machine.page(table_at(machine, cr3, vaddr))
            assert bool(l1[pfn & 511] & 2) == (kinds[pfn].level == 0 and guest.mfn(pfn) != gdt)


def table_at(machine: Machine, cr3: int, vaddr: int) -> int:
    """The mfn of the L1 table that translates an address."""
    mfn = cr3 >> 12
    for level in (4, 3, 2):
        mfn = machine.page(mfn)[vaddr >> (3 + 9 * level) & 511] >> 12 & ((1 << 40) - 1)
    return mfn


def test_data_pages_are_distinct(hv: Any) -> None:
    guest, _ = make(hv, mem="8M")
    data = guest.pfns_of_type(PageType.NOTAB)
    special = {guest.state().start_info_pfn, guest.state().store_pfn, guest.state().console_pfn}
    pages = [guest.read_page(pfn) for pfn in data if pfn not in special]
    assert len(set(pages)) > len(pages) - 10
    assert all(pages[0][i : i + 8] not in pages[1] for i in range(0, PAGE_SIZE, 8))


def test_shared_info_belongs_to_the_guest_but_has_no_pfn(hv: Any) -> None:
    guest, machine = make(hv, mem="4M")
    mfn = guest.state().shared_info_mfn
    assert hv.stub.frame(mfn) == (guest.domid, None, 0xF)
    assert machine.translate(guest.vcpu(0, "cr3"), 0xFFFFFFFFFF5FD000) == mfn
    with pytest.raises(StubError) as caught:
        guest.expected_page(fixmap_table(guest, machine))
    assert "not the guest's" in str(caught.value)
    other, machine = make(hv, mem="4M", fixmap=False)
    assert machine.translate(other.vcpu(0, "cr3"), 0xFFFFFFFFFF5FD000) is None


def fixmap_table(guest: StubDomain, machine: Machine) -> int:
    pfn = machine.stub.frame(table_at(machine, guest.vcpu(0, "cr3"), 0xFFFFFFFFFF5FD000))[1]
    assert pfn is not None
    return int(pfn)


def test_expected_tables_hold_pfns(hv: Any) -> None:
    guest, _ = make(hv, mem="4M", fixmap=False)
    kinds = ("L1TAB", "L1TAB_PINNED", "L2TAB", "L3TAB", "L4TAB_PINNED")
    for kind in map(PageType.__getitem__, kinds):
        assert guest.pfns_of_type(kind)
        for table in guest.pfns_of_type(kind):
            raw, cooked = entries(guest.read_page(table)), entries(guest.expected_page(table))
            for slot, (was, now) in enumerate(zip(raw, cooked)):
                if kind.level == 4 and 256 <= slot <= 271:
                    assert now == 0
                elif not was & PRESENT:
                    assert now == was
                else:
                    assert guest.mfn(now >> 12 & ((1 << 40) - 1)) == was >> 12 & ((1 << 40) - 1)
                    assert now & ~0xFFFFFFFFFF000 == was & ~0xFFFFFFFFFF000


def test_superpage_is_refused_by_the_expectation(hv: Any) -> None:
    guest, _ = make(hv, mem="4M", fixmap=False)
    table = guest.pfns_of_type(PageType.L2TAB)[0]
    guest.corrupt_pte(table, 5, guest.mfn(0) << 12 | PRESENT | PSE)
    with pytest.raises(StubError, match="superpage"):
        guest.expected_page(table)


@pytest.mark.alone
def test_sparse_guest_is_built_in_seconds(hv: Any) -> None:
    started = time.monotonic()
    guest, machine = make(hv, mem="32M", span="64G", seed=3)
    assert time.monotonic() - started < 5
    assert guest.nr_pfns == 64 * GIB // PAGE_SIZE
    pfns = guest.pfns_with_memory()
    assert len(pfns) == 8192
    assert pfns[0] == 0
    assert pfns[-1] == guest.nr_pfns - 1
    cr3, vaddr = guest.shared_info("p2m_cr3"), guest.shared_info("p2m_vaddr")
    leaves = guest.leaf_pfns()
    assert len(leaves) == 32768
    assert len(set(leaves)) == 17  # 16 islands of 2 MiB, and the shared page
    for index in (0, 1, 511, 512, 16384, 32766, 32767):
        mfn = machine.translate(cr3, vaddr + index * PAGE_SIZE)
        assert mfn is not None
        assert hv.stub.frame(mfn)[1] == leaves[index]


@pytest.mark.parametrize(
    "values",
    [
        {"mem": "64K"},
        {"mem": "8M", "span": "4M", "max_mem": "4M"},
        {"mem": "4M", "p2m_vaddr": 0xFFFF800000000000},
        {"mem": "4M", "p2m_vaddr": 0x1000},
        {"mem": "4M", "p2m_vaddr": 0xFFFFC90000000800},
        {"mem": "4M", "spare_p2m": "1T", "p2m_vaddr": 0xFFFFFFFFF0000000},
        {"mem": "4M", "spare_p2m": "600G", "tree": "both"},
        {"mem": "4M", "vcpus": 0},
        {"mem": "4M", "vcpus": 65},
        {"mem": "4M", "vcpus": 2, "offline_vcpus": (0,)},
        {"mem": "4M", "vcpus": 2, "offline_vcpus": (2,)},
        {"mem": "4M", "holes": 1.0},
        {"mem": "4M", "msrs": 9},
        {"mem": "4M", "xsave": 100},
        {"mem": "16G"},
        {"mem": "3M", "span": "8M"},
    ],
    ids=str,
)
def test_impossible_guests(hv: Any, values: dict[str, Any]) -> None:
    before = hv.stub.usage()
    with pytest.raises((StubError, UsageError)) as caught:
        hv.stub.create(StubGuest.pv64(**values))
    assert len(str(caught.value)) > 10
    assert hv.stub.domains == []
    assert hv.stub.usage() == before
    hv.stub.create(StubGuest.pv64(mem="4M"))


def test_frames_come_back(hv: Any) -> None:
    """Memory can be had again and again, whole machine by whole machine."""
    hv.stub.reset(frames=8192)
    for _ in range(5):
        domid = hv.stub.create(StubGuest.pv64(mem="24M"))
        with pytest.raises(StubError, match="no free frame"):
            hv.stub.create(StubGuest.pv64(mem="24M"))
        hv.stub.destroy(domid)
