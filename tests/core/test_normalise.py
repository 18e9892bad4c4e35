"""Page tables re-expressed in pfns: the C against a slow and obvious Python version, and what is refused."""

from __future__ import annotations

import errno
import random
from array import array
from pathlib import Path

import pytest
from support.judge import judge, save_to

import pyxcsr
from pyxcsr.frames import PageType
from pyxcsr.guest.pv.geometry import WIDE
from pyxcsr.guest.pv.p2m.map import MappedP2m, map_p2m
from pyxcsr.guest.pv.p2m.shared_info import SharedInfo
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.transfer.save import save

FRAME = 0x000FFFFFFFFFF000
SUPERPAGE = 0x80


class Refused(Exception):
    """An entry that cannot be expressed: errno, slot, mfn."""


def obvious(hv: StubBackend, domid: int, level: int, table: array[int]) -> array[int]:
    """By the stub's own ownership tables, entry by entry."""
    out = array("Q", table)
    for slot, entry in enumerate(table):
        if level == 4 and 256 <= slot <= 271:
            out[slot] = 0
            continue
        if not entry & 1:
            continue
        mfn = (entry & FRAME) >> 12
        if level > 1 and entry & SUPERPAGE:
            raise Refused(errno.E2BIG, slot, mfn)
        owner, pfn, _ = hv.stub.frame(mfn) if mfn < hv.stub.max_page else (None, None, 0)
        if owner != domid or pfn is None:
            raise Refused(errno.EAGAIN, slot, mfn)
        out[slot] = entry & ~FRAME & ((1 << 64) - 1) | pfn << 12
    return out


def random_entry(rng: random.Random, mine: list[int], hv: StubBackend, bad: float) -> int:
    flags = rng.getrandbits(12) & ~SUPERPAGE & ~1 | rng.getrandbits(11) << 52 | rng.getrandbits(1) << 63
    kind = rng.random()
    if kind < bad:
        return rng.choice([hv.stub.max_page, hv.stub.max_page - 1, 3, (1 << 40) - 1]) << 12 | flags | 1
    if kind < 0.3:
        return rng.getrandbits(64) & ~1  # not present: anything at all
    return rng.choice(mine) << 12 | flags | 1


def check(hv: StubBackend, domid: int, mapped: MappedP2m, level: int, table: array[int]) -> bool:
    """Whether it was refused; in both ways, as the obvious one does."""
    ffi, lib = hv._ffi, hv._lib
    wanted, no = table, None
    try:
        wanted = obvious(hv, domid, level, table)
    except Refused as refused:
        no = refused
    for one_by_one in (False, True):
        copy, slot, mfn = array("Q", table), ffi.new("uint32_t *"), ffi.new("uint64_t *")
        into = ffi.from_buffer("uint64_t[]", copy)
        rc = lib.xcsr_normalise(mapped.handle._cdata, level, one_by_one, into, slot, mfn)
        assert (-rc, slot[0], mfn[0]) == no.args if no else (rc, copy) == (0, wanted)
    return no is not None


