"""What Xen refuses of a 32-bit PV guest: of its tables, of its contexts, and with which errno."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Any

import pytest

from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.hypervisor.stub.panel import StubError

from .conftest import Probe
from .test_building import SET_SIZE, domctl

pytestmark = pytest.mark.toolchain

PIN_L1, PIN_L2, PIN_L3, PIN_L4, UNPIN = range(5)
PRESENT, RW, USER, PSE, GLOBAL, NX = 1, 2, 4, 0x80, 0x100, 1 << 63
L1, L2, XENS_L2, L3, DATA, GDT, OTHER_L3, OTHER_L2, NR = range(9)
LAST, XENS_SLOT = 3, 428  # an address space's last L2 table has Xen's slots from here on
EXTENDED_CR3 = 1 << 3  # of vm_assist
CONTEXT = 2800
FLAGS, EFLAGS, LDT, LDT_ENTS = 512, 556, 2632, 2636
GDT_FRAMES, GDT_ENTS, CR1, CR3, VM_ASSIST = 2640, 2704, 2720, 2728, 2796
ONLINE, KERNEL = 1 << 5, 1 << 2


class Narrow:
    """An empty 32-bit domain with a root, two L2 tables and an L1 table that maps a page, and a context for it."""

    def __init__(self, probe: Probe, high: bool = False) -> None:
        self.probe, self.domid = probe, probe.stub.create_empty("4M", 2, kind="pv32")
        assert domctl(probe, SET_SIZE, (self.domid, 0), b"", 32)[0] == 0
        rc, frames = probe.populate(self.domid, range(400))
        assert rc == 0
        above = [x for x in frames if x >= 1 << 20]
        below = [x for x in frames if x < 1 << 20]
        self.mfns = [*below[:L3], *(above if high else below[L3:])[:1], *below[L3 + 1 : NR]]
        for mfn in self.mfns:
            probe.write(self.domid, mfn, bytes(PAGE_SIZE))
        self.set(L1, 3, DATA, PRESENT | RW | USER | NX)
        self.set(L2, 0, L1, PRESENT | RW | USER)
        self.set(L3, 0, L2)
        self.set(L3, LAST, XENS_L2)
        self.any = probe.ffi.new("vcpu_guest_context_any_t *")
        self.context = probe.ffi.buffer(self.any)
        self.word(FLAGS, ONLINE | KERNEL)
        self.word(CR3, self.folded(L3))
        self.word(GDT_ENTS, 100)
        self.word(GDT_FRAMES, self.mfns[GDT])
        self.word(VM_ASSIST, EXTENDED_CR3)

    def set(self, table: int, slot: int, below: int, flags: int = PRESENT) -> None:
        self.put(table, slot, self.mfns[below], flags)

    def put(self, table: int, slot: int, mfn: int, flags: int = PRESENT) -> None:
        self.probe.write(self.domid, self.mfns[table], struct.pack("<Q", mfn << 12 | flags), slot * 8)

    def other_root(self, slot: int, below: int) -> None:
        """A second root, with a last L2 table of its own if that is not what it is made for."""
        self.set(OTHER_L3, LAST, OTHER_L2)
        self.set(OTHER_L3, slot, below)

    def folded(self, table: int) -> int:
        """cr3 as a 32-bit guest has it: a frame number of 32 bits, the upper ones below the lower ones."""
        mfn = self.mfns[table]
        return (mfn << 12 | mfn >> 20) & 0xFFFFFFFF

    def word(self, at: int, value: int) -> None:
        self.context[at : at + 4] = struct.pack("<I", value)

    def op(self, *ops: tuple[int, int]) -> int:
        """0, or the errno, of operations on these frames."""
        done = self.probe.mmuext(self.domid, *((cmd, self.mfns[frame]) for cmd, frame in ops))
        return self.probe.errno if done else 0

    def start(self, vcpu: int = 0) -> int:
        """0, or the errno, of setting the context."""
        done = self.probe.lib.xc_vcpu_setcontext(self.probe.xch, self.domid, vcpu, self.any)
        return self.probe.errno if done else 0

    def types(self) -> list[int]:
        return self.probe.types(self.domid, self.mfns)


# -- tables


def test_a_root_validates_all_below(probe: Probe) -> None:
    n = Narrow(probe)
    n.put(L3, 4, 2**39)  # beyond the four slots nothing is looked at: Xen clears it
    n.put(XENS_L2, XENS_SLOT, 2**39)  # and this one it fills
    assert n.op((PIN_L3, L3)) == 0
    assert n.types() == [1, 2, 2, PageType.L3TAB_PINNED, 0, 0, 0, 0]
    root, last = (struct.unpack("<512Q", page) for page in (read(n, L3), read(n, XENS_L2)))
    assert [i for i in range(512) if root[i]] == [0, LAST]
    assert last[XENS_SLOT] & (PRESENT | PSE) == PRESENT | PSE and not any(last[:XENS_SLOT])
    assert n.op((UNPIN, L3)) == 0 and n.types() == [0] * 8


def read(n: Narrow, table: int) -> bytes:
    address, err = n.probe.map(n.domid, [n.mfns[table]])
    assert err == [0]
    data = bytes(n.probe.ffi.buffer(address, PAGE_SIZE))
    n.probe.unmap(address, 1)
    return data


def test_there_is_no_fourth_level(probe: Probe) -> None:
    """As on Xen the operation does nothing, and says that it succeeded."""
    n = Narrow(probe)
    assert n.op((PIN_L4, L3)) == 0 and n.types() == [0] * 8
    assert n.op((UNPIN, L3)) == errno.EINVAL


TABLES: dict[str, tuple[Callable[[Narrow], Any], list[tuple[int, int]], int]] = {
    "a root without its last entry": (lambda n: n.put(L3, LAST, 0, 0), [(PIN_L3, L3)], errno.EINVAL),
    "a root entry with NX": (lambda n: n.set(L3, 0, L2, PRESENT | NX), [(PIN_L3, L3)], errno.EINVAL),
    "a root's superpage": (lambda n: n.set(L3, 1, DATA, PRESENT | PSE), [(PIN_L3, L3)], errno.EINVAL),
    "a root entry that is an L1": (lambda n: n.set(L3, 1, L1), [(PIN_L3, L3)], errno.EINVAL),
    "a root entry that is the root": (lambda n: n.set(L3, 1, L3), [(PIN_L3, L3)], errno.EINVAL),
    "a global L2 entry": (lambda n: n.set(L2, 1, L1, PRESENT | GLOBAL), [(PIN_L3, L3)], errno.EINVAL),
    "a frame of domain 0 in a root": (lambda n: n.put(L3, 1, 3), [(PIN_L3, L3)], errno.EINVAL),
    "a frame of domain 0 in an L1": (lambda n: n.put(L1, 1, 3), [(PIN_L3, L3)], errno.EBUSY),
    "a frame beyond the machine": (lambda n: n.put(L1, 1, 2**30), [(PIN_L3, L3)], errno.EPERM),
    "a writable entry for the root": (lambda n: n.set(L1, 1, L3, PRESENT | RW), [(PIN_L3, L3)], errno.EBUSY),
    "the last L2 twice in one root": (lambda n: n.set(L3, 1, XENS_L2), [(PIN_L3, L3)], errno.EINVAL),
    "an ordinary L2 as the last": (lambda n: n.set(L3, LAST, L2), [(PIN_L3, L3)], errno.EINVAL),
}


@pytest.mark.parametrize("what", TABLES)
def test_tables_refused(probe: Probe, what: str) -> None:
    prepare, ops, error = TABLES[what]
    n = Narrow(probe)
    prepare(n)
    assert n.op(*ops) == error and n.types() == [0] * 8
    for table, slot in ((L3, 1), (L2, 1), (L1, 1)):
        n.put(table, slot, 0, 0)
    n.set(L3, 0, L2)
    n.set(L3, LAST, XENS_L2)
    assert n.op((PIN_L3, L3)) == 0  # and no reference of the refused one is left


BESIDES: dict[str, tuple[Callable[[Narrow], Any], tuple[int, int], int]] = {
    "another root's last L2": (lambda n: n.set(OTHER_L3, LAST, XENS_L2), (PIN_L3, OTHER_L3), errno.EINVAL),
    "it in another place": (lambda n: n.other_root(0, XENS_L2), (PIN_L3, OTHER_L3), errno.EINVAL),
    "it pinned": (lambda n: None, (PIN_L2, XENS_L2), errno.EINVAL),
    "an L2 with no Xen's slots as the last": (lambda n: n.set(OTHER_L3, LAST, L2), (PIN_L3, OTHER_L3), errno.EINVAL),
    "the root pinned twice": (lambda n: None, (PIN_L3, L3), errno.EINVAL),
    "the root as an L2": (lambda n: None, (PIN_L2, L3), errno.EINVAL),
    "an L2 below two roots": (lambda n: n.other_root(0, L2), (PIN_L3, OTHER_L3), 0),
    "an L2 below a root pinned": (lambda n: None, (PIN_L2, L2), 0),
}


@pytest.mark.parametrize("what", BESIDES)
def test_tables_beside_a_pinned_root(probe: Probe, what: str) -> None:
    prepare, op, error = BESIDES[what]
    n = Narrow(probe)
    assert n.op((PIN_L3, L3)) == 0
    before = n.types()
    prepare(n)
    assert n.op(op) == error
    assert error == 0 or n.types() == before


def test_a_root_beyond_4_gib(probe: Probe) -> None:
    """Refused once it is known that the guest cannot name it in a cr3: with vcpu 0's context comes vm_assist."""
    n = Narrow(probe, high=True)
    assert n.mfns[L3] >= 1 << 20
    assert n.op((PIN_L3, L3), (UNPIN, L3)) == 0
    n.word(VM_ASSIST, 0)
    n.word(CR3, n.folded(OTHER_L3))
    n.set(OTHER_L3, LAST, OTHER_L2)
    assert n.start() == 0
    assert n.op((PIN_L3, L3)) == errno.ERANGE and n.types()[L3] == 0
    extended = Narrow(probe, high=True)
    assert extended.start() == 0 and extended.op((PIN_L3, L3)) == 0


