"""Where the guest runs, by what both ends list afterwards; and which side failed, by what was said."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Callable, Optional

from pyxcsr.errors import ProbeError
from pyxcsr.hypervisor.names import AWAY, INCOMING
from pyxcsr.migrate.facts import Domain, Facts, plain
from pyxcsr.migrate.running import Ended
from pyxcsr.migrate.transcript import LINK_GONE, UNPACKING

HERE, THERE, BOTH, NOWHERE, UNKNOWN = "here", "there", "both", "nowhere", "unknown"
SENDER, RECEIVER = "sender", "receiver"

OTHERS_FAULT = ("the connection",)
"""In a relay's complaint: it was not the first to fail."""

ASKED_AGAIN = 1.0
SETTLES = 10.0
"""Seconds in which a half-built copy at the other end may still go away."""


class Place:
    """Where the guest runs: one of the words above, and what there is to say about it. ``left``: there is a remnant of
    it here, too."""

    __slots__ = ("domid", "left", "text", "where")

    def __init__(self, where: str, text: str, domid: Optional[int] = None, left: bool = False) -> None:
        self.where, self.text, self.domid, self.left = where, text, domid, left


Ask = Callable[[float], Facts]
"""Asks an end, which has so many seconds to answer."""

PATIENCE = (60.0, 30.0)
"""Seconds for an answer, at first and when it is asked again: somebody waits to hear where the guest runs."""


def look(ask: Ask) -> tuple[Optional[Facts], str]:
    """An end's domains, or None and why they are not known. One that does not answer is asked twice."""
    why = ""
    for seconds in PATIENCE:
        if why:
            time.sleep(ASKED_AGAIN)
        try:
            return ask(seconds), ""
        except ProbeError as error:
            why = str(error)
    return None, why


def settled(ask: Ask, name: str) -> tuple[Optional[Facts], str]:
    """The same, once no half-built copy is left, or its time is over."""
    until = time.monotonic() + SETTLES
    while True:
        facts, why = look(ask)
        if facts is None or facts.named(f"{name}{INCOMING}") is None or time.monotonic() >= until:
            return facts, why
        time.sleep(ASKED_AGAIN)


def locate(
    guest: Domain, local: bool, here: Optional[Facts], there: Optional[Facts], why: str, others: Collection[int] = ()
) -> Place:
    """From both lists. ``local``: both ends are this machine; ``why``: why one of them is not known; ``others``: ids of
    domains that were at the other end before: another guest of that name is none of this migration's."""
    if here is None:
        return Place(UNKNOWN, f"it is not known where it runs: {why}")
    old = here.numbered(guest.domid)
    if old is not None and old.name not in (guest.name, f"{guest.name}{AWAY}"):
        old = None
    new = None if there is None else next(
        (x for x in there.domains if x.name == guest.name and x.domid not in others
         and not (local and x.domid == guest.domid)), None
    )  # fmt: skip
    runs_here = old is not None and old.name == guest.name and old.condition == "running"
    runs_there = new is not None and new.condition == "running"
    goes_on = old is not None and old.condition == "running"  # also one that xl has given away
    if (runs_here and new is not None) or (goes_on and (runs_there or _started(there, guest.name))):
        return Place(BOTH, "there is a copy of it at each end, and two must not run: look at both, and destroy one")
    if runs_here:
        note = f"; the other end could not be asked ({why})" if there is None else _remnant(there, guest.name)
        return Place(HERE, f"it runs here (id {guest.domid}){note}", guest.domid)
    if runs_there and new is not None and (old is None or _given_away(old, guest)):
        left = "" if old is None else f"; a copy of it is left here ({plain(old.name)}, {old.condition}): destroy it"
        return Place(THERE, f"it runs there (id {new.domid}){left}", new.domid, old is not None)
    anew = None if local or old is not None else here.named(guest.name)
    return Place(UNKNOWN if there is None or runs_there else NOWHERE, _unclear(old, new, there, why, anew))


def _given_away(old: Domain, guest: Domain) -> bool:
    """Whether xl has given it away: it renames the guest before. One that still has its name may be the only copy."""
    return old.name != guest.name or old.condition == "dying"


def _started(there: Optional[Facts], name: str) -> bool:
    """Whether somebody lets the half-built copy run."""
    copy = None if there is None else there.named(f"{name}{INCOMING}")
    return copy is not None and copy.condition == "running"


def _remnant(there: Facts, name: str) -> str:
    copy = there.named(f"{name}{INCOMING}")
    return "" if copy is None else f"; a half-built copy is left at the other end (id {copy.domid}): destroy it"


def _unclear(
    old: Optional[Domain], new: Optional[Domain], there: Optional[Facts], why: str, anew: Optional[Domain]
) -> str:
    """``anew``: another domain of that name which is here now, as after a reboot."""
    at_home = "it is gone here" if old is None else f"here it is {old.condition}, as {plain(old.name)!r}"
    if anew is not None:
        at_home += f", but one of its name was started anew (id {anew.domid})"
    if there is None:
        away = f"the other end could not be asked ({why})"
    else:
        away = "the other end does not have it" if new is None else f"at the other end it is {new.condition}"
    advice = "look at both ends with `xl list`; let at most one copy go on"
    if old is not None and old.condition == "suspended":
        advice += f" (here: `pyxcsr recover --resume {old.domid}`, if no other runs)"
    return f"{at_home}; {away}: {advice}"


def side_of(ended: Ended) -> str:
    """Which side failed first, for all that was said: if one does, the other's stream ends, and it complains, too."""
    said = ended.transcript
    if said.save_error is not None and said.save_error not in LINK_GONE:
        return SENDER
    own = [x for x in said.relay_errors if not any(y in x for y in OTHERS_FAULT)]
    if own:
        return RECEIVER if own[0].startswith(UNPACKING) else SENDER
    if said.save_error is not None or said.target_failed or said.received:
        return RECEIVER
    return RECEIVER if said.started and not said.begun else SENDER
