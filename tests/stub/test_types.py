"""Page-table types: what pinning accepts, what it refuses as Xen does, and that references are counted."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator

import pytest

from pyxcsr.frames import PageType

from .conftest import Probe

pytestmark = pytest.mark.toolchain

PIN_L1, PIN_L2, PIN_L3, PIN_L4, UNPIN = range(5)
PRESENT, RW, USER, PWT, PSE, GLOBAL, NX = 1, 2, 4, 8, 0x80, 0x100, 1 << 63
L1, L2, L3, L4, DATA, MORE, OTHER_L1 = range(7)


class Tables:
    """An empty domain with seven frames; the first four are a chain of tables, L4 to L1, to a data page."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.domid = probe.stub.create_empty("4M", 2)
        rc, self.mfns = probe.populate(self.domid, range(7))
        assert rc == 0
        for frame in range(7):
            probe.write(self.domid, self.mfns[frame], bytes(4096))
        self.set(L1, 3, self.mfns[DATA], PRESENT | RW | USER | NX)
        for table, below in ((L2, L1), (L3, L2), (L4, L3)):
            self.set(table, 0, self.mfns[below], PRESENT | RW | USER)

    def set(self, table: int, slot: int, mfn: int, flags: int = PRESENT) -> None:
        self.probe.write(self.domid, self.mfns[table], struct.pack("<Q", mfn << 12 | flags), slot * 8)

    def types(self) -> list[int]:
        return self.probe.types(self.domid, self.mfns)

    def op(self, *ops: tuple[int, int]) -> int:
        """0, or the errno, of operations on these frames."""
        done = self.probe.mmuext(self.domid, *((cmd, self.mfns[frame]) for cmd, frame in ops))
        return self.probe.errno if done else 0

    def map_writable(self, frame: int) -> int:
        address, err = self.probe.map(self.domid, [self.mfns[frame]], prot=3)
        self.probe.unmap(address, 1)
        return -err[0]


@pytest.fixture
def tables(probe: Probe) -> Iterator[Tables]:
    yield Tables(probe)


def test_a_pin_validates_all_below(tables: Tables) -> None:
    tables.set(L4, 256, 5, PRESENT | PSE)  # Xen's slots are not looked at, but filled
    tables.set(L4, 271, 2**39, PRESENT)
    tables.set(L1, 7, 2**39, PSE)  # neither is what is not present
    assert tables.op((PIN_L4, L4)) == 0
    assert tables.types() == [1, 2, 3, PageType.L4TAB_PINNED, 0, 0, 0]
    page = tables.probe.stub.guest(tables.domid).read_page(3)
    entries = struct.unpack("<512Q", page)
    assert [i for i in range(512) if entries[i]] == [0, *range(256, 272)]
    for slot in range(256, 272):
        assert tables.probe.stub.frame(entries[slot] >> 12)[0] == 0x7FF2
    for frame in (L1, L2, L3, L4):
        assert tables.map_writable(frame) == errno.EINVAL
    assert tables.map_writable(DATA) == 0
    assert tables.op((UNPIN, L4)) == 0
    assert tables.types() == [0] * 7
    assert tables.map_writable(L1) == 0


def test_every_reference_counts(tables: Tables) -> None:
    tables.set(L3, 9, tables.mfns[L2])  # twice in one table
    assert tables.op((PIN_L4, L4), (PIN_L1, L1), (PIN_L2, L2)) == 0
    assert tables.types()[:4] == [9, 10, 3, 12]
    assert tables.op((UNPIN, L4)) == 0
    assert tables.types()[:4] == [9, 10, 0, 0]
    assert tables.op((UNPIN, L1)) == 0
    assert tables.types()[:4] == [1, 10, 0, 0]
    assert tables.op((UNPIN, L2)) == 0
    assert tables.types() == [0] * 7


def test_each_level_alone(tables: Tables) -> None:
    for frame in (L1, L2, L3, L4):
        assert tables.op((frame, frame)) == 0
        assert tables.types()[frame] == 8 + frame + 1
        assert tables.op((UNPIN, frame)) == 0


