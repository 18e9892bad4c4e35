"""Room at a p2m's end that a guest has only reserved for memory that it may get later: a save leaves it out."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyxcsr.guest.pv.geometry import Geometry

RESERVE_PAGES = 2
"""How many different pages of empty entries a guest may share (Linux: one for missing memory, one for identity)."""


class Reserve:
    """Knows reserve when it sees it. ``read``: copies pages of the p2m, and may raise. For one walk."""

    def __init__(self, geometry: Geometry, nr_mfns: int, read: Callable[[Sequence[int]], bytes]) -> None:
        self._words, self._nr_mfns, self._read = geometry.words, nr_mfns, read
        self._empty: dict[int, bool] = {}

    def is_all(self, leaves: Sequence[int], before: Sequence[int] = ()) -> bool:
        """Whether these pages of the p2m are shared pages of empty entries. ``before``: pages ahead of them, in which
        the same ones may be named again."""
        distinct = set(leaves)
        if len(distinct) > RESERVE_PAGES:
            return False
        shared = all(leaves.count(x) + before.count(x) > 1 for x in distinct)
        return shared and all(self._is_empty(x) for x in sorted(distinct))

    def _is_empty(self, mfn: int) -> bool:
        known = self._empty.get(mfn)
        if known is None:
            known = self._empty[mfn] = all(x >= self._nr_mfns for x in self._words(self._read([mfn])))
        return known
