"""What is in a stream: a line for each record (or run of PAGE_DATA records), and sums."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Callable

from pyxcsr.errors import StreamError, StreamTruncated
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.stream import hvm_context, hvm_params
from pyxcsr.stream import records as rec
from pyxcsr.stream.after_end import AfterEnd
from pyxcsr.stream.describe import describe, describe_context, first_msrs, msr_name, nr_leaves, type_name, vendor
from pyxcsr.stream.format import DomainType, RecordType
from pyxcsr.stream.reader import RawRecord, StreamReader
from pyxcsr.stream.wrapping import Container

_VCPU_KINDS: dict[type[rec.Record], str] = {
    rec.VcpuBasic: "BASIC",
    rec.VcpuExtended: "EXTENDED",
    rec.VcpuXsave: "XSAVE",
    rec.VcpuMsrs: "MSRS",
}


@dataclass
class Line:
    """One record, or ``count`` PAGE_DATA records that follow one another. ``size`` in bytes, all of them."""

    offset: int
    name: str
    size: int
    text: str
    count: int = 1


@dataclass
class Pass:
    """Pages in ascending order of pfns: a saver begins a new pass where the order starts again.

    ``entries`` are all, ``pages`` those with data; ``first_pfn`` and ``last_pfn`` are the range.
    """

    offset: int
    first_pfn: int
    last_pfn: int
    entries: int = 0
    pages: int = 0


@dataclass
class Survey:
    """Sums over a stream, as far as it has been read; ``container`` describes what is around it, if anything.

    ``page_types``: name -> entries; ``vcpus``: id -> {record: bytes of content}; ``nr_pfns``: the size of
    the p2m (PV), else one more than the highest pfn; ``passes``: the first of ``nr_passes``. ``hvm_context``: type,
    instance and length of each save record; ``hvm_params``: name -> value; ``msr_policy``: the same of its first MSRs.
    ``problems`` are bodies that could not be understood, and what ended the reading early: the first of them, and
    ``dropped`` counts those beyond. ``after_end`` (of
    survey_input only) says what follows the stream in its input, if anything does; it is no problem of the stream's.
    ``checkpoints``: how many CHECKPOINT records there are (Remus); ``cut_off``: how a stream with such ends, if
    without END.
    """

    version: int
    guest: str
    xen: str
    records: int = 0
    bytes: int = 0
    entries: int = 0
    pages: int = 0
    nr_pfns: int = 0
    complete: bool = False
    page_types: dict[str, int] = field(default_factory=dict)
    nr_passes: int = 0
    passes: list[Pass] = field(default_factory=list)
    vcpus: dict[int, dict[str, int]] = field(default_factory=dict)
    cpuid_leaves: int = 0
    cpuid_vendor: str | None = None
    msr_policy: dict[str, int] = field(default_factory=dict)
    hvm_context: list[dict[str, Any]] = field(default_factory=list)
    hvm_params: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    dropped: int = 0
    after_end: str | None = None
    container: Container | None = None
    checkpoints: int = 0
    cut_off: str | None = None

    def add_problem(self, text: str) -> None:
        """Keeps one more, or only counts it: a hostile stream may have one in every eight bytes."""
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(text)
        else:
            self.dropped += 1

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


PROBLEMS_KEPT = 10_000
"""As many as verify keeps complaints."""

Take = Callable[[rec.Record], None]
"""Is given each record but PAGE_DATA, decoded, for whoever wants to know more of it."""


def survey(
    reader: StreamReader, show: Callable[[Line], None], *, fold: bool = True, take: Take | None = None
) -> Survey:
    """Reads a stream up to its END; hands each line to ``show`` as soon as it is known, and records to ``take``.

    ``fold`` makes one line of PAGE_DATA records that follow one another. What goes wrong on the way ends up
    in ``problems``; NotAStream, an unusable header and OSError are raised; UsageError if records were read already.
    """
    reader.check_not_begun("survey()")
    surveyor = Surveyor(reader, show, fold, take)
    while surveyor.follow():
        pass
    return surveyor.sums


def note_after_end(sums: Survey, after: AfterEnd | None, show: Callable[[Line], None]) -> None:
    """A line for what follows END in the input, if anything does."""
    if after is not None:
        sums.after_end = after.text
        show(Line(after.offset, "after END", after.bytes or 0, after.what))


class Surveyor:
    """Surveys a stream, into ``sums``."""

    def __init__(self, reader: StreamReader, show: Callable[[Line], None], fold: bool, more: Take | None) -> None:
        image, domain = reader.image_header, reader.domain_header
        xen = (
            f"{domain.xen_major}.{domain.xen_minor}" if domain.xen_major else "converted from a legacy image"
        )
        self.sums = self._sums = Survey(image.version, DomainType(domain.type).name, xen)
        self._reader = reader
        self._show = show
        self._fold = fold
        self._more = more
        self._since = 0  # records behind the last checkpoint
        self._folded: _PageRun | None = None
        self._pass: Pass | None = None

    def follow(self) -> bool:
        """Reads on to END, or as far as the stream can be followed; True behind a CHECKPOINT.

        There stand records of libxl, in its containers, and behind them the stream goes on: to be called again.
        """
        sums, again = self._sums, False
        try:
            for raw in self._reader.raw_records(pages=False):
                self._take(raw)
                self._since += 1
                if raw.code == RecordType.CHECKPOINT:
                    sums.checkpoints, self._since, again = sums.checkpoints + 1, 0, True
                    break
        except StreamError as error:
            self._cut(error)
        self._flush()
        sums.bytes = self._reader.offset - self._reader.start
        return again

    def _cut(self, error: StreamError) -> None:
        """A checkpointed stream that ends without END is as it should be: its sender has died."""
        if isinstance(error, StreamTruncated) and self._sums.checkpoints:
            self._sums.cut_off = f"it ends without END, {self._since} records behind its last checkpoint"
        else:
            self._sums.add_problem(f"offset 0x{error.offset:x}: {error}")

    def _take(self, raw: RawRecord) -> None:
        sums = self._sums
        sums.records += 1
        if raw.code == RecordType.END:
            sums.complete = True
        try:
            record = raw.decode()
        except StreamError as error:
            sums.add_problem(f"offset 0x{raw.offset:x}: {error}")
            self._line(Line(raw.offset, raw.name, raw.size, f"malformed: {error}"))
            return
        if isinstance(record, rec.PageData):
            self._take_pages(raw, record)
            return
        if isinstance(record, rec.HvmContext):
            text = self._sum_context(record)
        else:
            self._sum(record)
            text = describe(record)
        if self._more is not None:
            self._more(record)
        self._line(Line(raw.offset, raw.name, raw.size, text))

    def _line(self, line: Line) -> None:
        self._flush()
        self._show(line)

    def _flush(self) -> None:
        if self._folded is not None:
            self._show(self._folded.line())
            self._folded = None

    def _take_pages(self, raw: RawRecord, record: rec.PageData) -> None:
        self._sums.entries += len(record.entries)
        self._sums.pages += record.nr_pages + raw.nr_passed // PAGE_SIZE
        if self._folded is None:
            self._folded = _PageRun(raw.offset)
        self._folded.begin(raw)
        for at in range(0, len(record.entries), _SLICE):
            part = rec.PageData(record.entries[at : at + _SLICE], b"")
            self._take_entries(raw.offset, part.pfns, part.type_bits, self._folded)
        if not self._fold:
            self._flush()

    def _take_entries(self, offset: int, pfns: list[int], types: bytes, run: _PageRun) -> None:
        sums = self._sums
        counts = Counter(types)
        for kind, count in sorted(counts.items()):
            name = type_name(kind)
            sums.page_types[name] = sums.page_types.get(name, 0) + count
        if sums.guest != DomainType.PV.name:
            sums.nr_pfns = max(sums.nr_pfns, 1 + max(pfns))
        self._follow_passes(offset, pfns, types)
        run.add(pfns, counts)

    def _follow_passes(self, offset: int, pfns: list[int], types: bytes) -> None:
        """Cuts the pfns where they do not ascend."""
        cuts = [0]
        if sorted(pfns) != pfns or len(set(pfns)) != len(pfns):
            cuts += [at for at in range(1, len(pfns)) if pfns[at] <= pfns[at - 1]]
        for start, end in zip(cuts, [*cuts[1:], len(pfns)]):
            current = self._pass
            if current is None or pfns[start] <= current.last_pfn:
                current = self._new_pass(offset, pfns[start])
            current.last_pfn = pfns[end - 1]
            current.entries += end - start
            current.pages += rec.nr_with_data(types[start:end])

    def _new_pass(self, offset: int, pfn: int) -> Pass:
        self._pass = Pass(offset, pfn, pfn)
        self._sums.nr_passes += 1
        if len(self._sums.passes) < _PASSES_KEPT:
            self._sums.passes.append(self._pass)
        return self._pass

    def _sum(self, record: rec.Record) -> None:
        sums = self._sums
        if isinstance(record, rec.P2mFrames):
            sums.nr_pfns = max(sums.nr_pfns, record.end_pfn + 1)
        elif isinstance(record, rec.CpuidPolicy):
            sums.cpuid_leaves = nr_leaves(record)
            sums.cpuid_vendor = vendor(record)
        elif isinstance(record, rec.MsrPolicy):
            sums.msr_policy = {msr_name(msr.msr): msr.value for msr in first_msrs(record.blob, _MSRS_KEPT)}
        elif isinstance(record, rec.HvmParams):
            for index, value in record.params[:_PARAMS_KEPT]:
                name = hvm_params.name(index)
                if name in sums.hvm_params or len(sums.hvm_params) < _PARAMS_KEPT:
                    sums.hvm_params[name] = value
        elif isinstance(record, (rec.VcpuBasic, rec.VcpuExtended, rec.VcpuXsave, rec.VcpuMsrs)):
            self._sum_vcpu(record)

    def _sum_vcpu(self, record: rec.VcpuBasic | rec.VcpuExtended | rec.VcpuXsave | rec.VcpuMsrs) -> None:
        vcpus = self._sums.vcpus
        if record.vcpu_id in vcpus or len(vcpus) < _VCPUS_KEPT:
            vcpus.setdefault(record.vcpu_id, {})[_VCPU_KINDS[type(record)]] = len(record.blob)

    def _sum_context(self, record: rec.HvmContext) -> str:
        """Looks at it once, which may take long; its description."""
        facts, problems = hvm_context.look(record.blob)
        self._sums.hvm_context = [
            {"type": entry.name, "instance": entry.instance, "length": entry.length}
            for entry in facts.entries[:_SAVE_RECORDS_KEPT]
        ]
        for problem in problems[:_OF_A_CONTEXT]:
            if not problem.unknown:
                self._sums.add_problem(f"offset 0x{record.offset or 0:x}: HVM_CONTEXT: {problem.text}")
        return describe_context(record, facts, problems)


_PASSES_KEPT = 1000
_SAVE_RECORDS_KEPT = 4096
_OF_A_CONTEXT = 10  # problems
_MSRS_KEPT = 1024
_PARAMS_KEPT = 1000
_VCPUS_KEPT = 8192  # as many as a guest can have
_SLICE = 1 << 14
"""Entries looked at together: a hostile record can hold 16 million."""


class _PageRun:
    """PAGE_DATA records that become one line."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._count = 0
        self._size = 0
        self._low: int | None = None
        self._high = 0
        self._types: Counter[int] = Counter()

    def begin(self, raw: RawRecord) -> None:
        """One more record."""
        self._count += 1
        self._size += raw.size

    def add(self, pfns: list[int], types: Counter[int]) -> None:
        """Entries of the last record; there is at least one."""
        self._types += types
        low, high = min(pfns), max(pfns)
        self._low = low if self._low is None else min(self._low, low)
        self._high = max(self._high, high)

    def line(self) -> Line:
        """All of them as one line."""
        types = ", ".join(f"{count} {type_name(kind)}" for kind, count in sorted(self._types.items()))
        where = "no entries" if self._low is None else f"pfns 0x{self._low:x} to 0x{self._high:x}: {types}"
        return Line(self._offset, RecordType.PAGE_DATA.name, self._size, where, self._count)
