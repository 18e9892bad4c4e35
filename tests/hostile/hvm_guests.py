"""Hostile PVH and HVM guests, as rows like those of guests.py.

All that such a guest can say to a saver is where it has pages, what is in them, some of its parameters, and its nodes
in xenstore. Pages named by parameters that it cannot set it can give back, which is the same as if they named holes.
Its registers and its devices are Xen's to keep.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hostile.guests import BITMAPS, IMAGE, INFOS, MAPS, NONE, TYPES, Hostile, Outcome, no
from hostile.inside import HvmInside
from pyxcsr.guest.hvm.limits import HOLES
from pyxcsr.hypervisor.stub.panel import StubError
from pyxcsr.stream import hvm_params as hp

QUIET = "mem=4M,max_mem=6M,writes=0,seed=5,compact=yes"
BUSY = QUIET.replace("writes=0", "writes=60")
WHOLE = "mem=4M,max_mem=6M,writes=0,seed=5"
FAR = 1 << 31
ASKED = ("xs_write", 1)
FAR_OUT = no("GuestStateError", "mapped far out")


def hvm(name: str, act: Callable[[Any], object], *expect: Outcome, kind: str = "pvh", guest: str = QUIET,
        **more: Any) -> Hostile:  # fmt: skip
    """A row. The act is one of HvmInside's."""
    return Hostile(f"{kind}: {name}", act, expect, guest=guest, kind=kind, **more)


def of_each(*rows: Hostile) -> list[Hostile]:
    """Rows of PVH guests, and the same of HVM guests, whose device model writes all the time."""
    again = [replace(x, name=x.name.replace("pvh: ", "hvm: "), kind="hvm", guest=f"{x.guest},devmodel=2") for x in rows]
    return [*rows, *again]


# -- where it has pages


def _far() -> list[Hostile]:
    def grow(g: HvmInside) -> None:
        if g.guest.running and len(g.changed) < 60:
            g.get(g.guest.nr_pfns + 1000)

    def limit(g: HvmInside) -> int:
        return 8 * g.guest.state().max_pages + HOLES

    return [
        hvm("a page far out", lambda g: g.get(FAR), FAR_OUT, for_good=True),
        hvm("a page far out, and given back", lambda g: (g.get(FAR), g.out(FAR)), FAR_OUT, for_good=True),
        hvm("a page one past what it may have", lambda g: g.get(limit(g)), FAR_OUT, for_good=True),
        hvm("a page far out in the first pass", lambda g: g.get(FAR), FAR_OUT, when=(TYPES, 1), live_only=True,
            for_good=True),
        hvm("a page far out when asked to suspend", lambda g: g.get(FAR), FAR_OUT, when=ASKED, for_good=True),
        hvm("a page at 1 GiB", lambda g: g.get(1 << 18), IMAGE),
        hvm("a page at 1 GiB when asked to suspend", lambda g: g.get(1 << 18), IMAGE, when=ASKED),
        hvm("a new last page at each bitmap", grow, IMAGE, when=("every", BITMAPS), live_only=True, guest=BUSY),
        hvm("a new last page at each map", grow, IMAGE, when=("every", MAPS), live_only=True, guest=BUSY),
        hvm("a new last page at each look for its pages", grow, IMAGE, when=("every", INFOS), live_only=True),
        hvm("a PC's holes", lambda g: None, IMAGE, guest=WHOLE),
    ]  # fmt: skip


def _out(g: HvmInside) -> None:
    """A few pages go at each call, up to two hundred."""
    gfns = g.ordinary()
    if g.guest.running and len(g.changed) < 200:
        g.out(*gfns[-6:])


def _in(g: HvmInside) -> None:
    if g.guest.running and g.guest.state().tot_pages + 8 < g.guest.state().max_pages:
        g.get(*range(g.guest.nr_pfns, g.guest.nr_pfns + 6))


def _out_and_in(g: HvmInside) -> None:
    """Out at one call, in at the next one."""
    if not g.guest.running:
        return
    turn = g.memory["turn"] = g.memory.get("turn", -1) + 1
    gfn = g.memory.setdefault("gfn", g.data(60))
    if turn % 2:
        g.get(gfn)
        g.memory.pop("gfn")
    else:
        g.out(gfn)


