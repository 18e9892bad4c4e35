"""Measures how a guest dirties its memory: log-dirty mode on, bitmaps at intervals, off again on every way out.

What keeps a measurement and a save apart is in tracking.py.
"""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Optional

from pyxcsr.arguments import check_callback, check_domain, check_flag, check_seconds
from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.errors import BeingSaved, Cancelled, DomainDying, HypervisorError, LogDirtyUnsupported, UsageError
from pyxcsr.guest.hvm.limits import check_nr_gfns
from pyxcsr.guest.pv.p2m.map import pfn_limit
from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor, MeterHandle
from pyxcsr.measure.result import DirtyRate
from pyxcsr.measure.tracking import Ended, Tracking
from pyxcsr.measure.windows import Read, Windows, period_for, reads_for
from pyxcsr.transfer.device_model import device_model_found
from pyxcsr.transfer.releasing import ended_by, release_by
from pyxcsr.transfer.savers import Savers, savers_of

Cancel = Callable[[], bool]

POLL = 0.05
"""Seconds of waiting after which ``cancel`` is asked again."""

RANGES = 64
"""Into about so many ranges the guest's pfns are divided: from half of that on."""

NO_SHADOW = "this Xen has no shadow paging, without which it cannot track a PV guest's writes"
DEVICES = "it has PCI devices assigned, with which Xen does not track its writes: detach them (xl pci-detach)"
TRACKED = (
    "its writes are tracked already, or it has PCI devices assigned. Another save, migration or measurement may be at "
    "work on it: wait until that is over, because all of them share one bitmap. If a killed one has left log-dirty "
    "mode on, `pyxcsr recover` ends it. The display of an HVM guest's QEMU is tracked the same way: if you know that "
    "nothing else is at work, take over (--take-over)"
)


def dirty_rate(
    hv: Hypervisor,
    domid: int,
    *,
    seconds: float = 10.0,
    device_model: Optional[DeviceModel] = None,
    cancel: Optional[Cancel] = None,
    take_over: bool = False,
    savers: Optional[Savers] = None,
) -> DirtyRate:
    """Measures for about so many ``seconds`` how a running guest dirties its memory. Nothing is copied or mapped.

    The guest runs on, more slowly: once a second the first write to each page goes through Xen. If a save or migration
    of the guest begins meanwhile, by any toolstack on this host, the measurement ends, and ``ended_by`` of the result
    says so; if not even a second had been measured (or all, if that is less), that is an error.

    ``device_model``: of an HVM guest that has one, told to say which pages it writes; None: the guest's QEMU.
    ``cancel``: polled at least ten times a second; True ends the measurement. ``take_over``: if log-dirty mode is on
    already, and no process can be seen that saves the guest, ends it and begins it anew, instead of refusing.
    ``savers``: who looks for such processes; None: as usual.

    Whatever happens log-dirty mode is off afterwards, or a save's that has taken it over; if it could not be ended, the
    result has a warning, or the error a note. Raises XcsrError: DomainNotFound, DomainDying, BeingSaved,
    LogDirtyUnsupported, GuestStateError, DeviceModelError, Cancelled, HypervisorError, UsageError;
    OSError if /proc cannot be read.
    """
    check_domain(hv, domid)
    check_seconds("seconds", seconds)
    if math.isinf(seconds):
        raise UsageError("seconds is infinite: a measurement has an end")
    check_flag("take_over", take_over)
    if cancel is not None:
        check_callback("cancel", cancel, "a function that returns True to end the measurement")
    if device_model is not None:
        check_callback("device_model.track", getattr(device_model, "track", None), "a pyxcsr device model")
    return Measurement(hv, domid, seconds, device_model, cancel, take_over, savers=savers).run()


