"""What a saver asks of whoever suspends the guest for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Union

from pyxcsr.errors import UsageError


class Suspend:
    """Suspends one guest, and lets it go on if the save fails. A base that does nothing but refuse to be called.

    The saver calls ``check`` before it copies anything, then the object itself once, when the guest is to be suspended;
    and ``resume`` if the save fails after that.
    """

    def check(self) -> None:
        """Raises SuspendError if the guest cannot be asked as it is. Here: nothing is known, so nothing is refused."""

    def __call__(self) -> None:
        """Returns once the guest is shut down with reason suspend. Raises SuspendError, SuspendTimeout, DomainDying."""
        raise NotImplementedError("a Suspend must be able to suspend: define __call__")

    def resume(self) -> object:
        """Lets a guest that this object has suspended go on; the result is not looked at.

        Here: nothing, because the guest's resuming is somebody else's business, as it is libxl's behind `xl`.
        """
        return None


SuspendCallable = Union[Suspend, Callable[[], None]]
"""What save() takes: a Suspend, or a plain callable that suspends the guest and cannot resume it."""


class PlainSuspend(Suspend):
    """A callable that suspends the guest; resuming it is its owner's business."""

    def __init__(self, suspend: Callable[[], None]) -> None:
        self._suspend = suspend

    def __call__(self) -> None:
        self._suspend()


def as_suspend(given: SuspendCallable) -> Suspend:
    """``given`` itself, or a plain callable made into a Suspend.

    Raises UsageError for a callable that has methods named ``check`` or ``resume`` without being a Suspend: they would
    never be called, and a guest that was to be resumed would stay suspended.
    """
    if isinstance(given, Suspend):
        return given
    if not callable(given):
        raise UsageError(f"suspend is {given!r}: give a pyxcsr.Suspend, or a callable that suspends the guest")
    for name in ("check", "resume"):
        if hasattr(given, name):
            raise UsageError(
                f"{type(given).__name__} has a method {name!r}, which is called only of a pyxcsr.Suspend: inherit it"
            )
    return PlainSuspend(given)
