"""The older way to a p2m: a tree of frame lists. pfn_to_mfn_frame_list_list names lists, these the p2m's pages."""

from __future__ import annotations

from pyxcsr.errors import HypervisorError, P2mError
from pyxcsr.guest.pv.p2m.blame import is_the_guests
from pyxcsr.guest.pv.p2m.pagetable import Leaves
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_array import array

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional

    from pyxcsr.guest.pv.geometry import Geometry
    from pyxcsr.hypervisor.interface import Hypervisor


def problem_of_top(geometry: Geometry, top: int, nr_pfns: int) -> Optional[P2mError]:
    """Why no tree whose top is frame ``top`` can have so many pfns, whatever is in it; None if one can."""
    if not 0 < nr_pfns <= geometry.tree_pfns:
        return P2mError(
            f"the guest claims {nr_pfns:#x} pfns (shared_info max_pfn), but it can have 1 to {geometry.tree_pfns:#x}",
            field="max_pfn",
            value=nr_pfns,
            limit=geometry.tree_pfns,
        )
    if top in (0, geometry.invalid):
        return P2mError(
            "the guest tells neither where its p2m list is (p2m_cr3) nor its frame lists; "
            "it may not have come far enough in its boot",
            field="pfn_to_mfn_frame_list_list",
            value=top,
        )
    return None


def read_tree(hv: Hypervisor, domid: int, geometry: Geometry, top: int, nr_pfns: int, limit: int) -> Leaves:
    """The leaves of the tree whose top is frame ``top``. Raises P2mError (index, mfn)."""
    problem = problem_of_top(geometry, top, nr_pfns)
    if problem is not None:
        raise problem
    if nr_pfns > limit:
        raise P2mError(
            f"the guest claims {nr_pfns:#x} pfns (shared_info max_pfn), but it can have 1 to {limit:#x}",
            field="max_pfn",
            value=nr_pfns,
            limit=limit,
        )
    frames = geometry.nr_leaves(nr_pfns)
    lists = _level(hv, domid, geometry, [top], -(-frames // geometry.per_leaf), "frame list list")
    return Leaves(nr_pfns, _level(hv, domid, geometry, lists, frames, "frame list"))


def _level(hv: Hypervisor, domid: int, geometry: Geometry, mfns: Sequence[int], nr: int, name: str) -> array[int]:
    nr_mfns = hv.nr_mfns()
    bad = next((x for x in mfns if not 0 < x < nr_mfns), None)
    if bad is not None:
        raise P2mError(
            f"a {name} is in frame {bad:#x}, which this machine does not have",
            field="pfn_to_mfn_frame_list_list",
            value=bad,
            mfn=bad,
            max_mfn=nr_mfns - 1,
        )
    try:
        found = array("Q", geometry.words(hv.read_frames(domid, mfns))[:nr])
    except HypervisorError as error:
        if not is_the_guests(error):
            raise
        raise P2mError(
            f"the {name} cannot be read: {error}",
            field="pfn_to_mfn_frame_list_list",
            value=mfns[0],
            mfn=mfns[0],
            errno=error.errno,
        ) from error
    for i, mfn in enumerate(found):
        if not 0 < mfn < nr_mfns:
            raise P2mError(
                f"entry {i} of the {name} is {mfn:#x}, not a frame of this machine",
                field="pfn_to_mfn_frame_list_list",
                value=mfn,
                index=i,
                mfn=mfn,
                max_mfn=nr_mfns - 1,
            )
    return found
