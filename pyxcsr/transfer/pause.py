"""The time for which a saved guest is suspended: how it begins, that it lasts, and how it ends if the save fails.

Here a guest that this save has suspended is resumed if the save fails. (The output is thrown away by its owner:
pyxcsr/cli/output.py, or xl.)
"""

from __future__ import annotations

import time

from pyxcsr.errors import DomainDying, DomainNotFound, SuspendError, XcsrError, note
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import contextmanager, insist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Optional

    from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor
    from pyxcsr.suspend.base import Suspend

ATTEMPTS = 2
"""How often it is tried to resume a guest: one that stays suspended is lost to its users."""


class Pause:
    """The pause of one domain in one save. ``suspend``: suspends the domain, and can perhaps resume it."""

    def __init__(self, hv: Hypervisor, domid: int, suspend: Suspend) -> None:
        self._hv, self._domid, self._suspend = hv, domid, suspend
        self._since: Optional[float] = None
        self._going_on = False
        self.seconds_suspending = 0.0
        """How long the guest took to suspend, from being asked."""

    @property
    def begun(self) -> bool:
        """Whether the guest has been suspended for this save."""
        return self._since is not None

    @property
    def lasts(self) -> bool:
        """Whether the guest has been suspended for this save, and nobody has been asked yet to let it go on."""
        return self.begun and not self._going_on

    @property
    def suspended_at(self) -> Optional[float]:
        """See :class:`pyxcsr.Suspend`."""
        return self._suspend.suspended_at

    @property
    def resumed_at(self) -> Optional[float]:
        """See :class:`pyxcsr.Suspend`."""
        return self._suspend.resumed_at

    def watched_by(self, watch: Callable[[], None]) -> None:
        """See :meth:`pyxcsr.Suspend.watched_by`."""
        self._suspend.watched_by(watch)

    def seconds(self) -> float:
        """How long the guest has been suspended for this save."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def check(self, info: DomainInfo) -> None:
        """To be called before anything is copied. Raises what ``suspend.check`` raises."""
        if not info.suspended:
            self._suspend.check()

    def begin(self, info: DomainInfo, *, look: bool = True) -> None:
        """Suspends the guest, unless ``info`` says that it is suspended already. ``look``: asks Xen whether it is.

        Raises SuspendError, DomainDying, and what ``suspend`` raises.
        """
        asked = time.monotonic()
        if info.suspended:
            self._suspend.found_suspended()
        else:
            self._suspend()
        self._since = time.monotonic()
        self.seconds_suspending = self._since - asked
        if look:
            self.check_begun()

    def check_begun(self) -> None:
        """The suspender says that the guest is suspended: raises as check_lasts."""
        self.check_lasts("has not been suspended")

    def goes_on(self, resume: Optional[Callable[[], object]]) -> float:
        """Lets the guest go on after a checkpoint, by ``resume``, or (None) by who has suspended it.

        Returns for how long it was suspended. Raises SuspendError if it still is, and what ``resume`` raises.
        """
        self._going_on = True
        (self._suspend.resume if resume is None else resume)()
        if self._hv.domain_info(self._domid).suspended:
            raise SuspendError(
                f"domain {self._domid} is still suspended after a checkpoint: nobody has resumed it", domid=self._domid
            )
        seconds, self._since, self._going_on = self.seconds(), None, False
        return seconds

    def check_alive(self) -> DomainInfo:
        """The domain's state. Raises DomainDying if the guest is being destroyed."""
        now = self._hv.domain_info(self._domid)
        if now.dying:
            raise DomainDying(f"domain {self._domid} was destroyed while it was being saved", domid=self._domid)
        return now

    def check_lasts(self, otherwise: str) -> None:
        """Raises DomainDying if the guest is being destroyed, SuspendError(``otherwise``) if it is not suspended."""
        now = self.check_alive()
        if not now.suspended:
            raise SuspendError(f"domain {self._domid} {otherwise}", domid=self._domid, reason=now.shutdown_reason)

    @contextmanager
    def ends_if_this_fails(self, before: DomainInfo, is_complete: Callable[[], bool]) -> Iterator[None]:
        """If the body fails, resumes the guest, provided that it ran ``before`` and that ``suspend`` can resume it.

        It stays suspended if the stream ``is_complete`` by then: whoever reads it may have the guest running already.
        The body's error is the one that is raised; what goes wrong here is added to it as a note. Somebody who presses
        Ctrl-C here once more is heard when the guest goes on.
        """
        try:
            yield
        except BaseException as error:
            failed = error

            def leave() -> None:
                if is_complete():
                    note(failed, f"the stream is complete{self._state()}")
                elif not before.suspended:
                    self._end(failed)

            insist(leave)
            raise

    def _state(self) -> str:
        """As it is, and not as it was left: who is told that the stream is complete may have let the guest go on."""
        try:
            condition = self._hv.domain_info(self._domid).condition
        except XcsrError:  # it has gone, or nothing can be told of it
            return ""
        return f", and domain {self._domid} {'stays' if condition == 'suspended' else 'is'} {condition}"

    def _end(self, error: BaseException) -> None:
        problem: Optional[Exception] = None
        for _ in range(ATTEMPTS):
            try:
                now = self._hv.domain_info(self._domid)
                if now.dying:
                    return
                if now.suspended:
                    self._suspend.resume()
                elif problem is not None:  # the guest runs, but a later step of the first attempt failed
                    note(error, f"besides: {problem}")
                return
            except (DomainNotFound, DomainDying):  # nobody can let it go on
                return
            except Exception as again:
                problem = again
        note(
            error,
            f"besides, domain {self._domid} may still be suspended: {problem}; let it go on with "
            f"`pyxcsr recover {self._domid}`, or pyxcsr.resume()",
        )