class Measurement:
    """One measurement. ``clock`` and ``sleep``: of the time module, or a test's; ``savers``: what looks for saves."""

    def __init__(
        self,
        hv: Hypervisor,
        domid: int,
        seconds: float,
        device_model: Optional[DeviceModel],
        cancel: Optional[Cancel] = None,
        take_over: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        savers: Optional[Savers] = None,
    ) -> None:
        self._hv, self._domid, self._seconds = hv, domid, seconds
        self._device_model, self._cancel, self._take_over = device_model, cancel, take_over
        self._clock, self._sleep, self._savers = clock, sleep, savers
        self._warnings: list[str] = []
        self._taken_over = False
        self._cleaning = list[float]()  # seconds that each bitmap took that was cleared
        self._bitmaps = 0
        self._measured = 0.0  # seconds, of whole periods
        self._meter: MeterHandle
        self._tracking: Tracking

    def run(self) -> DirtyRate:
        """Measures; see :func:`dirty_rate`."""
        info = self._check(self._hv.domain_info(self._domid))
        if self._device_model is None:
            self._device_model = device_model_found(self._hv, self._domid) if info.hvm else None
        nr_pfns = self._nr_pfns(info)
        with ExitStack() as stack:
            self._meter = self._hv.new_meter(self._domid, nr_pfns)
            release_by(stack, self._meter.close, self._warnings)
            self._tracking = tracking = self._track()
            with ended_by((tracking.end_model, tracking.end_logdirty, tracking.settle), self._warnings):
                self._begin()
                windows = self._measure()
            if tracking.ended_by is None:  # else the domain may have been moved away by now
                self._warn(info, nr_pfns)
            return self._result(info, nr_pfns, windows)

    # -- before

    def _check(self, info: DomainInfo) -> DomainInfo:
        if info.dying:
            raise DomainDying(f"domain {info.domid} is being destroyed", domid=info.domid)
        if info.shutdown:
            text = f"domain {info.domid} does not run ({info.shutdown_name}): it writes nothing"
            raise UsageError(text, domid=info.domid)
        if info.paused:
            self._warnings.append(f"domain {info.domid} was paused when it began to be measured")
        return info

    def _nr_pfns(self, info: DomainInfo) -> int:
        """How many pfns the guest has; a PV guest says so itself, so that it is bounded by what Xen says."""
        nr_pfns = self._hv.nr_gpfns(self._domid)
        return check_nr_gfns(info, nr_pfns) if info.hvm else min(nr_pfns, pfn_limit(info))

    def _track(self) -> Tracking:
        savers = savers_of(self._hv, self._domid) if self._savers is None else self._savers
        model = self._device_model or DeviceModel()
        return Tracking(
            self._hv, self._domid, self._meter, model, savers, self._warnings, self._clock, self._sleep
        )

    def _begin(self) -> None:
        try:
            self._taken_over = self._tracking.begin(self._take_over)
        except LogDirtyUnsupported as error:
            text = f"domain {self._domid} cannot be measured: {self._why(error)}"
            raise LogDirtyUnsupported(text, op=error.op, errno=error.errno, domid=self._domid) from error

    def _why(self, error: LogDirtyUnsupported) -> str:
        if error.errno != errno.EINVAL:
            return NO_SHADOW
        try:
            devices = self._hv.xenstore_directory(f"/local/domain/0/backend/pci/{self._domid}")
        except HypervisorError:
            devices = []  # it only makes the words more exact
        return DEVICES if devices else TRACKED

    # -- meanwhile

    def _measure(self) -> Windows:
        """All periods, or those until a save came."""
        windows: Optional[Windows] = None
        try:
            self._fetch(self._tracking.clean)
            period = period_for(self._seconds, self._tracking.took)
            windows = Windows(self._meter, period)
            for _ in range(max(1, round(self._seconds / 2.0**period))):
                self._one_period(windows, period)
        except Ended:
            if windows is None or windows.empty:
                raise self._nothing() from None
        return windows

    def _one_period(self, windows: Windows, period: int) -> None:
        tracking, reads = self._tracking, list[Read]()
        began = tracking.asked_at
        for level in reads_for(period, tracking.took):
            self._wait(began + 2.0**level)
            pages = self._fetch(tracking.peek)
            reads.append(Read(level, tracking.asked_at - began, pages))
        self._wait(began + 2.0**period)
        pages = self._fetch(tracking.clean)
        windows.period(reads, tracking.asked_at - began, pages)
        self._bitmaps += len(reads) + 1
        self._cleaning.append(tracking.took)
        self._measured += tracking.asked_at - began

    def _nothing(self) -> BeingSaved:
        text = f"nothing was measured of domain {self._domid}: {self._tracking.ended_by}"
        return BeingSaved(text, errno=errno.EBUSY, domid=self._domid)

    def _wait(self, until: float) -> None:
        while True:
            if self._cancel is not None and self._cancel():
                raise Cancelled(f"the measurement of domain {self._domid} was cancelled", domid=self._domid)
            left = until - self._clock()
            if left <= 0:
                return
            self._sleep(min(left, POLL))

    def _fetch(self, fetch: Callable[[], int]) -> int:
        try:
            return fetch()
        except HypervisorError as error:
            if self._hv.domain_info(self._domid).dying:
                text = f"domain {self._domid} was destroyed while it was measured"
                raise DomainDying(text, domid=self._domid) from error
            raise

    # -- afterwards

    def _warn(self, before: DomainInfo, nr_pfns: int) -> None:
        info = self._hv.domain_info(self._domid)
        if info.shutdown and not before.shutdown:
            self._warnings.append(f"domain {self._domid} stopped while it was measured ({info.shutdown_name})")
        if self._nr_pfns(info) > nr_pfns:
            text = f"domain {self._domid} has got more pfns than {nr_pfns}: the new ones are not counted"
            self._warnings.append(text)

    def _result(self, info: DomainInfo, nr_pfns: int, windows: Windows) -> DirtyRate:
        per_range = 64
        while nr_pfns > RANGES * per_range:
            per_range *= 2
        return DirtyRate(
            self._domid,
            self._measured,
            nr_pfns,
            info.tot_pages,
            info.nr_online_vcpus,
            self._bitmaps,
            sum(self._cleaning) / len(self._cleaning),
            windows.counted(),
            windows.distinct,
            windows.steady,
            per_range,
            windows.spread(per_range),
            self._taken_over,
            self._warnings,
            self._tracking.ended_by,
            windows.period_seconds,
        )
