"""Log-dirty mode for a measurement, beside saves that may begin at any moment.

Xen has one dirty bitmap for a domain and lets anybody take it over: a save that finds log-dirty mode on ends it and
begins it anew. From then on it needs every bit. If somebody else clears the bitmap or ends log-dirty mode, Xen tells
the save, without an error, of fewer dirty pages than there are, and what it writes is wrong. So a measurement

* reads the bitmap without clearing it (PEEK) as often as it likes, which loses nothing;
* clears it (CLEAN), and ends log-dirty mode, only if nobody is seen that saves the domain, and looks again directly
  afterwards. A save that is there then has begun in the same instant, and may have lost pages. Xen has no call that
  would make it fail. So it is told to end (SIGTERM); or, if it is a save in this process, its log-dirty mode is ended,
  which it notices. A loud failure is better than an image that is wrong and looks right. A process that has not opened
  the hypervisor's device by then has lost nothing and is left in peace;
* leaves log-dirty mode, and the device model's, to a save that it finds. They are that save's business; but if that
  fails at once nobody would end log-dirty mode, so it is ended then. The device model must not be told to stop a second
  time (:mod:`pyxcsr.devicemodel.told`), and whether that save has done it nobody can ask; so that is a warning.

A save, or `recover`, that came and went between two looks has not been seen. So the device model is always told to stop
as one that may have been told already.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from typing import Optional

from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.devicemodel.noted import Noted
from pyxcsr.devicemodel.told import Told
from pyxcsr.errors import DeviceModelError, DomainNotFound, HypervisorError, LogDirtyUnsupported
from pyxcsr.hypervisor.interface import Hypervisor, MeterHandle
from pyxcsr.transfer.savers import Saver, Savers, refuse_beside

AT_ONCE = 2.0
"""Seconds for which a save that was found is watched: one that fails before it begins does so by then."""

BETWEEN = 0.05


class Ended(Exception):
    """Log-dirty mode is not this measurement's any more; :attr:`Tracking.ended_by` says why."""


