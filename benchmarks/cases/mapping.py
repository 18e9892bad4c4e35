"""What the stub itself costs either saver for a page: to ask its type, to map and to unmap it, in batches of 1024.

Measured on the machines that the other cases use (window), and on ordinary ones, where each run of frames is an mmap().
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from benchmarks import peer
from benchmarks.context import Context
from benchmarks.guests import describe, machine, pages_of
from benchmarks.measure import computed, in_turn
from benchmarks.native import reference
from benchmarks.rows import Row, of_values

ORDERS: dict[str, dict[str, Any]] = {
    "window": {},
    "mmap, frames in runs of 1 GiB": {"window": False, "extent_order": 18},
    "mmap, scattered frames": {"window": False, "extent_order": 0},
}


def stub_cost(context: Context, hv: Any, domid: int, pages: int) -> list[float]:
    """Seconds that the stub itself takes for a pass, for either saver: types asked, pages mapped and unmapped."""
    assert context.standin is not None and context.library is not None
    ffi, ctrl = peer.libxenctrl(context.standin)
    own, lib = reference()
    names = ("xc_get_pfn_type_batch", "xenforeignmemory_map", "xenforeignmemory_unmap")
    functions = own.new("void *[]", [own.cast("void *", int(ffi.cast("uintptr_t", getattr(ctrl, x)))) for x in names])
    fmem = ctrl.xenforeignmemory_open(ffi.NULL, 0)
    handles = [own.cast("void *", x) for x in (context.library.handle, int(ffi.cast("uintptr_t", fmem)))]
    guest = hv.stub.guest(domid)
    frames = own.new("uint64_t[]", [guest.mfn(x) for x in range(pages)])

    def action() -> None:
        assert lib.ref_stub_batches(functions, *handles, domid, frames, pages) == 0

    (seconds,) = in_turn(context.repeats, lambda: computed(action))
    ctrl.xenforeignmemory_close(fmem)
    return seconds


def run(context: Context) -> Iterator[Row]:
    """A row for each machine."""
    if not context.library:
        context.say("left out: the stub's calls can be reached only in the stand-in that carries libxenguest")
        return
    size = context.size("256M", "16M")
    pages = pages_of(size)
    for what, order in ORDERS.items():
        context.say(f"the stub's own mappings: {what}")
        frames = 3 << 18 if order.get("extent_order") else pages + (1 << 16)
        with machine(size, frames=frames, backed=0, **order) as hv, ExitStack() as stack:
            domid = hv.stub.create(describe(size))
            stack.callback(hv.stub.destroy, domid)
            values = [x * 1e9 / pages for x in stub_cost(context, hv, domid, pages)]
        yield of_values("mapping", f"the stub's part of a pass: {what}", values, unit="ns/page")
