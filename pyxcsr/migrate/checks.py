"""What can be told before anything is touched: each check says which side it is about, and what to do."""

from __future__ import annotations

from typing import Callable, Optional

from pyxcsr.hypervisor.names import INCOMING
from pyxcsr.migrate.facts import Domain, Facts, plain
from pyxcsr.migrate.guest import GuestFacts

PER_VCPU, PER_MIB = 1.0, 8 / 1024
"""MiB: what Xen needs of memory besides the guest's own, for each of its vcpus and for each MiB that it has."""


class Plan:
    """What is to be done, as far as the checks have to know it."""

    __slots__ = ("compress", "local", "receiver_is_stock")

    def __init__(self, local: bool, compress: bool, receiver_is_stock: bool) -> None:
        self.local, self.compress, self.receiver_is_stock = local, compress, receiver_is_stock


class Findings:
    """``problems``: each a reason not to begin; ``warnings``: worth a word."""

    __slots__ = ("problems", "warnings")

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []


def check(here: Facts, there: Facts, domain: Domain, guest: GuestFacts, plan: Plan) -> Findings:
    """All checks, so that all that is wrong is said at once."""
    found = Findings()
    _guest(found, here, domain, guest)
    _pyxcsr(found, here, plan.compress, "--helper")
    if there is not here:
        _xl(found, there)
        _pyxcsr(found, there, plan.compress, "" if plan.receiver_is_stock else "--receiver-helper")
    if there.xl and not there.failed:
        _names(found, there, domain, plan.local)
        _memory(found, there, domain)
        if not plan.local:
            _release(found, here, there, guest)
    return found


def _guest(found: Findings, here: Facts, domain: Domain, guest: GuestFacts) -> None:
    name = f"here: the guest {plain(domain.name)!r}"
    if domain.domid == 0:
        found.problems.append("here: domain 0 cannot be migrated")
    if domain.condition != "running":
        advice = {"paused": "`xl unpause` it first", "suspended": "`pyxcsr recover` lets it go on"}
        what = advice.get(domain.condition, "only one that runs can be migrated")
        found.problems.append(f"{name} is {domain.condition}: {what}")
    if guest.pending not in (None, "", "suspend"):
        found.problems.append(f"{name} has been asked to {plain(str(guest.pending))!r} and has not answered yet")
    if guest.kind in ("pv", "pvh") and not guest.announces_suspend:  # Linux does so when it boots, and never again
        found.warnings.append(
            f"{name} does not announce that it can suspend (xenstore: control/feature-suspend), as after a migration "
            "or a restore. If it cannot, nothing comes of this, and it runs on"
        )
    if guest.kind is None:
        found.warnings.append(f"{name}: xenstore does not tell what kind of guest it is, nor whether it can suspend")
    virt = here.info.get("virt_caps", "").split()
    if guest.kind == "pv" and virt and "shadow" not in virt:
        found.problems.append("here: this Xen has no shadow paging, without which no PV guest is saved while it runs")


def _xl(found: Findings, side: Facts) -> None:
    if not side.xl:
        found.problems.append(f"{side.side}: there is no xl in the PATH of the shell there")
    elif side.failed:
        found.problems.append(f"{side.side}: xl does not work there: {plain(side.failed)}")


def _pyxcsr(found: Findings, side: Facts, compress: bool, option: str) -> None:
    """``option``: by which the helper is named; "": Xen's own is to work."""
    where = side.side
    if not side.helper and option:
        stay = "" if option == "--helper" else ", or leave receiving to Xen's own with --receiver-helper stock"
        found.problems.append(
            f"{where}: there is no pyxcsr-save-helper: install pyxcsr, say where it is with {option} PATH{stay}"
        )
    elif side.helper and option:
        _works(found, side)
    if compress and not side.zstd:
        found.problems.append(f"{where}: there is no zstd: install it, or leave --compress out")
    if compress and not side.relay:
        found.problems.append(f"{where}: --compress needs pyxcsr-relay beside pyxcsr-save-helper: install pyxcsr")


def _works(found: Findings, side: Facts) -> None:
    if not side.relay:
        found.warnings.append(f"{side.side}: pyxcsr-relay is not beside {plain(side.helper)}: its pyxcsr is unknown")
    elif side.pyxcsr.get("xen") != "ok":
        said = side.pyxcsr.get("xen") or " ".join(f"{x} {y}" for x, y in side.pyxcsr.items())
        found.problems.append(f"{side.side}: pyxcsr does not work: {plain(said)[:400] or 'it says nothing'}")


def _names(found: Findings, there: Facts, domain: Domain, local: bool) -> None:
    for name in (f"{domain.name}{INCOMING}", *(() if local else (domain.name,))):
        other = there.named(name)
        if other is not None:
            found.problems.append(
                f"{there.side}: there is a domain {plain(name)!r} already (id {other.domid}, {other.condition}): "
                "rename it, or destroy it if it is a remnant"
            )


def _memory(found: Findings, there: Facts, domain: Domain) -> None:
    need = int(domain.mib * (1 + PER_MIB) + domain.nr_vcpus * PER_VCPU) + 1
    free, dom0 = there.number("free_memory"), there.numbered(0)
    if free is None:
        found.warnings.append(f"{there.side}: `xl info` does not tell how much memory is free")
    elif free < need:
        text = f"{there.side}: the guest needs {need} MiB, and {free} MiB are free"
        if not _balloons(there):
            found.problems.append(f"{text}; dom0 there does not give any (dom0_mem, autoballoon): make room")
        elif dom0 is None or free + dom0.mib <= need:
            found.problems.append(f"{text}; what dom0 has does not suffice either: make room")
        else:
            found.warnings.append(f"{text}: xl has to take the rest from dom0, which has {dom0.mib} MiB")


def _balloons(there: Facts) -> bool:
    """Whether xl takes memory from dom0 for a guest: by default unless dom0_mem is set for Xen."""
    chosen = there.autoballoon.strip("\"' \t").lower()
    if chosen in ("on", "1"):
        return True
    return chosen not in ("off", "0") and "dom0_mem=" not in there.info.get("xen_commandline", "")


def _release(found: Findings, here: Facts, there: Facts, guest: GuestFacts) -> None:
    def differ(what: str, of: Callable[[Facts], Optional[str]]) -> None:
        if of(here) and of(there) and of(here) != of(there):
            found.warnings.append(f"{what}: {plain(str(of(here)))} here, {plain(str(of(there)))} at {there.side}")

    if here.release is None or there.release is None:
        found.warnings.append(f"{there.side}: `xl info` does not tell which release of Xen it is")
    elif there.release < here.release:
        found.problems.append(
            f"{there.side}: Xen is older there ({_dotted(there.release)}) than here ({_dotted(here.release)}): Xen "
            "promises that a guest can go to the same release or to the next"
        )
    else:
        differ("Xen's releases differ", lambda x: x.release and _dotted(x.release))
    kind = "xen-3.0-x86_64" if guest.kind == "pv" else "hvm-3.0-x86_64"
    caps = there.info.get("xen_caps", "").split()
    if guest.kind is not None and caps and kind not in caps:
        found.problems.append(f"{there.side}: Xen there runs no guests of type {guest.kind} (xen_caps lacks {kind})")
    differ("the processors' features differ, and the guest may miss some there", lambda x: x.info.get("hw_caps"))
    differ("pyxcsr's releases differ", lambda x: x.pyxcsr.get("version"))


def _dotted(release: tuple[int, int]) -> str:
    return f"{release[0]}.{release[1]}"
