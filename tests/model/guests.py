"""Guests of the stub that do what a counterexample of the model does, step by step.

Each saves a guest into ``path`` and returns what is wrong with the stream: nothing, unless the code lacks the rule that
the guest is about. A guest that did not do what it is there for raises AssertionError.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional
from unittest import mock

from support.hvm_guests import save_hvm, wrong_pages
from support.judge import judge_pages, records, save_to
from support.ordinary import ordinary_pages

import pyxcsr
from pyxcsr.errors import P2mError, PageTableError
from pyxcsr.frames import PageType
from pyxcsr.guest.hvm import following
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.policy import SimplePolicy
from pyxcsr.stream import hvm_params
from pyxcsr.stream.records import P2mFrames
from pyxcsr.transfer.save import save

CLEAN, TYPES, MAP, UNMAP, SUSPEND, NUMBER = (
    "xc_logdirty_control",
    "xc_get_pfn_type_batch",
    "xenforeignmemory_map",
    "xenforeignmemory_unmap",
    "xs_write",
    "xc_domain_getinfolist",
)
LAST = 4
"""The last call of CLEAN while the guest runs, with SHORT_PASSES: it counts dirty pages, for the prediction."""

ROOMY = "pvh:mem=8M,max_mem=16M,writes=0,compact=yes"
"""A guest that may have another page while one that it has given back counts still."""

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

    def saved(self, script: Callable[[str, int], None], path: Path, tables_stay: bool = True) -> list[str]:
        """``tables_stay``: the guest is to have written none of its tables."""
        with self.hv.stub.hook(script):
            try:
                save_to(self.hv, self.domid, path, policy=SHORT_PASSES, map_ahead=False)
            except PageTableError as error:  # a save that is refused is not wrong; but few of these guests are to be
                return [str(error)]
        if isinstance(script, Script):
            script.check()
        if tables_stay:
            assert {t: self.guest.read_page(t) for t in self._were} == self._were, "a table was written"
        told = [x for x in records(path) if isinstance(x, P2mFrames)][-1]
        if list(told.frames) != self.guest.leaf_pfns():
            return ["the receiver was not told of the p2m's pages"]
        if told.end_pfn + 1 < self.guest.nr_pfns:
            return ["the receiver was told of a smaller p2m"]
        try:
            judge_pages(self.hv, self.domid, path)
        except AssertionError as error:
            return [str(error)]
        return []


def moves_before_its_batch(hv: StubBackend, path: Path) -> list[str]:
    """A table was sent in the first pass. In the second, the pfn that it names is to be sent, but gives its frame to
    another pfn before that, and is sent as the hole that it is by then. What was sent of both is right."""
    pv, script = PvGuest(hv), Script()
    script.on(CLEAN, 1, 1, pv.makes_two_batches)
    script.on(TYPES, 1, 1, lambda: pv.guest.move_page(pv.pfn, pv.hole))
    return pv.saved(script, path)


def moves_after_both_were_sent(hv: StubBackend, path: Path) -> list[str]:
    """The table and the pfn that it names were sent, and a pass later the frame gets another pfn."""
    pv, script = PvGuest(hv), Script()
    script.on(CLEAN, 2, 1, lambda: pv.guest.move_page(pv.pfn, pv.hole))
    return pv.saved(script, path)


def before_the_last_batch(pv: PvGuest, act: Callable[[], object]) -> Callable[[str, int], None]:
    """Acts in the first pass, when ``table`` has been sent and ``pfn`` has still to be."""
    calls = [""]
    # Xen was asked for types of the p2m's pages twice, so that the fifth time is for the third batch
    assert pv.table < 3000 and pv.pfn > 3 * 1024

    def third_batch(name: str, count: int) -> None:
        if name == UNMAP and calls.count(TYPES) == 5 and calls[-1] == MAP:
            act()
        calls.append(name)

    return third_batch


def moves_between_table_and_batch(hv: StubBackend, path: Path) -> list[str]:
    """In the first pass a table is sent, then the frame that it names moves, then its former pfn is sent, as a hole."""
    pv = PvGuest(hv)
    found = pv.saved(before_the_last_batch(pv, lambda: pv.guest.move_page(pv.pfn, pv.hole)), path)
    assert pv.guest.mfn(pv.hole)
    return found


def moves_and_replaces_the_pages_that_say_so(hv: StubBackend, path: Path) -> list[str]:
    """The same, and the next bitmap names the p2m's pages that were written for it; but before these are looked at, the
    guest has put others, which no bitmap names yet, in their place."""
    pv, script = PvGuest(hv), Script()
    moves = before_the_last_batch(pv, lambda: pv.guest.move_page(pv.pfn, pv.hole))

    def both(name: str, count: int) -> None:
        moves(name, count)
        script(name, count)

    script.on(CLEAN, 1, 1, lambda: pv.guest.bump_generation(2))
    leaves = sorted({pv.pfn // 512, pv.hole // 512})
    script.on(NUMBER, 1, 1, lambda: [pv.guest.replace_leaf(x) for x in leaves])
    found = pv.saved(both, path, tables_stay=False)
    assert pv.guest.mfn(pv.hole)
    script.check()
    return found


def keeps_a_frame_that_no_pfn_has(hv: StubBackend, path: Path, bitmap: int = 2, call: str = CLEAN) -> list[str]:
    """A table that names it was sent: what a receiver would make of that has no page. So the save has to be refused."""
    pv, script = PvGuest(hv), Script()
    frame = pv.guest.mfn(pv.pfn)
    script.on(call, bitmap, 1, lambda: pv.guest.corrupt_p2m(pv.pfn, (1 << 64) - 1))
    found = pv.saved(script, path)
    script.check()
    told = f"names a frame that is not the guest's: mfn {frame:#x}"
    return [] if len(found) == 1 and told in found[0] else [*found, "a table names what no pfn has, and was sent"]


def does_so_before_it_suspends(hv: StubBackend, path: Path) -> list[str]:
    return keeps_a_frame_that_no_pfn_has(hv, path, LAST, SUSPEND)


def is_ballooned_out(hv: StubBackend, path: Path) -> list[str]:
    pv, script = PvGuest(hv), Script()
    script.on(CLEAN, 1, 1, lambda: pv.guest.balloon_out(pv.data[-40]))
    return pv.saved(script, path, tables_stay=False)


def is_ballooned_out_and_back(hv: StubBackend, path: Path) -> list[str]:
    """The same frame, with another content that nobody wrote."""
    pv, script = PvGuest(hv), Script()

    def out_and_back() -> None:
        pfn = pv.data[-40]
        mfn = pv.guest.mfn(pfn)
        pv.guest.balloon_out(pfn)
        pv.guest.balloon_in(pfn, mfn)

    script.on(CLEAN, 1, 1, out_and_back)
    return pv.saved(script, path, tables_stay=False)


def replaces_a_page_of_the_p2m(hv: StubBackend, path: Path) -> list[str]:
    pv, script = PvGuest(hv), Script()
    script.on(CLEAN, 1, 1, lambda: pv.guest.replace_leaf(1))
    return pv.saved(script, path, tables_stay=False)


def replaces_one_before_it_suspends(hv: StubBackend, path: Path) -> list[str]:
    """Without a word: else the save would be refused."""
    pv, script = PvGuest(hv), Script()
    pv.guest.set_honest(False)
    script.on(SUSPEND, LAST, 1, lambda: pv.guest.replace_leaf(1))
    return pv.saved(script, path, tables_stay=False)


def replaces_one_without_a_word(hv: StubBackend, path: Path) -> list[str]:
    pv, script = PvGuest(hv), Script()
    pv.guest.set_honest(False)
    script.on(CLEAN, 1, 1, lambda: pv.guest.replace_leaf(1))
    return pv.saved(script, path, tables_stay=False)


def suspends_within_a_change(hv: StubBackend, path: Path) -> list[str]:
    """Its p2m is in no order that could be relied on, so that the save has to be refused."""
    pv, script = PvGuest(hv), Script()
    script.on(SUSPEND, LAST, 1, lambda: pv.guest.bump_generation(1))
    try:
        found = pv.saved(script, path)
    except P2mError:
        script.check()
        return []
    return [*found, "the guest was within a change of its p2m, and the save was not refused"]


def replaces_a_page_of_its_tree(hv: StubBackend, path: Path) -> list[str]:
    pv, script = PvGuest(hv, tree="only"), Script()
    script.on(CLEAN, 1, 1, lambda: pv.guest.replace_leaf(1))
    return pv.saved(script, path, tables_stay=False)


class EndingGuest(PvGuest):
    """One whose p2m has a last page with ``last`` in it and, ahead of that, ``end``, where it may come to end."""

    def __init__(self, hv: StubBackend) -> None:
        super().__init__(hv, spare_p2m="8M", share_invalid=False)
        self.last, self.end = self.guest.nr_pfns - 1, self.guest.nr_pfns - 5

    def ends(self, nr_pfns: int) -> None:
        """It says so, and nothing else: neither the generation nor a page of the p2m is written."""
        self.guest.poke_shared_info("max_pfn", nr_pfns)


def grows_a_while_after_it_has_said_so(hv: StubBackend, path: Path) -> list[str]:
    """As Linux, it counts the generation first, and then sets max_pfn."""
    pv, script = EndingGuest(hv), Script()
    pv.guest.resize_p2m(pv.end)

    def grows() -> None:
        pv.guest.set_honest(False)
        pv.guest.resize_p2m(pv.last + 1)

    script.on(CLEAN, 1, 1, lambda: pv.guest.bump_generation(2))
    script.on(CLEAN, 2, 1, grows)
    return pv.saved(script, path, tables_stay=False)


def shrinks(hv: StubBackend, path: Path) -> list[str]:
    pv, script = EndingGuest(hv), Script()
    pv.guest.balloon_in(pv.last)

    def shrinks() -> None:
        pv.guest.balloon_out(pv.last)
        pv.guest.resize_p2m(pv.end)

    script.on(CLEAN, 1, 1, shrinks)
    return pv.saved(script, path, tables_stay=False)


def shrinks_for_a_while(hv: StubBackend, path: Path) -> list[str]:
    """It says so, without giving back what is beyond the end, and takes it back before it is suspended."""
    pv, script = EndingGuest(hv), Script()
    pv.guest.balloon_in(pv.last)
    script.on(CLEAN, 1, 1, lambda: pv.ends(pv.end))
    script.on(SUSPEND, LAST, 1, lambda: pv.ends(pv.last + 1))
    return pv.saved(script, path, tables_stay=False)


# -- HVM


class SlowOutput:
    """A pipe into a file. ``stops``: what is written from now on waits, but for what fits into the pipe."""

    def __init__(self, path: Path) -> None:
        self._path, self._taking = path, threading.Event()
        self._taking.set()
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> None:
        self._from, self.fd = os.pipe()
        self._reader.start()

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)
        self._taking.set()
        self._reader.join()
        os.close(self._from)

    def stops(self) -> None:
        self._taking.clear()

    def goes_on(self) -> None:
        self._taking.set()

    def _read(self) -> None:
        with open(self._path, "wb") as out:
            while data := os.read(self._from, 1 << 20):
                out.write(data)
                self._taking.wait()


class PvhGuest:
    """A guest of two batches that does nothing by itself."""

    def __init__(self, hv: StubBackend, text: str = "pvh:mem=8M,writes=0,compact=yes") -> None:
        self.hv, self.domid = hv, hv.stub.create(pyxcsr.StubGuest.parse(text))
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

    def exchanges(self) -> None:
        """The page is another one at once: nothing that is asked can be answered in between."""
        self.guest.balloon_out([self.gfn])
        self.guest.balloon_in([self.gfn])

    def saved(
        self, script: Script, path: Path, map_ahead: bool = False, hook: Optional[Callable[[str, int], None]] = None
    ) -> list[str]:
        """``hook``: what is called instead of ``script``, which it calls."""
        with self.hv.stub.hook(hook or script):
            save_hvm(self.hv, self.domid, path, policy=SHORT_PASSES, map_ahead=map_ahead)
        script.check()
        return self.wrong(path)

    def wrong(self, path: Path) -> list[str]:
        return [f"gfn {x:#x}" for x in wrong_pages(self.hv, self.domid, path)]

    def saved_slowly(self, path: Path, acts: list[Callable[[], object]]) -> list[str]:
        """After the first bitmap the pass has two batches, and the pages of both are mapped while the output does not
        take the first. While that is so the guest acts, once before each answer to how many pages it has."""
        output, left, seen = SlowOutput(path), list(acts), {"bitmaps": 0}

        def script(name: str, count: int) -> None:
            if name == CLEAN:
                seen["bitmaps"] += 1
                if seen["bitmaps"] == 1:
                    self.makes_two_batches()
                    output.stops()
            elif name == NUMBER and seen["bitmaps"] == 1 and self.hv.stub.leaks().get("mappings") == 2:
                if left:
                    left.pop(0)()
                else:
                    output.goes_on()

        with output, self.hv.stub.hook(script):
            save(self.hv, self.domid, output.fd, policy=SHORT_PASSES, map_ahead=True)
        assert not left, "not all of it has happened"
        return self.wrong(path)


def goes_and_is_back_before_its_batch(hv: StubBackend, path: Path) -> list[str]:
    """A page that was written goes, which the number tells. A look is made, and the pass has still to come to the page,
    which is another one by then; it is sent, and then written. Up to Xen 4.21 that write is in no bitmap."""
    pvh, script = PvhGuest(hv), Script()
    pvh.gfn = pvh.data[1300]
    script.on(CLEAN, 1, 1, lambda: (pvh.writes(), pvh.makes_two_batches()))
    script.on(NUMBER, 1, 1, lambda: pvh.guest.balloon_out([pvh.gfn]))
    script.on(MAP, 1, 1, lambda: pvh.guest.balloon_in([pvh.gfn]))
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


def is_given_back(hv: StubBackend, path: Path) -> list[str]:
    pvh, script = PvhGuest(hv), Script()
    script.on(CLEAN, 1, 1, lambda: pvh.guest.balloon_out([pvh.gfn]))
    return pvh.saved(script, path)


def comes_in_the_first_pass(hv: StubBackend, path: Path) -> list[str]:
    """It is sent like any other, and no look can tell that it is new; then it is written."""
    pvh, script = PvhGuest(hv), Script()
    gfn = pvh.data[-1]
    pvh.guest.balloon_out([gfn])
    script.on(TYPES, 0, 1, lambda: pvh.guest.balloon_in([gfn]))
    script.on(CLEAN, 1, 1, lambda: pvh.guest.write_page(gfn, b"what may be lost"))
    return pvh.saved(script, path)


def comes_behind_the_pass(hv: StubBackend, path: Path) -> list[str]:
    """A page comes where the stream has a hole, a look finds it, and the next bitmap knows nothing of it."""
    pvh, script = PvhGuest(hv), Script()
    pvh.guest.balloon_out([pvh.gfn])
    script.on(CLEAN, 1, 1, pvh.makes_two_batches)
    script.on(MAP, 1, 2, lambda: pvh.guest.balloon_in([pvh.gfn]))
    script.on(CLEAN, 2, 1, pvh.writes)
    return pvh.saved(script, path)


def goes_and_is_back_without_a_look(hv: StubBackend, path: Path, times: int = 1) -> list[str]:
    """The number tells that it went and that something came, but looks rest meanwhile."""
    pvh, script = PvhGuest(hv), Script()
    script.on("xc_shadow_control", 0, 1, lambda: pvh.guest.balloon_out(pvh.data[-1:]))  # a look, then a rest
    script.on(CLEAN, 1, 1, pvh.makes_two_batches)
    for bitmap in range(1, times + 1):
        script.on(MAP, bitmap, 2, lambda: pvh.guest.balloon_out([pvh.gfn]))
        script.on(CLEAN, bitmap + 1, 1, lambda: pvh.guest.balloon_in([pvh.gfn]))
    with mock.patch.object(following, "REST", 1e9):
        return pvh.saved(script, path)


def goes_and_is_back_twice(hv: StubBackend, path: Path) -> list[str]:
    """The second time while all pages are sent again because of the first, and behind the pass."""
    return goes_and_is_back_without_a_look(hv, path, 2)


def goes_and_is_back_while_it_is_mapped(hv: StubBackend, path: Path) -> list[str]:
    """The page that has gone counts until the saver unmaps it: the number goes up first, and no look finds anything."""
    pvh = PvhGuest(hv, ROOMY)
    pvh.gfn = pvh.data[1150]  # in the second batch
    return pvh.saved_slowly(path, [pvh.exchanges, lambda: None])


def does_so_while_another_comes(hv: StubBackend, path: Path) -> list[str]:
    """The look finds a page that has come, which is not all that the number has told of."""
    pvh = PvhGuest(hv, ROOMY)
    pvh.gfn, another = pvh.data[1150], pvh.data[-1]
    pvh.guest.balloon_out([another])
    return pvh.saved_slowly(path, [pvh.exchanges, lambda: pvh.guest.balloon_in([another]), lambda: None])


def is_given_back_and_unmapped_late(hv: StubBackend, path: Path) -> list[str]:
    """The worker is to unmap the last batch, and has not come to it when the guest is suspended."""
    pvh, script, saver = PvhGuest(hv), Script(), threading.current_thread()
    begun, asked, was_late = threading.Event(), threading.Event(), threading.Event()

    def the_worker_rests() -> None:
        while hv.stub.leaks().get("mappings"):
            time.sleep(0.001)

    def the_last_batches() -> None:
        pvh.makes_two_batches()
        begun.set()

    def hook(name: str, count: int) -> None:
        if threading.current_thread() is saver:
            script(name, count)
        elif name == UNMAP and begun.is_set() and not was_late.is_set():
            pvh.guest.balloon_out([pvh.gfn])
            was_late.set()
            asked.wait(2)

    pvh.gfn = pvh.data[1150]
    script.on(CLEAN, 2, 1, the_worker_rests)
    script.on(CLEAN, 3, 1, the_last_batches)
    script.on("xc_domain_nr_gpfns", LAST + 1, 1, asked.set)
    found = pvh.saved(script, path, map_ahead=True, hook=hook)
    assert was_late.is_set()
    return found


def is_given_back_before_it_suspends(hv: StubBackend, path: Path) -> list[str]:
    """After the last time that the number was asked for while it ran, so only the last bitmap's call comes later."""
    pvh, script = PvhGuest(hv), Script()
    script.on(CLEAN, LAST + 1, 1, lambda: pvh.guest.balloon_out([pvh.gfn]))
    return pvh.saved(script, path)


