"""Finding and mapping a PV guest's p2m so that walk, leaves and generation belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional

from pyxcsr.errors import HypervisorError, P2mChanged, P2mError
from pyxcsr.guest.pv.p2m.frame_list import read_tree
from pyxcsr.guest.pv.p2m.generation import check_same, read_even
from pyxcsr.guest.pv.p2m.pagetable import MAX_NR_PFNS, PER_LEAF, Leaves, Walk
from pyxcsr.guest.pv.p2m.shared_info import P2mHead, SharedInfo
from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor, P2mHandle

ATTEMPTS = 16
"""How often a walk that a change of the p2m has overtaken is begun anew."""

HOLES = 4 << 20
"""Pfns that a guest may have besides its memory's: holes as in a PC's first 16 GiB (e820_host)."""


class MappedP2m(NamedTuple):
    """A mapped p2m: the handle, its leaves' pfns, and the generation it was taken at."""

    handle: P2mHandle
    leaf_pfns: Sequence[int]
    generation: int


def shared_limit(info: DomainInfo) -> int:
    """How many pfns may lie in p2m frames that are named more than once: room for holes and for hotplug."""
    return 8 * max(info.max_pages, info.tot_pages) + HOLES


def pfn_limit_of(owned: int, may_own: int) -> int:
    """How many pfns a domain may have that owns so many pages and may own so many.

    A frame holds 512 p2m entries, and each frame of the list is one of the domain's own, or named repeatedly.
    """
    return min(PER_LEAF * owned + 8 * may_own + HOLES, MAX_NR_PFNS)


def pfn_limit(info: DomainInfo) -> int:
    """How many pfns a domain may claim, by what Xen says that it owns."""
    return pfn_limit_of(info.tot_pages, max(info.max_pages, info.tot_pages))


def find_leaves(hv: Hypervisor, info: DomainInfo, head: P2mHead, walk: Optional[Walk] = None) -> Leaves:
    """The frames of the guest's p2m, by the list if there is one, else by the tree.

    ``walk``: one that knows the tables already.
    """
    limit = pfn_limit(info)
    if not head.is_list:
        return read_tree(hv, info.domid, head.frame_list_list, head.nr_pfns, limit)
    walk = walk or Walk(hv, info.domid, limit)
    walk.limit = limit
    return walk.leaves(head.cr3, head.vaddr, head.nr_pfns)


def check_repeats(info: DomainInfo, leaves: Leaves) -> None:
    """Raises P2mError if too much of the p2m is the same frames over and over."""
    repeated = PER_LEAF * (len(leaves.mfns) - len(set(leaves.mfns)))
    if repeated > shared_limit(info):
        raise P2mError(
            f"the guest names the same p2m frames for {repeated:#x} pfns; by what Xen says of the domain it may do so "
            f"for {shared_limit(info):#x}",
            field="p2m",
            value=repeated,
            limit=shared_limit(info),
        )


def map_leaves(hv: Hypervisor, domid: int, leaves: Leaves) -> P2mHandle:
    """Maps them. Raises P2mError if one cannot be mapped."""
    try:
        return hv.map_p2m(domid, leaves.nr_pfns, leaves.mfns)
    except HypervisorError as error:
        if error.op != "xenforeignmemory_map":
            raise
        raise P2mError(f"a frame of the p2m is not the guest's: {error}", field="p2m", errno=error.errno) from error


def _map(hv: Hypervisor, info: DomainInfo, shared: SharedInfo, generation: int) -> MappedP2m:
    leaves = find_leaves(hv, info, shared.head())
    check_repeats(info, leaves)
    handle = map_leaves(hv, info.domid, leaves)
    try:
        pfns = handle.leaf_pfns()
        check_same(shared, generation)
    except BaseException:
        handle.close()
        raise
    return MappedP2m(handle, pfns, generation)


def map_p2m(hv: Hypervisor, info: DomainInfo, shared: SharedInfo, cancel: Callable[[], None]) -> MappedP2m:
    """Maps the p2m: read an even generation, walk, read the same generation again; else once more.

    Raises P2mError if the guest's fields or tables are wrong, P2mChanged if they never hold still.
    """
    last: P2mError | None = None
    for _ in range(ATTEMPTS):
        generation = read_even(shared, not info.suspended, cancel)
        try:
            return _map(hv, info, shared, generation)
        except P2mError as error:
            if shared.generation() == generation and not isinstance(error, P2mChanged):
                raise  # nothing moved: the tables really are wrong
            last = error
        cancel()
    assert last is not None  # ATTEMPTS > 0
    raise last