REFUSED: dict[str, tuple[Callable[[Tables], None], tuple[int, int], int]] = {
    "an L3 that refers to an L1": (lambda t: t.set(L3, 1, t.mfns[L1]), (PIN_L3, L3), errno.EINVAL),
    "an L4 that refers to itself": (lambda t: t.set(L4, 5, t.mfns[L4]), (PIN_L4, L4), errno.EINVAL),
    "a writable entry for the L1 itself": (lambda t: t.set(L1, 9, t.mfns[L1], 3), (PIN_L1, L1), errno.EBUSY),
    "a writable entry for a table above": (lambda t: t.set(L1, 9, t.mfns[L4], 3), (PIN_L4, L4), errno.EBUSY),
    "a superpage": (lambda t: t.set(L2, 1, t.mfns[DATA], PRESENT | PSE), (PIN_L4, L4), errno.EINVAL),
    "a global L2 entry": (lambda t: t.set(L2, 1, t.mfns[OTHER_L1], PRESENT | GLOBAL), (PIN_L2, L2), errno.EINVAL),
    "a write-through L1 entry": (lambda t: t.set(L1, 1, t.mfns[DATA], PRESENT | PWT), (PIN_L1, L1), errno.EINVAL),
    "a frame of domain 0 in an L1": (lambda t: t.set(L1, 1, 3), (PIN_L1, L1), errno.EBUSY),
    "a frame of domain 0 in an L2": (lambda t: t.set(L2, 1, 3), (PIN_L2, L2), errno.EINVAL),
    "a frame beyond the machine": (lambda t: t.set(L1, 1, 2**30), (PIN_L4, L4), errno.EPERM),
    "a table beyond the machine": (lambda t: t.set(L3, 1, 2**30), (PIN_L4, L4), errno.EINVAL),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(tables: Tables, what: str) -> None:
    prepare, op, error = REFUSED[what]
    prepare(tables)
    assert tables.op(op) == error
    assert tables.types() == [0] * 7
    for table in (L1, L2, L3, L4):
        for slot in (1, 5, 9):
            tables.set(table, slot, 0, 0)
    assert tables.op((PIN_L4, L4)) == 0  # and no reference of the refused one is left
    assert tables.op((UNPIN, L4)) == 0
    assert all(tables.map_writable(frame) == 0 for frame in range(7))


def test_of_another_level(tables: Tables) -> None:
    assert tables.op((PIN_L1, L1)) == 0
    for cmd in (PIN_L2, PIN_L3, PIN_L4):
        assert tables.op((cmd, L1)) == errno.EINVAL
    assert tables.op((PIN_L1, L2)) == errno.EBUSY  # as an L1 it would map the L1 table writable
    assert tables.types() == [9, 0, 0, 0, 0, 0, 0]


def test_log_text(tables: Tables) -> None:
    tables.set(L3, 1, tables.mfns[L1])
    assert tables.op((PIN_L3, L3)) == errno.EINVAL
    text = tables.probe.ffi.string(tables.probe.lib.probe_message()).decode()
    assert text == "xc_mmuext_op failed (22 = Invalid argument): Internal error"


def test_writable_or_a_table(tables: Tables) -> None:
    """Not both, whichever was first, and whoever has it mapped writable."""
    tables.set(OTHER_L1, 0, tables.mfns[MORE], PRESENT | RW)
    assert tables.op((PIN_L1, OTHER_L1)) == 0
    assert tables.op((PIN_L2, MORE)) == errno.EINVAL
    assert tables.op((UNPIN, OTHER_L1), (PIN_L2, MORE)) == 0
    assert tables.op((PIN_L1, OTHER_L1)) == errno.EBUSY
    address, err = tables.probe.map(tables.domid, [tables.mfns[L1], tables.mfns[MORE]], prot=3)
    assert err == [0, -errno.EINVAL]
    assert tables.op((PIN_L4, L4)) == errno.EINVAL
    tables.probe.unmap(address, 2)
    assert tables.op((PIN_L4, L4)) == 0
    address, err = tables.probe.map(tables.domid, tables.mfns, prot=1)
    assert not any(err)
    tables.probe.unmap(address, 7)


def test_shared_info_in_tables(tables: Tables) -> None:
    shared = tables.probe.stub.guest(tables.domid).state().shared_info_mfn
    tables.set(L1, 1, shared, PRESENT | RW)
    assert tables.op((PIN_L4, L4)) == 0
    assert tables.probe.mmuext(tables.domid, (PIN_L1, shared)) == -1
    assert tables.probe.errno == errno.EINVAL


def test_operations_in_order(tables: Tables) -> None:
    """What was done before the first that fails stays done; nothing after it is."""
    assert tables.op((PIN_L1, L1), (PIN_L1, L1), (PIN_L2, L2)) == errno.EINVAL
    assert tables.types()[:2] == [9, 0]
    assert tables.op((UNPIN, L2)) == errno.EINVAL
    assert tables.op((PIN_L2, L2), (UNPIN, L1), (7, L1), (UNPIN, L2)) == errno.EOPNOTSUPP
    assert tables.types()[:2] == [1, 10]


def test_whose_frames(tables: Tables, probe: Probe) -> None:
    other = probe.guest(mem="4M")
    table = other.mfn(other.pfns_of_type(PageType.L1TAB)[0])
    for mfn in (table, 3, probe.stub.max_page, 2**50):
        for cmd in (PIN_L1, UNPIN):
            assert probe.mmuext(tables.domid, (cmd, mfn)) == -1
            assert probe.errno == errno.EINVAL
    assert probe.mmuext(99, (PIN_L1, table)) == -1
    assert probe.errno == errno.ESRCH


def test_a_batch(probe: Probe) -> None:
    domid = probe.stub.create_empty("8M")
    rc, mfns = probe.populate(domid, range(1024))
    assert rc == 0
    for mfn in mfns:
        probe.write(domid, mfn, bytes(4096))
    assert probe.mmuext(domid, *((PIN_L1, mfn) for mfn in mfns)) == 0
    assert probe.types(domid, mfns) == [9] * 1024
    probe.stub.destroy(domid)


def test_log_dirty_sees_types_change(tables: Tables, probe: Probe) -> None:
    assert probe.lib.xc_shadow_control(probe.xch, tables.domid, 2, probe.ffi.NULL, 0) == 0
    assert tables.op((PIN_L4, L4)) == 0
    assert probe.stub.guest(tables.domid).state().dirty == 4


def test_a_guest_that_runs(probe: Probe) -> None:
    """Its own kernel changes tables without asking: references are found in its tables."""
    guest = probe.guest(writer="calls", pt_updates=5, fixmap=False)
    guest.tick(300)
    guest.shut_down(2)
    linked = guest.pfns_of_type(PageType.L1TAB_PINNED)[0]
    assert probe.mmuext(guest.domid, (UNPIN, guest.mfn(linked))) == 0
    assert guest.types([linked]) == [PageType.L1TAB]  # an L2 table refers to it
    root = guest.state().kernel_root_pfn
    assert probe.mmuext(guest.domid, (UNPIN, guest.mfn(root))) == 0
    assert guest.types([root]) == [PageType.L4TAB]  # vcpus run on it
    assert probe.mmuext(guest.domid, (PIN_L4, guest.mfn(root)), (PIN_L1, guest.mfn(linked))) == 0
    assert guest.types([root, linked]) == [PageType.L4TAB_PINNED, PageType.L1TAB_PINNED]
    gdt = guest.vcpu(0, "gdt_frame0")
    assert probe.mmuext(guest.domid, (PIN_L1, gdt)) == -1
    assert probe.map(guest.domid, [gdt], prot=3, per_page=False)[0] == probe.ffi.NULL
    assert probe.errno == errno.EINVAL


def test_entries_written_behind_its_back(tables: Tables) -> None:
    """Raw entries are what a broken guest has: references are those that its tables hold then."""
    assert tables.op((PIN_L4, L4), (PIN_L1, OTHER_L1)) == 0
    guest = tables.probe.stub.guest(tables.domid)
    guest.corrupt_pte(L1, 3, 0)
    guest.corrupt_pte(OTHER_L1, 0, tables.mfns[DATA] << 12 | PRESENT | RW)
    assert tables.op((UNPIN, L4)) == 0
    assert tables.op((PIN_L1, DATA)) == errno.EINVAL  # writable in the other L1 table
    assert tables.op((UNPIN, OTHER_L1), (PIN_L1, DATA)) == 0
