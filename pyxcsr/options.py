"""What a caller asks of a save or a restore. What comes of it is in the reports (report.py)."""

from __future__ import annotations

from pyxcsr.arguments import check_callback, check_flag, check_number, check_seconds
from pyxcsr.control.control import Control
from pyxcsr.errors import UsageError
from pyxcsr.limits.limits import Limits, check_not_live, check_verified
from pyxcsr.limits.words import BY_NAME
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.policies.named import policy_for
from pyxcsr.policy import DEFAULT_MAP_AHEAD, DEFAULT_P2M_CHANGES, P2M_CHANGES, P2mLimits
from pyxcsr.units import parse_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional, Union

    from pyxcsr.checkpointed import Checkpointed
    from pyxcsr.devicemodel.base import DeviceModel
    from pyxcsr.limits.words import PolicyName
    from pyxcsr.policy import P2mChanges, Policy
    from pyxcsr.report import ProgressCallback, SaveReport
    from pyxcsr.suspend.base import SuspendCallable

    Cancel = Callable[[], bool]
    """Called at least ten times a second. If it returns True, the save or restore ends with Cancelled."""

    Enter = Callable[[Any], object]
    """Takes the input (a ``pyxcsr.stream.source.Source``), and reads what stands ahead of the libxc stream in it."""

    PolicyOrName = Union[Policy, PolicyName]

    Complete = Callable[[SaveReport], None]
    StaticDataDone = Callable[[int], None]


_CALLBACKS = {
    "progress": "a function of a pyxcsr.Progress",
    "cancel": "a function that returns True to end the work, like threading.Event().is_set",
    "complete": "a function of a pyxcsr.SaveReport",
    "static_data_done": "a function of a number",
    "checkpoint": "a function that returns True to go on, False to fail over",
}


class SaveOptions:
    """How one save is to be done. The options are the keywords of :func:`pyxcsr.save`, which explains them.

    Those of a :class:`pyxcsr.Limits` may be given by name, or as ``limits``, and are in ``limits`` afterwards.
    """

    live: bool = True
    verify: bool = False
    policy: Policy
    limits: Limits
    suspend: Optional[SuspendCallable] = None
    progress: Optional[ProgressCallback] = None
    cancel: Optional[Cancel] = None
    complete: Optional[Complete] = None
    durable: bool = False
    p2m_changes: P2mChanges = DEFAULT_P2M_CHANGES
    p2m_limits: P2mLimits = P2mLimits()
    map_ahead: Optional[bool] = DEFAULT_MAP_AHEAD
    device_model: Optional[DeviceModel] = None
    control: Optional[Control] = None
    checkpointed: Optional[Checkpointed] = None

    def __init__(self, **given: object) -> None:
        """Takes any option by name. None stands for the default. Raises UsageError for a wrong value."""
        self.limits = _limits(given)
        self.policy = policy_for(given.pop("policy", None), self.limits)  # type: ignore[arg-type]
        for name, value in given.items():
            if name not in SaveOptions.__annotations__:
                raise UsageError(f"a save has no option {name!r}")
            if value is not None or name == "map_ahead":
                setattr(self, name, value)
        if self.p2m_changes not in P2M_CHANGES:
            raise UsageError(f"p2m_changes is {self.p2m_changes!r}, not one of {', '.join(P2M_CHANGES)}")
        if not (self.map_ahead is None or isinstance(self.map_ahead, bool)):
            raise UsageError(f"map_ahead is {self.map_ahead!r}, not True, False or None")
        if not isinstance(self.p2m_limits, P2mLimits):
            raise UsageError(f"p2m_limits is {self.p2m_limits!r}: give a pyxcsr.P2mLimits")
        if not (self.control is None or isinstance(self.control, Control)):
            raise UsageError(f"control is {self.control!r}: give a pyxcsr.Control")
        self._check_kinds()
        if self.checkpointed is not None:
            from pyxcsr.checkpointed import as_checkpointed

            self.checkpointed = as_checkpointed(self.checkpointed)
            self._check_checkpointed()

    def _check_checkpointed(self) -> None:
        """What has no meaning in a save that goes on and on, or would have another one than it seems."""
        refused = {
            "live=False": not self.live,
            "verify": self.verify,
            "timeout": self.limits.timeout is not None,
        }
        for name, is_given in refused.items():
            if is_given:
                raise UsageError(f"{name} does not go together with checkpointed")

    def _check_kinds(self) -> None:
        for name in ("live", "verify", "durable"):
            check_flag(name, getattr(self, name))
        if not self.live:
            check_not_live(self.limits)
        if self.verify:
            check_verified(self.limits)
        for name, what in _CALLBACKS.items():
            if getattr(self, name, None) is not None:
                check_callback(name, getattr(self, name), what)
        if self.device_model is not None:
            check_callback("device_model.track", getattr(self.device_model, "track", None), "a pyxcsr device model")

    @property
    def follows_p2m(self) -> bool:
        """True if a change of the guest's p2m is followed, False if it ends the save."""
        return self.p2m_changes == "follow"