# -- contexts


CONTEXTS: dict[str, tuple[Callable[[Narrow], Any], int]] = {
    "cr3 is domain 0's": (lambda n: n.word(CR3, 3 << 12), errno.EINVAL),
    "cr3 is an L2": (lambda n: n.op((PIN_L2, L2)) or n.word(CR3, n.folded(L2)), errno.EINVAL),
    "cr3 does not validate": (lambda n: n.put(L3, LAST, 0, 0), errno.EINVAL),
    "vm86 mode": (lambda n: n.word(EFLAGS, 1 << 17), errno.EINVAL),
    "vm_assist has a bit that is none": (lambda n: n.word(VM_ASSIST, EXTENDED_CR3 | 1 << 6), errno.EINVAL),
    "too many LDT entries": (lambda n: n.word(LDT_ENTS, 8193), errno.EINVAL),
    "an LDT that begins within a page": (lambda n: n.word(LDT, 0x1008), errno.EINVAL),
    "too many GDT entries": (lambda n: n.word(GDT_ENTS, 7169), errno.EINVAL),
    "a GDT frame that is not its own": (lambda n: n.word(GDT_FRAMES, 3), errno.EINVAL),
    "a GDT frame that is a table": (lambda n: n.op((PIN_L1, GDT)), errno.EINVAL),
    "a GDT frame that its tables map": (lambda n: n.set(L1, 1, GDT, PRESENT | RW), errno.EBUSY),
    "a user's mode, with one root": (lambda n: n.word(FLAGS, ONLINE), 0),
    "cr1, which is not looked at": (lambda n: n.word(CR1, 3 << 12), 0),
}


