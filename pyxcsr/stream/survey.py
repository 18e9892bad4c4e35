"""What is in a stream: a line for each record (or run of PAGE_DATA records), and sums."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Callable

from pyxcsr.errors import StreamError
from pyxcsr.frames import PageType
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import DomainType, RecordType
from pyxcsr.stream.reader import RawRecord, StreamReader
from pyxcsr.stream.wrapping import Container

MSR_NAMES = {
    0x48: "SPEC_CTRL",
    0xCE: "PLATFORM_INFO",
    0x10A: "ARCH_CAPABILITIES",
    0x140: "MISC_FEATURES_ENABLES",
    0xDA0: "XSS",
    0xC000_0103: "TSC_AUX",
    0xC001_011F: "VIRT_SPEC_CTRL",
    0xC001_1019: "DR1_ADDRESS_MASK",
    0xC001_101A: "DR2_ADDRESS_MASK",
    0xC001_101B: "DR3_ADDRESS_MASK",
    0xC001_1027: "DR0_ADDRESS_MASK",
}
"""The MSRs that streams carry, named as in the vendors' manuals."""

_VCPU_KINDS: dict[type[rec.Record], str] = {
    rec.VcpuBasic: "BASIC",
    rec.VcpuExtended: "EXTENDED",
    rec.VcpuXsave: "XSAVE",
    rec.VcpuMsrs: "MSRS",
}


def msr_name(msr: int) -> str:
    """The name of an MSR, or its number."""
    return MSR_NAMES.get(msr, f"0x{msr:x}")


def type_name(kind: int) -> str:
    """The name of a page type, also of one that does not exist."""
    try:
        return PageType(kind).name
    except ValueError:
        return f"unknown type 0x{kind:x}"


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
    the p2m (PV), else one more than the highest pfn; ``passes``: the first of ``nr_passes``. ``problems`` are
    bodies that could not be understood, and what ended the reading early.
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
    problems: list[str] = field(default_factory=list)
    container: Container | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def survey(reader: StreamReader, show: Callable[[Line], None], *, fold: bool = True) -> Survey:
    """Reads a stream up to its END; hands each line to ``show`` as soon as it is known.

    ``fold`` makes one line of PAGE_DATA records that follow one another. What goes wrong on the way ends up
    in ``problems``; NotAStream, an unusable header and OSError are raised.
    """
    return _Surveyor(reader, show, fold, nested=False).run()


def survey_nested(reader: StreamReader, show: Callable[[Line], None], *, fold: bool) -> Survey:
    """``survey`` for a stream within another input; a checkpointed one is followed to its first checkpoint only."""
    return _Surveyor(reader, show, fold, nested=True).run()


class _Surveyor:
    def __init__(
        self, reader: StreamReader, show: Callable[[Line], None], fold: bool, *, nested: bool
    ) -> None:
        image, domain = reader.image_header, reader.domain_header
        xen = (
            f"{domain.xen_major}.{domain.xen_minor}" if domain.xen_major else "converted from a legacy image"
        )
        self._sums = Survey(image.version, DomainType(domain.type).name, xen)
        self._reader = reader
        self._show = show
        self._fold = fold
        self._nested = nested
        self._folded: _PageRun | None = None
        self._pass: Pass | None = None

    def run(self) -> Survey:
        sums = self._sums
        try:
            for raw in self._reader.raw_records():
                self._take(raw)
                if raw.code == RecordType.CHECKPOINT and self._nested:
                    text = "a checkpointed stream (Remus, COLO), whose records of libxl and libxc mix from here on"
                    sums.problems.append(f"offset 0x{raw.offset:x}: {text}")
                    break
        except StreamError as error:
            sums.problems.append(f"offset 0x{error.offset:x}: {error}")
        self._flush()
        sums.bytes = self._reader.offset - self._reader.start
        return sums

    def _take(self, raw: RawRecord) -> None:
        sums = self._sums
        sums.records += 1
        if raw.code == RecordType.END:
            sums.complete = True
        try:
            record = rec.decode(raw.code, raw.body, raw.offset)
        except StreamError as error:
            sums.problems.append(f"offset 0x{raw.offset:x}: {error}")
            self._line(Line(raw.offset, raw.name, raw.size, f"malformed: {error}"))
            return
        if isinstance(record, rec.PageData):
            self._take_pages(raw, record)
            return
        self._sum(record)
        self._line(Line(raw.offset, raw.name, raw.size, describe(record)))

    def _line(self, line: Line) -> None:
        self._flush()
        self._show(line)

    def _flush(self) -> None:
        if self._folded is not None:
            self._show(self._folded.line())
            self._folded = None

    def _take_pages(self, raw: RawRecord, record: rec.PageData) -> None:
        self._sums.entries += len(record.entries)
        self._sums.pages += record.nr_pages
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
            current.pages += len(types[start:end].translate(None, _TYPES_WITHOUT_DATA))

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
            sums.cpuid_leaves = len(record.leaves)
            sums.cpuid_vendor = _vendor(record)
        elif isinstance(record, rec.MsrPolicy):
            sums.msr_policy = {msr_name(msr.msr): msr.value for msr in record.msrs}
        elif isinstance(record, (rec.VcpuBasic, rec.VcpuExtended, rec.VcpuXsave, rec.VcpuMsrs)):
            kinds = sums.vcpus.setdefault(record.vcpu_id, {})
            kinds[_VCPU_KINDS[type(record)]] = len(record.blob)


