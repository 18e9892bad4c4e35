"""A checkpointed save (Remus): for how long a guest that writes is paused at each checkpoint, and what is sent for it.

Both savers protect the same guest in turn, with the same callbacks and the same measurement: from the guest's
suspension to the callback by which it goes on. Between two checkpoints it runs for 200 ms. The first checkpoint, a live
save, is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from statistics import median
from typing import Any, Callable

from benchmarks.context import Context
from benchmarks.guests import describe, machine
from benchmarks.measure import in_turn
from benchmarks.rows import Row, compared, of_values

INTERVAL = 0.2
CASE = "remus"


class Turn:
    """One protected guest, and what the last turn of each saver measured."""

    def __init__(self, context: Context, hv: Any, domid: int, count: int) -> None:
        self._context, self._hv, self._domid, self._count = context, hv, domid, count
        self.bytes: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}

    def by(self, who: str) -> float:
        """The median pause of the checkpoints of one save, in seconds."""
        from peer.protecting import Protecting

        from pyxcsr.suspend.xenstore import XenstoreSuspend

        interval = 0.02 if self._context.quick else INTERVAL
        with open(os.memfd_create("stream"), "wb") as out:
            protecting = Protecting(self._hv, self._domid, out, self._count, interval)
            sleeper = XenstoreSuspend(self._hv, self._domid, timeout=60.0)
            done = protecting.by(who, self._context.library, sleeper, None, None)
        assert done["rc"] == 0, done
        self.bytes.setdefault(who, []).append(median(done["bytes"]))
        self.processor.setdefault(who, []).append(median(done["processor"]))
        return float(median(done["pauses"]))


def by_rate(context: Context, size: str, rate: int, count: int) -> Iterator[Row]:
    """Rows for one guest that writes so many pages a second."""
    context.say(f"Remus: a guest of {size} that writes {rate} pages a second")
    with machine(size) as hv:
        domid = hv.stub.create(describe(size, writer="thread", rate=rate))
        try:
            turn = Turn(context, hv, domid, count)
            savers = ("libxenguest", "pyxcsr") if context.library else ("pyxcsr",)
            actions: list[Callable[[], float]] = [lambda who=who: turn.by(who) for who in savers]  # type: ignore[misc]
            pauses = dict(zip(savers, in_turn(context.repeats, *actions)))
        finally:
            hv.stub.destroy(domid)
    what, names = f"{size}, {rate} writes a second", ("libxenguest", "ours")
    sizes, used = ({who: x[-context.repeats :] for who, x in y.items()} for y in (turn.bytes, turn.processor))
    if context.library is None:
        yield of_values(CASE, f"{what}: pause, ours", [x * 1e6 for x in pauses["pyxcsr"]], unit="us")
        yield of_values(CASE, f"{what}: sent, ours", [x / 2**20 for x in sizes["pyxcsr"]], unit="MiB")
        return
    yield compared(CASE, f"{what}: pause of a checkpoint", pauses["libxenguest"], pauses["pyxcsr"], names=names)
    both = used["libxenguest"], used["pyxcsr"]
    yield compared(CASE, f"{what}: processor time of the pause", *both, names=names)
    sent = sizes["libxenguest"], sizes["pyxcsr"]
    yield compared(CASE, f"{what}: sent for a checkpoint", *sent, scale=1 / 2**20, unit="MiB", names=names)


def run(context: Context) -> Iterator[Row]:
    """Rows for guests that write little and much."""
    from benchmarks.peer import _tests

    _tests()
    size, count = context.size("128M", "16M"), 4 if context.quick else 21
    for rate in (1000, 20000):
        yield from by_rate(context, size, rate, count)
