"""A guest's memory written as a file that debuggers read: Xen's dump-core format, raw, or LiME's."""

from __future__ import annotations

import enum
import os
import struct
from array import array
from collections.abc import Iterator
from typing import Callable, NamedTuple, Optional

from pyxcsr.container.enter import leave
from pyxcsr.errors import OutputError
from pyxcsr.frames import PAGE_SHIFT, PAGE_SIZE, PageType
from pyxcsr.image import elf
from pyxcsr.image.behind import Behind
from pyxcsr.image.guest_context import guest_context
from pyxcsr.image.machine import Machine
from pyxcsr.image.memory import MemoryImage
from pyxcsr.image.pagemap import PageMap
from pyxcsr.image.spool import InPlace, put, put_sparsely
from pyxcsr.image.taking import Skipping, Tick, seekable, take
from pyxcsr.stream.compressed import plain
from pyxcsr.stream.format import RecordType
from pyxcsr.stream.records import packed
from pyxcsr.stream.runs import row

LIME_RANGE = struct.Struct("<IIQQ8x")  # magic, version, first byte's address, last byte's address
LIME_MAGIC, LIME_VERSION = 0x4C69_4D45, 1

_TABLE_STEP, _TABLE_BYTES = 1 << 12, 1 << 18
_TOGETHER = 64
"""Pages that are read and written together at most."""

_TOLD = 256
"""Pages between two calls of ``tick``, about."""


class Format(str, enum.Enum):
    """``ELF``: Xen's dump-core. ``RAW``: each page at its address. ``LIME``: ranges, each with a header."""

    ELF = "elf"
    RAW = "raw"
    LIME = "lime"


class Dumped(NamedTuple):
    """What was dumped: the guest's kind, pages with content, the file's size in bytes, pfns by type.

    ``unknown``: entries of a PV guest's page tables and contexts whose mfn its p2m does not tell, left as pfns.
    """

    kind: str
    pages: int
    size: int
    types: dict[PageType, int]
    unknown: int = 0


def dump(fd: int, out: int, how: Format, *, folder: Optional[str] = None, tick: Optional[Tick] = None) -> Dumped:
    """Writes the memory that the stream in ``fd`` leaves behind into ``out``, an empty file.

    The stream may be in a container, compressed, and in a pipe; pages out of a pipe go into a temporary file in
    ``folder`` first, unless the dump is raw. ``tick`` is told the bytes moved so far. Raises StreamError, NotAStream,
    StreamTruncated, InputError, OutputError, UsageError, OSError; what is in ``out`` then is of no use.
    """
    if how is Format.RAW:
        with plain(fd) as inside:
            if not seekable(inside):
                return _raw_at_once(inside, out, tick)
    with MemoryImage(fd, folder=folder, tick=tick) as image:
        return dump_image(image, out, how, tick)


def dump_image(image: MemoryImage, out: int, how: Format, tick: Optional[Tick] = None) -> Dumped:
    """Likewise, of an image."""
    size, unknown = {Format.RAW: _raw, Format.LIME: _lime, Format.ELF: _elf}[how](image, out, tick)
    _set_size(out, size)
    return Dumped(image.kind, image.map.nr_with_content(), size, dict(image.types()), unknown)


def _raw_at_once(fd: int, out: int, tick: Optional[Tick]) -> Dumped:
    source = Skipping(fd)
    taken = take(source, InPlace(out), tick)
    leave(source, taken.kind)
    size = taken.map.end() << PAGE_SHIFT
    _set_size(out, size)
    types = {PageType(kind): count for kind, count in taken.map.count_types().items()}
    return Dumped("PV" if taken.contents.pv else "HVM", taken.map.nr_with_content(), size, types)


def _raw(image: MemoryImage, out: int, tick: Optional[Tick]) -> tuple[int, int]:
    _copy(image, out, lambda pfn, _: pfn << PAGE_SHIFT, tick)
    return image.map.end() << PAGE_SHIFT, 0


def _lime(image: MemoryImage, out: int, tick: Optional[Tick]) -> tuple[int, int]:
    """Each run of pages is within one range, so that the ranges are come by in their order."""
    starts, size = [0], 0
    for first, count in image.map.ranges():
        last = (first + count << PAGE_SHIFT) - 1
        put(out, LIME_RANGE.pack(LIME_MAGIC, LIME_VERSION, first << PAGE_SHIFT, last), size)
        size += LIME_RANGE.size + (count << PAGE_SHIFT)
        starts.append(first)
    nr_headers = 0

    def place(pfn: int, rank: int) -> int:
        nonlocal nr_headers
        while nr_headers + 1 < len(starts) and starts[nr_headers + 1] <= pfn:
            nr_headers += 1
        return LIME_RANGE.size * nr_headers + (rank << PAGE_SHIFT)

    _copy(image, out, place, tick)
    return size, 0