def _exchange(g: HvmInside) -> None:
    """A page goes and another one comes in its place, between two looks of anybody's."""
    if g.guest.running:
        gfn = g.ordinary()[len(g.changed) % 200]
        g.out(gfn)
        g.get(gfn)


def _race(g: HvmInside) -> None:
    """The same from a thread, at any moment."""
    with suppress(StubError):  # it was suspended, or is gone, since it was asked
        _exchange(g)


def _balloon() -> list[Hostile]:
    return [
        hvm("gives pages back at each call", _out, IMAGE, when=("every", TYPES)),
        hvm("gives pages back between type and map", _out, IMAGE, when=("every", MAPS)),
        hvm("gives most of its pages back", lambda g: g.out(*g.ordinary()[8:]), IMAGE, when=(TYPES, 2), live_only=True),
        hvm("gives most of its pages back when asked", lambda g: g.out(*g.ordinary()[8:]), IMAGE, when=ASKED),
        hvm("gets pages at each call", _in, IMAGE, when=("every", TYPES)),
        hvm("gets pages at each map", _in, IMAGE, when=("every", MAPS), guest=BUSY),
        hvm("out and in by turns", _out_and_in, IMAGE, when=("every", TYPES), guest=BUSY),
        hvm("out and in by turns at each map", _out_and_in, IMAGE, when=("every", MAPS), guest=BUSY),
        hvm("exchanges pages at each call", _exchange, IMAGE, when=("every", TYPES), guest=BUSY),
        hvm("exchanges pages all the time", _race, IMAGE, when="thread", guest=BUSY),
    ]  # fmt: skip


# -- its parameters


def _set(index: int, value: int) -> Callable[[Any], object]:
    return lambda g: g.param(index, value)


def _given_back(index: int, shift: int = 0) -> Callable[[Any], object]:
    """The page that a parameter names is none of its pages any more."""

    def act(g: HvmInside) -> None:
        gfn = g.data(70)
        g.param(index, gfn << shift)
        g.out(gfn)

    return act


def _params() -> list[Hostile]:
    rows: list[Hostile] = []
    for index in (hp.STORE_PFN, hp.CONSOLE_PFN, hp.IDENT_PT):
        name, shift = hp.name(index), 12 if index == hp.IDENT_PT else 0
        refused = no("GuestStateError", name)
        rows += [
            hvm(f"{name} 0", _set(index, 0), IMAGE),
            hvm(f"{name} an ordinary page", lambda g, i=index, s=shift: g.param(i, g.data() << s), IMAGE),
            hvm(f"{name} given back", _given_back(index, shift), refused),
            hvm(f"{name} given back when suspended", _given_back(index, shift), refused, when="suspended"),
            hvm(f"{name} beyond its end", _set(index, 1 << 30 << shift), refused),
            hvm(f"{name} 2^51", _set(index, 1 << 51 << shift), refused),
            hvm(f"{name} all ones", _set(index, NONE), refused),
        ]
    rows.append(hvm("IDENT_PT not aligned", _set(hp.IDENT_PT, 0x100001), no("GuestStateError", "IDENT_PT")))
    for index in (hp.IOREQ_PFN, hp.BUFIOREQ_PFN, hp.MONITOR_RING_PFN, hp.IOREQ_SERVER_PFN):
        name = hp.name(index)
        rows += [
            hvm(f"{name} given back", _given_back(index), IMAGE, kind="hvm"),
            hvm(f"{name} all ones", _set(index, NONE), no("GuestStateError", name), kind="hvm"),
        ]
    for index, value in (
        (hp.VM_GENERATION_ID_ADDR, NONE), (hp.ACPI_IOPORTS_LOCATION, 7), (hp.X87_FIP_WIDTH, 5),
        (hp.NR_IOREQ_SERVER_PAGES, 1000), (hp.VM86_TSS_SIZED, 1),
    ):  # fmt: skip
        name = hp.name(index)
        rows.append(hvm(f"{name} {value:#x}", _set(index, value), no("GuestStateError", name), kind="hvm"))
    rows += [
        hvm("VM_GENERATION_ID_ADDR in a hole", _set(hp.VM_GENERATION_ID_ADDR, FAR << 12), IMAGE, kind="hvm"),
        hvm("VM86_TSS_SIZED in a hole", _set(hp.VM86_TSS_SIZED, 0xFFFFF000 | 200 << 32), IMAGE, kind="hvm"),
        hvm("STORE_EVTCHN all ones", _set(hp.STORE_EVTCHN, NONE), IMAGE),
        hvm("CALLBACK_IRQ 0", _set(hp.CALLBACK_IRQ, 0), IMAGE, kind="hvm"),
        hvm("CALLBACK_IRQ all ones", _set(hp.CALLBACK_IRQ, NONE), IMAGE, kind="hvm"),
        hvm("CALLBACK_IRQ without a driver", _set(hp.CALLBACK_IRQ, NONE), no("SuspendTimeout", "did not acknowledge"),
            kind="hvm", guest=f"{QUIET},pv_drivers=no", patience=0.15),
    ]  # fmt: skip
    return rows


