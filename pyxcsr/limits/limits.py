"""The limits of one save, checked."""

from __future__ import annotations

from pyxcsr.arguments import check_flag, check_number, check_seconds
from pyxcsr.errors import UsageError
from pyxcsr.limits.words import BY_NAME, LEAST_BANDWIDTH, MOST_BANDWIDTH, MOST_SECONDS, ON_TIMEOUT, WORDS
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.units import format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Optional, Union

    from pyxcsr.limits.words import OnTimeout

    Time = Union[float, str]
    Size = Union[int, str]


class Limits:
    """What the operator of a save allows. None: no such limit.

    ``max_downtime``: for how long the guest may be paused, from being suspended to the stream's last byte; ``timeout``:
    how long the whole save may take, and ``on_timeout`` what happens then: "abort" (the guest runs on) or "suspend" (it
    is suspended at once, and the rest is copied); ``max_iterations``: live passes; ``target_dirty``: fewer dirty pages
    than these are to be left for the pause; ``bandwidth``: bytes a second while the guest runs, and with
    ``bandwidth_while_paused`` also while it is paused; ``abort_if_busy``: the save ends, and the guest runs on, if it
    writes to pages faster than they can be sent; ``throttle``: processor time is taken from such a guest, step by step,
    and given back before it is suspended, or when the save ends (:mod:`pyxcsr.transfer.throttle`).

    Times are seconds, or text such as "300ms"; a size is bytes, or text such as "500M". The fields may be changed while
    a save that was given this object runs: it goes by the new ones from its next decision on, and what is changed stays
    so. Once the guest is asked to suspend, ``max_downtime`` and ``target_dirty`` are what they are, in the report, too.
    An object serves one save at a time. ``suspend_now``, False at first, may be set then: the save suspends the guest
    as soon as it sees that; it is False again when the save ends.

    Raises UsageError for a wrong value, also when a field is set later, and for limits that contradict each other.
    """

    __slots__ = (
        "abort_if_busy", "bandwidth", "bandwidth_while_paused", "max_downtime", "max_iterations", "on_timeout",
        "suspend_now", "target_dirty", "throttle", "timeout",
    )  # fmt: skip

    def __init__(
        self,
        *,
        max_downtime: Optional[Time] = None,
        timeout: Optional[Time] = None,
        on_timeout: Optional[OnTimeout] = None,
        max_iterations: Optional[int] = None,
        target_dirty: Optional[int] = None,
        bandwidth: Optional[Size] = None,
        bandwidth_while_paused: Optional[bool] = None,
        abort_if_busy: Optional[bool] = None,
        throttle: Optional[bool] = None,
    ) -> None:
        self.max_downtime: Optional[float] = max_downtime  # type: ignore[assignment]  # __setattr__ makes it one
        self.timeout: Optional[float] = timeout  # type: ignore[assignment]
        self.on_timeout: Optional[OnTimeout] = on_timeout
        self.max_iterations, self.target_dirty = max_iterations, target_dirty
        self.bandwidth: Optional[int] = bandwidth  # type: ignore[assignment]
        self.bandwidth_while_paused, self.abort_if_busy = bandwidth_while_paused or False, abort_if_busy or False
        self.throttle, self.suspend_now = throttle or False, False
        self._check_together()

    def __setattr__(self, name: str, value: object) -> None:
        take = _TAKES.get(name)
        object.__setattr__(self, name, value if take is None else take(name, value))

    def __repr__(self) -> str:
        told = (f"{x}={getattr(self, x)!r}" for x in self.__slots__ if _given(self, x))
        return f"Limits({', '.join(told)})"

    def _check_together(self) -> None:
        if self.on_timeout is not None and self.timeout is None:
            raise UsageError("on_timeout says what happens at the timeout, but there is no timeout: give one")
        if self.bandwidth_while_paused and self.bandwidth is None:
            raise UsageError("bandwidth_while_paused says when the limit holds, but there is no bandwidth: give one")
        if self.timeout is not None and self.max_downtime is not None and self.max_downtime >= self.timeout:
            raise UsageError(
                f"max_downtime ({format_seconds(self.max_downtime)}) is not shorter than timeout "
                f"({format_seconds(self.timeout)}), the time for the whole save: make one of them fit the other"
            )

    @property
    def aborts_at_timeout(self) -> bool:
        """What happens at the timeout: True: the save ends; False: the guest is suspended."""
        return self.on_timeout != "suspend"