def _elf(image: MemoryImage, out: int, tick: Optional[Tick]) -> tuple[int, int]:
    pv, nr_pages = image.contents.pv, image.map.nr_with_content()
    machine = Machine(image) if pv else None
    nr_vcpus = len(image.vcpus())
    shared_info = (image.contents.blob(RecordType.SHARED_INFO) or b"") if pv else b""
    notes = elf.notes(pv=pv, nr_vcpus=nr_vcpus, nr_pages=nr_pages, xen=image.contents.xen)
    layout = elf.Layout(pv=pv, nr_pages=nr_pages, nr_vcpus=nr_vcpus, shared_info=bool(shared_info), notes=notes)
    put(out, layout.head, 0)
    for index, context in enumerate(_contexts(image, machine)):
        put(out, context, layout.contexts + index * elf.CONTEXT_SIZE)
    put(out, shared_info, layout.shared_info)
    change = None if machine is None else machine.pages
    _copy(image, out, lambda _, rank: layout.pages + (rank << PAGE_SHIFT), tick, change)
    unknown = 0 if machine is None else machine.unknown
    _table(image.map, out, layout.table, machine)
    put(out, layout.strings, layout.names)
    return layout.size, unknown


def _contexts(image: MemoryImage, machine: Optional[Machine]) -> Iterator[bytes]:
    for vcpu in image.vcpus():
        if machine is not None:
            yield machine.context(vcpu, image.contents.blob(RecordType.X86_PV_VCPU_BASIC, vcpu) or b"")
        else:
            yield guest_context(image.registers(vcpu), image.save_record(vcpu))


def _table(page_map: PageMap, out: int, at: int, machine: Optional[Machine]) -> None:
    """The frame numbers of the pages in the dump, in their order."""
    ready = bytearray()
    for first, count in page_map.ranges():
        for pfn in range(first, first + count, _TABLE_STEP):
            ready += packed(_numbers(pfn, min(_TABLE_STEP, first + count - pfn), machine))
            if len(ready) >= _TABLE_BYTES:
                put(out, ready, at)
                at += len(ready)
                ready.clear()
    put(out, ready, at)


def _numbers(pfn: int, count: int, machine: Optional[Machine]) -> array[int]:
    """What the table has of ``count`` pfns from ``pfn`` on: each, and with a machine its mfn beside it."""
    pfns = row(pfn, 1, count)
    if machine is None:
        return pfns
    pairs = array("Q", bytes(elf.P2M_ENTRY.size * count))
    pairs[::2], pairs[1::2] = pfns, machine.mfns(pfn, count)
    return pairs


Place = Callable[[int, int], int]
"""From a pfn and how many pages came before it to the page's offset in the dump."""


def _copy(
    image: MemoryImage,
    out: int,
    place: Place,
    tick: Optional[Tick],
    change: Optional[Callable[[int, memoryview], None]] = None,
) -> None:
    """The pages in the order of their pfns, those of zeros as holes.

    They go through one buffer, which is short enough to stay in the processor's cache. (A second thread that reads
    ahead costs as much as it gains. copy_file_range(2) takes more processor time than writing the buffer, as each page
    is read anyway, to see whether it is zeros.)
    """
    rank = told = 0
    behind = Behind(out)
    buffer = memoryview(bytearray(_TOGETHER * PAGE_SIZE))
    for run in image.map.runs(_TOGETHER):
        data = buffer[: run.nr_pages * PAGE_SIZE]
        image.fill(data, run.place)
        if change is not None:
            change(run.pfn, data)
        at = place(run.pfn, rank)
        put_sparsely(out, data, at)
        behind.written(at, len(data))
        rank += run.nr_pages
        if tick is not None and rank >= told + _TOLD:
            told = rank
            tick(rank * PAGE_SIZE)


def _set_size(out: int, size: int) -> None:
    """What ends with zeros has its end, too."""
    try:
        os.ftruncate(out, size)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0
        raise OutputError(f"the file cannot have {size} bytes: {error}", errno=number, offset=size) from error
