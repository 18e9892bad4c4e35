"""The sweep over a p2m that is followed, call by call: what one look at it must find."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any, Optional

import pytest
from support.ordinary import ordinary_pages

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.panel import StubError


class Swept:
    """A guest that writes nothing by itself, all of it sent once; the p2m's pages were not written since."""

    def __init__(self, hv: StubBackend, stack: ExitStack) -> None:
        self.hv = hv
        self.domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", max_mem="64M", writes=0, pt_updates=0))
        self.guest = hv.stub.guest(self.domid)
        self.p2m = self.map(self.guest.nr_pfns)
        self.save = hv.new_save(self.domid, self.guest.nr_pfns, self.p2m)
        stack.callback(self.p2m.close)
        stack.callback(self.save.close)  # first: it refers to the p2m
        out = os.open("/dev/null", os.O_WRONLY)
        stack.callback(os.close, out)
        self.sink = hv.open_sink(out)
        stack.callback(self.sink.close)
        self.save.follow()
        self.save.logdirty_enable()
        stack.callback(self.save.logdirty_disable)
        self.save.mark_all()
        self.pass_()
        self.look()

    def map(self, nr_pfns: int) -> Any:
        """The p2m as it is now, mapped anew."""
        mapped = self.hv.map_p2m(self.domid, nr_pfns, [self.guest.mfn(x) for x in self.guest.leaf_pfns()])
        mapped.leaf_pfns()
        return mapped

    def use(self, nr_pfns: int) -> None:
        """From now on the p2m is what it is now, of ``nr_pfns``."""
        other = self.map(nr_pfns)
        self.p2m.swap(other)
        other.close()

    def pass_(self) -> None:
        self.save.pass_begin(False)
        while not self.save.batches(self.sink, lambda: None).done:
            pass

    def look(self) -> Any:
        """What is found where the bitmap, fetched now, says that the p2m was written."""
        self.save.logdirty_clean(False)
        return self.save.sweep(final=True)


@pytest.fixture
def swept(hv: StubBackend) -> Iterator[Swept]:
    with ExitStack() as stack:
        yield Swept(hv, stack)


def asked(swept: Swept) -> int:
    """How often Xen was asked whose frames are, or whether pages of the p2m are page tables by now."""
    return int(swept.hv.stub.calls().get("xc_get_pfn_type_batch", 0))


def test_nothing_was_written(swept: Swept) -> None:
    before = asked(swept)
    found = swept.look()
    assert (found.pages_written, found.pfns, found.marked) == (0, 0, 0)
    assert asked(swept) == before


def test_xen_is_asked_of_frames_that_no_pfn_has_and_of_no_others(swept: Swept) -> None:
    """Many at a time, and once: a frame that went back to Xen is forgotten. Written pages of the p2m take one call."""
    swept.guest.replace_leaf(1)
    swept.use(swept.guest.nr_pfns)
    pages = of_no_use(swept.guest)[:600]
    before = asked(swept)
    assert swept.look().returned and asked(swept) == before + 1
    swept.guest.balloon_out(pages)
    assert swept.look().vanished == 600 and asked(swept) == before + 1 + 1 + 2
    assert swept.look().pages_written == 0 and asked(swept) == before + 4


def test_another_page_that_says_the_same(swept: Swept) -> None:
    """Its entries may have gone and come back while it was prepared: all that it names is sent again."""
    swept.guest.replace_leaf(1)
    swept.look()  # the page was written before this bitmap; nothing says so afterwards
    assert swept.look().pages_written == 0
    swept.use(swept.guest.nr_pfns)
    found = swept.look()
    assert (found.pages_written, found.returned) == (1, 512)


def test_a_page_in_use_further_on(swept: Swept) -> None:
    """A p2m that is cut off within its last page, and later is not: nobody wrote the page, yet it says more."""
    whole = swept.guest.nr_pfns
    swept.use(whole - 5)
    assert swept.look().vanished == 5
    swept.pass_()
    swept.look()  # the guest has kept the five frames, and tables may name them: these are sent once more
    assert swept.look().marked == 0
    swept.use(whole)
    assert swept.look().appeared == 5


def of_no_use(guest: Any) -> list[int]:
    """The pfns whose memory the guest's kernel can give away. It gets the same back."""
    free = []
    for pfn in ordinary_pages(guest):
        mfn = guest.mfn(pfn)
        with suppress(StubError):
            guest.balloon_out(pfn)
            guest.balloon_in(pfn, mfn)
            free.append(pfn)
    return free


def restless(guest: Any, pages: list[int], rng: random.Random) -> None:
    """A few pages go, come, and get other frames; sometimes a page of the p2m's worth of them goes."""
    some = rng.sample(pages, 12)
    if rng.random() < 0.3:
        some += [x for x in pages if x // 512 == some[0] // 512]
    here = set(guest.pfns_with_memory())
    out = here.intersection(some)
    guest.balloon_out(sorted(out))
    missing = sorted(set(pages) - here | out)
    if rng.random() < 0.7:
        guest.balloon_in(rng.sample(missing, len(missing) // 3))


def frames_of(swept: Swept) -> list[Optional[int]]:
    entries = (swept.p2m.entry(x) for x in range(swept.guest.nr_pfns))
    return [x if x < swept.hv.nr_mfns() else None for x in entries]


@pytest.mark.parametrize("order", [0, 9])
def test_like_a_list_of_what_was_sent(hv: StubBackend, order: int) -> None:
    """Frames in a row and nothing but holes are remembered as such, anything else one by one: nobody can tell."""
    hv.stub.reset(extent_order=order)
    rng = random.Random(order)
    with ExitStack() as stack:
        swept = Swept(hv, stack)
        now = frames_of(swept)
        in_a_row = sum(a is not None and b == a + 1 for a, b in zip(now, now[1:]))
        assert (in_a_row > len(now) * 0.9) == (order == 9)
        pages = of_no_use(swept.guest)
        assert len(pages) > 1000 and frames_of(swept) == now
        for turn in range(20):
            was = now
            restless(swept.guest, pages, rng)
            found, now = swept.look(), frames_of(swept)
            pairs = list(zip(was, now))
            assert found.appeared == sum(a is None and b is not None for a, b in pairs)
            assert found.vanished == sum(a is not None and b is None for a, b in pairs)
            assert found.moved == sum(None not in (a, b) and a != b for a, b in pairs)
            if turn % 5 == 4:
                swept.save.mark_all()
            swept.pass_()
            whole = swept.save.sweep(final=False)
            assert whole.appeared + whole.vanished + whole.moved == 0
