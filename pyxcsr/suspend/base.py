"""What a saver asks of whoever suspends the guest for it."""

from __future__ import annotations

from pyxcsr.arguments import check_methods, check_not_async
from pyxcsr.errors import UsageError
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional, Union


class Suspend:
    """Suspends one guest, and resumes it if the save fails. A base to inherit from: define ``__call__``.

    The saver calls ``check`` before it copies anything; then the object itself once, when the guest is to be suspended;
    and ``resume`` if the save fails after that and before the stream is complete. If somebody else has suspended the
    guest before, ``found_suspended`` is called in the object's place. An HVM or PVH guest has to be watched until it is
    suspended, which one that waits for it can do: see ``watched_by``.

    ``suspended_at``: when the guest was suspended (time.monotonic()), if the call did something else after that, as to
    stop its device model; ``resumed_at``: when it was about to go on, likewise.
    """

    suspended_at: Optional[float] = None
    resumed_at: Optional[float] = None

    def check(self) -> None:
        """Raises SuspendError if the guest cannot be asked in the state that it is in. The base refuses nothing."""

    def watched_by(self, watch: Callable[[], None]) -> None:
        """``watch`` is to be called every few milliseconds while the call waits for the guest, in its thread.

        It notes what Xen tells of at that moment only: that the guest's memory grows or shrinks. May raise
        HypervisorError. Called before the guest is suspended, if there is anything to watch, and with a function that
        does nothing at the save's end. The base forgets it: if suspending takes longer than a tenth of a second, the
        suspended guest's memory is looked through for what has changed (docs/hvm.md).
        """

    def __call__(self) -> None:
        """Returns once the guest is suspended. Raises SuspendError, SuspendTimeout, DomainDying."""
        raise NotImplementedError("a Suspend must be able to suspend: define __call__")

    def found_suspended(self) -> None:
        """The guest is suspended already, and the rest of it will be copied now. The base does nothing."""

    def resume(self) -> object:
        """Resumes a guest that this object has suspended. The saver ignores the result.

        The base does nothing, for those who are not to resume the guest: behind `xl`, for example, libxl does.
        """
        return None


if TYPE_CHECKING:
    SuspendCallable = Union[Suspend, Callable[[], None]]
    """What save() takes: a Suspend, or a plain callable that suspends the guest and cannot resume it."""


class PlainSuspend(Suspend):
    """A callable that suspends the guest. Whoever gave it has to resume the guest."""

    def __init__(self, suspend: Callable[[], None]) -> None:
        self._suspend = suspend

    def __call__(self) -> None:
        self._suspend()


def as_suspend(given: SuspendCallable) -> Suspend:
    """``given`` itself, or a plain callable made into a Suspend.

    Raises UsageError for a callable that is no Suspend and has a method named ``check``, ``resume`` or ``watched_by``:
    it would never be called, so that a guest whose owner expects it to be resumed would stay suspended.
    """
    if isinstance(given, Suspend):
        check_methods("suspend", given, ("__call__", "check", "found_suspended", "resume", "watched_by"))
        return given
    if not callable(given):
        raise UsageError(f"suspend is {given!r}: give a pyxcsr.Suspend, or a callable that suspends the guest")
    check_not_async("suspend", given)
    for name in ("check", "resume", "watched_by"):
        if hasattr(given, name):
            raise UsageError(
                f"{type(given).__name__} has a method {name!r}, which is called only of a pyxcsr.Suspend: inherit it"
            )
    return PlainSuspend(given)
