"""The time that a saved guest stands still: how it begins, that it lasts, and how it ends if the save fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Optional

from pyxcsr.errors import DomainDying, SuspendError
from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor
from pyxcsr.suspend.base import Suspend
from pyxcsr.transfer.releasing import note

ATTEMPTS = 2
"""To resume a guest: one left suspended is lost to its users, so once more is worth it."""


class Pause:
    """One domain's pause in one save. ``suspend``: whoever suspends it."""

    def __init__(self, hv: Hypervisor, domid: int, suspend: Suspend) -> None:
        self._hv, self._domid, self._suspend = hv, domid, suspend
        self._since: Optional[float] = None
        self.seconds_suspending = 0.0
        """From asking the guest until it was suspended."""

    @property
    def begun(self) -> bool:
        """Whether the guest has been suspended for this save."""
        return self._since is not None

    def seconds(self) -> float:
        """How long the guest has been standing still."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def check(self, info: DomainInfo) -> None:
        """Raises what ``suspend`` does if the guest cannot be suspended as it is; nothing has been copied yet."""
        if not info.suspended:
            self._suspend.check()

    def begin(self, info: DomainInfo) -> None:
        """Suspends the guest, unless ``info`` says that it is. Raises SuspendError, DomainDying, or as ``suspend``."""
        asked = time.monotonic()
        if not info.suspended:
            self._suspend()
        self._since = time.monotonic()
        self.seconds_suspending = self._since - asked
        self.check_lasts("has not been suspended")

    def check_lasts(self, otherwise: str) -> None:
        """Raises DomainDying, or SuspendError with the text ``otherwise``, unless the guest is suspended now."""
        now = self._hv.domain_info(self._domid)
        if now.dying:
            raise DomainDying(f"domain {self._domid} was destroyed while it was being saved", domid=self._domid)
        if not now.suspended:
            raise SuspendError(f"domain {self._domid} {otherwise}", domid=self._domid, reason=now.shutdown_reason)

    @contextmanager
    def ends_if_this_fails(self, before: DomainInfo, is_complete: Callable[[], bool]) -> Iterator[None]:
        """Resumes a guest that was running ``before``, if ``suspend`` knows how; the first error is the one raised.

        Not once the stream ``is_complete``: whoever reads it may have the guest running already.
        """
        try:
            yield
        except BaseException as error:
            if is_complete():
                note(error, f"the stream is complete, and domain {self._domid} stays suspended")
            elif not before.suspended:
                self._end(error)
            raise

    def _end(self, error: BaseException) -> None:
        problem: Optional[Exception] = None
        for _ in range(ATTEMPTS):
            try:
                if self._hv.domain_info(self._domid).suspended:
                    self._suspend.resume()
                elif problem is not None:  # it runs, but not all of the resume succeeded
                    note(error, f"besides: {problem}")
                return
            except Exception as again:
                problem = again
        note(
            error,
            f"besides, domain {self._domid} may still be suspended: {problem}; let it go on with "
            f"pyxcsr.open_hypervisor({self._hv.backend!r}).domain_resume({self._domid})",
        )
