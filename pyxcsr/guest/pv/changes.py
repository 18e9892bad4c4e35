"""What a save does if a PV guest changes its p2m: end, or follow the change and tell the receiver."""

from __future__ import annotations

import time

from pyxcsr.errors import P2mError
from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.guest.pv.p2m.follow import FollowedP2m
from pyxcsr.guest.pv.p2m.generation import check_same
from pyxcsr.guest.pv.p2m.map import map_p2m
from pyxcsr.plain import TYPE_CHECKING, final
from pyxcsr.plain_array import array
from pyxcsr.stream.records import P2mFrames, PageData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Optional

    from pyxcsr.guest.pv.p2m.map import MappedP2m
    from pyxcsr.guest.pv.p2m.shared_info import SharedInfo
    from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor, P2mHandle
    from pyxcsr.report import P2mReport
    from pyxcsr.stream.records import Record


@final
class RefusedChanges:
    """Any change of structure ends the save."""

    def __init__(self, hv: Hypervisor, info: DomainInfo, shared: SharedInfo, cancel: Callable[[], None]) -> None:
        self._hv, self._info, self._shared, self._cancel = hv, info, shared, cancel
        self._mapped: Optional[MappedP2m] = None
        self._begun = False

    def setup(self) -> None:
        """Maps the p2m."""
        self._mapped = map_p2m(self._hv, self._info, self._shared, self._cancel)
        self.handle.check_leaves()

    @property
    def _taken(self) -> MappedP2m:
        if self._mapped is None:
            raise P2mError("the p2m has not been mapped", field="p2m", value=None)
        return self._mapped

    @property
    def handle(self) -> P2mHandle:
        """The mapped p2m."""
        return self._taken.handle

    @property
    def nr_pfns(self) -> int:
        """How many pfns it covers."""
        return self.handle.nr_pfns

    @property
    def generation(self) -> int:
        """p2m_generation when it was mapped."""
        return self._taken.generation

    def start(self) -> Iterator[Record]:
        """The record that names the p2m's pages."""
        yield P2mFrames(0, self.nr_pfns - 1, self._taken.leaf_pfns)

    def place(self) -> Optional[tuple[list[tuple[int, int, int]], Sequence[int]]]:
        """See FollowedP2m.place: here the generation alone counts."""
        return self._shared.words(self.generation, self._shared.head())[:1], ()

    def check(self) -> Iterator[Record]:
        """Raises P2mChanged if its structure has changed.

        At first also P2mError if one of its pages has become a page table before writes were tracked, or the guest was
        suspended; what becomes one later, bitmaps tell.
        """
        check_same(self._shared, self.generation)
        if not self._begun:
            self.handle.check_leaves()
            self._begun = True
        return iter(())

    def end_of_pages(self) -> Iterator[Record]:
        """Nothing."""
        return iter(())

    def close(self) -> None:
        """Unmaps it."""
        if self._mapped is not None:
            self._mapped.handle.close()


