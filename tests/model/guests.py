"""Guests of the stub that do what a counterexample of the model does, step by step.

Each saves a guest into ``path`` and returns what is wrong with the stream: nothing, unless the code lacks the rule that
the guest is about. A guest that did not do what it is there for raises AssertionError.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.hvm_guests import save_hvm, wrong_pages
from support.judge import judge_pages, save_to
from support.ordinary import ordinary_pages

import pyxcsr
from pyxcsr.errors import PageTableError
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.policy import SimplePolicy
from pyxcsr.stream import hvm_params

CLEAN, TYPES, MAP, SUSPEND, NUMBER = (
    "xc_logdirty_control",
    "xc_get_pfn_type_batch",
    "xenforeignmemory_map",
    "xs_write",
    "xc_domain_getinfolist",
)
SHORT_PASSES = SimplePolicy(max_iterations=4, target_dirty=0)


class Script:
    """What happens at which call: ``on(function, bitmap, nth, act)`` acts at the entry of the ``nth`` call of
    ``function`` since the ``bitmap``-th dirty bitmap was asked for. Each of these happens once, and all have to."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, int, int], Callable[[], object]] = {}
        self._seen: dict[str, int] = {}
        self._bitmaps = 0

    def on(self, function: str, bitmap: int, nth: int, act: Callable[[], object]) -> None:
        self._steps[function, bitmap, nth] = act

    def __call__(self, name: str, count: int) -> None:
        if name == CLEAN:
            self._bitmaps += 1
            self._seen = {}
        self._seen[name] = self._seen.get(name, 0) + 1
        self._steps.pop((name, self._bitmaps, self._seen[name]), lambda: None)()

    def check(self) -> None:
        assert not self._steps, f"not all of it has happened: {sorted(self._steps)} is left"


# -- PV


class PvGuest:
    """A guest of four batches that does nothing by itself. ``pfn``, in the last batch, is mapped by ``table``."""

    def __init__(self, hv: StubBackend, **values: Any) -> None:
        options = {"mem": "16M", "max_mem": "64M", "writes": 0, "pt_updates": 0, "holes": 0.1, **values}
        self.hv, self.domid = hv, hv.stub.create(pyxcsr.StubGuest.pv64(**options))
        self.guest = hv.stub.guest(self.domid)
        self.data = ordinary_pages(self.guest)
        self.tables = self.guest.pfns_of_type(PageType.L1TAB_PINNED)
        ends = {x for x in self.data if x > 3072}
        self.table, self.pfn = next((t, x) for t in self.tables for x in sorted(self._pfns(t) & ends, reverse=True))
        have = set(self.guest.pfns_with_memory())
        self.hole = next(x for x in range(4090, 0, -1) if x not in have)
        self._were = {t: self.guest.read_page(t) for t in self.tables}

    def _pfns(self, table: int) -> set[int]:
        words = memoryview(self.guest.expected_page(table)).cast("Q")
        return {word >> 12 & ((1 << 40) - 1) for word in words if word & 1}

    def write(self, pfns: list[int]) -> None:
        for pfn in pfns:
            self.guest.write_page(pfn, os.urandom(8))

    def makes_two_batches(self) -> None:
        """``pfn`` is in the second batch of the next pass."""
        self.write([*self.data[:1500], self.pfn])

    def saved(self, script: Script, path: Path) -> list[str]:
        with self.hv.stub.hook(script):
            try:
                save_to(self.hv, self.domid, path, p2m_changes="follow", policy=SHORT_PASSES)
            except PageTableError as error:  # a save that is refused is not wrong; but none of these guests is to be
                return [str(error)]
        script.check()
        assert {t: self.guest.read_page(t) for t in self._were} == self._were, "a table was written"
        try:
            judge_pages(self.hv, self.domid, path)
        except AssertionError as error:
            return [str(error)]
        return []


def moves_before_its_batch(hv: StubBackend, path: Path) -> list[str]:
    """A table was sent in the first pass. In the second, the pfn that it names has been written, but gives its frame to
    another pfn before it is sent: as the hole that it is by then. What was sent of both is right; the table is stale."""
    pv, script = PvGuest(hv), Script()
    script.on(CLEAN, 1, 1, pv.makes_two_batches)
    script.on(TYPES, 1, 1, lambda: pv.guest.move_page(pv.pfn, pv.hole))
    return pv.saved(script, path)


# -- HVM


class PvhGuest:
    """A guest of two batches that does nothing by itself."""

    def __init__(self, hv: StubBackend) -> None:
        self.hv, self.domid = hv, hv.stub.create(pyxcsr.StubGuest.parse("pvh:mem=8M,writes=0,compact=yes"))
        self.guest = hv.stub.guest(self.domid)
        params = [(i, hv.hvm_param(self.domid, i)) for i in hvm_params.SENT]
        special = {page.pfn for page in hvm_params.pages(params)}
        self.data = [x for x in self.guest.pfns_with_memory() if 0x200 <= x < 0xF0000 and x not in special]
        self.gfn = self.data[5]

    def makes_two_batches(self) -> None:
        """The next pass has them, and ``gfn`` is in neither, but would be in the first."""
        for gfn in self.data[20:1200]:
            self.guest.write_page(gfn, os.urandom(8))

    def writes(self) -> None:
        self.guest.write_page(self.gfn, b"what may be lost")

    def saved(self, script: Script, path: Path) -> list[str]:
        with self.hv.stub.hook(script):
            save_hvm(self.hv, self.domid, path, policy=SHORT_PASSES)
        script.check()
        return [f"gfn {x:#x}" for x in wrong_pages(self.hv, self.domid, path)]


def goes_and_is_back_before_its_batch(hv: StubBackend, path: Path) -> list[str]:
    """A page that was written goes, which the number tells. A look is made, and the pass has still to come to the page,
    which is another one by then; it is sent, and then written. Up to Xen 4.21 that write is in no bitmap."""
    pvh, script = PvhGuest(hv), Script()
    script.on(CLEAN, 1, 1, lambda: (pvh.writes(), pvh.makes_two_batches()))
    script.on(NUMBER, 1, 1, lambda: pvh.guest.balloon_out([pvh.gfn]))
    script.on(TYPES, 1, 1, lambda: pvh.guest.balloon_in([pvh.gfn]))
    script.on(CLEAN, 2, 1, pvh.writes)
    return pvh.saved(script, path)


def goes_and_is_back_a_bitmap_later(hv: StubBackend, path: Path) -> list[str]:
    """A page goes, which a look finds. After the next bitmap, and before it has been sent as a hole, there is another
    page; it is sent, and then written. Up to Xen 4.21 that write is in no bitmap."""
    pvh, script = PvhGuest(hv), Script()
    script.on(CLEAN, 1, 1, pvh.makes_two_batches)
    script.on(MAP, 1, 2, lambda: pvh.guest.balloon_out([pvh.gfn]))
    script.on(CLEAN, 2, 1, pvh.makes_two_batches)
    script.on(NUMBER, 2, 2, lambda: pvh.guest.balloon_in([pvh.gfn]))
    script.on(CLEAN, 3, 1, pvh.writes)
    return pvh.saved(script, path)
