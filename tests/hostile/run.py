"""Saves a hostile guest, and measures what it cost: memory, time, bytes, mappings."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from support.peak import peak_begins, status

from hostile.guests import Hostile
from hostile.inside import HvmInside, Inside, Restless

PASSES = 6
"""Of a live save, the last one included: SimplePolicy's."""


@dataclass
class Cost:
    """Of one save: the processor's seconds; bytes of memory, in all and Python's, at the peak; most pages mapped."""

    seconds: float = 0.0
    python: int = 0
    resident: Optional[int] = None
    mapped: int = 0
    nr_bytes: int = 0


class Acting:
    """Lets a guest act at its moment; used as the stub's hook."""

    def __init__(self, case: Hostile, inside: Inside, cost: Cost) -> None:
        self.case, self.inside, self.cost, self.acted = case, inside, cost, 0
        self.thread: Optional[Restless] = None
        self._counts: dict[str, int] = {}

    def __call__(self, function: str, count: int) -> None:
        self.cost.mapped = max(self.cost.mapped, self.inside.hv.stub.usage()["mapped_pages"])
        self._counts[function] = self._counts.get(function, 0) + 1
        if self.thread and not self.inside.guest.running:
            self.thread.stop()  # a guest that is suspended writes nothing
        if self._now(function):
            self.acted += 1
            self.case.act(self.inside)

    def _now(self, function: str) -> bool:
        when = self.case.when
        if when == "suspended":
            return not self.acted and self.inside.guest.suspended
        if isinstance(when, str):
            return False
        if when[0] == "every":
            return function == when[1]
        return function == when[0] and self._counts[function] == when[1]


@contextmanager
def hostile(case: Hostile, inside: Inside, cost: Cost) -> Iterator[Acting]:
    """Within this the guest does what it does."""
    acting = Acting(case, inside, cost)
    with ExitStack() as stack:
        if case.when == "before":
            acting.acted += 1
            case.act(inside)
        elif case.when == "thread":
            acting.acted += 1
            case.act(inside)
            acting.thread = Restless(lambda: case.act(inside))
            stack.callback(acting.thread.stop)
        stack.enter_context(inside.hv.stub.hook(acting))
        yield acting


def _peak_begins() -> Optional[int]:
    """None where the kernel cannot tell the peak of resident memory."""
    try:
        return peak_begins()
    except OSError:
        return None


@contextmanager
def measured(cost: Cost) -> Iterator[None]:
    """Memory and time of what is done within."""
    tracemalloc.start()
    before, began = _peak_begins(), time.process_time()
    try:
        yield
    finally:
        cost.seconds = time.process_time() - began
        cost.python = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        cost.resident = None if before is None else max(0, status("VmHWM") - before)


def inside_of(hv: Any, domid: int, other: int) -> Inside:
    """The guest from the inside, as what it is."""
    return (HvmInside if hv.domain_info(domid).hvm else Inside)(hv, domid, other)


def save_hostile(
    hv: Any, case: Hostile, path: Path, live: bool, save: Callable[[Any, int, Path, bool, float], None]
) -> tuple[Inside, Cost, Optional[BaseException], int]:
    """Makes the guest, saves it while it acts; (guest, cost, what the save raised, how often it acted)."""
    from pyxcsr.hypervisor.stub.text import StubGuest

    other = hv.stub.create(StubGuest.parse("pv64:mem=2M,writer=none"))
    domid = hv.stub.create(StubGuest.parse(f"{case.kind}:{case.guest}"))
    inside, cost, raised = inside_of(hv, domid, other), Cost(), None
    with measured(cost), hostile(case, inside, cost) as acting:
        try:
            save(hv, domid, path, live, case.patience)
        except Exception as error:
            raised = error
    cost.nr_bytes = path.stat().st_size
    return inside, cost, raised, acting.acted