@final
class FollowedChanges:
    """Changes are followed, and the receiver is told by a further X86_PV_P2M_FRAMES.

    A receiver's p2m never shrinks: the receiver writes p2m entries up to the largest size that it was ever told of. If
    the guest's p2m has shrunk, the guest may use its former p2m pages for something else, which must not be
    overwritten. So the record names, for all p2m pages that the guest no longer has, one page at the last pfn that the
    receiver was ever told of. The guest has no such pfn any more; the page is sent for this purpose alone. If its
    p2m gets these pages back, as between checkpoints, that page is sent as a hole: nothing else notes that it was sent.
    """

    def __init__(
        self,
        hv: Hypervisor,
        info: DomainInfo,
        shared: SharedInfo,
        cancel: Callable[[], None],
        report: P2mReport,
        settle_seconds: float,
    ) -> None:
        self._p2m = FollowedP2m(hv, info.domid, shared, cancel, settle_seconds)
        self._nr_leaves = shared.geometry.nr_leaves
        self._report, self._is_final = report, info.suspended
        self._told: Optional[tuple[int, int, Sequence[int]]] = None
        self._spare: Optional[int] = None  # where end_of_pages has sent a page that the guest does not have
        self.nr_pfns = 0
        """The largest size that the p2m ever had: as many pfns as the receiver has been told of."""

    def setup(self) -> None:
        """Maps the p2m."""
        self._refresh(self._p2m.look)

    @property
    def handle(self) -> P2mHandle:
        """The mapped p2m: the same handle for the whole save."""
        return self._p2m.handle

    @property
    def generation(self) -> int:
        """p2m_generation when it was last mapped."""
        return self._p2m.generation

    def start(self) -> Iterator[Record]:
        """The record that names the p2m's pages."""
        yield self._tell()

    def check(self) -> Iterator[Record]:
        """Follows a change if there was one. Raises P2mChanged instead if the guest is suspended."""
        if self._is_final:
            self._p2m.check_same()
        else:
            yield from self._look(self._p2m.look)

    def note_written(self, written: Callable[[Sequence[int]], bool]) -> None:
        """A dirty bitmap has come. ``written``: whether it names one of these frames. See FollowedP2m."""
        self._p2m.note_written(written)

    def place(self) -> Optional[tuple[list[tuple[int, int, int]], Sequence[int]]]:
        """See FollowedP2m.place."""
        return self._p2m.place()

    def looked_last(self) -> None:
        """The last look has been made by somebody else, and has found nothing new."""
        self._is_final = True

    def look_last(self) -> Iterator[Record]:
        """The last look, when the guest is suspended: whatever the guest says, its p2m's pages are looked up again."""
        yield from self._look(self._p2m.look_last)
        self._is_final = True

    def _look(self, look: Callable[[], bool]) -> Iterator[Record]:
        began = time.monotonic()
        try:
            changed = self._refresh(look)
        finally:
            self._report.seconds_following += time.monotonic() - began
        if not changed:
            return
        self._report.follows += 1
        self._report.unannounced += not self._p2m.announced
        if self._whole() != self._told:
            self._report.records += 1
            yield self._tell()
        if self._spare is not None and not self._nr_lost:
            yield PageData.build([(self._spare, PageType.XTAB, b"")])  # if the guest has a page there, that follows
            self._spare = None

    def _refresh(self, look: Callable[[], bool]) -> bool:
        """Looks by ``look``; returns what it returns: whether anything has changed."""
        changed = look()
        if changed:
            self.handle.check_leaves()
        self.nr_pfns = max(self.nr_pfns, self.handle.nr_pfns)
        return changed

    def _whole(self) -> tuple[int, int, Sequence[int]]:
        """All that the receiver must know: the size of its p2m, that of the guest's, the p2m's pages."""
        return self.nr_pfns, self.handle.nr_pfns, self._frames()

    def _tell(self) -> Record:
        self._told = self._whole()
        return P2mFrames(0, self.nr_pfns - 1, self._told[2])

    def _frames(self) -> Sequence[int]:
        """The pfns of the p2m's pages, for all pfns that the receiver knows of."""
        frames, lost = self._p2m.leaf_pfns, self._nr_lost
        return frames if not lost else array("Q", frames) + array("Q", [self.nr_pfns - 1]) * lost

    @property
    def _nr_lost(self) -> int:
        """How many pages fewer the p2m has than the receiver knows of."""
        return self._nr_leaves(self.nr_pfns) - len(self._p2m.leaf_pfns)

    def end_of_pages(self) -> Iterator[Record]:
        """If the p2m has lost pages: the page that the receiver may write instead of them."""
        if self._nr_lost:
            self._spare = self.nr_pfns - 1
            yield PageData.build([(self._spare, PageType.NOTAB, bytes(PAGE_SIZE))])

    def close(self) -> None:
        """Unmaps it."""
        self._p2m.close()
