"""What an HVM_CONTEXT record is made of: Xen's own save records, one behind the other.

Each begins with a descriptor (typecode and instance, 16 bits each; length, 32 bits; little-endian), HEADER is the
first and END the last. Instances of what a guest has for each vcpu are vcpu ids. Sources: Xen's public headers
hvm/save.h and arch-x86/hvm/save.h in their releases from 3.4 on, and what Xen's loading code accepts.
"""

from __future__ import annotations

import struct
from itertools import chain

from pyxcsr.errors import StreamError
from pyxcsr.frames import PAGE_SHIFT
from pyxcsr.plain import TYPE_CHECKING, NamedTuple
from pyxcsr.stream.format import PFN_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Optional

    from pyxcsr.stream.records import Buffer

DESCRIPTOR = struct.Struct("<HHI")  # typecode, instance, length
HEADER_BODY = struct.Struct("<IIQII")  # magic, version, changeset, cpuid, gtsc_khz
MAGIC = 0x5438_1286
VERSION = 1

END, HEADER, CPU, PIC, XSAVE, MSR = 0, 1, 2, 3, 16, 20
VIRIDIAN_DOMAIN, VIRIDIAN_VCPU = 15, 17

VCPU_LIMIT = 8192
"""First instance that no vcpu of an HVM guest can have."""

ENTRIES_MAX = 1 << 16
"""Save records that are looked at; a guest of 4096 vcpus has fewer. A made-up context could have 16 million."""

PROBLEMS_MAX = 1000
"""Problems that are told, of what is wrong and of what is unknown; the first that is wrong refuses a context."""

_XSAVE_HEAD = struct.Struct("<QQQ")  # xfeature_mask (ignored), xcr0, xcr0_accum
_XSAVE_MIN = _XSAVE_HEAD.size + 576
_PFN_MASK = PFN_LIMIT - 1
_CR0_AT, _CR3_AT = 656, 672  # in CPU
_CR0_PAGING = 0x8000_0001  # PG and PE
_VIRIDIAN_PAGES = {  # offset of an MSR that names a page and enables it by its bit 0
    VIRIDIAN_DOMAIN: ((0, "hypercall page"), (24, "reference TSC page")),
    VIRIDIAN_VCPU: ((0, "VP assist page"), (16, "SynIC message page")),
}
_MSR_HEAD = struct.Struct("<II")  # count, padding
_MSR_ENTRY = struct.Struct("<IIQ")  # index, reserved, value


class SaveType(NamedTuple):
    """A kind of save record. ``lengths`` are those that releases of Xen have written; none: it varies.

    ``instances``: how many a guest can have; None: one for each vcpu.
    """

    name: str
    lengths: tuple[int, ...]
    instances: Optional[int]


TYPES = {
    END: SaveType("END", (0,), 1),
    HEADER: SaveType("HEADER", (24,), 1),
    CPU: SaveType("CPU", (1016, 1024, 1032), None),  # up to 3.3, up to 4.6, since 4.7
    PIC: SaveType("PIC", (8,), 2),
    4: SaveType("IOAPIC", (400,), 1),
    5: SaveType("LAPIC", (16, 24, 32), None),  # up to 4.0; to 4.20; from 4.21 on, with pending_esr
    6: SaveType("LAPIC_REGS", (1024,), None),
    7: SaveType("PCI_IRQ", (16,), 1),
    8: SaveType("ISA_IRQ", (8,), 1),
    9: SaveType("PCI_LINK", (8,), 1),
    10: SaveType("PIT", (56,), 1),
    11: SaveType("RTC", (16, 24), 1),  # up to 4.13, since 4.14
    12: SaveType("HPET", (1048,), 1),
    13: SaveType("PMTIMER", (8,), 1),
    14: SaveType("MTRR", (240,), None),
    VIRIDIAN_DOMAIN: SaveType("VIRIDIAN_DOMAIN", (16, 24, 32), 1),
    XSAVE: SaveType("CPU_XSAVE", (), None),
    VIRIDIAN_VCPU: SaveType("VIRIDIAN_VCPU", (8, 16, 152, 216), None),
    18: SaveType("VMCE_VCPU", (8, 24, 32), None),
    19: SaveType("TSC_ADJUST", (8,), None),
    MSR: SaveType("CPU_MSR", (), None),
}
"""Typecode -> what is known of it. Xen refuses a context with a type that it does not know."""


def type_name(typecode: int) -> str:
    """The name of a kind of save record, or its number."""
    known = TYPES.get(typecode)
    return known.name if known is not None else f"type {typecode}"


class Entry(NamedTuple):
    """One save record. ``at`` is where its descriptor stands in the context; ``length`` is the body's, in bytes."""

    at: int
    typecode: int
    instance: int
    length: int

    @property
    def name(self) -> str:
        """The name of its type."""
        return type_name(self.typecode)

    def body(self, context: Buffer) -> memoryview:
        """Its body."""
        start = self.at + DESCRIPTOR.size
        return memoryview(context)[start : start + self.length]


