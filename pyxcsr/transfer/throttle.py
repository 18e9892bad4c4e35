"""Takes processor time from a guest that dirties its memory faster than it can be sent, and gives it back at the end.

By the cap of Xen's scheduler, step by step, as QEMU's auto-converge does by its own means.
"""

from __future__ import annotations

from pyxcsr.arguments import check_domain, check_number
from pyxcsr.errors import NotSupported, UsageError, note
from pyxcsr.plain import TYPE_CHECKING, Protocol
from pyxcsr.plain_contexts import insist
from pyxcsr.transfer.cap import Capped, CapRecord, put_back, read_record, write_record

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Optional

    from pyxcsr.hypervisor.interface import DomainInfo

START, STEP, MOST = 0.2, 0.1, 0.99
"""QEMU's cpu-throttle-initial, cpu-throttle-increment and max-cpu-throttle."""

ATTEMPTS = 2
"""How often it is tried to give the time back."""


class Throttled(Capped, Protocol):
    """The part of a Hypervisor that is needed here."""

    def domain_info(self, domid: int, /) -> DomainInfo:
        """The domain's state. Raises DomainNotFound."""

    def scheduler(self) -> str:
        """The host's scheduler, by name."""


class Throttle:
    """One guest's throttling during one save; a context manager, which gives the time back.

    ``start``, ``step``, ``most``: the share of the guest's processor time that is taken at first, how much more with
    each step, and at most, between 0 and 1. The whole is the cap that the guest has, or else all of its online vcpus.

    The contract: ``check`` once, before the guest is touched. ``tighten`` as often as is wanted; the first one changes
    the cap. ``release`` on every way out, and before the guest is asked to suspend, because a guest without processor
    time takes long to suspend. What the cap was is recorded before it is changed (:mod:`pyxcsr.transfer.cap`), so that
    after a SIGKILL :func:`pyxcsr.recover` puts it back. A cap that somebody else sets meanwhile is left as it is.
    """

    def __init__(
        self, hv: Throttled, domid: int, *, start: float = START, step: float = STEP, most: float = MOST
    ) -> None:
        """Raises UsageError for shares that make no sense."""
        check_domain(hv, domid)
        for name, share in (("start", start), ("step", step), ("most", most)):
            check_number(name, share, 0, (int, float))
        if not (0 < start <= most < 1 and 0 < step < 1):
            raise UsageError(
                f"the guest cannot be throttled by {start}, then {step} more each time, up to {most}: these are shares "
                "between 0 and 1, and the first is not more than the last"
            )
        self._hv, self._domid = hv, domid
        self._start, self._step, self._most = start, step, most
        self._record: Optional[CapRecord] = None
        self._changed = False
        self._whole = 0
        self.taken = 0.0
        """The share of its time that the guest lacks now."""
        self.left: Optional[str] = None
        """After ``release``: in words, why the cap is not what it was; None: it is."""

    def __enter__(self) -> Throttle:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            self.release()
        except Exception as problem:
            if error is None:
                raise
            note(error, f"besides: {problem}")

    def check(self) -> None:
        """Learns what the cap is. Raises NotSupported if the domain's scheduler has none; HypervisorError.

        A cap that a killed save has left is taken for ours: in the end it is what it was before that save.
        """
        share = self._hv.domain_share(self._domid)
        if share is None:
            raise NotSupported(
                f"domain {self._domid} cannot be throttled: its scheduler has no caps (the host's is "
                f"{self._hv.scheduler()}). credit2 and credit have (Xen's option sched=, or a cpupool's scheduler); "
                "or save it without throttling",
                domid=self._domid,
            )
        record = read_record(self._hv, self._domid)
        self._changed = record is not None and record.is_ours(share)
        was = record.was if record is not None and self._changed else share.cap
        self._record = CapRecord(share.scheduler, was, share.cap, share.cap)
        self._whole = was or 100 * max(self._hv.domain_info(self._domid).nr_online_vcpus, 1)

    def tighten(self) -> float:
        """Takes one step more, and returns the share that is taken now, never more than ``most``.

        A cap that somebody else has set since the last step stays: nothing is taken then, and ``release`` tells. One
        that was set before the first step is what the guest gets back. Raises HypervisorError: the guest then has what
        it had before, or the new cap; ``release`` knows both.
        """
        if self._record is None or not self._changed:
            self.check()
        elif not self._is_ours(self._record):
            self.taken = 0.0
            return self.taken
        taken = min(self.taken + self._step if self.taken else self._start, self._most)
        if taken == self.taken:
            return taken
        assert self._record is not None  # check() has made it
        cap = max(1, round(self._whole * (1.0 - taken)))
        record = self._record._replace(next=cap)
        write_record(self._hv, self._domid, record)
        self._record, self._changed = record, True
        self._hv.set_domain_cap(self._domid, record.scheduler, cap)
        self._record, self.taken = record._replace(now=cap), taken
        return taken

    def _is_ours(self, record: CapRecord) -> bool:
        share = self._hv.domain_share(self._domid)
        return share is not None and record.is_ours(share)

    @property
    def changed(self) -> bool:
        """Whether there may be anything to give back."""
        return self._changed

    def release(self) -> None:
        """Gives all of it back. Does nothing if nothing was taken, or all was given back.

        Raises HypervisorError if that cannot be done; the record stays then, for `pyxcsr recover`.
        """
        record = self._record
        if record is None or not self._changed:
            return
        insist(lambda: self._put_back(record))
        self._changed, self.taken, self._record = False, 0.0, None

    def _put_back(self, record: CapRecord) -> None:
        for attempt in range(ATTEMPTS):
            try:
                self.left = put_back(self._hv, self._domid, record)
                return
            except Exception:
                if attempt + 1 == ATTEMPTS:
                    raise
