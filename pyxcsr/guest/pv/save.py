"""Saving PV guests, 64-bit and 32-bit ones."""

from __future__ import annotations

from pyxcsr.errors import GuestStateError, NotSupported, P2mError
from pyxcsr.guest.pv.changes import FollowedChanges, RefusedChanges
from pyxcsr.guest.pv.following import P2mFollowing
from pyxcsr.guest.pv.geometry import GEOMETRIES
from pyxcsr.guest.pv.p2m.shared_info import SharedInfo
from pyxcsr.guest.x86 import policy_records
from pyxcsr.plain import TYPE_CHECKING, final
from pyxcsr.plain_contexts import ExitStack, suppress
from pyxcsr.stream.format import DomainType
from pyxcsr.stream.records import PvInfo, frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Optional, Union

    from pyxcsr.guest.ops import Following, SaveContext, Write
    from pyxcsr.guest.pv.geometry import Geometry
    from pyxcsr.hypervisor.interface import EndPlan, P2mHandle, SaveHandle
    from pyxcsr.stream.records import Record

STATE_ROOM = 24576
"""Bytes for a vcpu's state in the stream: a guess."""


@final
class PvSaveOps:
    """See :class:`pyxcsr.guest.ops.SaveOps` for the contract of each method."""

    domain_type = DomainType.PV

    def __init__(self, context: SaveContext) -> None:
        self._hv, self._info, self._options, self._poll = context.hv, context.info, context.options, context.poll
        self._domid = context.info.domid
        self._report = context.report.p2m
        self._known: Optional[Geometry] = None
        self._shared: Optional[SharedInfo] = None
        self._p2m: Union[FollowedChanges, RefusedChanges, None] = None

    @property
    def nr_pfns(self) -> int:
        return self._taken.nr_pfns

    @property
    def p2m(self) -> P2mHandle:
        return self._taken.handle

    @property
    def p2m_generation(self) -> int:
        return self._taken.generation

    @property
    def suspend_first(self) -> bool:
        """True if changes are followed: the p2m is then mapped after the suspend, when it cannot change any more."""
        return self._options.follows_p2m

    @property
    def _taken(self) -> Union[FollowedChanges, RefusedChanges]:
        if self._p2m is None:
            raise P2mError("the p2m has not been mapped", field="p2m", value=None)
        return self._p2m

    @property
    def _geometry(self) -> Geometry:
        """What the guest's width decides. Xen is asked once: a domain that has memory stays as wide as it is."""
        if self._known is None:
            width = self._hv.domain_width(self._domid)
            self._known = GEOMETRIES.get(width)
            if self._known is None:
                raise NotSupported(
                    f"domain {self._domid} is a PV guest with words of {width} bytes; this release saves 64-bit and "
                    "32-bit ones",
                    domid=self._domid,
                )
        return self._known

    def check(self) -> None:
        self._geometry  # noqa: B018 - raises

    def setup(self) -> None:
        if not 0 < self._info.shared_info_mfn < self._hv.nr_mfns():
            mfn = self._info.shared_info_mfn
            raise P2mError(
                f"domain {self._domid} has no shared_info page (mfn {mfn:#x})", field="shared_info", value=mfn
            )
        self._shared = SharedInfo(self._hv, self._domid, self._info.shared_info_mfn, self._geometry)
        if self._options.follows_p2m:
            settle_seconds = self._options.p2m_limits.settle_seconds
            self._p2m = FollowedChanges(self._hv, self._info, self._shared, self._poll, self._report, settle_seconds)
        else:
            self._p2m = RefusedChanges(self._hv, self._info, self._shared, self._poll)
        self._p2m.setup()

    def following(self, save: SaveHandle, write: Write) -> Optional[Following]:
        if not isinstance(self._p2m, FollowedChanges):
            return None
        return P2mFollowing(self._p2m, save, write, self._options.p2m_limits, self._report)

    def switch_device_model(self, on: bool, alone: bool = True) -> None:
        """Nothing: what a PV guest's backends write goes through grants, which Xen's log-dirty mode sees."""

    def static_data(self) -> Iterator[Record]:
        yield PvInfo(self._geometry.width, self._geometry.top)
        yield from policy_records(self._hv, self._domid)

    def start_of_stream(self) -> Iterator[Record]:
        return self._taken.start()

    def start_of_checkpoint(self) -> Iterator[Record]:
        """Nothing: a PV guest's checkpoint begins with its pages."""
        return iter(())

    def check_iteration(self) -> Iterator[Record]:
        return self._taken.check()

    def rehearse(self, save: SaveHandle) -> None:
        with suppress(GuestStateError):  # only a guest that suspends puts start_info into vcpu 0's rdx
            self.end_of_checkpoint(save)

    def plan_end(self, save: SaveHandle, last: bytes) -> Optional[EndPlan]:
        place = self._taken.place()
        if place is None:
            return None
        from pyxcsr.hypervisor.interface.ending import EndPlan

        before = b"".join(map(frame, self._taken.end_of_pages()))
        words, tables = place
        max_vcpu = self._info.max_vcpu_id
        room = STATE_ROOM * (max_vcpu + 2)
        return EndPlan(self._page.frames, words, 1, tables, max_vcpu, (), (), 0, 0, before, last, room)

    def end_of_pages(self) -> Iterator[Record]:
        return self._taken.end_of_pages()

    @property
    def _page(self) -> SharedInfo:
        if self._shared is None:
            raise P2mError("shared_info has not been mapped", field="shared_info", value=None)
        return self._shared

    def end_of_checkpoint(self, save: SaveHandle) -> bytes:
        return self._hv.pv_state(self._domid, self._info.max_vcpu_id, self._page.frames, self.p2m)

    def cleanup(self) -> None:
        with ExitStack() as stack:  # each is released even if releasing the other fails
            if self._shared is not None:
                stack.callback(self._shared.close)
            if self._p2m is not None:
                stack.callback(self._p2m.close)
