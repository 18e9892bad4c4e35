"""Suspending a guest through xenstore's control/shutdown, as libxl does, with every way it can go wrong."""

from __future__ import annotations

import time

from pyxcsr.arguments import check_domain, check_seconds
from pyxcsr.errors import Cancelled, DomainDying, DomainNotFound, HypervisorError, SuspendError, SuspendTimeout, note
from pyxcsr.plain import TYPE_CHECKING, Protocol
from pyxcsr.plain_contexts import insist
from pyxcsr.suspend.base import Suspend

if TYPE_CHECKING:
    from typing import Callable, NoReturn, Optional

    from pyxcsr.hypervisor.interface import DomainInfo

REQUEST = b"suspend"
_WITHDRAWN = b""

SECONDS_AFTER_CANCEL = 5.0
"""If a suspend is cancelled after the guest has acknowledged it: how long to wait for the guest, to resume it."""

_WITHDRAWN_TEXT = "the request was withdrawn"
_RESUMED_TEXT = "it had acknowledged, and was resumed when it had suspended"
_MAY_SUSPEND_TEXT = "it acknowledged but has not suspended yet"

_ATTEMPTS = 2
"""How often it is tried to leave a guest running: one that suspends with nobody there is lost to its users."""

_BUSY_SECONDS = 1.0
_SLOW_POLL = 0.01


class _Store(Protocol):
    """What ``withdraw`` needs of a Hypervisor."""

    def xenstore_compare_and_write(self, path: str, expected: bytes, new: bytes, /) -> bool:
        """Sets the node if it holds ``expected``, in one transaction; False if it holds anything else."""


class DomainControl(_Store, Protocol):
    """What suspending through xenstore needs of a Hypervisor."""

    def domain_info(self, domid: int, /) -> DomainInfo:
        """The domain's state. Raises DomainNotFound."""

    def domain_resume(self, domid: int, /) -> None:
        """Resumes a suspended domain (xc_domain_resume, fast, and xs_resume_domain)."""

    def xenstore_read(self, path: str, /) -> Optional[bytes]:
        """The node's content, or None if there is no such node."""

    def xenstore_write(self, path: str, value: bytes, /) -> None:
        """Sets the node."""


def withdraw(hv: _Store, domid: int) -> bool:
    """Withdraws a request to suspend that the guest has not acknowledged. Returns whether there was one."""
    return hv.xenstore_compare_and_write(_path(domid), REQUEST, _WITHDRAWN)


def _path(domid: int) -> str:
    return f"/local/domain/{domid}/control/shutdown"


def is_suspended(info: DomainInfo) -> bool:
    """Whether a domain that is to suspend has done so. Raises DomainDying, and SuspendError if it has shut down for
    another reason: such a one will not suspend any more."""
    domid = info.domid
    if info.dying:
        raise DomainDying(f"domain {domid} is being destroyed", domid=domid)
    if info.shutdown and not info.suspended:
        text = f"domain {domid} has shut down, not suspended: {info.shutdown_name}"
        raise SuspendError(text, domid=domid, reason=info.shutdown_reason)
    return info.suspended


def suspends_yet(is_suspended: Callable[[], bool], poll: float) -> bool:
    """Waits for a guest that has taken a request to suspend that nobody wants any more, :data:`SECONDS_AFTER_CANCEL`
    at most. Returns whether it has suspended. ``poll``: seconds between two looks."""
    until = time.monotonic() + SECONDS_AFTER_CANCEL
    while not is_suspended():
        if time.monotonic() >= until:
            return False
        time.sleep(poll)
    return True


