"""What will work here, and between here and another host, from what was found."""

from __future__ import annotations

from typing import Optional

from pyxcsr.doctor.found import Ability, Finding
from pyxcsr.doctor.host import Host, dotted
from pyxcsr.migrate.facts import Facts, plain

NO_SHADOW = "this Xen has no shadow paging, without which it does not track what a PV guest writes; --no-live works"
NO_HAP = "this Xen has neither HAP nor shadow paging in use, without which it does not track what the guest writes"
NOT_OPEN = "the hypervisor cannot be used, see above"


def findings(side: Facts, here: bool) -> list[Finding]:
    """What an end's own programs say of it: paging, memory, the helper."""
    where = "" if here else f"{plain(side.side)}: "
    return [*_xl(side, where), *_helper(side, where)]


def _xl(side: Facts, where: str) -> list[Finding]:
    if not side.xl:
        return [Finding(f"{where}xl", "there is no xl in PATH", "bad", "install Xen's tools (xen-utils on Debian)")]
    if side.failed:
        return [Finding(f"{where}xl", f"it does not work: {plain(side.failed)}", "bad", "see what `xl list` says")]
    found = []
    if where and side.release:
        found.append(Finding(f"{where}Xen", dotted(side.release)))
    virt = side.info.get("virt_caps")
    text = "`xl info` does not tell" if virt is None else f"virt_caps: {plain(virt)}"
    found.append(Finding(f"{where}paging", text, "note" if virt is None else "ok"))
    free = side.number("free_memory")
    if free is not None:
        found.append(Finding(f"{where}memory", f"{free} MiB are free for guests"))
    return found


def _helper(side: Facts, where: str) -> list[Finding]:
    if not side.helper:
        place = "in PATH" if where else "beside this program, or in PATH"
        text = f"there is no pyxcsr-save-helper {place}: xl works with Xen's own"
        return [Finding(f"{where}helper", text, "note" if not where else "bad", "" if not where else "install pyxcsr")]
    version, xen = side.pyxcsr.get("version"), side.pyxcsr.get("xen")
    text = f"{plain(side.helper)}, pyxcsr {plain(version or '?')}"
    if xen == "ok":
        return [Finding(f"{where}helper", f"{text}, opens the hypervisor")]
    why = plain(xen or "it does not say what it is: pyxcsr-relay is not beside it")[:400]
    return [Finding(f"{where}helper", f"{text}, does not work", "bad", why)]


def abilities(host: Host, here: Optional[Facts]) -> list[Ability]:
    """What works on this host alone. ``here``: None if its programs do not answer."""
    info = {} if here is None else here.info
    virt = info.get("virt_caps", "").split() if info.get("virt_caps") else None
    kinds = info.get("xen_caps", "").split() or None
    found = []
    for kind, title in (("pv", "PV"), ("hvm", "PVH and HVM")):
        if not host.opened:
            found.append(Ability(f"save and restore {title} guests", False, NOT_OPEN))
            continue
        runs = None if kinds is None else any(x.startswith("xen-3.0-x86_64" if kind == "pv" else "hvm-") for x in kinds)
        if runs is False:
            found.append(Ability(f"save and restore {title} guests", False, "this Xen runs no such guests", False))
            continue
        found.append(Ability(f"save {title} guests that are paused for it (--no-live), and restore them", True))
        found.append(_live(kind, title, virt))
    if host.opened and host.caps is not None:
        why = "" if host.caps else "its scheduler has no caps"
        found.append(Ability("throttle a guest that writes too fast", host.caps, why, False))
    found.append(_behind_xl(here))
    return found


def _behind_xl(here: Optional[Facts]) -> Ability:
    name = "stand behind `xl save`, `restore` and `migrate`"
    if here is None:
        return Ability(name, None, "see what is said of xl")
    works = bool(here.helper and here.pyxcsr.get("xen") == "ok")
    why = "" if works else "there is no pyxcsr-save-helper here that works"
    return Ability(name, works, why, bool(here.helper))


def _live(kind: str, title: str, virt: Optional[list[str]]) -> Ability:
    name = f"save {title} guests live"
    if virt is None:
        return Ability(name, None, "`xl info` does not tell what paging this Xen has")
    if kind == "pv":
        works = "shadow" in virt
        return Ability(name, works, "" if works else NO_SHADOW, False)
    works = "hap" in virt or "shadow" in virt
    return Ability(name, works, "" if works else NO_HAP, False)


def between(host: Host, here: Optional[Facts], there: Facts) -> Ability:
    """Whether a guest can go there by `pyxcsr migrate`. ``here``: as for :func:`abilities`."""
    name = f"migrate guests to {plain(there.side)}"
    reasons = []
    if not host.opened:
        reasons.append("the hypervisor here cannot be used")
    if here is None or not here.xl or here.failed:
        reasons.append("xl does not work here")
    if here is not None and not here.helper:
        reasons.append("there is no pyxcsr-save-helper here")
    elif here is not None and here.pyxcsr.get("xen") != "ok":
        reasons.append("pyxcsr-save-helper does not work here")
    if not there.xl or there.failed:
        reasons.append("xl does not work there")
    if there.pyxcsr.get("xen") != "ok":
        reasons.append("pyxcsr does not work there (--receiver-helper stock leaves receiving to Xen's own)")
    if here is not None and here.release and there.release and there.release < here.release:
        reasons.append(f"Xen is older there ({dotted(there.release)}) than here ({dotted(here.release)})")
    return Ability(name, not reasons, "; ".join(reasons))
