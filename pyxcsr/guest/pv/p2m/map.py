"""Finds and maps a PV guest's p2m, and makes sure that the guest has not changed it in the meantime."""

from __future__ import annotations

from pyxcsr.errors import HypervisorError, P2mChanged, P2mError
from pyxcsr.guest.pv.geometry import MAX_NR_PFNS
from pyxcsr.guest.pv.p2m.attempts import ATTEMPTS
from pyxcsr.guest.pv.p2m.blame import is_the_guests
from pyxcsr.guest.pv.p2m.frame_list import Tree
from pyxcsr.guest.pv.p2m.generation import check_same, read_even
from pyxcsr.guest.pv.p2m.pagetable import Walk
from pyxcsr.plain import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Optional

    from pyxcsr.guest.pv.geometry import Geometry
    from pyxcsr.guest.pv.p2m.pagetable import Leaves
    from pyxcsr.guest.pv.p2m.shared_info import P2mHead, SharedInfo
    from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor, P2mHandle

HOLES = 4 << 20
"""How many pfns without memory a guest may have: such as the holes in a PC's first 16 GiB (e820_host)."""

PFNS_A_PAGE = 64
"""How many pfns a guest may have for each page that it owns, after it has given most of its memory back.

A guest keeps more of a pfn than its entry: Linux has 64 bytes (struct page), so it needs a page for each 64 pfns."""


class MappedP2m(NamedTuple):
    """A mapped p2m: the handle, the pfns of its leaves, and p2m_generation during the walk."""

    handle: P2mHandle
    leaf_pfns: Sequence[int]
    generation: int


def shared_limit(info: DomainInfo) -> int:
    """How many pfns may lie in p2m frames that are named more than once, as guests do for holes and for hot-plug."""
    return 8 * max(info.max_pages, info.tot_pages) + HOLES


def pfn_limit_of(owned: int, may_own: int) -> int:
    """How many pfns a domain may have that owns ``owned`` pages and may own ``may_own``, whatever its width.

    Each frame of its p2m is one of the domain's own pages, of which it needs others as well, or is named more than
    once, for which shared_limit() sets the bound. Its own could be full of entries, and hold 512 pfns each, or 1024;
    but each pfn has a saver use memory of dom0's, too.
    """
    return min(PFNS_A_PAGE * owned + 8 * may_own + HOLES, MAX_NR_PFNS)


def pfn_limit(info: DomainInfo) -> int:
    """How many pfns a domain may claim, by what Xen says that it owns."""
    return pfn_limit_of(info.tot_pages, max(info.max_pages, info.tot_pages))


def find_leaves(
    hv: Hypervisor, info: DomainInfo, geometry: Geometry, head: P2mHead, walk: Optional[Walk] = None
) -> Leaves:
    """The frames of the guest's p2m, found by its list if there is one, else by its tree.

    ``walk``: the walk to use, if there was an earlier one that knows most of the tables.
    """
    limit = pfn_limit(info)
    walk = walk or Walk(hv, info.domid, geometry, limit)
    walk.limit = limit
    if not head.is_list:
        tree = Tree(hv, info.domid, geometry, limit, walk.keep, walk.poll)
        return tree.leaves(head.frame_list_list, head.nr_pfns)
    return walk.leaves(head.cr3, head.vaddr, head.nr_pfns)


def check_repeats(hv: Hypervisor, info: DomainInfo, geometry: Geometry, leaves: Leaves) -> None:
    """Raises P2mError if the guest names p2m frames repeatedly for more pfns than it may."""
    repeated = geometry.per_leaf * (len(leaves.mfns) - hv.nr_distinct(leaves.mfns))
    if repeated > shared_limit(info):
        raise P2mError(
            f"the guest names the same p2m frames for {repeated:#x} pfns; by what Xen says of the domain it may do so "
            f"for {shared_limit(info):#x}",
            field="p2m",
            value=repeated,
            limit=shared_limit(info),
        )


def map_leaves(hv: Hypervisor, domid: int, geometry: Geometry, leaves: Leaves) -> P2mHandle:
    """Maps the leaves. Raises P2mError if Xen refuses one."""
    try:
        return hv.map_p2m(domid, leaves.nr_pfns, leaves.mfns, geometry.width)
    except HypervisorError as error:
        if error.op != "xenforeignmemory_map" or not is_the_guests(error):
            raise
        raise P2mError(f"a frame of the p2m is not the guest's: {error}", field="p2m", errno=error.errno) from error


def _map(
    hv: Hypervisor, info: DomainInfo, shared: SharedInfo, generation: int, cancel: Callable[[], None]
) -> MappedP2m:
    walk = Walk(hv, info.domid, shared.geometry, pfn_limit(info), cancel)
    leaves = find_leaves(hv, info, shared.geometry, shared.head(), walk)
    check_repeats(hv, info, shared.geometry, leaves)
    handle = map_leaves(hv, info.domid, shared.geometry, leaves)
    try:
        pfns = handle.leaf_pfns()
        check_same(shared, generation)
    except BaseException:
        handle.close()
        raise
    return MappedP2m(handle, pfns, generation)


def map_p2m(hv: Hypervisor, info: DomainInfo, shared: SharedInfo, cancel: Callable[[], None]) -> MappedP2m:
    """Maps the p2m: reads an even generation, walks, reads the generation again, and starts again if it has changed.

    Raises P2mError if the guest's fields or tables are wrong, P2mChanged if the generation changes during each walk.
    """
    last: P2mError | None = None
    for _ in range(ATTEMPTS):
        generation = read_even(shared, not info.suspended, cancel)
        try:
            return _map(hv, info, shared, generation, cancel)
        except P2mError as error:
            if shared.generation() == generation and not isinstance(error, P2mChanged):
                raise  # nothing has changed meanwhile: the tables really are wrong
            last = error
        cancel()
    assert last is not None  # ATTEMPTS > 0
    raise last
