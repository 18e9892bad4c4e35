"""What a guest is after its save has been cancelled: Xen is asked, because what was meant to happen is no proof of it.

A save by libxl's helper ends before libxl resumes the guest, if that was suspended already; and libvirt does not resume
it. So Xen is asked until the guest runs, for some seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

from pyxcsr.control.lock import holder
from pyxcsr.errors import XcsrError
from pyxcsr.hypervisor.open import open_hypervisor
from pyxcsr.transfer.steering import GONE, condition_of

SETTLES = 10.0
"""Seconds for a guest to run again, from the moment in which its save has ended."""

BETWEEN = 0.1

RUNNING = "running"

_SAID = {
    RUNNING: "the guest runs on",
    "paused": "the guest is paused, by whom Xen does not say: `xl unpause {domid}`",
    "suspended": "the guest is still suspended: nobody has resumed it. `pyxcsr recover {domid}` does",
    "dying": "the guest is being destroyed",
    GONE: "the guest is gone",
}


class Seen(NamedTuple):
    """``guest_is``: what the guest is, as in the event "end" (docs/control.md); ``why``: why that is not known;
    ``held``: the save has not let go of it."""

    guest_is: Optional[str]
    why: str = ""
    held: bool = False

    @property
    def well(self) -> bool:
        """Whether the guest was seen to run, with its save over."""
        return self.guest_is == RUNNING and not self.held

    def text(self, told: dict[str, Any]) -> str:
        """In words. ``told``: the event "end" of a save that was cancelled."""
        if self.held:
            return f"process {told['pid']} still holds the guest's lock: look at that"
        if self.guest_is is None:
            return f"it is not known whether the guest runs: {self.why}"
        if self.guest_is == RUNNING and told.get("notes"):  # which may say that it will not do so for long
            return "the guest runs now"
        return _SAID.get(self.guest_is, f"the guest has not gone on: it is {self.guest_is}").format(domid=told["domid"])


def look(told: dict[str, Any], run_dir: Optional[str], seconds: float = SETTLES) -> Seen:
    """What the guest is after its save has told its "end", once it runs, or when that time is over. Raises nothing.

    A guest of the stub lives in the process that has saved it: nobody else can see it, and what the save itself saw
    in the end counts.
    """
    until = time.monotonic() + seconds
    held = _lasts(lambda: _is_held(told, run_dir), until)
    if told.get("backend", "xen") != "xen":  # an older pyxcsr does not say
        return Seen(told.get("guest_is"), "the save does not say, and nobody else can see it", held)
    try:
        with open_hypervisor("xen") as hv:
            _lasts(lambda: condition_of(hv, told["domid"]) not in (RUNNING, GONE), until)
            return Seen(condition_of(hv, told["domid"]), "", held)
    except XcsrError as problem:
        return Seen(None, str(problem), held)


def _is_held(told: dict[str, Any], run_dir: Optional[str]) -> bool:
    """Whether the save still has the guest's lock. Another save may have it by now: then this one is over."""
    try:
        has = holder(told["domid"], run_dir)
    except OSError:  # the folder has gone: then nobody has it
        return False
    return has is not None and has.pid == told["pid"]


def _lasts(true: Callable[[], bool], until: float) -> bool:
    """Whether it is still so then; returns as soon as it is not."""
    while true():
        if time.monotonic() >= until:
            return True
        time.sleep(BETWEEN)
    return False
