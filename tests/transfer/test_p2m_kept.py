"""Frames that the p2m does not name any more, although a page table that was sent does: the guest has given them back,
or has kept them. In the first case the table has changed, too; in the second no receiver could take what was sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.judge import judge, looks_complete, save_to
from support.ordinary import ordinary_pages

import pyxcsr
from pyxcsr.errors import PageTableError
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.open import StubBackend
from transfer.test_p2m_changes import at
from transfer.test_p2m_follow import comes_back, entries_of

NONE = (1 << 64) - 1
BITMAP = "xc_logdirty_control"
PASSES = pyxcsr.SimplePolicy(max_iterations=4, target_dirty=0)
WIDTHS = pytest.mark.parametrize("kind", ["pv64", "pv32"])


class Quiet:
    """A guest that does nothing by itself; the third bitmap is fetched when each table was sent two bitmaps ago."""

    def __init__(self, hv: StubBackend, kind: str, path: Path) -> None:
        self.hv, self.path = hv, path
        quiet = "mem=16M,max_mem=64M,writes=0,pt_updates=0,holes=0.1"
        self.domid = hv.stub.create(pyxcsr.StubGuest.parse(f"{kind}:{quiet}"))
        self.guest = hv.stub.guest(self.domid)
        data = set(ordinary_pages(self.guest))
        self.tables = [x for kind in ("L1TAB", "L1TAB_PINNED") for x in self.guest.pfns_of_type(PageType[kind])]
        self._named_by = {table: self._named(table) for table in self.tables}
        self.mapped = sorted(data & set().union(*self._named_by.values()))
        self.hole = next(x for x in range(4000, 0, -1) if x not in set(self.guest.pfns_with_memory()))

    def _named(self, table: int) -> set[Any]:
        words = memoryview(self.guest.read_page(table)).cast("Q")
        frames = (self.hv.stub.frame(word >> 12 & ((1 << 40) - 1)) for word in words if word & 1)
        return {pfn for owner, pfn, _ in frames if owner == self.domid}

    def far_pfn(self) -> int:
        """One that is mapped, by tables that no change of its entry in the p2m, or of the hole's, has sent again."""
        leaves = {pfn: {t // 1024 for t, named in self._named_by.items() if pfn in named} for pfn in self.mapped}
        elsewhere = (x for x in self.mapped if x // 512 != self.hole // 512)
        return next(x for x in elsewhere if not leaves[x] & {x // 1024, self.hole // 1024})

    def unmaps(self, pfn: int) -> None:
        """No table names it any more."""
        mfn = self.guest.mfn(pfn)
        for table in self.tables:
            words = memoryview(self.guest.read_page(table)).cast("Q")
            for slot in (i for i, word in enumerate(words) if word & 1 and word >> 12 & ((1 << 40) - 1) == mfn):
                self.guest.corrupt_pte(table, slot, 0)

    def hides(self, pfn: int) -> int:
        """The frame that it keeps."""
        mfn = int(self.guest.mfn(pfn))
        self.guest.corrupt_p2m(pfn, NONE)
        return mfn

    def save(self, bitmap: int, act: Callable[[], object], **options: Any) -> Any:
        with self.hv.stub.hook(at(BITMAP, bitmap, lambda: act() and None)):
            return save_to(self.hv, self.domid, self.path, policy=PASSES, p2m_changes="follow", **options)

    def is_refused(self, bitmap: int, act: Callable[[], object], mfn: int) -> PageTableError:
        """The save ends, the table is named, and the guest runs as before."""
        with pytest.raises(PageTableError, match="names a frame that is not the guest's") as raised:
            self.save(bitmap, act)
        assert raised.value.mfn == mfn and raised.value.pfn in self.tables
        state = self.guest.state()
        assert state.running and not state.logdirty and not looks_complete(self.path)
        assert self.hv.stub.leaks() == {}
        return raised.value


@pytest.fixture
def quiet(hv: StubBackend, kind: str, tmp_path: Path) -> Quiet:
    return Quiet(hv, kind, tmp_path / "s")


@WIDTHS
@pytest.mark.parametrize("bitmap", [1, 2, 3])
@pytest.mark.parametrize("m2p", ["told", "silent"])
def test_one_that_is_kept_and_named(quiet: Quiet, bitmap: int, m2p: str) -> None:
    pfn = quiet.far_pfn()
    mfn = quiet.guest.mfn(pfn)

    def act() -> None:
        quiet.hides(pfn)
        if m2p == "silent":
            quiet.hv.stub.set_m2p(mfn, NONE)

    quiet.is_refused(bitmap, act, mfn)
    quiet.hv.stub.set_m2p(mfn, pfn)
    quiet.guest.corrupt_p2m(pfn, mfn)
    save_to(quiet.hv, quiet.domid, quiet.path)
    judge(quiet.hv, quiet.domid, quiet.path)


@WIDTHS
def test_another_frame_in_its_place(quiet: Quiet) -> None:
    """The pfn has a page, which is sent, and the stream's table would name that one."""
    pfn = quiet.far_pfn()
    mfn = quiet.guest.mfn(pfn)

    def act() -> None:
        quiet.guest.balloon_in(quiet.hole)
        other = quiet.hides(quiet.hole)
        quiet.guest.corrupt_p2m(pfn, other)
        quiet.hv.stub.set_m2p(other, pfn)

    quiet.is_refused(2, act, mfn)


@WIDTHS
@pytest.mark.parametrize("bitmap", [2, 3])
def test_one_that_is_kept_and_that_no_table_names(quiet: Quiet, bitmap: int) -> None:
    """The guest has no pfn for it, and need not have: it is saved, and what comes back lacks that frame alone."""
    pfn = quiet.mapped[-1]
    quiet.unmaps(pfn)
    report = quiet.save(bitmap, lambda: quiet.hides(pfn))
    assert entries_of(quiet.path, pfn)[-1] == PageType.XTAB
    assert report.p2m.tables >= len(quiet.tables), "the tables were not looked at again"
    new = quiet.hv.stub.create_empty("64M", vcpus=1)
    with open(quiet.path, "rb") as stream:
        pyxcsr.restore(quiet.hv, new, stream, store_evtchn=1, console_evtchn=2)
    assert pfn not in quiet.hv.stub.guest(new).pfns_with_memory()


@WIDTHS
@pytest.mark.parametrize("bitmap", [2, 3])
def test_one_that_went_back(quiet: Quiet, bitmap: int) -> None:
    """Another guest has it, with the same pfn. No table but those that the guest wrote is sent again."""
    pfn = quiet.mapped[-1]
    mfn = quiet.guest.mfn(pfn)
    owners = []

    def act() -> None:
        quiet.guest.balloon_out(pfn)
        quiet.hv.stub.create(pyxcsr.StubGuest.parse("pv64:mem=2M,writer=none"))
        owners.append(quiet.hv.stub.frame(mfn)[0])
        quiet.hv.stub.set_m2p(mfn, pfn)

    report = quiet.save(bitmap, act)
    assert owners[0] != quiet.domid
    assert report.p2m.vanished == 1 and report.p2m.tables < len(quiet.tables) // 2
    judge(quiet.hv, quiet.domid, quiet.path)
    comes_back(quiet.hv, quiet.domid, quiet.path)
