"""Two saved guests compared: memory by pfn, page types, vcpus, CPU policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.image.machine import entries_of
from pyxcsr.image.memory import MemoryImage
from pyxcsr.image.pagemap import CHUNK, PLACE_SHIFT, WITH_CONTENT
from pyxcsr.image.taking import Tick
from pyxcsr.stream import hvm_context
from pyxcsr.stream.format import RecordType, record_name
from pyxcsr.stream.records import packed

SCHEMA = 1
"""Of the JSON document."""

TOGETHER = 256
"""Pages that are read together at most."""

_VCPU = range(RecordType.X86_PV_VCPU_BASIC, RecordType.X86_PV_VCPU_XSAVE + 1)
_ABSENT = int(PageType.XTAB)


class Ranges:
    """Ascending pfns as ranges. ``count``: how many pfns; ``ranges``: (first, last) of each."""

    def __init__(self) -> None:
        self.count = 0
        self.ranges: list[tuple[int, int]] = []

    def add(self, pfn: int) -> None:
        """One more pfn, above all others."""
        self.count += 1
        if self.ranges and self.ranges[-1][1] == pfn - 1:
            self.ranges[-1] = self.ranges[-1][0], pfn
        else:
            self.ranges.append((pfn, pfn))

    def pfns(self) -> Iterator[int]:
        """Each of them."""
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"count": self.count, "ranges": [list(x) for x in self.ranges]}


class Comparison:
    """What differs. ``content``: pfns whose pages differ; ``only_a``, ``only_b``: those with content in one alone.

    ``types``: pfns with content in both, or in neither, whose types differ; ``records``: what else differs, in words;
    ``equal``: how many pages are the same; ``frames``: of a PV guest's p2m frames, which hold mfns, those that say the
    same of every pfn but the mfn, as after a restore: they count as equal.
    """

    def __init__(self) -> None:
        self.equal = self.frames = 0
        self.content, self.only_a, self.only_b, self.types = Ranges(), Ranges(), Ranges(), Ranges()
        self.records: list[str] = []

    @property
    def same(self) -> bool:
        """True if nothing differs."""
        return not (self.records or any(x.count for x in (self.content, self.only_a, self.only_b, self.types)))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("content", "only_a", "only_b", "types")
        found = {name: getattr(self, name).to_dict() for name in names}
        equal = {"equal_pages": self.equal, "p2m_frames_with_other_mfns": self.frames}
        return {"schema": SCHEMA, "same": self.same, **equal, **found, "records": self.records}


class _Span(NamedTuple):
    """Pfns that both have, whose contents stand together in each of the two files."""

    pfn: int
    a: int
    b: int
    nr_pages: int


def compare(a: MemoryImage, b: MemoryImage, tick: Optional[Tick] = None) -> Comparison:
    """Compares two images. Raises InputError, OSError."""
    found = Comparison()
    frames = _p2m(a) & _p2m(b)
    for done, index in enumerate(sorted({*a.map.chunks, *b.map.chunks})):
        _compare_flags(a, b, index, found)
        for span in _spans(a, b, index):
            _compare_span(a, b, span, frames, found)
        if tick is not None:
            tick(done * CHUNK * PAGE_SIZE)
    found.records = list(_records(a, b))
    return found


def _p2m(image: MemoryImage) -> set[int]:
    """The pages of the p2m that have content; no record names more of these than there are pages.

    Records that begin far out leave millions of places without a frame between them: these are one member of the set.
    """
    return {pfn for pfn in set(image.contents.p2m_frames) if image.map.word(pfn) & 0xFF in WITH_CONTENT}


def _compare_flags(a: MemoryImage, b: MemoryImage, index: int, found: Comparison) -> None:
    ours, theirs = a.map.flags(index), b.map.flags(index)
    if ours == theirs:
        return
    for pfn, (x, y) in enumerate(zip(ours, theirs), index * CHUNK):
        if (x in WITH_CONTENT) != (y in WITH_CONTENT):
            (found.only_a if x in WITH_CONTENT else found.only_b).add(pfn)
        elif _type(x) != _type(y):
            found.types.add(pfn)


def _type(flag: int) -> int:
    """What was never named has no memory, as XTAB."""
    return flag & 0xF if flag else _ABSENT


def _spans(a: MemoryImage, b: MemoryImage, index: int) -> Iterator[_Span]:
    ours, theirs = a.map.chunks.get(index), b.map.chunks.get(index)
    if ours is None or theirs is None:
        return
    span = _Span(0, 0, 0, 0)
    for pfn, (x, y) in enumerate(zip(ours, theirs), index * CHUNK):
        if x & 0xFF not in WITH_CONTENT or y & 0xFF not in WITH_CONTENT:
            continue
        here = (pfn, x >> PLACE_SHIFT, y >> PLACE_SHIFT)
        size = span.nr_pages * PAGE_SIZE
        if span.nr_pages < TOGETHER and here == (span.pfn + span.nr_pages, span.a + size, span.b + size):
            span = span._replace(nr_pages=span.nr_pages + 1)
            continue
        if span.nr_pages:
            yield span
        span = _Span(*here, 1)
    if span.nr_pages:
        yield span


def _compare_span(a: MemoryImage, b: MemoryImage, span: _Span, frames: set[int], found: Comparison) -> None:
    ours, theirs = a.at(span.a, span.nr_pages), b.at(span.b, span.nr_pages)
    if ours == theirs:
        found.equal += span.nr_pages
        return
    for at in range(span.nr_pages):
        pfn = span.pfn + at
        x, y = (data[at * PAGE_SIZE : (at + 1) * PAGE_SIZE] for data in (ours, theirs))
        if x == y:
            found.equal += 1
        elif pfn in frames and _without_mfns(x, a) == _without_mfns(y, b):
            found.equal += 1
            found.frames += 1
        else:
            found.content.add(pfn)


def _without_mfns(page: bytes, image: MemoryImage) -> bytes:
    """A frame of a p2m as which of its pfns have a frame at all, and the two bits that Linux has beside them."""
    bits = 8 * image.contents.width
    entries = entries_of(page, image.contents.width)
    return packed(x if x == (1 << bits) - 1 else x & 3 << bits - 2 for x in entries)


# Records


def _records(a: MemoryImage, b: MemoryImage) -> Iterator[str]:
    if a.kind != b.kind:
        yield f"the kind of guest: {a.kind}, {b.kind}"
    if a.contents.p2m_frames != b.contents.p2m_frames:
        yield "where the p2m is (X86_PV_P2M_FRAMES)"
    for code, vcpu in sorted({*a.contents.keys(), *b.contents.keys()}):
        yield from _record(a, b, code, vcpu)


def _record(a: MemoryImage, b: MemoryImage, code: int, vcpu: int) -> Iterator[str]:
    name = record_name(code)
    if code in _VCPU or code == RecordType.X86_PV_VCPU_MSRS:
        name = f"vcpu {vcpu}: {name}"
    missing = [which for which, x in (("the first", a), ("the second", b)) if x.contents.record(code, vcpu) is None]
    if missing:
        yield f"{name}: {missing[0]} has none"
    elif a.contents.body(code, vcpu) != b.contents.body(code, vcpu):
        if code == RecordType.HVM_CONTEXT:
            yield from list(_save_records(a, b)) or [name]  # it may be what stands between them, or behind END
            return
        named = code == RecordType.X86_PV_VCPU_BASIC and a.contents.pv  # an HVM guest has its registers elsewhere
        yield name + (_registers(a, b, vcpu) if named else "")


def _registers(a: MemoryImage, b: MemoryImage, vcpu: int) -> str:
    """The registers that differ, by name; there may be none, where it is something else."""
    if a.kind != b.kind or a.contents.width != b.contents.width:
        return ""
    ours, theirs = a.registers(vcpu).values, b.registers(vcpu).values
    differing = [x for x, value in ours.items() if theirs[x] != value]
    return f" ({', '.join(differing)})" if differing else ""


def _save_records(a: MemoryImage, b: MemoryImage) -> Iterator[str]:
    """Xen's save records of HVM guests that differ."""
    ours, theirs = _by_name(a), _by_name(b)
    vcpus = set() if a.contents.pv else {*a.vcpus()} & {*b.vcpus()}  # a record's instance may be no vcpu's
    for key in sorted({*ours, *theirs}):
        if ours.get(key) == theirs.get(key):
            continue
        name = f"HVM_CONTEXT: {hvm_context.type_name(key[0])} of instance {key[1]}"
        cpu = key[0] == hvm_context.CPU and key[1] in vcpus
        yield name + (_registers(a, b, key[1]) if cpu else "")


def _by_name(image: MemoryImage) -> dict[tuple[int, int], bytes]:
    context = image.contents.blob(RecordType.HVM_CONTEXT) or b""
    return {(x.typecode, x.instance): bytes(x.body(context)) for x in hvm_context.look(context)[0].entries}
