"""A kind of guest by itself: a full pass, the paused phase, a restore, and calls to Xen, beside libxenguest's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import pyxcsr
from benchmarks import sinks
from benchmarks.context import Context
from benchmarks.goals import FEWER_NS, RESTORED, SHORTER
from benchmarks.guests import machine, pages_of
from benchmarks.measure import Seconds, in_turn, less_stub, timed
from benchmarks.rows import Goal, Row, compared, of_values
from benchmarks.savers import Ours, Saver, Theirs
from benchmarks.switched import Dirtier, SwitchedOurs, SwitchedTheirs
from pyxcsr.hypervisor.stub.text import StubGuest

NAMES = ("libxenguest", "ours")
FEW, MANY = 50, 1000


class Kind(NamedTuple):
    """Guests of a kind. ``case``: of the benchmarks; ``kind``: as StubGuest has it; ``name``: for people."""

    case: str
    kind: str
    name: str
    guest: Callable[[str], StubGuest]
    """Of a size."""
    dirtied: Callable[[Any, str, int], Sequence[int]]
    """So many pfns of such a guest of that size, to be dirtied."""


@contextmanager
def _guest(of: Kind, size: str) -> Iterator[tuple[Any, int]]:
    with machine(size) as hv:
        domid: int = hv.stub.create(of.guest(size))
        try:
            yield hv, domid
        finally:
            hv.stub.destroy(domid)


def _beside(
    of: Kind, what: str, seconds: dict[str, list[float]], scale: float, unit: str, goal: Optional[Goal]
) -> Iterator[Row]:
    """Ours beside libxenguest's, with and without the stub's part, which is judged; ours alone without libxenguest."""
    ours = seconds["ours"]
    if "theirs" not in seconds:
        yield of_values(of.case, f"{what}: ours", [x * scale for x in ours], unit=unit)
        return
    fields: dict[str, Any] = {"scale": scale, "unit": unit, "names": NAMES}
    yield compared(of.case, what, seconds["theirs"], ours, **fields)
    net = less_stub(seconds["theirs"]), less_stub(ours)
    yield compared(of.case, f"{what}, less the stub's part", *net, goal=goal, **fields)


def _full(of: Kind, context: Context, size: str) -> Iterator[Row]:
    context.say(f"full pass of a {of.name} guest of {size} to null")
    with _guest(of, size) as (hv, domid), sinks.null() as fd:
        savers: dict[str, Saver] = {"ours": Ours(hv, domid)}
        if context.library:
            savers["theirs"] = Theirs(hv, domid, context.library)
        actions = [lambda saver=x: saver.save(fd).last_pass for x in savers.values()]
        seconds = dict(zip(savers, in_turn(context.repeats, *actions)))
        yield from _beside(of, "full pass to null", seconds, 1e9 / pages_of(size), "ns/page", FEWER_NS)
        yield from _calls(of, hv, savers, fd)


def _calls(of: Kind, hv: Any, savers: dict[str, Saver], fd: int) -> Iterator[Row]:
    for by, saver in savers.items():
        hv.stub.clear_calls()
        saver.save(fd)
        calls = hv.stub.calls()
        types = calls["xc_get_pfn_type_batch"]
        who = "ours" if by == "ours" else "libxenguest"
        figures = {"for types calls": float(types), "all calls": float(sum(calls.values()))}
        what = f"calls of a save that is not live: {who}"
        yield of_values(of.case, what, [figures["all calls"]], unit="calls", figures=figures)


def _paused(of: Kind, context: Context, size: str, dirty: int) -> Iterator[Row]:
    with _guest(of, size) as (hv, domid), sinks.socketpair() as fd:
        ours = SwitchedOurs(hv, domid)
        dirtier = Dirtier(ours.guest, of.dirtied(ours.guest, size, dirty))
        actions: dict[str, Callable[[], float]] = {"ours": lambda: ours.switched(fd, dirtier).paused}
        if context.library:
            theirs = SwitchedTheirs(hv, domid, context.library)
            actions["theirs"] = lambda: theirs.switched(fd, dirtier).paused
        seconds = dict(zip(actions, in_turn(context.repeats, *actions.values())))
        goal = SHORTER if dirty == FEW else None
        yield from _beside(of, f"paused: {size}, {dirty} pages dirty", seconds, 1e6, "us", goal)


def _restore(of: Kind, context: Context, size: str) -> Iterator[Row]:
    context.say(f"restore of a {of.name} guest of {size} from tmpfs")
    path = Path(f"/dev/shm/{of.kind}-stream-{os.getpid()}")
    with machine(size) as hv:
        domid = hv.stub.create(of.guest(size))
        try:
            with open(path, "wb") as out:
                Ours(hv, domid).save(out.fileno())
            hv.stub.destroy(domid)
            ways: dict[str, Callable[[Any, int, int], None]] = {"ours": _by_pyxcsr}
            if context.library:
                ways["theirs"] = _by(context.library)
            actions = [lambda way=x: _restored(of, hv, size, path, way) for x in ways.values()]
            seconds = dict(zip(ways, in_turn(context.repeats, *actions)))
        finally:
            path.unlink(missing_ok=True)
    yield from _beside(of, "restore from tmpfs", seconds, 1e9 / pages_of(size), "ns/page", RESTORED)


def _restored(
    of: Kind, hv: Any, size: str, path: Path, restore: Callable[[Any, int, int], None]
) -> float:
    domid = hv.stub.create_empty(size, kind=of.kind)
    with open(path, "rb") as source:
        before = hv.stub.inside
        seconds = timed(lambda: restore(hv, domid, source.fileno()))
        inside = hv.stub.inside - before
    hv.stub.destroy(domid)
    return Seconds(seconds, inside)


def _by_pyxcsr(hv: Any, domid: int, fd: int) -> None:
    pyxcsr.restore(hv, domid, fd, store_evtchn=1, console_evtchn=2)


def _by(library: Any) -> Callable[[Any, int, int], None]:
    def restore(hv: Any, domid: int, fd: int) -> None:
        done = library.restore(fd, domid, store_evtchn=1, console_evtchn=2)
        if done.rc:
            raise OSError(done.errno, "libxenguest's restore failed")

    return restore


def rows(of: Kind, context: Context) -> Iterator[Row]:
    """All of it."""
    yield from _full(of, context, context.size("1G", "16M"))
    size = context.size("2G", "16M")
    context.say(f"paused phase: a {of.name} guest of {size}")
    for dirty in (FEW, MANY):
        yield from _paused(of, context, size, dirty)
    yield from _restore(of, context, context.size("1G", "16M"))