def has_a_device_model_that_writes(hv: StubBackend, path: Path) -> list[str]:
    pvh = PvhGuest(hv, "hvm:mem=8M,writes=0,devmodel=2,compact=yes")
    found = pvh.saved(Script(), path)
    assert pvh.guest.state().devmodel_writes > 100
    return found


OF_RULE: dict[str, Callable[[StubBackend, Path], list[str]]] = {
    "PV_NO_FORMER": moves_before_its_batch,
    "PV_NO_ALL_TABLES": moves_after_both_were_sent,
    "PV_NO_RECENT_TABLES": moves_between_table_and_batch,
    "PV_NO_KEPT": keeps_a_frame_that_no_pfn_has,
    "PV_NO_UNCLAIMED": does_so_before_it_suspends,
    "PV_NO_VANISHED": is_ballooned_out,
    "PV_NO_RETURNED": is_ballooned_out_and_back,
    "PV_NO_SWEEP": is_ballooned_out,
    "PV_NO_RECORD": replaces_a_page_of_the_p2m,
    "PV_NO_LAST_LOOK": replaces_one_before_it_suspends,
    "PV_NO_HEAD": grows_a_while_after_it_has_said_so,
    "PV_NO_WAIT": suspends_within_a_change,
    "PV_NO_WATCH": replaces_one_without_a_word,
    "PV_NO_FRESH_PAGES": moves_and_replaces_the_pages_that_say_so,
    "PV_NO_FRESH_GROWTH": shrinks_for_a_while,
    "PV_NO_SHRUNK": shrinks,
    "PV_NO_TREE_WALKS": replaces_a_page_of_its_tree,
    "HVM_NO_VANISHED": is_given_back,
    "HVM_NO_NEW_IN_BATCH": goes_and_is_back_a_bitmap_later,
    "HVM_NO_SECOND_TIME": goes_and_is_back_twice,
    "HVM_NO_COUNT_AT_BITMAP": is_given_back_before_it_suspends,
    "HVM_NO_MODEL_TOLD": has_a_device_model_that_writes,
    "HVM_NO_MARKED_ASKED": goes_and_is_back_before_its_batch,
    "HVM_NO_HOLES_BY_LOOKS": goes_and_is_back_a_bitmap_later,
    "HVM_NO_UNTRACKED_LOOKS": comes_behind_the_pass,
    "HVM_NO_LOOKS": is_given_back,
    "HVM_NO_FIRST": comes_in_the_first_pass,
    "HVM_NO_UNSETTLED": goes_and_is_back_without_a_look,
    "HVM_NO_HIDDEN_UP": goes_and_is_back_while_it_is_mapped,
    "HVM_NO_OWED": does_so_while_another_comes,
    "HVM_NO_SETTLED": is_given_back_and_unmapped_late,
}
"""The model's variant without a rule: a guest that does what its counterexample does."""
