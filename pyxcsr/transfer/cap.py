"""A domain's cap that a save has changed: what it was, recorded in xenstore, where `pyxcsr recover` finds it.

The record is in a directory of the domain's that only domain 0 writes, and goes when the domain goes. It is written
before the cap is changed and emptied after it has been changed back, so that at no moment a cap is left that nobody
knows of.
"""

from __future__ import annotations

from pyxcsr.errors import DomainNotFound
from pyxcsr.plain import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from typing import Optional

    from pyxcsr.hypervisor.interface import Share

_TEXT = rb"(credit2?) was=(\d{1,5}) now=(\d{1,5}) next=(\d{1,5})"


class Capped(Protocol):
    """The part of a Hypervisor that is needed here."""

    def domain_share(self, domid: int, /) -> Optional[Share]:
        """Scheduler, weight and cap; None if the scheduler has no caps."""

    def set_domain_cap(self, domid: int, scheduler: str, cap: int, /) -> None:
        """Sets the cap."""

    def xenstore_read(self, path: str, /) -> Optional[bytes]:
        """A node's value, or None."""

    def xenstore_write(self, path: str, value: bytes, /) -> None:
        """Writes a node."""


class CapRecord(NamedTuple):
    """``was``: the cap before a save changed it; ``now``, ``next``: between which the save last changed it, so that one
    of them is the domain's unless somebody else has set it."""

    scheduler: str
    was: int
    now: int
    next: int

    def is_ours(self, share: Share) -> bool:
        """Whether the cap that a domain has is one that the save has set, and not somebody else."""
        return share.scheduler == self.scheduler and share.cap in (self.now, self.next)


def path_of(domid: int) -> str:
    """The record's place."""
    return f"/local/domain/{domid}/pyxcsr/cap"


def write_record(hv: Capped, domid: int, record: CapRecord) -> None:
    """To be called before the cap is changed from ``now`` to ``next``."""
    text = f"{record.scheduler} was={record.was} now={record.now} next={record.next}"
    hv.xenstore_write(path_of(domid), text.encode())


def read_record(hv: Capped, domid: int) -> Optional[CapRecord]:
    """The record that a save has left or is about to leave; None if there is none, or one that is none of ours."""
    text = hv.xenstore_read(path_of(domid))
    if not text:
        return None
    import re

    found = re.fullmatch(_TEXT, text)
    return CapRecord(found[1].decode(), int(found[2]), int(found[3]), int(found[4])) if found else None


def erase_record(hv: Capped, domid: int) -> None:
    """To be called when the cap is again what it was."""
    hv.xenstore_write(path_of(domid), b"")


def put_back(hv: Capped, domid: int, record: CapRecord) -> Optional[str]:
    """Sets the cap to what it was, and erases the record. If somebody else has set the cap since, it is left alone, and
    that is returned in words; a domain that has gone needs nothing.

    Raises HypervisorError; the record is still there then.
    """
    try:
        share = hv.domain_share(domid)
        others = share is None or not (record.is_ours(share) or share.cap == record.was)
        if share is not None and record.is_ours(share):
            hv.set_domain_cap(domid, record.scheduler, record.was)
        erase_record(hv, domid)
    except DomainNotFound:
        return None
    if not others:
        return None
    found = "its scheduler has no caps now" if share is None else f"its cap is {share.cap} now ({share.scheduler})"
    return f"{found}, which the save did not set, and is left so; it was {record.was} ({record.scheduler})"
