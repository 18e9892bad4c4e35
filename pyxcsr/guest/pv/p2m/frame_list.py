"""The older way to a p2m: a tree of frame lists. pfn_to_mfn_frame_list_list names lists, these the p2m's pages."""

from __future__ import annotations

from pyxcsr.errors import HypervisorError, P2mError
from pyxcsr.guest.pv.p2m.blame import is_the_guests
from pyxcsr.guest.pv.p2m.pagetable import AT_ONCE, Leaves, check_limit
from pyxcsr.guest.pv.p2m.reserve import Reserve
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_array import array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Optional

    from pyxcsr.guest.pv.geometry import Geometry
    from pyxcsr.hypervisor.interface import Hypervisor


TOP, LIST, PAGE = "frame list list", "frame list", "page of the p2m that is named repeatedly"
"""What a tree is made of."""


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
            "it may not have come far enough in its boot, or have gone on since it was restored",
            field="pfn_to_mfn_frame_list_list",
            value=top,
        )
    return None


class Tree:
    """Reads a tree. ``limit``: how many pfns the guest may have; ``keep``: at least so many stay, as in Walk.

    ``poll``: called every few lists; may raise Cancelled.
    """

    def __init__(
        self, hv: Hypervisor, domid: int, geometry: Geometry, limit: int, keep: int, poll: Callable[[], None]
    ) -> None:
        self._hv, self._domid, self._geometry = hv, domid, geometry
        self._limit, self._keep, self._poll = limit, keep, poll
        self._nr_mfns = hv.nr_mfns()

    def leaves(self, top: int, nr_pfns: int) -> Leaves:
        """The leaves of the tree whose top is frame ``top``. Raises P2mError (index, mfn)."""
        problem = problem_of_top(self._geometry, top, nr_pfns)
        if problem is not None:
            raise problem
        frames = self._geometry.nr_leaves(nr_pfns)
        lists = self._entries([top], -(-frames // self._geometry.per_leaf), TOP)
        lists, nr_pfns = self._trim(lists, nr_pfns)
        return Leaves(nr_pfns, self._entries(lists, self._geometry.nr_leaves(nr_pfns), LIST))

    def _trim(self, lists: array[int], nr_pfns: int) -> tuple[array[int], int]:
        """Cuts off lists at the end that name nothing but shared pages of empty entries, as Walk does with tables."""
        reserve = Reserve(self._geometry, self._nr_mfns, lambda mfns: self._copy(mfns, PAGE))
        per_list, frames = self._geometry.per_leaf, self._geometry.nr_leaves(nr_pfns)
        known: set[int] = set()  # whole lists, found to be reserve
        kept = len(lists)
        while kept and (kept - 1) * per_list**2 >= self._keep:
            nr = min(frames - (kept - 1) * per_list, per_list)
            if nr < per_list or lists[kept - 1] not in known:
                ahead = lists[kept - 2 : kept - 1] if nr < per_list else lists[:0]  # nothing, if there is only one
                used = self._entries([*ahead, lists[kept - 1]], len(ahead) * per_list + nr, LIST)
                if not reserve.is_all(used[-nr:], used[:-nr]):
                    break
                if nr == per_list:
                    known.add(lists[kept - 1])
            kept -= 1
        if kept < len(lists):
            nr_pfns = kept * per_list**2
        check_limit(nr_pfns, self._limit)
        return lists[:kept], nr_pfns

    def _entries(self, mfns: Sequence[int], nr: int, name: str) -> array[int]:
        """The first ``nr`` entries of these lists in a row, checked."""
        bad = next((x for x in mfns if not 0 < x < self._nr_mfns), None)
        if bad is not None:
            raise P2mError(
                f"a {name} is in frame {bad:#x}, which this machine does not have",
                field="pfn_to_mfn_frame_list_list",
                value=bad,
                mfn=bad,
                max_mfn=self._nr_mfns - 1,
            )
        found = array("Q")
        for index in range(0, len(mfns), AT_ONCE):
            found.extend(self._geometry.words(self._copy(mfns[index : index + AT_ONCE], name)))
        del found[nr:]
        for i, mfn in enumerate(found):
            if not 0 < mfn < self._nr_mfns:
                raise P2mError(
                    f"entry {i} of the {name} is {mfn:#x}, not a frame of this machine",
                    field="pfn_to_mfn_frame_list_list",
                    value=mfn,
                    index=i,
                    mfn=mfn,
                    max_mfn=self._nr_mfns - 1,
                )
        return found

    def _copy(self, mfns: Sequence[int], name: str) -> bytes:
        self._poll()
        try:
            return self._hv.read_frames(self._domid, mfns)
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
