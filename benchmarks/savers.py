"""The two savers, timed by the same marks.

A mark is the entry of a library call, which the stub notes for either saver:

* ``suspended``: the suspend callback returns; from here on the guest waits;
* ``pages_done``: xc_domain_get_tsc_info, the first thing either asks once the last page is out;
* ``complete``: log-dirty mode is turned off, the first thing either does once the stream has its END (live), or the
  save is over (not live).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Optional

import pyxcsr
from benchmarks.measure import Seconds
from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.policy import DEFAULT_P2M_CHANGES, Decision, P2mChanges, PrecopyStats

SUSPENDED = 2


@dataclass
class Marks:
    """When each mark was, by time.monotonic(), and how many seconds before it were the stub's own."""

    begun: float = 0.0
    suspended: float = 0.0
    pages_done: float = 0.0
    complete: float = 0.0
    ended: float = 0.0
    stub_in_pass: float = 0.0
    stub_in_pause: float = 0.0

    @property
    def whole(self) -> float:
        """The save as its caller sees it."""
        return self.ended - self.begun

    @property
    def last_pass(self) -> Seconds:
        """The pass with the guest suspended: all of it that is not live."""
        return Seconds(self.pages_done - self.suspended, self.stub_in_pass)

    @property
    def paused(self) -> Seconds:
        """From suspended to the end of the stream."""
        return Seconds(self.complete - self.suspended, self.stub_in_pause)


class Saver:
    """What both have in common: one live pass at most, a suspend callback, marks."""

    def __init__(self, hv: Any, domid: int) -> None:
        self.hv, self.domid = hv, domid
        self.guest = hv.stub.guest(domid)
        self.marks = Marks()

    def save(self, fd: int, *, live: bool = False, before: Optional[Callable[[], None]] = None) -> Marks:
        """Saves the guest and lets it go on. ``before``: called just before it is suspended."""
        self.marks = Marks()

        def suspend() -> None:
            if before is not None:
                before()
            self.guest.shut_down(SUSPENDED)
            inside.append(self.hv.stub.inside)
            self.marks.suspended = time.monotonic()

        inside: list[float] = []
        self.marks.begun = time.monotonic()
        self._save(fd, live, suspend)
        self.marks.ended = time.monotonic()
        self.marks.pages_done, then = self.hv.stub.entered("xc_domain_get_tsc_info")
        self.marks.stub_in_pass = then - inside[0]
        self.marks.complete, then = self.marks.ended, self.hv.stub.inside
        if live:
            self.marks.complete, then = self.hv.stub.entered("xc_shadow_control")
        self.marks.stub_in_pause = then - inside[0]
        self.hv.domain_resume(self.domid)
        return self.marks

    def _save(self, fd: int, live: bool, suspend: Callable[[], None]) -> None:
        raise NotImplementedError


def one_pass(stats: PrecopyStats) -> Decision:
    """One live pass, then the guest is suspended."""
    return Decision.CONTINUE if stats.iteration < 1 else Decision.STOP_AND_COPY


class Ours(Saver):
    """pyxcsr.save."""

    def __init__(
        self, hv: Any, domid: int, *, durable: bool = False, p2m_changes: P2mChanges = DEFAULT_P2M_CHANGES
    ) -> None:
        super().__init__(hv, domid)
        self._durable, self._p2m_changes = durable, p2m_changes
        self.report: Any = None  # of the last save

    def _save(self, fd: int, live: bool, suspend: Callable[[], None]) -> None:
        self.report = pyxcsr.save(
            self.hv, self.domid, fd, live=live, suspend=suspend, policy=one_pass, durable=self._durable,
            p2m_changes=self._p2m_changes, device_model=DeviceModel(),  # libxenguest is given none to tell, either
        )  # fmt: skip


def _nothing_to_track(on: bool) -> None:
    """What libxl does for a PVH guest when it is told to switch its device model's log-dirty mode."""


class Theirs(Saver):
    """libxenguest's xc_domain_save."""

    def __init__(self, hv: Any, domid: int, library: Any) -> None:
        super().__init__(hv, domid)
        self._library = library

    def _save(self, fd: int, live: bool, suspend: Callable[[], None]) -> None:
        def suspended() -> bool:
            suspend()
            return True

        def precopy(iteration: int, _written: int, _dirty: int) -> int:
            return int(iteration >= 1)

        model = _nothing_to_track if self.guest.state().hvm else None
        rc, error = self._library.save(
            fd, self.domid, live=live, suspend=suspended, precopy=precopy, device_model=model
        )
        if rc:
            raise OSError(error, "libxenguest's save failed")
