"""Machines and guests of the stub for benchmarks: mappings cost next to nothing, and guests may exceed our memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyxcsr
from pyxcsr.hypervisor.stub.text import StubGuest
from pyxcsr.units import parse_size

PAGE = 4096
OF_ITS_OWN = 4 << 30
"""Guests up to this size have memory of their own; in larger ones the pages beyond their tables share 256 MiB."""
FILLED = 1 << 30
"""In larger guests most pages are never looked at, and are not filled either."""


def pages_of(size: str) -> int:
    """Pages in a size such as 4G."""
    return parse_size(size) // PAGE


def backed_frames(pages: int) -> int:
    """Room for a guest's page tables and p2m (2 pages in 512), its kernel's pages, and the m2p (1 frame in 512)."""
    return pages * 3 // 512 + (1 << 15)


@contextmanager
def machine(*sizes: str, **more: Any) -> Iterator[Any]:
    """A hypervisor on a new machine with room for guests of these sizes. In the end nothing of them may be left.

    The guests must be created in this order, because only the last may be one whose pages share memory. Their
    shared_info may lie anywhere, as since Xen 4.22, because a first guest of 4 GiB takes all that is below 4 GiB.
    """
    pages = sum(pages_of(x) for x in sizes)
    large = pages_of(sizes[-1]) * PAGE > OF_ITS_OWN
    own = pages - pages_of(sizes[-1])
    fields: dict[str, Any] = {
        "frames": pages + pages // 256 + (1 << 16),
        "window": True,
        "shared_info_anywhere": True,
        "backed": own + backed_frames(pages) if large else 0,
        **more,
    }
    opened: Any = pyxcsr.open_hypervisor("stub")
    with opened as hv:
        hv.stub.reset(**fields)
        yield hv
        assert hv.stub.leaks() == {}, hv.stub.leaks()


def describe(size: str, **more: Any) -> StubGuest:
    """A guest that writes only when told to, with its tables in a row; one vcpu."""
    filled = pages_of(size) * PAGE <= FILLED
    fields: dict[str, Any] = {"writer": "none", "packed": True, "filled": filled, "fixmap": False, **more}
    return StubGuest.pv64(mem=size, **fields)


@contextmanager
def guest(size: str, **more: Any) -> Iterator[tuple[Any, int]]:
    """A hypervisor, and such a guest alone on its machine, destroyed at the end."""
    with machine(size) as hv:
        domid: int = hv.stub.create(describe(size, **more))
        try:
            yield hv, domid
        finally:
            hv.stub.destroy(domid)


def memory_of(hv: Any, domid: int, pages: int) -> Any:
    """All of a guest's memory as one mapping. The guest must have its frames in a row, without holes."""
    first = hv.stub.guest(domid).mfn(0)
    assert hv.stub.guest(domid).mfn(pages - 1) == first + pages - 1
    return hv.map_frames(domid, range(first, first + pages))
