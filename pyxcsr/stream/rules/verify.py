"""Verifying a stream: every rule of the format, and whether the guest in it is whole.

Xen's own verifier stops at the first problem and looks at structure only. This one goes on as long as it can
find its way, and follows the memory too: pfns never sent, page tables, p2m frames and vcpus that refer to
pages without contents.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from pyxcsr.errors import NotAStream, StreamError, StreamTruncated, UsageError
from pyxcsr.stream import format as fmt
from pyxcsr.stream import records as rec
from pyxcsr.stream import sparse
from pyxcsr.stream.format import DomainType, RecordType
from pyxcsr.stream.origin import Origin
from pyxcsr.stream.reader import DOMAIN_HEADER_NAME, IMAGE_HEADER_NAME, RawRecord, StreamReader
from pyxcsr.stream.rules.bodies import BodyRules
from pyxcsr.stream.rules.complaints import RULES, Complaint, Complaints
from pyxcsr.stream.rules.memory import MemoryRules
from pyxcsr.stream.rules.order import OrderRules
from pyxcsr.stream.wrapping import Container

__all__ = ["RULES", "Complaint", "Verifier", "VerifyReport", "verify"]


PAGES_UNCHECKED = "what the pages hold: a stream has no checksum of it"


@dataclass(frozen=True)
class VerifyReport:
    """What verify found.

    ``complaints`` in the order found, ``dropped`` more beyond the limit. ``notes`` are no complaints: what is unusual,
    but right for what the stream says that it comes from. ``unchecked`` says in words what has not been looked at.
    ``guest`` is "PV", "HVM" or None where the header says neither. ``bytes`` and ``records`` were read, of the libxc
    stream if that is in a container, which ``container`` describes then. ``entries`` and ``pages`` count PAGE_DATA
    entries and those with data, a page sent twice twice. ``nr_pfns`` is the p2m's size (HVM: up to the highest pfn
    sent), ``nr_unsent`` how many of these were never sent and ``unsent`` their first ranges (first, last).
    ``populated`` counts the pages that a receiver allocates, ``vcpu_end`` is one more than the highest vcpu id of which
    there is anything. ``memory_checked`` is False where the stream could not be followed to its END, so that nothing is
    known about what is missing. ``checkpoints``: whole ones, of a stream that was said to be a checkpointed one.
    """

    version: int
    guest: str | None
    bytes: int
    records: int
    entries: int
    pages: int
    nr_pfns: int
    nr_unsent: int
    unsent: list[tuple[int, int]]
    memory_checked: bool
    complaints: list[Complaint]
    dropped: int
    container: Optional[Container] = None
    notes: list[Complaint] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    populated: int = 0
    vcpu_end: int = 0
    checkpoints: int = 0

    @property
    def ok(self) -> bool:
        """True if there is nothing to complain about."""
        return not self.complaints

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = dict(vars(self))
        values["ok"] = self.ok
        for name in ("complaints", "notes"):
            values[name] = [each.to_dict() for each in values[name]]
        values["container"] = self.container and self.container.to_dict()
        return values


def verify(reader: StreamReader, *, limit: int = 10_000, checkpointed: bool = False) -> VerifyReport:
    """Reads the whole stream, and what follows it, and reports every breach of a rule.

    ``limit`` bounds the complaints kept. ``checkpointed``: the stream is one of Remus, which has CHECKPOINT records and
    as a rule no END; at each checkpoint the guest must be whole, and what follows the last one does not count.

    Raises NotAStream if it is no libxc stream at all, OSError if it cannot be read, UsageError for what is no reader,
    or one of which records (more than the headers) were read already; everything else is a complaint.
    """
    if not isinstance(reader, StreamReader):
        raise UsageError(f"verify takes a pyxcsr.StreamReader of an open file, not {reader!r}")
    reader.check_not_begun("verify()")
    verifier = Verifier(reader, Complaints(limit), nested=False, checkpointed=checkpointed)
    while verifier.follow():
        pass
    return verifier.report()


class Verifier:
    """Verifies a stream. ``nested``: within another input. ``checkpointed``: it may have CHECKPOINT records.

    ``complaints`` takes what there is to say.
    """

    def __init__(
        self, reader: StreamReader, complaints: Complaints, *, nested: bool, checkpointed: bool = False
    ) -> None:
        self._reader = reader
        self._complaints = complaints
        self._nested, self._checkpointed = nested, checkpointed
        self.checkpoints = 0
        self._last: BodyRules | None = None  # of the last whole checkpoint
        self._since = 0  # records behind that
        self._records = 0
        self._ended_at: int | None = None
        self._memory = MemoryRules(complaints, pv=True)
        self._origin = Origin(0, (0, 0))
        self._bodies = BodyRules(self._origin, complaints)
        self._version = 0
        self._guest: str | None = None

    def follow(self) -> bool:
        """Reads on to END, or as far as the stream can be followed; True behind a CHECKPOINT. Raises like ``verify``.

        Behind that of a nested stream stand records of libxl, and behind them it goes on: to be called again.
        """
        try:
            return self._read()
        except NotAStream:
            raise
        except StreamTruncated as error:
            if self._last is None:
                self._add_error("truncated", error)
            else:
                self._finish_cut(error, self._last)
        except StreamError as error:
            rule = "domain-header" if error.record == DOMAIN_HEADER_NAME else "record-limit"
            self._add_error(rule, error)
        return False

    def _read(self) -> bool:
        if not self._records:
            self._begin()
        pv = self._guest == DomainType.PV.name
        for raw in self._reader.raw_records(pages=False):
            if raw.code == RecordType.CHECKPOINT and self._checkpointed:
                self._checkpoint(raw, pv=pv)
                return True
            self._check(raw)
            if raw.code == RecordType.END:
                self._finish(raw.offset, pv=pv)
            elif raw.code == RecordType.CHECKPOINT and self._nested:
                return False  # records of libxl follow, and nobody has said that such streams are to be followed
        return False

    def _begin(self) -> None:
        self._check_image_header()
        domain = self._reader.domain_header
        self._guest = DomainType(domain.type).name
        if domain.reserved:
            text = f"the reserved field is 0x{domain.reserved:x}, not zero"
            self._complaints.add(
                "domain-reserved",
                text,
                offset=self._reader.start + fmt.IMAGE_HEADER.size,
                record=DOMAIN_HEADER_NAME,
            )
        origin = self._origin = self._reader.origin
        self._order = OrderRules(domain, origin, self._complaints)
        self._bodies = BodyRules(origin, self._complaints)
        self._memory = MemoryRules(self._complaints, pv=domain.is_pv, holes_left_out=origin.converted)

    def _checkpoint(self, raw: RawRecord, *, pv: bool) -> None:
        self._records += 1
        self.checkpoints += 1
        if raw.body:
            self._complaints.add("length", f"{len(raw.body)} bytes, must be 0", offset=raw.offset, record=raw.name)
        self._order.checkpoint(raw.offset)
        self._bodies.finish(raw.offset, pv=pv)
        self._last, self._since = self._bodies, 0
        self._bodies = self._last.next()

    def _finish_cut(self, error: StreamTruncated, last: BodyRules) -> None:
        """A stream that is cut off has its last whole checkpoint; what follows that has no meaning."""
        text = f"the stream ends without END, as one does whose sender has died: {self.checkpoints} whole checkpoints"
        whole = not self._since and not error.facts.get("got")
        if not whole:
            text += f", and {self._since} whole records behind them that do not count"
        self._complaints.add("truncated", text, offset=error.offset, record=error.record, note=True)
        if whole:
            self._ended_at = error.offset
            self._finish_memory(error.offset, last, pv=self._guest == DomainType.PV.name)

    def _check_image_header(self) -> None:
        image = self._reader.image_header
        self._version = image.version
        if image.options & fmt.OPTIONS_RESERVED or image.reserved:
            text = f"options 0x{image.options:04x}, reserved fields 0x{image.reserved:012x}: not all zero"
            self._complaints.add("image-reserved", text, offset=self._reader.start, record=IMAGE_HEADER_NAME)

    def _check(self, raw: RawRecord) -> None:
        self._records += 1
        self._since += 1
        if raw.padding and any(raw.padding):
            self._complaints.add(
                "padding",
                f"padding is {bytes(raw.padding).hex()}, not zero",
                offset=raw.offset,
                record=raw.name,
            )
        if not self._order.check(raw):
            return
        if raw.tables is not None:
            self._memory.page_data(raw.offset, raw.body, raw.tables)
            return
        try:
            record = raw.decode()
        except StreamError as error:
            self._add_error("length", error)
            return
        if isinstance(record, rec.PageData):
            self._memory.page_data(raw.offset, *sparse.apart(raw.body))
        else:
            self._check_body(record)

    def _check_body(self, record: rec.Record) -> None:
        if isinstance(record, rec.P2mFrames):
            self._memory.p2m_frames(record)
        elif isinstance(record, rec.Verify):
            self._memory.compare_only()
        else:
            self._bodies.check(record)
            if isinstance(record, rec.PvInfo) and record is self._bodies.pv_info:
                self._memory.pv_info(record)

    def _finish(self, end: int, *, pv: bool) -> None:
        self._ended_at = end
        if self._last is not None and self._since == 1:  # END stands right behind a checkpoint, and says nothing more
            self._bodies = self._last
        else:
            self._order.finish(end)
            self._bodies.finish(end, pv=pv)
        self._finish_memory(end, self._bodies, pv=pv)
        after = None if self._nested else self._reader.after_end()
        if after is not None:
            note = after.on_device or (after.legacy_devices and self._origin.converted and not pv)
            self._complaints.add("after-end", after.text, offset=after.offset, record=None, note=note)

    def _finish_memory(self, end: int, bodies: BodyRules, *, pv: bool) -> None:
        memory = self._memory
        bodies.finish_shared_info(memory.nr_pfns, may_shrink=memory.nr_frame_lists > 1)
        memory.finish(end, bodies.references)
        if not pv:
            bodies.hvm.finish(end, memory.why_missing if memory.complete else None)

    def _add_error(self, rule: str, error: StreamError) -> None:
        self._complaints.add(rule, str(error), offset=error.offset, record=error.record)

    def report(self) -> VerifyReport:
        """What was found by then."""
        memory = self._memory
        return VerifyReport(
            version=self._version,
            guest=self._guest,
            bytes=self._reader.offset - self._reader.start,
            records=self._records,
            entries=memory.entries,
            pages=memory.pages,
            nr_pfns=memory.nr_pfns,
            nr_unsent=memory.nr_unsent,
            unsent=memory.unsent,
            memory_checked=self._ended_at is not None and memory.complete,
            complaints=self._complaints.kept,
            dropped=self._complaints.dropped,
            notes=self._complaints.notes,
            unchecked=not_checked(self._guest, memory.pages),
            populated=memory.populated,
            vcpu_end=(self._last or self._bodies).vcpu_end,
            checkpoints=self.checkpoints,
        )


def not_checked(guest: str | None, pages: int) -> list[str]:
    """What verify cannot tell of a guest's stream, in words."""
    unchecked = [PAGES_UNCHECKED] if pages else []
    if guest == DomainType.PV.name:
        unchecked.append("registers, XSAVE areas and MSRs, but for their sizes and the frames that they name")
    elif guest == DomainType.HVM.name:
        unchecked.append("pages missing above the highest pfn of the stream: it does not say how large the guest is")
        unchecked.append("what the save records of HVM_CONTEXT hold, but for their sizes and the pages that they name")
    if guest is not None:
        unchecked.append("whether the receiving host can give the guest its CPUID, MSRs and TSC")
    return unchecked
