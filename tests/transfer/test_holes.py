"""Holes that are filled while the guest is saved: found through the p2m's own pages, which are then dirty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.judge import judge_pages, save_to

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.policy import SimplePolicy

HIDDEN = (1 << 64) - 1
PER_LEAF = 512


class Hider:
    """Hides pages from the p2m, and gives them back as a guest does: by writing the p2m, and nothing else.

    (A page that the stub balloons in is dirty itself. One that Xen gives a guest that has not written it yet is not.)
    """

    def __init__(self, hv: StubBackend, domid: int, pfns: list[int]) -> None:
        self._guest = hv.stub.guest(domid)
        self._was = {x: self._guest.corrupt_p2m(x, HIDDEN) for x in pfns}
        self.pfns = pfns

    def show(self, pfn: int) -> None:
        self._guest.corrupt_p2m(pfn, self._was.pop(pfn))

    def show_one(self) -> Iterator[None]:
        """One after the other, from the first on."""
        for pfn in self.pfns:
            self.show(pfn)
            yield


@pytest.fixture
def hider(hv: StubBackend) -> Hider:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="24M", holes=0.3, writes=0, pt_updates=0))
    guest = hv.stub.guest(domid)
    plain = [x for x in guest.pfns_with_memory() if guest.types([x])[0] == 0 and x not in set(guest.leaf_pfns())]
    last = {x // PER_LEAF: x for x in plain[40:]}  # of each leaf, the last of the save's first batches included
    hider = Hider(hv, domid, list(last.values()))
    hider.domid = domid  # type: ignore[attr-defined]
    return hider


@pytest.mark.parametrize("clean", range(1, 6))
def test_a_page_that_appears_is_sent(hv: StubBackend, tmp_path: Path, hider: Hider, clean: int) -> None:
    """Before the n-th bitmap is asked for: n = 4 is the count before the guest is suspended, 5 the last one."""
    domid, count = hider.domid, 0  # type: ignore[attr-defined]

    def show(name: str, _: int) -> None:
        nonlocal count
        count += name == "xc_logdirty_control"
        if name == "xc_logdirty_control" and count == clean:
            for pfn in hider.pfns:
                hider.show(pfn)

    with hv.stub.hook(show):
        report = save_to(hv, domid, tmp_path / "s", policy=SimplePolicy(4, 0))
    assert len(report.passes) == 5 and count == 5
    assert report.passes[min(clean, 4)].pages >= len(hider.pfns)
    judge_pages(hv, domid, tmp_path / "s")


def test_pages_appear_at_any_moment(hv: StubBackend, tmp_path: Path, hider: Hider) -> None:
    domid, more = hider.domid, hider.show_one()  # type: ignore[attr-defined]
    moments = ("xc_get_pfn_type_batch", "xc_logdirty_control")  # its entry has been read; the bitmap has not
    with hv.stub.hook(lambda name, count: next(more, None) if name in moments else None):
        save_to(hv, domid, tmp_path / "s", policy=SimplePolicy(6, 0))
    assert next(more, "all shown") == "all shown"
    judge_pages(hv, domid, tmp_path / "s")


def test_holes_do_not_lengthen_the_last_pass(hv: StubBackend, tmp_path: Path) -> None:
    """libxenguest sends every hole again, the guest suspended."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="64M", holes=0.5, writes=0, pt_updates=0))
    report = save_to(hv, domid, tmp_path / "s")
    assert report.passes[0].holes > 8000
    assert report.passes[-1].suspended and report.passes[-1].dirty < 10 and report.passes[-1].holes == 0
