"""Undoes what a saver that was killed outright has left in a domain."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

from pyxcsr.arguments import check_domain, check_flag
from pyxcsr.devicemodel.noted import NEEDS_ANOTHER, Noted, end_left
from pyxcsr.devicemodel.place import Described, has_device_model
from pyxcsr.errors import (
    DeviceModelError,
    DomainDying,
    DomainNotFound,
    HypervisorError,
    PrivilegeError,
    VersionMismatch,
    untouched_so_far,
)
from pyxcsr.hypervisor.interface import DomainInfo
from pyxcsr.hypervisor.names import AWAY, domain_name
from pyxcsr.plain import Protocol
from pyxcsr.suspend.going_on import goes_on, qemu_of
from pyxcsr.suspend.xenstore import withdraw
from pyxcsr.transfer.cap import Capped, put_back, read_record
from pyxcsr.transfer.savers import Savers, refuse_beside, savers_of


class Recoverable(Capped, Described, Protocol):
    """The part of a Hypervisor that is needed here."""

    def domain_info(self, domid: int, /) -> DomainInfo:
        """The domain's state. Raises DomainNotFound."""

    def domain_resume(self, domid: int, /) -> None:
        """Lets a suspended domain go on."""

    def logdirty_off(self, domid: int, /) -> bool:
        """Ends log-dirty mode; no error if it is not on. False if this Xen has no log-dirty mode for the domain."""

    def xenstore_compare_and_write(self, path: str, expected: bytes, new: bytes, /) -> bool:
        """Sets the node if it holds ``expected``, in one transaction; False if it holds anything else."""


@dataclass
class Recovery:
    """What :func:`recover` found and did.

    ``withdrawn``: a request to suspend was still in the guest's control/shutdown, and was withdrawn;
    ``logdirty``: "off", "unsupported" if this Xen cannot track the guest's writes, or "unknown" if it could not be
    ended, for a reason that ``left`` has;
    ``suspended``: the guest was found suspended; ``resumed``: it was resumed;
    ``cap``: a throttled guest's cap, as it was before and is again, 0 being none; None: it was not throttled;
    ``device_model``: "off" if the save had left the guest's QEMU telling Xen which pages it writes, and it has stopped,
    or does so once the guest goes on, if it stands still;
    ``left``: in words, what was found and not undone.
    """

    domid: int
    withdrawn: bool = False
    logdirty: str = "off"
    suspended: bool = False
    resumed: bool = False
    cap: Optional[int] = None
    device_model: Optional[str] = None
    left: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def recover(
    hv: Recoverable, domid: int, *, resume: Optional[bool] = None, savers: Optional[Savers] = None
) -> Recovery:
    """Undoes what a killed saver has left of its work in a domain, and says what there was.

    The request to suspend is withdrawn if the guest has not taken it, log-dirty mode is switched off, and the guest's
    QEMU stops telling Xen which pages it writes, if the save is known to have had it do so. The cap of a guest that was
    throttled becomes what it was, unless somebody else has set it since, and a suspended guest is resumed, and its QEMU
    with it, unless ``resume`` is False. Give ``resume=False`` if the stream was complete and the guest has been
    restored elsewhere: it must not run twice. By its name (NAME--migratedaway) a guest is known that xl has given away:
    that one is resumed only with ``resume=True``. A paused domain stays paused, because Xen does not say who paused it.

    A save that is at work on the domain would be harmed: one by libxenguest does not notice that log-dirty mode has
    ended, and its image would lack pages. So a process of this host that saves the domain is looked for first
    (``savers``: who looks; None: as usual), and nothing is done if there is one. None of this package's begins
    meanwhile. One in another domain cannot be seen.

    Raises DomainNotFound, DomainDying, BeingSaved, HypervisorError, UsageError; OSError if /proc cannot be read.
    """
    check_domain(hv, domid)
    if resume is not None:
        check_flag("resume", resume)
    what = f"domain {domid} cannot be recovered"
    with ExitStack() as stack:
        with untouched_so_far():
            info = hv.domain_info(domid)
            if info.dying:
                raise DomainDying(f"domain {domid} is being destroyed", domid=domid)
            looks = savers_of(hv, domid) if savers is None else savers
            refuse_beside([*looks.now(), *looks.carriers()], domid, what)
            stack.enter_context(looks.shut_out(what))
        return _recovered(hv, domid, info.hvm, resume)