class Problem(NamedTuple):
    """Something that is wrong at ``at``. ``unknown``: only because this release does not know such a thing."""

    at: int
    text: str
    unknown: bool = False


class HvmContextFacts:
    """What a context says of itself.

    ``entries``: all save records, END included. ``vcpus``: ids of the vcpus with registers (CPU), ascending: the
    others are offline. ``vcpu_end``: one more than the highest vcpu id of any record. ``changeset``, ``cpuid`` (leaf
    1, eax) and ``tsc_khz`` are HEADER's; the changeset is all ones where Xen did not know its own.
    """

    __slots__ = ("changeset", "cpuid", "entries", "tsc_khz", "vcpu_end", "vcpus")

    def __init__(self, context: Buffer, entries: list[Entry]) -> None:
        self.entries = entries
        self.vcpus = sorted({entry.instance for entry in entries if entry.typecode == CPU})
        self.vcpu_end = 1 + max((entry.instance for entry in entries if _is_per_vcpu(entry)), default=-1)
        head = entries[0].body(context) if entries else memoryview(b"")
        whole = entries and entries[0].typecode == HEADER and len(head) == HEADER_BODY.size
        fields = HEADER_BODY.unpack(head) if whole else (0,) * 5
        self.changeset, self.cpuid, self.tsc_khz = fields[2:]


def look(context: Buffer) -> tuple[HvmContextFacts, list[Problem]]:
    """What is in a context, as far as it can be followed, and everything that is wrong with it. Raises nothing.

    What is wrong stands ahead of what is only unknown.
    """
    entries, problems = _walk(context)
    facts = HvmContextFacts(context, entries)
    return facts, problems + _bounded(chain(_of_each(context, entries), _of_all(entries)))


def _bounded(found: Iterator[Problem]) -> list[Problem]:
    """So many of each kind that no number of unknown things hides one that is wrong."""
    wrong: list[Problem] = []
    unknown: list[Problem] = []
    for problem in found:
        kept = unknown if problem.unknown else wrong
        if len(kept) < PROBLEMS_MAX:
            kept.append(problem)
        elif kept is wrong:
            break
    return wrong + unknown


def check(context: Buffer, *, offset: int, nr_vcpus: Optional[int] = None) -> HvmContextFacts:
    """The facts of a context that Xen has a chance to load. Raises StreamError at the first thing that is wrong.

    ``offset`` is the record's in the stream, for the error; ``nr_vcpus`` the number of vcpus that the domain has, so
    that vcpu ids can be compared with it (None: they are not). Types and lengths that are not known here are
    left for Xen to judge: it may be newer. StreamError's facts: offset, record, at (in the context).
    """
    facts, problems = look(context)
    for problem in problems:
        if not problem.unknown:
            raise _error(problem.text, offset, problem.at)
    if nr_vcpus is not None and facts.vcpu_end > nr_vcpus:
        text = f"it has state of vcpu {facts.vcpu_end - 1}, but the domain has {nr_vcpus} vcpus"
        raise _error(text, offset, next(e.at for e in facts.entries if e.instance == facts.vcpu_end - 1))
    return facts


class PageOf(NamedTuple):
    """A page that a context names: in which words, and the pfn."""

    what: str
    pfn: int


def pages(context: Buffer, facts: HvmContextFacts) -> Iterator[PageOf]:
    """The pages that vcpus with paging have as their page table base, and those that Viridian guests have set up."""
    for entry in facts.entries:
        body = entry.body(context)
        if entry.typecode == CPU and _number(body, _CR0_AT) & _CR0_PAGING == _CR0_PAGING:
            yield PageOf(f"cr3 of vcpu {entry.instance}", _number(body, _CR3_AT) >> PAGE_SHIFT & _PFN_MASK)
        for at, what in _VIRIDIAN_PAGES.get(entry.typecode, ()):
            if _number(body, at) & 1:
                owner = f" of vcpu {entry.instance}" if entry.typecode == VIRIDIAN_VCPU else ""
                yield PageOf(f"the {what}{owner}", _number(body, at) >> PAGE_SHIFT & _PFN_MASK)


def _number(body: memoryview, at: int) -> int:
    """Eight bytes as a number; those beyond the body's end are zero."""
    return int.from_bytes(body[at : at + 8], "little")


def _error(text: str, offset: int, at: int) -> StreamError:
    return StreamError(f"HVM_CONTEXT: {text} (at byte {at} of the context)", offset=offset, record="HVM_CONTEXT", at=at)


def _is_per_vcpu(entry: Entry) -> bool:
    known = TYPES.get(entry.typecode)
    return known is not None and known.instances is None