# -- suspending, and going away


def _suspending(how: str) -> Callable[[Any], object]:
    return lambda g: g.guest.set_suspend(how)


def _asks_itself(g: HvmInside) -> None:
    if g.guest.running:
        g.hv.stub.store_write(f"/local/domain/{g.domid}/control/shutdown", "suspend")


def _ways_out() -> list[Hostile]:
    pending = no("SuspendError", "control/shutdown")
    rows = [
        hvm("never suspends", _suspending("ignore"), no("SuspendTimeout", "did not acknowledge"), patience=0.15),
        hvm("acknowledges and goes on", _suspending("ack-only"), no("SuspendTimeout", "did not suspend"),
            patience=0.15),
        hvm("crashes while suspending", _suspending("crash"), no("SuspendError", "crash"), lost=True),
        hvm("powers off while suspending", _suspending("poweroff"), no("SuspendError", "poweroff"), lost=True),
        hvm("writes control/shutdown itself", lambda g: g.store("control/shutdown", "reboot"), pending),
        hvm("a long control/shutdown", lambda g: g.store("control/shutdown", "x" * 3000), pending),
        hvm("control/shutdown is taken back", lambda g: g.store("control/shutdown", ""), IMAGE,
            no("SuspendTimeout", ""), when=("every", "xs_read"), patience=0.15),
        hvm("asks itself to suspend, again and again", _asks_itself, IMAGE, no("SuspendError", ""), when="thread",
            patience=0.15),
    ]  # fmt: skip
    gone = (no("DomainDying", "domain"), no("DomainNotFound", "domain"), no("HypervisorError", "domain"),
            no("SuspendError", "domain"), no("PageError", "pfn"))  # fmt: skip
    for function, n in ((MAPS, 1), (TYPES, 1), (TYPES, 2), (INFOS, 4)):
        rows.append(hvm(f"destroyed at {function} {n}", lambda g: g.guest.destroy(), *gone, when=(function, n),
                        lost=True))  # fmt: skip
        rows.append(hvm(f"crashes at {function} {n}", lambda g: g.guest.shut_down(3), *gone, when=(function, n),
                        lost=True, live_only=True))  # fmt: skip
    rows.append(hvm("destroyed when suspended", lambda g: g.guest.destroy(), *gone, when="suspended", lost=True))
    rows.append(hvm("suspends itself in the first pass", lambda g: g.guest.shut_down(2), IMAGE, when=(TYPES, 1),
                    live_only=True))  # fmt: skip
    return rows


def _pod() -> list[Hostile]:
    refused = no("NotSupported", "populated on demand")
    return [
        hvm("never populated", lambda g: g.never_populated(), refused, guest=f"{QUIET},pod=1M", patience=0.15),
        hvm("never populated, and nothing to do it with", lambda g: g.never_populated(), refused,
            guest=f"{QUIET},pod=1M,pod_missing=1M", patience=0.15),
    ]  # fmt: skip


HVM_GUESTS = [*of_each(*_far(), *_balloon(), *_pod(), *_ways_out()), *_params()]
"""All of them; their names are distinct."""