def _recovered(hv: Recoverable, domid: int, hvm: bool, resume: Optional[bool]) -> Recovery:
    done = Recovery(domid)
    _withdraw(hv, domid, done)
    _end_logdirty(hv, domid, done)
    _end_device_model(hv, domid, hvm, done)
    _unthrottle(hv, domid, done)
    info = hv.domain_info(domid)  # it may have suspended just before the request was taken back
    done.suspended = info.suspended
    if info.suspended:
        why_not = _why_not(hv, domid, resume)
        if why_not:
            done.left.append(why_not)
        else:
            _let_go_on(hv, domid, done)
    elif info.shutdown:
        done.left.append(f"it has shut down ({info.shutdown_name}): nothing can make it go on")
    if info.paused:
        done.left.append(f"it is paused, by whom Xen does not say: `xl unpause {domid}`")
    return done


def _withdraw(hv: Recoverable, domid: int, done: Recovery) -> None:
    """If this fails the rest is done all the same, as with all that follows: the guest is what counts most."""
    try:
        done.withdrawn = withdraw(hv, domid)
    except HypervisorError as problem:
        done.left.append(f"a request to suspend may still be waiting for it: {problem}")


def _end_logdirty(hv: Recoverable, domid: int, done: Recovery) -> None:
    """Raises DomainNotFound, PrivilegeError and VersionMismatch: Xen would refuse the rest for the same reason."""
    try:
        done.logdirty = "off" if hv.logdirty_off(domid) else "unsupported"
    except (DomainNotFound, PrivilegeError, VersionMismatch):
        raise
    except HypervisorError as problem:
        done.logdirty = "unknown"
        done.left.append(f"its writes may still be tracked, and it is slower for it: {problem}")


def _why_not(hv: Recoverable, domid: int, resume: Optional[bool]) -> str:
    """Why a suspended guest is not resumed, in words; "": it is. By its name it may have a copy that runs."""
    if resume is not None:
        return "" if resume else "it stays suspended, as asked"
    asked = "make sure that it runs nowhere else, and then say so by --resume (resume=True)"
    try:
        name = os.fsdecode(domain_name(hv, domid) or b"")
    except HypervisorError as problem:
        return f"it stays suspended: its name, by which xl gives a guest away, cannot be read ({problem}); {asked}"
    if not name.endswith(AWAY):
        return ""
    return f"it stays suspended: by its name ({name}) xl has given it away, and its copy may run; {asked}"


def _end_device_model(hv: Recoverable, domid: int, hvm: bool, done: Recovery) -> None:
    """If this fails the rest is done all the same: the guest is slower than it could be, and right.

    A QEMU that is no device model is told nothing, whatever is noted of it: nobody has had it begin.
    """
    model = qemu_of(hv, domid)
    if model is None or not hvm:
        return
    try:
        if not has_device_model(hv, domid):
            return
        ended = end_left(model, Noted(hv, domid, model, done.left.append))
    except (DeviceModelError, HypervisorError) as problem:
        done.left.append(f"its QEMU may go on telling Xen which pages it writes, and is slower for it: {problem}")
        return
    if ended is False:
        done.left.append(
            "its QEMU may go on telling Xen which pages it writes, and is slower for it: the save ended, or was "
            f"killed, before QEMU had answered, and QEMU 6.2 ends if it is told what it does already; {NEEDS_ANOTHER}"
        )
    done.device_model = "off" if ended else None


def _let_go_on(hv: Recoverable, domid: int, done: Recovery) -> None:
    done.resumed, problem = goes_on(hv, domid)
    if problem is not None:
        done.left.append(f"its devices may stand still: {problem}")
    if not done.resumed:
        done.left.append("Xen was asked to let it go on, but it is still suspended")


def _unthrottle(hv: Recoverable, domid: int, done: Recovery) -> None:
    """If this fails the rest is done all the same: a slow guest is better than one that stays suspended."""
    try:
        record = read_record(hv, domid)
        others = None if record is None else put_back(hv, domid, record)
    except HypervisorError as problem:
        done.left.append(f"its cap, which a save may have lowered, is as it was found: {problem}")
        return
    if record is None:
        return
    if others is None:
        done.cap = record.was
    else:
        done.left.append(others)
