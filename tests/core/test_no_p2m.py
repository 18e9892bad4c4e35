"""A save of a guest without a p2m of its own, call by call: pfn == gfn, and Xen alone says where there is a page.

The guest is a PV one whose frames are taken for gfns: Xen's types for frames are then its answer for gfns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend

PV = pyxcsr.StubGuest.pv64(mem="8M", max_mem="16M", holes=0.1, writes=0, pt_updates=0)
PVH = pyxcsr.StubGuest.pvh(mem="8M", writes=0)


class Seen:
    """A guest that does nothing by itself, and a save of all the machine's frames as its gfns."""

    def __init__(self, hv: StubBackend, stack: ExitStack, pvh: bool = False) -> None:
        self.hv = hv
        self.domid = hv.stub.create(PVH if pvh else PV)
        self.guest = hv.stub.guest(self.domid)
        self.nr = hv.nr_gpfns(self.domid) if pvh else hv.nr_mfns()
        self.save = hv.new_save(self.domid, self.nr, None)
        stack.callback(self.save.close)
        out = os.open("/dev/null", os.O_WRONLY)
        stack.callback(os.close, out)
        self.sink = hv.open_sink(out)
        stack.callback(self.sink.close)
        self.save.logdirty_enable()

    @property
    def nr_pages(self) -> int:
        return self.hv.domain_info(self.domid).tot_pages

    def pass_(self, suspended: bool = False) -> Any:
        """All of one pass, added up."""
        self.save.pass_begin(suspended)
        results = []
        while not results or not results[-1].done:
            results.append(self.save.batches(self.sink, lambda: None))
        names = ("nr_pfns", "nr_pages", "nr_holes", "nr_deferred")
        return {x: sum(getattr(r, x) for r in results) for x in names}

    def types_asked(self) -> int:
        return self.hv.stub.calls().get("xc_get_pfn_type_batch", 0)


@pytest.fixture
def seen() -> Iterator[Seen]:
    with pyxcsr.open_hypervisor("stub") as hv, ExitStack() as stack:
        assert isinstance(hv, StubBackend)
        hv.stub.reset(seed=1)
        yield Seen(hv, stack)


def test_a_hole_is_a_hole_and_not_asked_for_again(seen: Seen) -> None:
    seen.save.mark_all()
    pages = seen.nr_pages
    assert seen.pass_() == {"nr_pfns": seen.nr, "nr_pages": pages, "nr_holes": seen.nr - pages, "nr_deferred": 0}
    seen.save.logdirty_clean(False)
    assert seen.save.merge_deferred() == 0
    before = seen.types_asked()
    seen.save.logdirty_clean(True)
    assert seen.save.merge_deferred() == 0
    assert seen.pass_(suspended=True) == {"nr_pfns": 0, "nr_pages": 0, "nr_holes": 0, "nr_deferred": 0}
    assert seen.types_asked() == before


def test_records_keep_whole_runs_of_512(seen: Seen) -> None:
    """A receiver makes 2 MiB pages of them."""
    seen.save.mark_all()
    seen.save.pass_begin(False)
    done = False
    while not done:
        result = seen.save.batches(seen.sink, lambda: None)
        done = result.done
        assert done or result.next_pfn % 1024 == 0


def test_what_came_and_went_is_found(seen: Seen) -> None:
    seen.save.mark_all()
    seen.pass_()
    ordinary = seen.guest.pfns_of_type(pyxcsr.frames.PageType.NOTAB)
    gone = [x for x in ordinary if x > 600][:3]
    present = set(seen.guest.pfns_with_memory())
    seen.guest.balloon_in([x for x in range(seen.guest.nr_pfns) if x not in present][-5:])
    seen.guest.balloon_out(gone)
    seen.save.logdirty_clean(False)
    look = seen.save.look_at_physmap(lambda: None)
    assert (look.appeared, look.vanished) == (5, 3)
    assert seen.save.look_at_physmap(lambda: None)[2:] == (0, 0)
    seen.save.logdirty_clean(False)  # which overwrites what the look marked
    assert seen.save.merge_deferred() == 8
    assert seen.pass_()["nr_holes"] == 3
    seen.save.logdirty_clean(False)
    assert seen.save.merge_deferred() == 5, "which came where the stream had holes: only now are their writes tracked"
    assert seen.pass_()["nr_pages"] == 5
    seen.save.logdirty_clean(False)
    assert seen.save.merge_deferred() == 0
    assert seen.save.look_at_physmap(lambda: None)[2:] == (0, 0)


def test_what_comes_and_goes_counts_once_each_time() -> None:
    """However many looks see it before it is sent: a count that the number of pages does not bear out sends all again.

    Of a guest that gets the gfn back that it gave."""
    with pyxcsr.open_hypervisor("stub") as hv, ExitStack() as stack:
        assert isinstance(hv, StubBackend)
        seen = Seen(hv, stack, pvh=True)
        gfn = [x for x in seen.guest.pfns_of_type(pyxcsr.frames.PageType.NOTAB) if x > 600][:1]
        seen.guest.balloon_out(gfn)
        seen.save.mark_all()
        seen.pass_()

        def look() -> tuple[int, int]:
            found = seen.save.look_at_physmap(lambda: None)
            return found.appeared, found.vanished

        assert look() == (0, 0)
        seen.guest.balloon_in(gfn)
        assert [look(), look(), look()] == [(1, 0), (0, 0), (0, 0)]
        seen.guest.balloon_out(gfn)
        assert [look(), look()] == [(0, 1), (0, 0)]
        seen.guest.balloon_in(gfn)
        assert [look(), look()] == [(1, 0), (0, 0)]
        seen.save.logdirty_clean(False)
        seen.save.merge_deferred()
        assert look() == (0, 0)
        seen.guest.balloon_out(gfn)
        assert seen.pass_()["nr_holes"] == 1
        seen.guest.balloon_in(gfn)
        assert [look(), look()] == [(1, 0), (0, 0)], "what was sent as a hole is new again"
        seen.save.logdirty_clean(False)
        seen.save.merge_deferred()
        seen.pass_()
        assert seen.save.has_data(gfn[0]) and look() == (0, 0)


def test_there_is_nothing_to_follow(seen: Seen) -> None:
    with pytest.raises(pyxcsr.HypervisorError, match="has no p2m of its own that could be followed"):
        seen.save.follow()


def test_what_is_for_guests_without_a_p2m_is_refused_for_one_with(seen: Seen) -> None:
    leaves = [seen.guest.mfn(x) for x in seen.guest.leaf_pfns()]
    p2m = seen.hv.map_p2m(seen.domid, seen.guest.nr_pfns, leaves)
    save = seen.hv.new_save(seen.domid, seen.guest.nr_pfns, p2m)
    try:
        with pytest.raises(pyxcsr.HypervisorError, match="swept instead"):
            save.look_at_physmap(lambda: None)
    finally:
        save.close()
        p2m.close()


def test_the_number_of_pfns(seen: Seen) -> None:
    assert seen.save.nr_pfns == seen.nr
    seen.save.grow(seen.nr + 5)
    assert seen.save.nr_pfns == seen.nr + 5