class Tracking:
    """Log-dirty mode of one domain, in Xen and in its device model.

    ``warnings``: gets what must be said; ``clock`` and ``sleep``: in seconds.
    """

    def __init__(
        self,
        hv: Hypervisor,
        domid: int,
        meter: MeterHandle,
        model: DeviceModel,
        savers: Savers,
        warnings: list[str],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._hv, self._domid, self._meter, self._savers = hv, domid, meter, savers
        noted = Noted(hv, domid, model, warnings.append)
        self._model = Told(model, lambda: hv.domain_info(domid).suspended, noted)
        self._warnings, self._clock, self._sleep = warnings, clock, sleep
        self._off: Callable[[], object] = meter.end
        self._left = self._model_left = False  # to a save
        self._unknown = False  # whether the device model has stopped
        self._has_model, self._taken_away = type(model) is not DeviceModel, False  # somebody has ended log-dirty mode
        self.asked_at = self.took = 0.0
        """When Xen was asked for the last bitmap, and how many seconds that took, without looking for saves."""
        self._on = False
        self.ended_by: Optional[str] = None
        """In words, who has ended it; None: nobody."""

    def begin(self, take_over: bool) -> bool:
        """Log-dirty mode on; True if it had been on and was taken over. Raises BeingSaved if a process
        saves the domain; LogDirtyUnsupported, DeviceModelError."""
        self._refuse(self._savers.now())
        taken_over = False
        try:
            self._meter.begin()
        except LogDirtyUnsupported as error:
            if not take_over or error.errno != errno.EINVAL:
                raise
            self._take_over()
            taken_over = True
        self._on = True
        came = self._users()
        if self._leave_to(came):  # log-dirty mode was off, so that this save comes after us, and takes it over
            self._refuse(came)
        self._model.begin()
        return taken_over

    def _take_over(self) -> None:
        self._refuse(self._savers.now())
        self._hv.logdirty_off(self._domid)
        came = self._users()
        self._end_harmed(came)
        self._refuse(came)
        self._meter.begin()

    def peek(self) -> int:
        """Reads the bitmap; returns how many pfns it names."""
        return self._timed(self._meter.peek)

    def clean(self) -> int:
        """Fetches the bitmap and clears it. Raises Ended, if a save was found or log-dirty mode had been ended."""
        if self._leave_to(self._users()):
            raise Ended
        try:
            dirty = self._timed(self._meter.fetch)
        except HypervisorError as error:
            if error.errno != errno.ENODATA:
                raise
            self.ended_by, self._taken_away = str(error), True
            raise Ended from error
        came = self._users()
        if came:
            self._end_harmed(came)
            self._leave_to(came)
            raise Ended
        return dirty

    def _timed(self, fetch: Callable[[], int]) -> int:
        self.asked_at = self._clock()
        try:
            return fetch()
        finally:
            self.took = self._clock() - self.asked_at

    # -- the end, in this order; each may be called again after an error

    def end_model(self) -> None:
        """The device model tells no more of what it writes, unless a save needs that."""
        if not self._model.begun or (self._on and self._leave_to(self._users())):
            return
        self._model.end_beside_others(seen=self._taken_away and self._has_model)
        came = self._users()
        if came:  # it may have been told already to tell, for the save
            try:
                self._model.begin()
            finally:
                self._end_harmed(came)
                self._leave_to(came)

    def end_logdirty(self) -> None:
        """Log-dirty mode off, unless it is a save's."""
        if not self._on or self._leave_to(self._users()):
            return
        self._off()
        self._on = False
        self._end_harmed(self._users())

    def settle(self) -> None:
        """If log-dirty mode was left to a save that fails at once, perhaps before it has begun, it is ended after all.

        Raises DeviceModelError if it is not known whether the device model has stopped.
        """
        until = self._clock() + AT_ONCE
        while self._left and self._users():
            if self._clock() >= until:
                return
            self._sleep(BETWEEN)
        if self._left and self._runs():
            self._on, self._off = True, lambda: self._hv.logdirty_off(self._domid)
            self.end_logdirty()
            self._unknown = self._model_left
        self._left = False
        if self._unknown:
            raise DeviceModelError(
                f"a save of domain {self._domid} began and failed at once. If it has not had the guest's QEMU stop "
                "telling which pages it writes, QEMU does so still, and is slower for it",
                domid=self._domid,
                op="track",
            )

    def _runs(self) -> bool:
        """A domain that a save has suspended, or that has gone, is slow for nobody."""
        try:
            info = self._hv.domain_info(self._domid)
        except DomainNotFound:
            return False
        return not (info.dying or info.shutdown)

    # -- others

    def _users(self) -> list[Saver]:
        """Processes that save the domain with log-dirty mode, as far as is known. One that suspends the guest first has
        no use for it, and might not end it either."""
        return [x for x in self._savers.now() if x.live is not False]

    def _leave_to(self, users: Sequence[Saver]) -> bool:
        """Whether there are any. Then log-dirty mode is theirs: a save that is not there yet takes it over."""
        if not users:
            return False
        self.ended_by = f"{_names(users)} saves the domain; log-dirty mode is left to that save"
        self._meter.leave()
        self._left, self._model_left = True, self._model_left or self._model.begun
        self._on = False
        self._model.leave()
        return True

    def _end_harmed(self, came: Sequence[Saver]) -> None:
        """Ends saves that were not there a moment ago, and may have begun to use the bitmap before it was cleared."""
        for saver in came:
            if self._savers.may_have_begun(saver) and self._end(saver):
                self._warnings.append(
                    f"{saver} began to save domain {self._domid} in the instant in which the dirty bitmap was cleared. "
                    "It could have missed pages, and was made to fail: run it again"
                )

    def _end(self, saver: Saver) -> bool:
        """Makes a save fail. A signal would end this program, too, if it is the one that saves: but a save of ours
        notices at its next bitmap that log-dirty mode was ended."""
        if saver.pid == os.getpid():
            return self._hv.logdirty_off(self._domid)
        return self._savers.end(saver)

    def _refuse(self, savers: Sequence[Saver]) -> None:
        refuse_beside(list(savers), self._domid, f"domain {self._domid} cannot be measured")


def _names(savers: Sequence[Saver]) -> str:
    return " and ".join(map(str, savers))
