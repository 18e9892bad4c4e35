"""Throttling as a part of one save: when it is asked for, what the report says of it, and that it never ends a save."""

from __future__ import annotations

from pyxcsr.errors import HypervisorError, NotSupported
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional

    from pyxcsr.limits.limits import Limits
    from pyxcsr.report import SaveReport
    from pyxcsr.transfer.throttle import Throttle, Throttled


class Throttling:
    """``limits``: may be changed while the save runs; ``report``: gets the most that was taken, and warnings."""

    def __init__(self, hv: Throttled, domid: int, limits: Limits, report: SaveReport) -> None:
        self._hv, self._domid, self._limits, self._report = hv, domid, limits, report
        self._throttle: Optional[Throttle] = None
        self._over = False  # nothing is taken any more, because the guest is to have all of it back
        self._failed = False  # no further steps; what has been taken stays taken as long as it is wanted

    @property
    def taken(self) -> float:
        """The share of its processor time that the guest lacks now."""
        return 0.0 if self._throttle is None else self._throttle.taken

    @property
    def wanted(self) -> bool:
        """Whether time may be taken from the guest now."""
        return self._limits.throttle and not (self._over or self._failed)

    def _new(self) -> Throttle:
        from pyxcsr.transfer.throttle import Throttle  # most saves have no use for it

        return Throttle(self._hv, self._domid)

    def check(self) -> None:
        """Before anything is copied. Raises NotSupported if the guest's scheduler has no caps; HypervisorError.

        A save that is not to throttle gives back what a killed one has taken: nobody else may ever do.
        """
        if self._limits.throttle:
            self._throttle = self._new()
            self._throttle.check()
        else:
            self._put_back()

    def _put_back(self) -> None:
        from pyxcsr.transfer.cap import put_back, read_record

        try:
            record = read_record(self._hv, self._domid)
            left = None if record is None else put_back(self._hv, self._domid, record)
        except HypervisorError as problem:
            self._report.warnings.append(f"if a killed save has left a cap, it stays: {problem}")
            return
        if record is not None:
            told = left or f"and is put back ({record.was or 'none'}, as it was)"
            self._report.warnings.append(f"a save that was killed has left the guest's cap lowered: {told}")

    def step(self) -> bool:
        """Takes more of the guest's time; False if it has lost as much as it may, or if that fails: a warning."""
        if not self.wanted:
            return False
        try:
            if self._throttle is None:  # it is wanted since the save began
                self._throttle = self._new()
            before, taken = self._throttle.taken, self._throttle.tighten()
        except (HypervisorError, NotSupported) as problem:
            self._failed = True
            self._report.warnings.append(f"no more processor time is taken from the guest: {problem}")
            return False
        self._report.throttled = max(self._report.throttled, taken)
        return taken > before

    def heed(self) -> None:
        """To be called now and then: if throttling has been switched off, the guest has its time back."""
        throttle = self._throttle
        if throttle is not None and throttle.changed and not self._limits.throttle and not self._over:
            self.release_early()
            self._over = self._throttle is not None  # it could not be given back: the end of the save tries again

    def release_early(self) -> None:
        """Before the guest is asked to suspend. If that fails, ``release`` tries again at the end, and tells."""
        self._over = True
        try:
            self.release()
        except HypervisorError:
            return

    def release_at_end(self) -> None:
        """The stream is complete, and somebody is about to be told, who may end this process at once: this is the last
        chance, and if it fails the report says so in time."""
        self._over = True
        try:
            self.release()
        except HypervisorError as problem:
            self._report.warnings.append(f"the guest does not have its processor time back: {problem}")

    def release(self) -> None:
        """Gives all of it back, on every way out. Raises HypervisorError; `pyxcsr recover` can do it then."""
        throttle = self._throttle
        if throttle is None:
            return
        throttle.release()
        self._throttle = None
        if throttle.left is not None:
            self._report.warnings.append(throttle.left)
