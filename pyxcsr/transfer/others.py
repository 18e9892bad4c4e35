"""Others that save the guest of a save: none is begun beside them, and none goes on beside one that came meanwhile.

Xen has one dirty bitmap for a domain, and does not say who uses it. Two live saves take each other's bits away without
an error, and both images lack pages. A save through this package is kept out by the guest's lock
(:mod:`pyxcsr.control`); what is looked for in /proc is a save by another program.
"""

from __future__ import annotations

import errno
import os
import time

from pyxcsr.errors import BeingSaved
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import suppress
from pyxcsr.transfer.savers import XL, does, savers_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyxcsr.control.control import Control
    from pyxcsr.transfer.savers import Asked, Saver, Savers

EVERY = 1.0
"""Seconds between two looks while the guest's memory is copied."""

ANEW = 10.0
"""Seconds for which a process that was none that saves the domain is taken for the same: its number may become
another's."""

WAIT = 0.1
"""Seconds in which a save helper that has just been started opens the hypervisor's device."""

BETWEEN = 0.005


class Others:
    """Looks for those who save a domain besides one save.

    ``control``: that save's; where it has no lock, the one in the usual folder is asked for. ``warnings``: gets what
    must be said. Whatever goes wrong with a look is such a warning: the save is none the worse for it.
    """

    def __init__(self, hv: Asked, domid: int, control: Control, warnings: list[str]) -> None:
        self._domid, self._locked, self._warnings = domid, control.locked, warnings
        self._savers: Savers = savers_of(hv, domid)
        self._first_seen, self._settled = dict[int, float](), set[int]()  # when; and those who need no other look
        self._ancestors, self._waited_for = set[int](), set[int]()
        self._looked_at = self._all_looked_at = time.monotonic()

    def refuse(self, suspended: bool) -> None:
        """Before the guest is touched. Raises BeingSaved if somebody else saves it; or, if it was found ``suspended``,
        if xl has it in hand, who may let it go on, or destroy it."""
        found = self._guarded(lambda: self._before(suspended))
        if found:
            raise self._error(
                found,
                f"domain {self._domid} cannot be saved: {_names(found)} {does(found)}; wait until that is over"
                f"{_if_it_hangs(found[0])}. Nothing was done",
            )

    def look(self, often: bool = False) -> None:
        """While the guest runs, and log-dirty mode is on. Raises BeingSaved if another program's save has come.

        ``often``: this is called often; it is looked once a second then.
        """
        if not often or time.monotonic() - self._looked_at >= EVERY:
            found = self._guarded(self._meanwhile)
            if found:
                self._fail(found)

    def _before(self, suspended: bool) -> list[Saver]:
        savers = self._savers
        self._ancestors = savers.ancestors()  # of a helper xl, perhaps `pyxcsr migrate`; of a command perhaps sudo
        found = [x for x in self._named() if not (self._locked and x.ours)]
        # one of ours without a lock may be what has started this process, without being its parent: it saves nothing
        found = [x for x in found if not x.ours or savers.may_have_begun(x)]
        if not self._locked:
            with suppress(OSError):  # where there can be no lock, nobody has one
                holder = savers.holds_lock()
                found += [] if holder is None or holder.pid in [x.pid for x in found] else [holder]
        return found + ([x for x in savers.carriers() if x.pid not in self._ancestors] if suspended else [])

    def _meanwhile(self) -> list[Saver]:
        """Others through this package are not asked for: each has looked before it began, and seen this save."""
        return [x for x in self._named() if not x.ours and self._begins(x)]

    def _named(self) -> list[Saver]:
        """Those that save the domain by their names and arguments, but for this process and its ancestors.

        A save helper whose arguments name no domain is about to begin, or to end, and may work on another one: it is
        looked at again.
        """
        found: list[Saver] = []
        for pid in self._unsettled() - self._ancestors:
            try:
                found += self._savers.among([pid])
            except PermissionError as problem:
                self._warn(f"it is not known whether process {pid} saves domain {self._domid}, too: {problem.strerror}")
        self._settled -= {x.pid for x in found}
        return [x for x in found if x.sure]

    def _unsettled(self) -> set[int]:
        """Processes that have to be looked at. One that was first seen :data:`EVERY` ago remains what it is; one that
        has just been started may become another program."""
        self._looked_at = now = time.monotonic()
        pids = set(self._savers.pids())
        if now - self._all_looked_at >= ANEW:
            self._all_looked_at, self._settled, self._first_seen = now, set(), {}
        self._settled &= pids
        look_at = pids - self._settled
        self._first_seen = {x: self._first_seen.get(x, now) for x in look_at}
        self._settled |= {x for x, at in self._first_seen.items() if now - at >= EVERY}
        return look_at

    def _begins(self, saver: Saver) -> bool:
        """Whether it has called Xen, for all that is known, or does so in a moment: a name alone does no harm.

        One that has gone may have done so, unless it was seen before without the hypervisor's device.
        """
        until = time.monotonic() + (0 if saver.pid in self._waited_for else WAIT)
        self._waited_for.add(saver.pid)
        opened = self._savers.opened(saver)
        if opened is None:
            return True
        while opened is False and time.monotonic() < until:
            time.sleep(BETWEEN)
            opened = self._savers.opened(saver)
        return bool(opened)

    def _fail(self, found: list[Saver]) -> None:
        names = _names(found)
        why = (
            f"{names} has begun to suspend and to save domain {self._domid} meanwhile; so this save has ended"
            if all(x.live is False for x in found)
            else f"{names} has begun to save domain {self._domid} meanwhile. Xen has one dirty bitmap for both, from "
            f"which each takes away what the other needs. So this save has ended, and what {names} makes is wrong, "
            "too, although it may be called complete: discard it, and save the guest once more"
        )
        raise self._error(found, why)

    def _error(self, found: list[Saver], text: str) -> BeingSaved:
        first = found[0]
        return BeingSaved(text, errno=errno.EBUSY, domid=self._domid, pid=first.pid, program=first.name)

    def _guarded(self, look: Callable[[], list[Saver]]) -> list[Saver]:
        try:
            return look()
        except Exception as problem:  # whatever it is: it says nothing of the guest
            self._warn(f"it is not known whether others save domain {self._domid}, too: {problem}")
            return []

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.append(text)


def _names(found: list[Saver]) -> str:
    return " and ".join(map(str, found))


def _if_it_hangs(saver: Saver) -> str:
    """What else may be done about a process that hangs, or is taken for what it is not."""
    if saver.pid in (0, os.getpid()):  # a lock that does not tell whose it is; another thread
        return ""
    if saver.name.startswith(XL):  # its receiver may have the guest running already
        return ". If it hangs, look first whether the guest runs at the other end"
    return f", or end it (`kill {saver.pid}`) if it hangs or has nothing to do with this guest"