@pytest.mark.parametrize("what", CONTEXTS)
def test_contexts(probe: Probe, what: str) -> None:
    prepare, error = CONTEXTS[what]
    n = Narrow(probe)
    prepare(n)
    before = n.types()
    assert n.start() == error
    if error:
        assert n.types() == before and probe.info(n.domid).nr_online_vcpus == 0
        address, err = probe.map(n.domid, [n.mfns[DATA]], prot=3)
        assert err == [0]  # nothing holds what had been looked at by then
        probe.unmap(address, 1)


def test_a_context_comes_back_in_the_same_layout(probe: Probe) -> None:
    n = Narrow(probe, high=True)
    assert n.start() == 0
    back = probe.ffi.new("vcpu_guest_context_any_t *")
    assert probe.lib.xc_vcpu_getcontext(probe.xch, n.domid, 0, back) == 0
    n.word(EFLAGS, 0x200)  # Xen has it with interrupts on
    assert bytes(probe.ffi.buffer(back))[:CONTEXT] == bytes(n.context[0:CONTEXT])
    n.word(CR3, n.folded(OTHER_L3))
    assert n.start() == errno.EOPNOTSUPP  # the tables of a vcpu that has a context stay
    assert n.start(2) == errno.EINVAL


def test_vm_assist_is_the_first_vcpus(probe: Probe) -> None:
    n = Narrow(probe)
    assert n.start() == 0
    n.word(VM_ASSIST, 1 << 6)
    assert n.start(1) == 0


# -- guests that cannot be


@pytest.mark.parametrize("place", [0x10000000, 0xC0000000, 0xF5800000, 0xFFFFC90000000000])
def test_where_a_p2m_cannot_be(probe: Probe, place: int) -> None:
    with pytest.raises(StubError, match="cannot be at") as caught:
        probe.guest("pv32", mem="4M", p2m_vaddr=place)
    assert caught.value.errno == errno.EINVAL
