"""A guest that changes its p2m in all ways, at random, while it is saved. A seed makes it do the same each time.

``Storm(hv, seed, kind)`` makes the guest, pv64 or pv32. ``hook`` must be called at each library call of the saver,
``polled`` while the saver waits. All changes are the guest's own doing, so it makes them only while it runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Optional

from pyxcsr.frames import PageType
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.panel import StubError
from pyxcsr.hypervisor.stub.text import StubGuest

MAX_PFNS = 16000
LISTS = {"pv64": (0xFFFFC90000000000, 1 << 12, 1 << 30), "pv32": (0x40000000, 31, 1 << 26)}
"""Where a p2m list may be: the first address, how many places there are, and how far they are apart."""
MAX_MEM = "64M"
USUAL_US = 20_000
KINDS = ("honest", "honest", "honest", "honest", "honest", "honest", "honest", "liar", "liar", "never settles")


def often_or_not(rng: random.Random) -> int:
    """How long a saver is to copy before it looks at the guest again, in microseconds: 0 is after each batch."""
    return 0 if rng.random() < 0.5 else USUAL_US


class Storm:
    """One guest. ``kind``: honest; a liar, which announces nothing; or one that begins a change and never ends it."""

    def __init__(self, hv: StubBackend, seed: int, guest: str = "pv64") -> None:
        self.is_a, self.lists = guest, LISTS[guest]
        self.rng = random.Random(seed)
        self.stub = hv.stub
        self.tree = self.rng.choice(["no", "no", "no", "both", "only"])
        self.text = self._guest(seed)
        self.domid = hv.stub.create(StubGuest.parse(self.text))
        self.guest = hv.stub.guest(self.domid)
        self.guest_vcpus = StubGuest.parse(self.text).vcpus
        self.live = self.rng.random() < 0.85
        self.kind = self.rng.choice(KINDS) if self.tree != "only" else "honest"
        self.structure = self.rng.choice([0.0, 0.01, 0.02, 0.04])
        self.contents = self.rng.choice([0.0, 0.02, 0.1, 0.3])
        self.batches_us = often_or_not(self.rng)
        self.max_iterations = self.rng.choice([1, 2, 5, 8])
        self.done: dict[str, int] = {}
        self.was: dict[int, int] = {}  # pfn -> the frame that it had before it was ballooned out
        self.holding: Optional[int] = None
        self.calls = 0
        self.asked = False
        self.never = self.rng.randrange(150) if self.kind == "never settles" else -1
        if self.kind == "liar":
            self.guest.set_honest(False)

    def _guest(self, seed: int) -> str:
        rng = self.rng
        spare = rng.choice(["0", "0", "2M", "600M" if self.tree == "no" else "4M"])
        vaddr = self.lists[0] + rng.choice([0, 0, rng.randrange(self.lists[2] // 4096) * 4096])
        return (
            f"{self.is_a}:mem={rng.choice([4, 6, 8, 12])}M,max_mem={MAX_MEM},seed={seed},"
            f"holes={rng.choice([0, 0.1, 0.3])},"
            f"tree={self.tree},spare_p2m={spare},p2m_vaddr={vaddr:#x},share_invalid={rng.choice(['yes', 'no'])},"
            f"writes={rng.choice([0, 8, 40])},pt_updates={rng.choice([0, 1, 3])},vcpus={rng.choice([1, 2])}"
        )

    # -- when

    def hook(self, name: str, count: int) -> None:
        """The stub's hook: called when a library call begins."""
        self.calls += 1
        if not self.guest.running:
            return
        if name == "xs_write":  # the guest is asked to suspend, and first ends a change that it has begun
            self.asked = True
            self._end_hold()
        if self._held(1, may_end=self.never < 0):
            return
        if self.calls > self.never >= 0:
            self._begin_hold(1 << 60)
            return
        if self.rng.random() < self.structure:
            self._act(self._structure_actions())
        if self.rng.random() < self.contents:
            self._act([self._out, self._in, self._in_same, self._and_back, self._move])

    def polled(self) -> bool:
        """The saver's ``cancel``: called while it waits for an even generation."""
        self._held(3, may_end=self.never < 0)
        return False

    def _act(self, actions: list[Callable[[], None]]) -> None:
        action = self.rng.choice(actions)
        try:
            action()
        except StubError:  # the page is in use, or the guest has all that it may have: it does nothing
            return
        name = action.__name__.strip("_")
        self.done[name] = self.done.get(name, 0) + 1

    def _structure_actions(self) -> list[Callable[[], None]]:
        common = [self._replace, self._grow, self._shrink, self._into_the_spare]
        if self.tree == "only":
            return [*common, self._move_tree]
        extra = [self._move_tree] if self.tree == "both" else []
        slow = [] if self.asked else [self._hold]
        return [*common, *extra, *slow, self._move_list, self._move_list, self._bump]

    # -- a change that takes its time

    def _begin_hold(self, calls: int) -> None:
        self.guest.bump_generation(1)
        self.holding = calls

    def _hold(self) -> None:
        self._begin_hold(self.rng.randrange(1, 12))

    def _end_hold(self) -> None:
        if self.holding is not None and self.never < 0:
            self.guest.bump_generation(1)
            self.holding = None

    def _held(self, passed: int, may_end: bool) -> bool:
        if self.holding is None:
            return False
        self.holding -= passed
        if self.holding <= 0 and may_end:
            self._end_hold()
        return True

    # -- structure

    def _replace(self) -> None:
        self.guest.replace_leaf(self.rng.randrange(self.guest.state().nr_leaves))

    def _move_list(self) -> None:
        first, places, apart = self.lists
        base = first + self.rng.randrange(places) * apart
        self.guest.move_p2m(base + self.rng.randrange(apart // 4096) * 4096, self.rng.random() < 0.3)

    def _move_tree(self) -> None:
        self.guest.move_tree()

    def _bump(self) -> None:
        self.guest.bump_generation(2 * self.rng.randrange(1, 4))

    def _grow(self) -> None:
        nr = self.guest.nr_pfns
        if self.guest.state().missing_leaf_pfn is None and nr > MAX_PFNS:
            return
        self.guest.resize_p2m(nr + self.rng.randrange(1, 1200))
        for _ in range(self.rng.randrange(4)):
            self.guest.balloon_in(self.rng.randrange(nr, self.guest.nr_pfns))

    def _shrink(self) -> None:
        nr = self.guest.nr_pfns
        to = max(512, nr - self.rng.randrange(1, 900))
        for pfn in [p for p in self.guest.pfns_with_memory() if p >= to]:
            self.guest.balloon_out(pfn)  # StubError if it is in use: then the p2m does not shrink
        self.guest.resize_p2m(to)

    def _into_the_spare(self) -> None:
        """Memory for pfns that had none: if their p2m page is the shared one, one of the guest's own replaces it."""
        for _ in range(3):
            self.guest.balloon_in(self.rng.randrange(self.guest.nr_pfns))

    # -- contents

    def _data(self) -> int:
        return self.rng.choice(self.guest.pfns_of_type(PageType.NOTAB))

    def _hole(self) -> int:
        have = set(self.guest.pfns_with_memory())
        end = min(self.guest.nr_pfns, MAX_PFNS)
        for _ in range(64):
            pfn = self.rng.randrange(end)
            if pfn not in have:
                return pfn
        return next((p for p in range(end) if p not in have), 0)

    def _out(self) -> None:
        first = self._data()
        for pfn in range(first, first + self.rng.randrange(1, 9)):
            mfn = self.guest.mfn(pfn)
            self.guest.balloon_out(pfn)
            self.was[pfn] = mfn

    def _in(self) -> None:
        for _ in range(self.rng.randrange(1, 9)):
            self.guest.balloon_in(self._hole())

    def _in_same(self) -> None:
        for pfn in self.rng.sample(sorted(self.was), min(len(self.was), 4)):
            self.guest.balloon_in(pfn, self.was.pop(pfn))

    def _and_back(self) -> None:
        """Gives a frame back and gets the same one: entry as before, other content, and no write to the page."""
        pfn = self._data()
        mfn = self.guest.mfn(pfn)
        self.guest.balloon_out(pfn)
        self.guest.balloon_in(pfn, mfn)

    def _move(self) -> None:
        self.guest.move_page(self._data(), self._hole())