class XenstoreSuspend(Suspend):
    """Suspends a domain, and returns once it is suspended. ``resume()`` undoes that.

    It writes "suspend" to the guest's control/shutdown. The guest empties the node (it acknowledges), then
    suspends itself. It has ``timeout`` seconds to acknowledge, and as long again to suspend. ``poll``: the
    seconds between two looks at it, which add to the time for which the guest is suspended. ``cancel``: called at
    every look; if it returns True, the suspend is given up with Cancelled.

    If suspending fails, the request is withdrawn, unless the guest has acknowledged it: it is compared and emptied in
    one xenstore transaction, so that a guest that wakes up late cannot suspend with nobody there to resume it.

    After a call ``seconds_to_acknowledge`` and ``seconds_to_suspend`` say how long the guest took for each. They are
    None if it did not get that far. Raises UsageError for a ``timeout`` or ``poll`` that is not above 0.
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
        check_domain(hv, domid)
        check_seconds("timeout", timeout)
        check_seconds("poll", poll)
        self._hv = hv
        self._domid = domid
        self._timeout = timeout
        self._poll = poll
        self._cancel = cancel
        self._watch: Callable[[], None] = lambda: None
        self._path = _path(domid)
        self._ours = False  # our request was made and not withdrawn: if the domain suspends, then because of it
        self.seconds_to_acknowledge: Optional[float] = None
        self.seconds_to_suspend: Optional[float] = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of domain {self._domid}, timeout {self._timeout:g} s>"

    def __call__(self) -> None:
        """Suspends the domain. One that was suspended before stays so, and ``resume`` does not resume it.

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
                raise  # whoever raised these has dealt with the request
            self._leave_running_after(error)
            raise

    def watched_by(self, watch: Callable[[], None]) -> None:
        self._watch = watch

    def resume(self) -> bool:
        """Resumes the domain if this object's request has suspended it; returns whether it did.

        To be called after a save, failed or complete, and after a SuspendTimeout with ``acknowledged``: such a guest
        may suspend at any time. A second call does nothing. Raises like the call itself.
        """
        if not self._ours or not self._is_suspended():
            return False
        self._hv.domain_resume(self._domid)
        self._ours = False
        return True

    def check(self) -> None:
        """Raises SuspendError if the domain cannot be asked: it is paused, or has another request to answer."""
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
            self._watch()
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
        """Withdraws the request: the domain is then not ours to resume. False if the guest has acknowledged it."""
        if not withdraw(self._hv, self._domid):
            return False
        self._ours = False
        return True

    def _give_up_unanswered(self, start: float) -> None:
        """For when the time to acknowledge is over. Returns only if the guest acknowledged at the last moment."""
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
            f"{seconds:.0f} s. The request cannot be withdrawn any more: should the guest suspend later, let it go on "
            f"with `pyxcsr recover {self._domid}`; its console may tell what it waits for",
            domid=self._domid, seconds=seconds, acknowledged=True,
        )

    def _give_up_cancelled(self) -> NoReturn:
        outcome = self._leave_running()
        what = f"cancelled while domain {self._domid} was asked to suspend"
        if outcome != _MAY_SUSPEND_TEXT:
            raise Cancelled(f"{what}; {outcome}", domid=self._domid, acknowledged=outcome != _WITHDRAWN_TEXT)
        error = Cancelled(what, domid=self._domid, acknowledged=True)
        self._note_may_suspend(error, outcome)  # a note: it is what is left to be done, and who cancels looks for that
        raise error

    def _note_may_suspend(self, error: BaseException, why: str) -> None:
        note(
            error,
            f"besides, domain {self._domid} may stop running later: {why}. Should it suspend, let it go on with "
            f"`pyxcsr recover {self._domid}`",
        )

    def _leave_running(self) -> str:
        """Withdraws the request; if the guest has acknowledged it, waits until the guest is suspended and resumes it.

        Returns what was done, as text.
        """
        if self._withdraw():
            return _WITHDRAWN_TEXT
        if not suspends_yet(self._is_suspended, self._poll):
            return _MAY_SUSPEND_TEXT
        self._hv.domain_resume(self._domid)
        self._ours = False
        return _RESUMED_TEXT

    def _withdraw_at_most(self) -> str:
        """For a request that was refused: there is nothing that the guest could have taken."""
        self._withdraw()
        return _WITHDRAWN_TEXT

    def _leave_running_after(self, error: BaseException) -> None:
        """The same after ``error``, which stays the one that is reported: a note says if the guest may yet suspend."""
        if isinstance(error, (DomainDying, SuspendError)):
            return  # shut down or gone: there is no guest that could see the request
        outcomes: list[str] = []
        leave = self._leave_running if self._ours or not isinstance(error, HypervisorError) else self._withdraw_at_most
        for left in reversed(range(_ATTEMPTS)):
            try:
                insist(lambda: outcomes.append(leave()))
                break
            except (DomainDying, SuspendError):
                return
            except Exception as second:
                if not left:
                    outcomes.append(f"the request to suspend may still be there ({second})")
        if outcomes[-1] not in (_WITHDRAWN_TEXT, _RESUMED_TEXT):
            self._note_may_suspend(error, outcomes[-1])

    def _is_suspended(self) -> bool:
        return is_suspended(self._info())

    def _info(self) -> DomainInfo:
        try:
            return self._hv.domain_info(self._domid)
        except DomainNotFound as error:
            raise DomainDying(f"domain {self._domid} is gone", domid=self._domid) from error
