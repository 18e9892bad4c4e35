"""Room that a guest has reserved at its p2m's end for memory it may get later: left out, in a time that is bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from support.judge import judge, save_to
from transfer.test_p2m_changes import at
from transfer.test_p2m_follow import comes_back

import pyxcsr
from guest.pv.test_walk_again import NR_MFNS, PRESENT, VADDR, Machine
from pyxcsr.guest.pv.geometry import WIDE
from pyxcsr.guest.pv.p2m.frame_list import Tree
from pyxcsr.guest.pv.p2m.pagetable import Walk
from pyxcsr.hypervisor.open import StubBackend

NONE = (1 << 64) - 1
EMPTY, TABLE = 9, 10
BITS = (9, 10, 11, *range(52, 60))
"""Of an entry, those that nobody looks at."""


def make(hv: StubBackend, kind: str, **values: str) -> tuple[int, Any]:
    usual = {"mem": "64M", "filled": "no", "writes": "0", "pt_updates": "0"}
    text = ",".join(f"{x}={y}" for x, y in {**usual, **values}.items())
    domid = hv.stub.create(pyxcsr.StubGuest.parse(f"{kind}:{text}"))
    return domid, hv.stub.guest(domid)


@pytest.mark.parametrize(
    "kind, tree, spare, changes",
    [
        ("pv64", "only", "18G", "follow"),
        ("pv64", "only", "18370M", "abort"),
        ("pv64", "no", "18370M", "follow"),
        ("pv32", "only", "18G", "follow"),
        ("pv32", "no", "18372M", "follow"),
    ],
)
def test_room_for_later(hv: StubBackend, tmp_path: Path, kind: str, tree: str, spare: str, changes: str) -> None:
    """Also if of its last table or list the p2m has one page only, which alone would not be a shared one."""
    domid, guest = make(hv, kind, tree=tree, spare_p2m=spare)
    report = save_to(hv, domid, tmp_path / "s", p2m_changes=changes)
    assert max(guest.pfns_with_memory()) < report.nr_pfns <= 1 << 20 < guest.nr_pfns
    judge(hv, domid, tmp_path / "s")
    assert hv.stub.leaks() == {}


def test_a_tree_with_room_comes_back(hv: StubBackend, tmp_path: Path) -> None:
    domid, _ = make(hv, "pv64", tree="only", spare_p2m="3G")
    assert save_to(hv, domid, tmp_path / "s").nr_pfns == 1 << 18
    comes_back(hv, domid, tmp_path / "s")


def test_a_list_of_shared_pages_with_a_frame_in_them_is_no_room(hv: StubBackend, tmp_path: Path) -> None:
    domid, guest = make(hv, "pv64", tree="only", spare_p2m="3G")
    guest.write_page(guest.leaf_pfns()[-1], guest.mfn(9).to_bytes(8, "little"), 8 * 77)
    with pytest.raises(pyxcsr.PageError):  # its frame is that of another pfn: the save has come upon it
        save_to(hv, domid, tmp_path / "s", live=False)


@pytest.mark.parametrize("kind", ["pv64", "pv32"])
def test_memory_that_comes_into_the_room(hv: StubBackend, tmp_path: Path, kind: str) -> None:
    domid, guest = make(hv, kind, tree="only", spare_p2m="18G", max_mem="65M")
    new = guest.nr_pfns // 2

    def grows() -> None:
        guest.balloon_in(new)

    with hv.stub.hook(at("xc_logdirty_control", 1, grows)):
        report = save_to(hv, domid, tmp_path / "s")
    assert new < report.nr_pfns < guest.nr_pfns and report.p2m.appeared == 1
    judge(hv, domid, tmp_path / "s", xen=False)


# -- guests that would have it take long


class Counting(Machine):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.nr_reads = 0

    def read_frames(self, _domid: int, mfns: Any) -> bytes:
        self.nr_reads += 1
        return super().read_frames(_domid, mfns)


def machine_with_room(nr: int, own_tables: bool) -> Counting:
    """A list with memory in its first page, and ``nr`` tables of room behind the first one."""
    machine = Counting()
    machine.pages = {1: [0] * 512}
    machine.put(VADDR, 7)
    top = max(machine.pages)
    for mfn in range(top + 1, EMPTY):
        machine.pages[mfn] = [0] * 512
    machine.pages[EMPTY] = [NONE] * 512
    machine.pages[TABLE] = [EMPTY << 12 | PRESENT] * 512
    first = machine.pages[4]
    first[1:] = [EMPTY << 12 | PRESENT] * 511
    level2, index = machine.pages[3], 1
    for n in range(nr):
        if own_tables:
            machine.pages[1000 + n] = machine.pages[TABLE]
        ignored = sum(1 << bit for i, bit in enumerate(BITS) if n >> i & 1)
        level2[index] = (1000 + n if own_tables else TABLE) << 12 | PRESENT | ignored
        index += 1
    return machine


def test_entries_that_differ_in_what_nobody_looks_at(hv: StubBackend) -> None:
    """One table, however it is named, is looked at once."""
    machine = machine_with_room(511, own_tables=False)
    found = Walk(cast(Any, machine), 1, WIDE, 1 << 20).leaves(1 << 12, VADDR, 512 * 512 * 512)
    assert found.nr_pfns == 512 * 512 and machine.nr_reads < 10


class Enough(Exception):
    pass


def polls_until(nr: int) -> Any:
    left = iter(range(nr))

    def poll() -> None:
        if next(left, None) is None:
            raise Enough

    return poll


def test_whoever_waits_for_a_walk_is_heard() -> None:
    machine = machine_with_room(511, own_tables=True)
    walk = Walk(cast(Any, machine), 1, WIDE, 1 << 20, polls_until(20))
    with pytest.raises(Enough):
        walk.leaves(1 << 12, VADDR, 512 * 512 * 512)
    assert machine.nr_reads <= 20


def test_whoever_waits_for_a_tree_is_heard() -> None:
    machine = Counting()
    machine.pages[1] = list(range(1000, 1512))
    machine.pages[EMPTY] = [NONE] * 512
    for mfn in machine.pages[1]:
        machine.pages[mfn] = [EMPTY] * 512
    whole = Tree(cast(Any, machine), 1, WIDE, 1 << 27, 1, lambda: None).leaves(1, 1 << 27)
    assert whole.nr_pfns == 1 << 18 and NR_MFNS > 1512
    machine.nr_reads = 0
    tree = Tree(cast(Any, machine), 1, WIDE, 1 << 27, 0, polls_until(20))
    with pytest.raises(Enough):
        tree.leaves(1, 1 << 27)
    assert machine.nr_reads <= 20