_TYPES_WITHOUT_DATA = bytes(
    kind for kind in range(16) if kind not in [int(known) for known in PageType if known.has_data]
)
_PASSES_KEPT = 1000
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


def _vendor(policy: rec.CpuidPolicy) -> str | None:
    """The vendor's name from leaf 0."""
    for leaf in policy.leaves:
        if leaf.leaf == 0:
            text = b"".join(part.to_bytes(4, "little") for part in (leaf.ebx, leaf.edx, leaf.ecx))
            name = text.decode("latin-1").strip("\0 ")
            return name if name.isascii() and name.isprintable() and name else None
    return None


def describe(record: rec.Record) -> str:
    """The short content of a record other than PAGE_DATA; empty if there is none."""
    function = _DESCRIPTIONS.get(type(record))
    return "" if function is None else function(record)


def _describe_vcpu(record: Any) -> str:
    return f"vcpu {record.vcpu_id}, {len(record.blob)} bytes"


def _describe_xsave(record: rec.VcpuXsave) -> str:
    text = _describe_vcpu(record)
    if len(record.blob) < 16:
        return text
    return f"{text}, xcr0 0x{int.from_bytes(record.blob[:8], 'little'):x}"


def _describe_msrs(record: rec.VcpuMsrs) -> str:
    return f"vcpu {record.vcpu_id}: " + ", ".join(
        f"{msr_name(msr.msr)} 0x{msr.value:x}" for msr in record.msrs
    )


def _describe_frames(record: rec.P2mFrames) -> str:
    return f"pfns 0x{record.start_pfn:x} to 0x{record.end_pfn:x}, {len(record.frames)} frames"


def _describe_tsc(record: rec.TscInfo) -> str:
    return f"mode {record.mode}, {record.khz} kHz, {record.nsec} ns, incarnation {record.incarnation}"


def _describe_policy(record: rec.CpuidPolicy) -> str:
    vendor = _vendor(record)
    return f"{len(record.leaves)} leaves" + (f", {vendor}" if vendor else "")


def _describe_msr_policy(record: rec.MsrPolicy) -> str:
    return ", ".join(f"{msr_name(msr.msr)} 0x{msr.value:x}" for msr in record.msrs)


_DESCRIPTIONS: dict[type[rec.Record], Callable[[Any], str]] = {
    rec.PvInfo: lambda record: f"{record.width * 8}-bit guest, {record.levels} levels of page tables",
    rec.P2mFrames: _describe_frames,
    rec.VcpuBasic: _describe_vcpu,
    rec.VcpuExtended: _describe_vcpu,
    rec.VcpuXsave: _describe_xsave,
    rec.VcpuMsrs: _describe_msrs,
    rec.TscInfo: _describe_tsc,
    rec.CpuidPolicy: _describe_policy,
    rec.MsrPolicy: _describe_msr_policy,
    rec.HvmContext: lambda record: f"{len(record.blob)} bytes",
    rec.HvmParams: lambda record: ", ".join(f"{index}: 0x{value:x}" for index, value in record.params),
    rec.Unknown: lambda record: f"{len(record.blob)} bytes",
}
