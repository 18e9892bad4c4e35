"""Suspending a guest through xenstore's control/shutdown, as libxl does, with every way it can go wrong."""

from __future__ import annotations

import time
from typing import Callable, NoReturn, Optional, Protocol

from pyxcsr.errors import Cancelled, DomainDying, DomainNotFound, SuspendError, SuspendTimeout
from pyxcsr.hypervisor.interface import DomainInfo
from pyxcsr.suspend.base import Suspend

REQUEST = b"suspend"
_WITHDRAWN = b""

SECONDS_AFTER_CANCEL = 5.0
"""How long a cancelled suspend waits for a guest that already acknowledged, to bring it back."""

_WITHDRAWN_TEXT = "the request was withdrawn"

_BUSY_SECONDS = 1.0
_SLOW_POLL = 0.01


class _Store(Protocol):
    """The part of a Hypervisor that withdrawing needs."""

    def xenstore_compare_and_write(self, path: str, expected: bytes, new: bytes, /) -> bool:
        """Sets the node if it holds ``expected``, in one transaction; False if it holds anything else."""


class DomainControl(_Store, Protocol):
    """The part of a Hypervisor that is needed here."""

    def domain_info(self, domid: int, /) -> DomainInfo:
        """The domain's state. Raises DomainNotFound."""

    def domain_resume(self, domid: int, /) -> None:
        """Lets a suspended domain go on (xc_domain_resume, fast, and xs_resume_domain)."""

    def xenstore_read(self, path: str, /) -> Optional[bytes]:
        """The node's content, or None if there is no such node."""

    def xenstore_write(self, path: str, value: bytes, /) -> None:
        """Sets the node."""


def withdraw(hv: _Store, domid: int) -> bool:
    """Takes back a request to suspend that the guest has not acknowledged; returns whether there was one."""
    return hv.xenstore_compare_and_write(_path(domid), REQUEST, _WITHDRAWN)


def _path(domid: int) -> str:
    return f"/local/domain/{domid}/control/shutdown"