_NOT_LIBXC = ("max_downtime", "abort_if_busy", "throttle")
_POLICYS_OWN = tuple(x.name for x in WORDS if x.only_live and x.name != "policy")


def beyond_libxc(limits: Limits) -> bool:
    """Whether there are limits of which the policy libxc knows nothing."""
    return any(_given(limits, x) for x in _NOT_LIBXC)


def check_libxc(limits: Limits) -> None:
    """Raises UsageError for limits of which the policy libxc knows nothing."""
    _refuse(
        limits, _NOT_LIBXC,
        "policy libxc goes by max_iterations and target_dirty only, not by {}: leave that out, or take adaptive",
    )  # fmt: skip


def check_own(limits: Limits) -> None:
    """Raises UsageError for limits that are the business of a policy that the caller has written."""
    text = "a policy of your own decides about {} itself: leave that out, or leave the policy out"
    _refuse(limits, _POLICYS_OWN, text)


def check_not_live(limits: Limits) -> None:
    """Raises UsageError for limits that mean nothing where the guest is suspended before anything is copied."""
    text = "{} says something about the time in which the guest runs: leave it out, or save the guest live"
    _refuse(limits, _POLICYS_OWN, text)
    if limits.on_timeout == "suspend":
        raise UsageError(text.format("on_timeout=suspend"))


def _refuse(limits: Limits, names: tuple[str, ...], text: str) -> None:
    given = [x for x in names if _given(limits, x)]
    if given:
        raise UsageError(text.format(" and ".join(given)))


def _given(limits: Limits, name: str) -> bool:
    """Whether there is such a limit; 0 is one."""
    value = getattr(limits, name)
    return value is not None and value is not False


def without_live_ones(words: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the words that say something about a save of a guest that is suspended first."""
    left = {name: value for name, value in words.items() if not BY_NAME[name].only_live}
    if left.get("on_timeout") == "suspend":  # it is suspended already
        del left["on_timeout"]
        left.pop("timeout", None)
    return left


def check_verified(limits: Limits) -> None:
    """Raises UsageError for a limit that a save with VERIFY cannot keep."""
    if limits.max_downtime is not None:
        raise UsageError("verify sends all memory while the guest is paused: leave max_downtime out, it cannot be kept")


def _seconds(name: str, value: Any) -> Optional[float]:
    if value is None:
        return None
    seconds: Any = _named(name, value) if isinstance(value, str) else value
    check_seconds(name, seconds)
    if seconds > MOST_SECONDS:
        raise UsageError(f"{name} is {value!r}: that is longer than any save; None is no limit")
    return float(seconds)


def _bandwidth(name: str, value: Any) -> Optional[int]:
    if value is None:
        return None
    nr_bytes: int = _named(name, value) if isinstance(value, str) else value
    check_number(name, nr_bytes, LEAST_BANDWIDTH)
    if nr_bytes > MOST_BANDWIDTH:
        raise UsageError(f"{name} is {value!r}: that is more than any output takes; None is no limit")
    return nr_bytes


def _count(least: int) -> Callable[[str, Any], Any]:
    def take(name: str, value: Any) -> Any:
        if value is not None:
            check_number(name, value, least)
        return value

    return take


def _flag(name: str, value: Any) -> Any:
    check_flag(name, value)
    return value


def _on_timeout(name: str, value: Any) -> Any:
    if value is not None and value not in ON_TIMEOUT:
        raise UsageError(f"{name} is {value!r}, not {' or '.join(ON_TIMEOUT)}")
    return value


def _named(name: str, text: str) -> Any:
    try:
        return BY_NAME[name].parse(text)
    except UsageError as error:
        raise UsageError(f"{name} is {text!r}: {error}") from None


_TAKES: dict[str, Callable[[str, Any], Any]] = {
    "max_downtime": _seconds,
    "timeout": _seconds,
    "on_timeout": _on_timeout,
    "max_iterations": _count(1),
    "target_dirty": _count(0),
    "bandwidth": _bandwidth,
    "bandwidth_while_paused": _flag,
    "abort_if_busy": _flag,
    "throttle": _flag,
    "suspend_now": _flag,
}
"""What checks a field's value, and makes it what the field has."""