def in_runs(rng: random.Random, p2m: list[int]) -> array[int]:
    """A table that maps pfns in a row, over and over from elsewhere; some frames are in a row, too."""
    table: list[int] = []
    while len(table) < 512:
        nr, first = rng.choice([1, 16, 31, 32, 33, 64, 200]), rng.randrange(len(p2m))
        flags = rng.getrandbits(12) & ~SUPERPAGE | 1 | rng.getrandbits(11) << 52
        table += [x << 12 | flags for x in p2m[first : first + nr]]
    return array("Q", table[:512])


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_rows_against_the_obvious(hv: StubBackend, level: int, seed: int) -> None:
    """One entry of a row is another one's, not present, a superpage, or names a frame that is not the guest's. Or all
    of a row are another guest's, which has them for pfns that this one has, too; or lie across the machine's end.
    """
    rng = random.Random(seed * 10 + level)
    hv.stub.reset(seed=seed, extent_order=7)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", seed=seed))
    guest, info = hv.stub.guest(domid), hv.domain_info(domid)
    shared = SharedInfo(hv, domid, info.shared_info_mfn, WIDE)
    mapped = map_p2m(hv, info, shared, lambda: None)
    p2m = [guest.mfn(x) for x in guest.pfns_with_memory()]
    other = hv.stub.guest(hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", seed=seed)))
    rows = [range(x, x + 32) for x in (other.mfn(256), hv.stub.max_page - 16, (1 << 40) - 32)]
    bad = [0, 3 << 12 | 1, hv.stub.max_page << 12 | 1]
    refused = 0
    for _ in range(20):
        table = in_runs(rng, p2m)
        refused += check(hv, domid, mapped, level, table)
        for entry in (*bad, rng.choice(table), rng.choice(p2m) << 12 | 1):
            changed = table[:]
            changed[rng.randrange(512)] = entry
            refused += check(hv, domid, mapped, level, changed)
        for flag in (SUPERPAGE, 1):
            changed = table[:]
            changed[rng.randrange(512)] ^= flag
            refused += check(hv, domid, mapped, level, changed)
        for row in rows:
            changed, at = table[:], rng.randrange(512 // 32) * 32
            changed[at : at + 32] = array("Q", [x << 12 | 0x67 for x in row])
            refused += check(hv, domid, mapped, level, changed)
    assert refused > 20
    mapped.handle.close()
    shared.close()


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_against_the_obvious(hv: StubBackend, level: int, seed: int) -> None:
    rng = random.Random(seed * 10 + level)
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", seed=seed, holes=0.1))
    guest = hv.stub.guest(domid)
    info = hv.domain_info(domid)
    shared = SharedInfo(hv, domid, info.shared_info_mfn, WIDE)
    mapped = map_p2m(hv, info, shared, lambda: None)
    mine = [guest.mfn(x) for x in guest.pfns_with_memory()]
    refused = 0
    for bad in (0.0, 0.0, 0.001, 0.01):
        for density in (0.0, 0.02, 1.0):
            table = array("Q", (random_entry(rng, mine, hv, bad) if rng.random() < density else 0 for _ in range(512)))
            if bad == 0.01 and density == 1.0:
                table[rng.randrange(512)] |= SUPERPAGE | 1
            refused += check(hv, domid, mapped, level, table)
    assert refused or level == 4
    mapped.handle.close()
    shared.close()


def fail_at_the_end(hv: StubBackend, table: int, slot: int, value: int, live: bool) -> pyxcsr.PageTableError:
    """A table gets a bad entry just before the guest suspends, and keeps it."""
    domid = 1
    guest = hv.stub.guest(domid)

    def corrupt(name: str, count: int) -> None:
        if name == "xs_write" and not seen:
            seen.append(count)
            guest.corrupt_pte(table, slot, value)

    seen: list[int] = []
    with hv.stub.hook(corrupt), open("/dev/null", "wb") as out, pytest.raises(pyxcsr.PageTableError) as caught:
        save(hv, domid, out, live=live)
    assert guest.running and not guest.state().logdirty
    return caught.value


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
def test_a_bad_entry_of_a_suspended_guest_is_named(hv: StubBackend, live: bool) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=0, pt_updates=0, fixmap=False))
    assert domid == 1
    table = hv.stub.guest(domid).pfns_of_type(PageType.L1TAB)[1]
    error = fail_at_the_end(hv, table, 17, 0x67 | 5 << 12, live)
    assert (error.level, error.index, error.pfn, error.mfn) == (1, 17, table, 5)
    for text in ("level 1", "17", f"{table:#x}", "0x5"):
        assert text in str(error)


def test_a_superpage_is_refused_at_once(hv: StubBackend) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=0, pt_updates=0))
    guest = hv.stub.guest(domid)
    table = guest.pfns_of_type(PageType.L2TAB)[0]
    guest.corrupt_pte(table, 100, 0xE7 | guest.mfn(50) << 12)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.PageTableError, match="superpage") as caught:
        save(hv, domid, out)
    assert (caught.value.level, caught.value.index, caught.value.pfn) == (2, 100, table)
    assert guest.running


def test_a_bad_entry_that_stays_is_not_dropped_silently(hv: StubBackend) -> None:
    """libxenguest sends such a table as having no data, and succeeds; here the save fails, and says where."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=0, pt_updates=0, fixmap=False))
    guest = hv.stub.guest(domid)
    table = guest.pfns_of_type(PageType.L1TAB)[0]
    guest.corrupt_pte(table, 9, 0x67 | 5 << 12)
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.PageTableError):
        save(hv, domid, out)
    assert guest.running


# -- vcpu state


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("cr3", 5 << 12, "ctrlreg[3]"),
        ("cr3", (1 << 63), "ctrlreg[3]"),
        ("cr1", 5 << 12, "ctrlreg[1]"),
        ("gdt_ents", 7169, "gdt_ents"),
        ("gdt_ents", (1 << 64) - 1, "gdt_ents"),
        ("gdt_frame0", 5, "gdt_frames[0]"),
        ("rdx", 5, "start_info"),
    ],
)
def test_vcpu_state_that_lies(hv: StubBackend, field: str, value: int, named: str) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    guest = hv.stub.guest(domid)

    def poke(name: str, count: int) -> None:
        if name == "xc_domain_get_tsc_info":
            guest.poke_vcpu(0, field, value)

    with hv.stub.hook(poke), open("/dev/null", "wb") as out, pytest.raises(pyxcsr.GuestStateError) as caught:
        save(hv, domid, out)
    assert named in caught.value.field and "vcpu0" in str(caught.value)
    assert guest.running


def test_no_user_page_table(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M"))
    hv.stub.guest(domid).poke_vcpu(0, "cr1", 0)
    save_to(hv, domid, tmp_path / "s")
    judge(hv, domid, tmp_path / "s")
