"""A guest that makes p2m pages of most of its memory: what a save that follows the p2m needs of dom0's memory."""

from __future__ import annotations

import ctypes
import random
from pathlib import Path
from typing import Any, Callable

import pytest
from support.ordinary import ordinary_pages
from support.widths import width_of

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend

MIB = 1 << 20
KINDS = ["pv64", "pv32"]
SANITIZED = "libasan" in Path("/proc/self/maps").read_text()


def anonymous() -> int:
    """Memory that this process has allocated; the stub's machine is not in it."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
    return int(line.split()[1]) << 10


class Swollen:
    """A guest of 64 MiB whose list has been extended by pages of its own, for ``nr_pfns`` more."""

    def __init__(self, hv: StubBackend, kind: str, nr_pfns: int) -> None:
        spec = f"{kind}:mem=64M,writes=0,pt_updates=0,share_invalid=no,filled=no"
        hv.stub.reset(frames=1 << 18)
        self.hv, self.guest = hv, hv.stub.guest(hv.stub.create(pyxcsr.StubGuest.parse(spec)))
        self.width = width_of(hv, self.guest.domid)
        self.first = self.guest.nr_pfns
        self.guest.resize_p2m(self.first + nr_pfns)
        self.leaves = self.guest.leaf_pfns()[self.first // self.width.per_page :]

    def fill(self, words: Callable[[int], list[int]]) -> None:
        """``words(first pfn)`` is what each of these pages has."""
        for nth, pfn in enumerate(self.leaves):
            self.guest.write_page(pfn, self.width.page(words(self.first + nth * self.width.per_page)))

    def needs(self) -> tuple[int, Any]:
        """How many bytes of memory a live save needs at most, and what it raises."""
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before would be used again, and not be seen
        before, most, raised = anonymous(), 0, None

        def look(progress: Any) -> None:
            nonlocal most
            most = max(most, anonymous() - before)

        with open("/dev/null", "wb") as out:
            try:
                pyxcsr.save(self.hv, self.guest.domid, out, live=True, progress=look)
            except pyxcsr.XcsrError as error:
                raised = error
        return most, raised


@pytest.mark.skipif(SANITIZED, reason="sanitizers have memory of their own")
@pytest.mark.parametrize("kind", KINDS)
def test_frames_in_no_order(hv: StubBackend, kind: str) -> None:
    """Each entry names a frame of the guest's, which the m2p gives to another pfn."""
    swollen, rng = Swollen(hv, kind, 3 << 20), random.Random(1)
    own = [swollen.guest.mfn(x) for x in ordinary_pages(swollen.guest)[:4096]]
    same = [rng.choice(own) for _ in range(swollen.width.per_page)]
    swollen.fill(lambda first: same)
    most, raised = swollen.needs()
    assert isinstance(raised, pyxcsr.PageError) and "to another pfn" in str(raised)
    assert most < 8 * MIB and swollen.guest.running


@pytest.mark.skipif(SANITIZED, reason="sanitizers have memory of their own")
@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_among_holes_everywhere(hv: StubBackend, kind: str) -> None:
    """Each 512 pfns have one frame, as the m2p has it: all is right, as in a guest that has given memory back."""
    swollen, rng = Swollen(hv, kind, 3 << 20), random.Random(1)
    old = iter(ordinary_pages(swollen.guest)[:6144])

    def words(first: int) -> list[int]:
        page = [swollen.width.none] * swollen.width.per_page
        for begin in range(0, len(page), 512):
            pfn, index = next(old), begin + rng.randrange(1, 511)
            page[index] = swollen.guest.mfn(pfn)
            hv.stub.set_m2p(page[index], first + index)
            swollen.guest.corrupt_p2m(pfn, swollen.width.none)
        return page

    swollen.fill(words)
    most, raised = swollen.needs()
    assert raised is None and most < 8 * MIB


@pytest.mark.parametrize("kind", KINDS)
def test_more_pfns_than_its_memory_accounts_for(hv: StubBackend, kind: str) -> None:
    """A page for each 512 pfns, or 1024, is its own; but no guest has nothing else."""
    swollen = Swollen(hv, kind, 6 << 20)
    raised = swollen.needs()[1]
    assert isinstance(raised, pyxcsr.P2mError) and raised.field == "max_pfn" and swollen.guest.running
