"""An HVM or PVH guest that balloons, at random, while it is saved. A seed makes it do the same each time.

``HvmStorm(hv, seed)`` makes the guest; ``hook`` must be called at each library call of the saver. Most of its layout,
and what it and its device model write, is in its text. What it does to its physmap is its ``kind``:

still        nothing
down, up     pages leave it; pages come, to where some have been and to where none has ever been
both         it balloons down for a while, then up for a while; how fast, and how long for, the seed decides. Between
             the two it rests, or they could hide each other from Xen's count of its pages, as "unseen" ones do
mixed        pages leave and come in turns without rhyme, some calls apart
flutter      the same with hardly a call between
unseen       a page leaves and another comes in its place, with no call in between: nothing that Xen tells shows it
pod          it is populated on demand, and its balloon driver ends that as long as the saver waits
pod stays    the same, and the driver never ends it
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from pyxcsr.frames import PageType
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.panel import StubError
from pyxcsr.hypervisor.stub.text import StubGuest
from support.hvm_kinds import KINDS
from support.storm import often_or_not

MAX_MEM = "32M"
MIB = 256  # pages
LOW = 0x200  # what is below is left to the kernel
ABOVE_4G = 0x100000
APART = 12  # calls between two steps of a guest that goes both ways; a saver makes fewer for 1024 gfns
ENDS = {"pvh": 0xFEE00, "hvm": 0xF0000}
PROVIDED = 128  # entries that the balloon driver deals with each time that somebody asks how many there are


class HvmStorm:
    """One guest. ``live``, ``batches_us``, ``max_iterations``: how it is to be saved; ``done``: what it did."""

    def __init__(self, hv: StubBackend, seed: int) -> None:
        self.rng = random.Random(seed)
        self.stub = hv.stub
        self.kind = self.rng.choice(KINDS)
        self.text = self._guest(seed)
        parsed = StubGuest.parse(self.text)
        self.type, self.guest_vcpus, self.asleep = parsed.kind, parsed.vcpus, parsed.acpi_s_state != 0
        if self.kind == "pod" and self.asleep:
            self.kind = "pod stays"
        self.domid = hv.stub.create(parsed)
        self.guest = hv.stub.guest(self.domid)
        self.live = self.rng.random() < 0.9
        self.batches_us = often_or_not(self.rng)
        self.max_iterations = self.rng.choice([1, 2, 5, 8])
        self.rate = self.rng.choice([0.002, 0.02, 0.1, 0.5])  # steps a call
        self.most = self.rng.choice([1, 8, 40, 200])  # pages a step
        self.turn = self.rng.choice([20, 40, 200, 1000])  # calls until a guest that goes both ways turns round
        self.done: dict[str, int] = {}
        self.was: set[int] = set()  # gfns that have been ballooned out
        self.calls = self.quiet_until = 0
        self.down = True  # which way a guest goes that goes both ways
        pages = parsed.mem // 4096
        self.entries = list(range(pages - parsed.pod // 4096, pages))  # those not yet dealt with
        self._odd_layout()

    def _guest(self, seed: int) -> str:
        rng, kind = self.rng, self.rng.choice(["pvh", "hvm"])
        mem = rng.choice([2, 4, 8])
        items = [f"mem={mem}M,max_mem={mem * 2}M,seed={seed},holes={rng.choice([0, 0, 0.1, 0.3, 0.7])}"]
        items += [f"writes={rng.choice([0, 2, 8, 40])},vcpus={rng.choice([1, 2])},viridian={rng.choice(['yes', 'no'])}"]
        if rng.random() < 0.25:
            items += [f"writer=thread,rate={rng.choice([2000, 50000])}"]
        if self.kind.startswith("pod"):
            items += [f"pod={mem // 2}M,pod_missing={rng.choice(['0', '512K'])}"]
        if kind == "hvm":
            items += [f"devmodel={rng.choice([0, 1, 5, 50])},vram={rng.choice(['0', '1M', '4M'])}"]
            items += [rng.choice(["pv_drivers=yes", "pv_drivers=yes", "pv_drivers=no", "acpi_s_state=3"])]
            items += [f"devmodel_stops={rng.choice(['itself', 'told'])}"]
        return f"{kind}:{','.join(items)}"

    def _odd_layout(self) -> None:
        """Before anybody looks: 2 MiB emptied but for a page or so, and islands far from everything else."""
        for _ in range(self.rng.choice([0, 0, 1, 3])):
            start = self.rng.randrange(1, 4) * 512
            kept = {start + self.rng.randrange(512) for _ in range(self.rng.choice([0, 1, 2]))}
            self._each(self.guest.balloon_out, [x for x in range(start, start + 512) if x not in kept])
        for _ in range(self.rng.choice([0, 0, 1, 3])):
            first = self._new_gfn()
            self._each(self.guest.balloon_in, range(first, first + self.rng.choice([1, 3, 100, 600])))

    def _new_gfn(self) -> int:
        """Where there may never have been a page: below the devices, above 4 GiB, or beyond all that was claimed."""
        near = self.rng.randrange(0x2000, 0x4000)
        below = self.rng.randrange(ENDS[self.type] - 0x800, ENDS[self.type] - 0x400)
        above = ABOVE_4G + self.rng.randrange(1 << self.rng.choice([9, 9, 9, 16]))
        return self.rng.choice([near, below, above])

    def _each(self, act: Callable[[int], None], gfns: Iterable[int]) -> int:
        """One after the other; what the stub refuses (in use, no room, not there) does not happen. How many did."""
        did = 0
        for gfn in gfns:
            try:
                act(gfn)
            except StubError:
                continue
            did += 1
        return did

    # -- when

    def hook(self, name: str, count: int) -> None:
        """The stub's hook: called when a library call begins."""
        self.calls += 1
        if self.kind == "still" or self.asleep:
            return
        if name != "xc_domain_get_pod_target" and self.rng.random() >= self.rate:
            return
        if not self.guest.running:
            return
        if self.entries:
            self._drive(name)
        elif self.kind not in ("mixed", "pod") or self.calls >= self.quiet_until:
            self.quiet_until = self.calls + APART
            self._act()

    def _drive(self, name: str) -> None:
        if self.kind == "pod":
            self._populate(PROVIDED if name == "xc_domain_get_pod_target" else 1)

    def _act(self) -> None:
        if self.kind == "both":
            self._one_way()
        elif self.kind == "down":
            self._out()
        elif self.kind == "up":
            self._in()
        elif self.kind in ("mixed", "flutter", "pod"):
            self.rng.choice([self._out, self._in])()
        elif self.kind == "unseen":
            self._and_back()

    def _one_way(self) -> None:
        down = self.calls // self.turn % 2 == 0
        if down != self.down:
            self.down, self.quiet_until = down, self.calls + APART
        elif self.calls >= self.quiet_until:
            (self._out if down else self._in)()

    def _count(self, what: str, did: int) -> None:
        self.done[what] = self.done.get(what, 0) + did

    # -- what

    def _out(self) -> None:
        gfns = self._some()
        self._count("out", self._each(self.guest.balloon_out, gfns))
        self.was.update(gfns)

    def _some(self) -> list[int]:
        """Pages at random, or in a row."""
        have = [x for x in self.guest.pfns_of_type(PageType.NOTAB) if x >= LOW]
        if len(have) < MIB // 2:
            return []
        number = self.rng.randrange(1, self.most + 1)
        if self.rng.random() < 0.5:
            return self.rng.sample(have, min(number, len(have) // 4))
        first = self.rng.choice(have)
        return [x for x in range(first, first + min(number, len(have) // 4))]

    def _in(self) -> None:
        number = self.rng.randrange(1, self.most + 1)
        if self.was and self.rng.random() < 0.6:
            gfns = self.rng.sample(sorted(self.was), min(number, len(self.was)))
        else:
            first = self._new_gfn()
            gfns = list(range(first, first + number))
        self._count("in", self._each(self.guest.balloon_in, gfns))
        self.was.difference_update(gfns)

    def _and_back(self) -> None:
        gfns = self._some()[:8]
        self._each(self.guest.balloon_out, gfns)
        self._count("and back", self._each(self.guest.balloon_in, gfns))

    def _populate(self, number: int) -> None:
        """The balloon driver gives an entry back, or the guest uses it."""
        for _ in range(min(number, len(self.entries))):
            gfn = self.entries.pop(self.rng.randrange(len(self.entries)))
            if self.rng.random() < 0.5 or self.guest.state().pod_cache < 2:
                self._count("given back", self._each(self.guest.balloon_out, [gfn]))
            else:
                self._count("populated", self._each(self._use, [gfn]))

    def _use(self, gfn: int) -> None:
        self.guest.write_page(gfn, b"populated")