def _walk(context: Buffer) -> tuple[list[Entry], list[Problem]]:
    """The save records one after the other, up to END or as far as they can be found."""
    entries: list[Entry] = []
    at, size = 0, len(context)
    while size - at >= DESCRIPTOR.size:
        entry = Entry(at, *DESCRIPTOR.unpack_from(context, at))
        if entry.length > size - at - DESCRIPTOR.size:
            left = size - at - DESCRIPTOR.size
            return entries, [Problem(at, f"{_title(entry)} claims {entry.length} bytes, of which {left} are there")]
        if len(entries) == ENTRIES_MAX:
            return entries, [Problem(at, f"it has more than {ENTRIES_MAX} save records")]
        entries.append(entry)
        at += DESCRIPTOR.size + entry.length
        if entry.typecode == END:
            rest = size - at
            return entries, [Problem(at, f"{rest} bytes follow its END")] if rest else []
    return entries, [Problem(at, f"it ends after {size} bytes without an END")]


def _title(entry: Entry) -> str:
    return f"{entry.name} of instance {entry.instance}"


def _of_each(context: Buffer, entries: list[Entry]) -> Iterator[Problem]:
    """What is wrong with single save records."""
    for entry in entries:
        known = TYPES.get(entry.typecode)
        if known is None:
            text = f"a save record of type {entry.typecode}, which no Xen up to 4.22 has"
            yield Problem(entry.at, text, unknown=True)
            continue
        limit = VCPU_LIMIT if known.instances is None else known.instances
        if entry.instance >= limit:
            yield Problem(entry.at, f"{_title(entry)}: there can be {limit} at most, counted from 0")
        if known.lengths:
            yield from _of_length(entry, known.lengths)
        else:
            yield from (_of_xsave if entry.typecode == XSAVE else _of_msrs)(entry, entry.body(context))
    if entries and entries[0].typecode == HEADER and entries[0].length == HEADER_BODY.size:
        yield from _of_header(entries[0].body(context))


def _of_length(entry: Entry, lengths: tuple[int, ...]) -> Iterator[Problem]:
    if entry.length in lengths:
        return
    wanted = " or ".join(map(str, lengths))
    # The kinds that have grown may grow again; those that have not are checked for equality by every Xen.
    unknown = len(lengths) > 1 and entry.length > lengths[-1]
    yield Problem(entry.at, f"{_title(entry)} has {entry.length} bytes, must have {wanted}", unknown)


def _of_header(body: memoryview) -> Iterator[Problem]:
    magic, version, *_ = HEADER_BODY.unpack(body)
    if magic != MAGIC:
        yield Problem(0, f"HEADER's magic number is 0x{magic:08x}, must be 0x{MAGIC:08x}")
    elif version != VERSION:
        yield Problem(0, f"HEADER says format version {version}; there is only version {VERSION}")


def _of_xsave(entry: Entry, body: memoryview) -> Iterator[Problem]:
    if entry.length < _XSAVE_MIN:
        yield Problem(entry.at, f"{_title(entry)} has {entry.length} bytes, must have at least {_XSAVE_MIN}")
        return
    _, xcr0, accum = _XSAVE_HEAD.unpack_from(body)
    if not xcr0 & accum & 1 or xcr0 & ~accum:
        text = f"{_title(entry)}: xcr0 0x{xcr0:x} with xcr0_accum 0x{accum:x} cannot be"
        yield Problem(entry.at, text)


def _of_msrs(entry: Entry, body: memoryview) -> Iterator[Problem]:
    count = _MSR_HEAD.unpack_from(body)[0] if entry.length >= _MSR_HEAD.size else 0
    wanted = _MSR_HEAD.size + count * _MSR_ENTRY.size
    if not count:
        yield Problem(entry.at, f"{_title(entry)} of {entry.length} bytes has no MSR in it")
    elif entry.length != wanted:
        text = f"{_title(entry)} has {entry.length} bytes, must have {wanted} for {count} MSRs"
        yield Problem(entry.at, text)
    elif any(reserved for _, reserved, _ in _MSR_ENTRY.iter_unpack(body[_MSR_HEAD.size :])):
        yield Problem(entry.at, f"{_title(entry)} has a reserved field that is not zero")


def _of_all(entries: list[Entry]) -> Iterator[Problem]:
    """What is wrong with the save records as a whole."""
    if entries and entries[0].typecode != HEADER:
        yield Problem(0, f"it begins with {entries[0].name}, not with HEADER")
    seen: set[tuple[int, int]] = set()
    for entry in entries:
        if entry[1:3] in seen:
            yield Problem(entry.at, f"{_title(entry)} comes twice")
        seen.add((entry.typecode, entry.instance))
    if entries and not any(entry.typecode == CPU for entry in entries):
        yield Problem(entries[-1].at, "it has no registers (CPU) of any vcpu")
