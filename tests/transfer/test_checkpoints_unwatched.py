"""Checkpointed saves of HVM guests that exchange pages while a function of the caller's keeps the save from watching.

The number of their pages is the same before and after. What a helper behind libxl watches meanwhile is
tests/helper/test_helper_watches.py's.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest
from support.remus import Protected

import pyxcsr
from pyxcsr import StubGuest
from pyxcsr.frames import PageType
from pyxcsr.guest.hvm import following
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.transfer import checkpoints

TYPES = "xc_get_pfn_type_batch"
SECONDS = 2 * checkpoints.CALLED


class Ballooning(Protected):
    """A guest that has given back ``gone``, and has ``there``."""

    def __init__(self, hv: StubBackend, path: Path, compact: str = "yes") -> None:
        domid = hv.stub.create(StubGuest.parse(f"pvh:mem=8M,writes=0,compact={compact}"))
        self.inside: StubDomain = hv.stub.guest(domid)
        plain = [x for x in sorted(self.inside.pfns_of_type(PageType.NOTAB)) if 0x100 <= x < 0x600]
        self.gone, self.there = plain[:40], plain[100:140]
        self.inside.balloon_out(self.gone)
        super().__init__(hv, domid, path)

    def exchanges(self) -> None:
        """As a kernel does whose balloon gets two targets, one after the other; and then it uses what it has got."""
        self.inside.balloon_out(self.there)
        time.sleep(SECONDS)
        self.inside.balloon_in(self.gone)
        for gfn in self.gone:
            self.inside.write_page(gfn, os.urandom(4096))

    def goes_on(self) -> None:
        pyxcsr.resume(self.hv, self.domid)


@pytest.mark.parametrize("during", ["postcopy", "checkpoint"])
def test_an_exchange_while_a_function_of_the_callers_is_called(hv: StubBackend, tmp_path: Path, during: str) -> None:
    guest = Ballooning(hv, tmp_path / "s")
    called: Counter[str] = Counter()

    def act(name: str) -> None:
        called[name] += 1
        if name == during and called[name] == 1:
            guest.exchanges()

    def postcopy() -> None:
        guest.goes_on()
        act("postcopy")

    report = guest.run(3, postcopy=postcopy, checkpoint=lambda done: act("checkpoint"))
    data = guest.path.read_bytes()
    assert guest.whole_at(data) == 3 and guest.check_cut(data, tmp_path / "cut").checkpoints == 3
    assert guest.check_cut(data[:-100], tmp_path / "cut").checkpoints == 2
    physmap = report.physmap
    assert physmap.may_have_missed and physmap.unwatched >= SECONDS and physmap.looks >= 1
    assert (physmap.appeared, physmap.vanished) == (40, 40)
    assert physmap.sent_again >= 1 and report.warnings


def test_a_function_that_returns_at_once_costs_no_look(hv: StubBackend, tmp_path: Path) -> None:
    guest = Ballooning(hv, tmp_path / "s")
    report = guest.run(4, checkpoint=lambda done: None)
    assert report.physmap.looks == 0 or report.physmap.unwatched > checkpoints.CALLED, "this process had to wait"


def test_what_moved_one_way_meanwhile_may_hide_more(hv: StubBackend, tmp_path: Path) -> None:
    guest = Ballooning(hv, tmp_path / "s")

    def checkpoint(done: pyxcsr.Checkpoint) -> None:
        if done.number == 1:
            time.sleep(SECONDS)
            guest.inside.balloon_in(guest.gone[:7])

    report = guest.run(3, checkpoint=checkpoint)
    guest.check_cut(guest.path.read_bytes(), tmp_path / "cut")
    assert report.physmap.may_have_missed and report.physmap.sent_again == 0
    assert any("nobody could ask how many it has" in x for x in report.warnings)


def test_no_look_is_put_off_until_the_guest_waits_for_it(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look is due before each checkpoint, and looks rest after one for longer than there is between two."""
    monkeypatch.setattr(following, "UNWATCHED", 1e9)  # nor does one come of waiting for a processor
    guest = Ballooning(hv, tmp_path / "s", compact="no")
    calls: Counter[bool] = Counter()

    def count(name: str, _count: int) -> None:
        calls[guest.inside.suspended] += name == TYPES

    def checkpoint(done: pyxcsr.Checkpoint) -> None:
        guest.inside.balloon_out(guest.there[4 * done.number : 4 * done.number + 4])

    with hv.stub.hook(count):
        report = guest.run(5, checkpoint=checkpoint)
    guest.check_cut(guest.path.read_bytes(), tmp_path / "cut")
    assert report.physmap.vanished == 16 and report.physmap.looks >= 4
    whole_look = hv.nr_gpfns(guest.domid) // 1024
    assert calls[True] < whole_look < calls[False]