class XenstoreSuspend(Suspend):
    """A callable that suspends a domain and returns once it is suspended; ``resume()`` undoes it.

    It writes "suspend" to the guest's control/shutdown. The guest empties the node (it acknowledges), then
    suspends itself. ``timeout`` seconds are given for the acknowledgement, and the same again to get there.
    ``poll`` is the time between two looks in seconds; it is part of the guest's downtime. ``cancel``, if
    given, is asked at every look.

    On any failure the request is withdrawn, unless the guest has acknowledged it: compared and emptied in one
    xenstore transaction, so that a guest that wakes up late cannot suspend with nobody there to resume it.

    After a call ``seconds_to_acknowledge`` and ``seconds_to_suspend`` say how long the guest took for each,
    or are None where it did not get that far.
    """

    def __init__(
        self,
        hv: DomainControl,
        domid: int,
        *,
        timeout: float = 60.0,
        poll: float = 0.001,
        cancel: Optional[Callable[[], bool]] = None,
    ) -> None:
        if timeout <= 0 or poll <= 0:
            raise ValueError("timeout and poll must be greater than 0")
        self._hv = hv
        self._domid = domid
        self._timeout = timeout
        self._poll = poll
        self._cancel = cancel
        self._path = _path(domid)
        self._ours = False  # the request is out: if the domain suspends, it is because of it
        self.seconds_to_acknowledge: Optional[float] = None
        self.seconds_to_suspend: Optional[float] = None

    def __call__(self) -> None:
        """Suspends the domain. A domain that is suspended already stays so, and is not ours to resume.

        Raises SuspendTimeout (the guest did not answer, or answered and did not suspend), SuspendError (it
        cannot be asked, or shut down for another reason), DomainDying, Cancelled, and what the hypervisor's
        methods raise.
        """
        self._ours = False
        self.seconds_to_acknowledge = self.seconds_to_suspend = None
        if self._is_suspended():
            return
        self.check()
        start = time.monotonic()
        try:
            self._hv.xenstore_write(self._path, REQUEST)
            self._ours = True
            self._wait(start)
        except BaseException as error:
            if isinstance(error, (Cancelled, SuspendTimeout)) and "acknowledged" in error.facts:
                raise  # these come with the request dealt with
            self._settle_after(error)
            raise

    def resume(self) -> bool:
        """Lets the domain go on if this object's request suspended it; returns whether it did.

        For after a save, failed or complete, and after a SuspendTimeout whose guest acknowledged: it may
        suspend any time. A second call does nothing. Raises like the call itself.
        """
        if not self._ours or not self._is_suspended():
            return False
        self._hv.domain_resume(self._domid)
        self._ours = False
        return True

    def check(self) -> None:
        """Raises SuspendError if the domain cannot be asked as it is: for a saver, before it copies anything."""
        if self._info().paused:
            raise SuspendError(
                f"domain {self._domid} is paused and cannot suspend itself; unpause it first",
                domid=self._domid,
            )
        pending = self._hv.xenstore_read(self._path)
        if pending not in (None, _WITHDRAWN, REQUEST):
            raise SuspendError(
                f"domain {self._domid} has been asked for {pending!r} and has not answered yet "
                f"({self._path}); asking it to suspend would lose that",
                domid=self._domid,
            )

    def _wait(self, start: float) -> None:
        """Returns once the domain is suspended."""
        acknowledge_by = start + self._timeout
        suspend_by = acknowledge_by + self._timeout
        while True:
            acknowledged = self.seconds_to_acknowledge is not None
            if self._is_suspended():
                self._note_suspended(start)
                return
            now = time.monotonic()
            if not acknowledged and self._hv.xenstore_read(self._path) != REQUEST:
                self.seconds_to_acknowledge = now - start
            elif self._cancel is not None and self._cancel():
                self._give_up_cancelled()
            elif not acknowledged and now >= acknowledge_by:
                self._give_up_unanswered(start)
            elif acknowledged and now >= suspend_by:
                raise self._no_suspend(now - start)
            time.sleep(self._poll if now - start < _BUSY_SECONDS else max(self._poll, _SLOW_POLL))

    def _note_suspended(self, start: float) -> None:
        self.seconds_to_suspend = time.monotonic() - start
        if self.seconds_to_acknowledge is None:
            # It suspended between two looks, or without an acknowledgement: the request must not be there
            # when it is resumed, or it would suspend at once again.
            self.seconds_to_acknowledge = self.seconds_to_suspend
            withdraw(self._hv, self._domid)

    def _withdraw(self) -> bool:
        """Takes the request back, after which the domain is none of ours; False if it was acknowledged."""
        if not withdraw(self._hv, self._domid):
            return False
        self._ours = False
        return True

    def _give_up_unanswered(self, start: float) -> None:
        """At the end of the time to acknowledge. Returns if the guest acknowledged at the last moment."""
        seconds = time.monotonic() - start
        if not self._withdraw():
            self.seconds_to_acknowledge = seconds
            return
        raise SuspendTimeout(
            f"domain {self._domid} did not acknowledge the request to suspend within {seconds:.0f} s; "
            "the request was withdrawn and the guest goes on running. Is its kernel up, and does it watch "
            "control/shutdown?",
            domid=self._domid, seconds=seconds, acknowledged=False,
        )

    def _no_suspend(self, seconds: float) -> SuspendTimeout:
        return SuspendTimeout(
            f"domain {self._domid} acknowledged the request to suspend but did not suspend within "
            f"{seconds:.0f} s. The request cannot be withdrawn any more: should the guest suspend later, it "
            "has to be resumed by hand; its console may tell what it waits for",
            domid=self._domid, seconds=seconds, acknowledged=True,
        )

    def _give_up_cancelled(self) -> NoReturn:
        outcome = self._settle()
        raise Cancelled(
            f"cancelled while domain {self._domid} was asked to suspend; {outcome}",
            domid=self._domid, acknowledged=outcome != _WITHDRAWN_TEXT,
        )

    def _settle(self) -> str:
        """Leaves the guest running: withdraws the request, or awaits a guest on its way and resumes it.

        Returns what was done, as text.
        """
        if self._withdraw():
            return _WITHDRAWN_TEXT
        deadline = time.monotonic() + SECONDS_AFTER_CANCEL
        while not self._is_suspended():
            if time.monotonic() >= deadline:
                return "it acknowledged but has not suspended yet: should it do so, resume it by hand"
            time.sleep(self._poll)
        self._hv.domain_resume(self._domid)
        self._ours = False
        return "it had acknowledged, and was resumed when it had suspended"

    def _settle_after(self, error: BaseException) -> None:
        """Settles after ``error``, which stays the one that is reported."""
        if isinstance(error, (DomainDying, SuspendError)):
            return  # shut down or gone: no guest is left that could see the request
        try:
            self._settle()
        except Exception as second:
            if error.__context__ is None:
                error.__context__ = second

    def _is_suspended(self) -> bool:
        """Whether the domain is shut down with reason suspend. Raises if it never will be."""
        info = self._info()
        if info.dying:
            raise DomainDying(f"domain {self._domid} is being destroyed", domid=self._domid)
        if not info.shutdown:
            return False
        if not info.suspended:
            raise SuspendError(
                f"domain {self._domid} has shut down, not suspended: {info.shutdown_name}",
                domid=self._domid, reason=info.shutdown_reason,
            )
        return True

    def _info(self) -> DomainInfo:
        try:
            return self._hv.domain_info(self._domid)
        except DomainNotFound as error:
            raise DomainDying(f"domain {self._domid} is gone", domid=self._domid) from error
