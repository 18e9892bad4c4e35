"""Measures how a guest dirties its memory: log-dirty mode on, bitmaps at intervals, off again on every way out."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Optional

from pyxcsr.arguments import check_callback, check_domain, check_flag, check_seconds
from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.errors import Cancelled, DomainDying, HypervisorError, LogDirtyUnsupported, UsageError
from pyxcsr.guest.hvm.limits import check_nr_gfns
from pyxcsr.guest.pv.p2m.map import pfn_limit
from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor, MeterHandle
from pyxcsr.measure.result import DirtyRate
from pyxcsr.measure.windows import Windows, leaves, lengths_for
from pyxcsr.transfer.releasing import ended_by, release_by

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
) -> DirtyRate:
    """Measures for about so many ``seconds`` how a running guest dirties its memory. Nothing is copied or mapped.

    The guest runs on, more slowly: each page's first write after a bitmap was fetched goes through Xen. A save or
    migration must not begin meanwhile, because Xen has one bitmap for a domain, and who fetches it clears it.

    ``device_model``: of an HVM guest that has one, told to say which pages it writes; without it these are not seen.
    ``cancel``: polled at least ten times a second; True ends the measurement. ``take_over``: if log-dirty mode is on
    already, ends it and begins it anew, instead of refusing. If a save is at work, that ruins what it saves.

    Whatever happens log-dirty mode is off afterwards; if it could not be ended, the result has a warning, or the error
    a note. Raises XcsrError: DomainNotFound, DomainDying, LogDirtyUnsupported, GuestStateError, DeviceModelError,
    Cancelled, HypervisorError, UsageError.
    """
    check_domain(hv, domid)
    check_seconds("seconds", seconds)
    check_flag("take_over", take_over)
    if cancel is not None:
        check_callback("cancel", cancel, "a function that returns True to end the measurement")
    if device_model is not None:
        check_callback("device_model.track", getattr(device_model, "track", None), "a pyxcsr device model")
    return Measurement(hv, domid, seconds, device_model or DeviceModel(), cancel, take_over).run()


class Measurement:
    """One measurement. ``clock`` and ``sleep``: of the time module, or a test's."""

    def __init__(
        self,
        hv: Hypervisor,
        domid: int,
        seconds: float,
        device_model: DeviceModel,
        cancel: Optional[Cancel] = None,
        take_over: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._hv, self._domid, self._seconds = hv, domid, seconds
        self._device_model, self._cancel, self._take_over = device_model, cancel, take_over
        self._clock, self._sleep = clock, sleep
        self._warnings: list[str] = []
        self._taken_over = False
        self._fetching, self._last, self._bitmaps = 0.0, 0.0, 0
        self._began = self._at = 0.0  # when the first bitmap was asked for, and the last one
        self._meter: MeterHandle

    def run(self) -> DirtyRate:
        """Measures; see :func:`dirty_rate`."""
        info = self._check(self._hv.domain_info(self._domid))
        nr_pfns = self._nr_pfns(info)
        with ExitStack() as stack:
            self._meter = self._hv.new_meter(self._domid, nr_pfns)
            release_by(stack, self._meter.close, self._warnings)
            with ended_by((self._meter.end, self._model_off), self._warnings):
                self._begin()
                windows = self._measure()
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

    def _begin(self) -> None:
        self._device_model.track(True)
        try:
            self._taken_over = self._meter.begin(self._take_over)
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

    def _model_off(self) -> None:
        self._device_model.track(False)

    # -- meanwhile

    def _measure(self) -> Windows:
        self._fetch()
        self._began = self._at
        finest, coarse = lengths_for(self._last)
        windows, until = Windows(self._meter, finest, coarse), self._began
        self._fetching = 0.0
        for level in leaves(finest, coarse, self._seconds, lambda: self._last * 4 <= 2.0**finest):
            until += 2.0**level
            self._wait(until)
            since = self._at
            dirty = self._fetch()
            windows.leaf(level, self._at - since, dirty)
            self._bitmaps += 1
            until = max(until, self._at)  # what was late once need not be late for ever
        return windows

    def _wait(self, until: float) -> None:
        while True:
            if self._cancel is not None and self._cancel():
                raise Cancelled(f"the measurement of domain {self._domid} was cancelled", domid=self._domid)
            left = until - self._clock()
            if left <= 0:
                return
            self._sleep(min(left, POLL))

    def _fetch(self) -> int:
        self._at = self._clock()
        try:
            return self._meter.fetch()
        except HypervisorError as error:
            if self._hv.domain_info(self._domid).dying:
                text = f"domain {self._domid} was destroyed while it was measured"
                raise DomainDying(text, domid=self._domid) from error
            raise
        finally:
            self._last = self._clock() - self._at
            self._fetching += self._last

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
            self._at - self._began,
            nr_pfns,
            info.tot_pages,
            info.nr_online_vcpus,
            self._bitmaps,
            self._fetching / self._bitmaps,
            windows.counted(),
            windows.distinct,
            windows.steady,
            per_range,
            windows.spread(per_range),
            self._taken_over,
            self._warnings,
        )