def _limits(given: dict[str, object]) -> Limits:
    """Takes what makes up the limits out of a save's options."""
    words = {x: given.pop(x) for x in list(given) if x in BY_NAME and x != "policy"}
    words = {x: value for x, value in words.items() if value is not None}
    limits = given.pop("limits", None)
    if limits is None:
        return Limits(**words)  # type: ignore[arg-type]
    if not isinstance(limits, Limits):
        raise UsageError(f"limits is {limits!r}: give a pyxcsr.Limits")
    if words:
        raise UsageError(f"limits and {' and '.join(words)} are given: put all of them into limits")
    return limits


PORT_LIMIT = 1 << 32
"""First event channel that cannot be named: start_info has 32 bits for it."""

DOMID_LIMIT = 0x7FF0
"""First domid that is no domain's (DOMID_FIRST_RESERVED)."""


class Rings:
    """The event channels of a restored guest's rings in its new domain, and the domains at their other ends."""

    __slots__ = ("console_domid", "console_evtchn", "store_domid", "store_evtchn")

    def __init__(
        self, store_evtchn: int = 0, store_domid: int = 0, console_evtchn: int = 0, console_domid: int = 0
    ) -> None:
        for name, number, limit in (
            ("store_evtchn", store_evtchn, PORT_LIMIT), ("store_domid", store_domid, DOMID_LIMIT),
            ("console_evtchn", console_evtchn, PORT_LIMIT), ("console_domid", console_domid, DOMID_LIMIT),
        ):  # fmt: skip
            check_number(name, number, 0)
            if number >= limit:
                raise UsageError(f"{name} is {number}: it must be less than {limit}")
        self.store_evtchn, self.store_domid = store_evtchn, store_domid
        self.console_evtchn, self.console_domid = console_evtchn, console_domid


class RestoreOptions:
    """How one restore is to be done. :func:`pyxcsr.restore` explains the options."""

    __slots__ = ("cancel", "checkpoint", "checkpointed", "enter", "progress", "rings", "silence", "static_data_done")

    def __init__(
        self,
        rings: Rings,
        static_data_done: Optional[StaticDataDone],
        progress: Optional[ProgressCallback],
        cancel: Optional[Cancel],
        enter: Optional[Enter] = None,
        checkpointed: bool = False,
        checkpoint: Optional[Callable[[], object]] = None,
        silence: Union[float, str, None] = None,
    ) -> None:
        given = {"progress": progress, "cancel": cancel, "static_data_done": static_data_done, "checkpoint": checkpoint}
        for name, callback in given.items():
            if callback is not None:
                check_callback(name, callback, _CALLBACKS[name])
        check_flag("checkpointed", checkpointed)
        self.checkpointed, self.checkpoint = checkpointed, checkpoint
        self.silence = None if silence is None else parse_seconds(silence)
        if self.silence is not None:
            check_seconds("silence", self.silence)
        if not checkpointed and (checkpoint is not None or silence is not None):
            raise UsageError("checkpoint and silence are for checkpointed streams: give checkpointed=True")
        self.enter = enter
        self.rings, self.static_data_done = rings, static_data_done
        self.progress, self.cancel = progress, cancel
