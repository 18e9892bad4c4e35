"""A saved guest's memory and registers, read where they are wanted."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Callable, Optional, Union

from pyxcsr.arguments import check_callback
from pyxcsr.container.enter import leave
from pyxcsr.container.reader import Kind
from pyxcsr.errors import InputError, OutputError, PageError, UsageError
from pyxcsr.frames import PAGE_SHIFT, PAGE_SIZE, PageType
from pyxcsr.image import beside, registers
from pyxcsr.image.contents import Contents
from pyxcsr.image.pagemap import KNOWN, PLACE_SHIFT, WITH_CONTENT, PageMap
from pyxcsr.image.registers import Registers
from pyxcsr.image.spool import Spool
from pyxcsr.image.taking import Skipping, Tick, seekable, take
from pyxcsr.image.walk import Walk, walk
from pyxcsr.stream import hvm_context
from pyxcsr.stream.compressed import plain
from pyxcsr.stream.format import RecordType
from pyxcsr.stream.source import check_descriptor, open_input

FIND_STEP = 256


class MemoryImage:
    """What a complete stream says of a guest in the end: its memory by pfn, and its registers.

    The stream may stand in an xl save file or a libxl stream. Contents stay in the file, which must not change
    meanwhile. From a pipe, and from a compressed file, pages go into a temporary file. In page tables there are pfns
    even if the guest is a PV guest, and addresses are pfn << 12, so that both kinds of guest read alike.

    >>> import os, tempfile
    >>> import pyxcsr
    >>> path = os.path.join(tempfile.mkdtemp(), "guest")
    >>> with pyxcsr.open_hypervisor("stub") as hv, open(path, "wb") as out:
    ...     report = pyxcsr.save(hv, hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M")), out)
    >>> with pyxcsr.MemoryImage(path) as image:
    ...     image.kind, len(list(image.pfns())), image.registers(0).levels
    ('PV', 1024, 4)
    """

    def __init__(
        self,
        path: Union[str, bytes, os.PathLike[str], os.PathLike[bytes], int],
        *,
        index: bool = True,
        folder: Optional[str] = None,
        tick: Optional[Tick] = None,
    ) -> None:
        """Reads the stream once, but for its pages, or (``index``) takes what ``pyxcsr index`` has left beside it.

        ``path``: a file's name, - for standard input, or a descriptor, which stays the caller's, who may close it
        afterwards, and is read from where it stands. ``folder``: where a temporary file goes. ``tick``: called with the
        bytes read so far. Raises StreamError, NotAStream, StreamTruncated, InputError, OSError; UsageError, also of
        every use after ``close``.
        """
        given = _input_given(path)
        if tick is not None:
            check_callback("tick", tick, "a function of the bytes read so far")
        self._closed = False
        self._stack = ExitStack()
        self._view: Optional[mmap.mmap] = None
        self._cpus: Optional[dict[int, bytes]] = None
        try:
            self._fd = given if isinstance(given, int) else self._stack.enter_context(open_input(given))
            self._began = os.fstat(self._fd)
            known = beside.load(self._fd, given) if index and isinstance(given, str) else None
            self._map, self._contents = known or self._take(folder, tick)
            if self._fd == given:  # the caller's: its number may be another file's later
                self._fd = os.dup(self._fd)
                self._stack.callback(os.close, self._fd)
        except BaseException:
            self._stack.close()
            raise

    def _take(self, folder: Optional[str], tick: Optional[Tick]) -> tuple[PageMap, Contents]:
        with plain(self._fd) as inside:
            source = Skipping(inside)
            if inside == self._fd and seekable(inside):
                taken = take(source, tick=tick)
                if taken.kind is not Kind.LIBXC:
                    leave(source, taken.kind)
                return taken.map, taken.contents
            file = tempfile.TemporaryFile(dir=folder, prefix="pyxcsr-")  # noqa: SIM115 - the stack closes it
            self._stack.callback(file.close)
            spool = Spool(file.fileno())
            with _of_temporary_file(folder):
                taken = take(source, spool, tick)
            leave(source, taken.kind)
            os.ftruncate(file.fileno(), spool.end)
            self._fd = file.fileno()
            return taken.map, taken.contents

    def close(self) -> None:
        """Closes the file. What ``array`` has given stays usable."""
        self._closed = True
        view, self._view = self._view, None
        if view is not None:
            with suppress(BufferError):  # there are arrays of it: the mapping goes with the last one
                view.close()
        self._stack.close()

    def _check_open(self) -> None:
        """What was a file's descriptor may be another file's by now."""
        if self._closed:
            raise UsageError("this image has been closed")

    def __enter__(self) -> MemoryImage:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._closed:
            return f"<{type(self).__name__}: closed>"
        return f"<{type(self).__name__} of {self.kind} guest, {self._map.nr_with_content()} pages>"

    # What there is

    @property
    def kind(self) -> str:
        """PV, or HVM, which a PVH guest is, too."""
        return "PV" if self.contents.pv else "HVM"

    @property
    def map(self) -> PageMap:
        """Each pfn's last word in the stream."""
        self._check_open()
        return self._map

    @property
    def contents(self) -> Contents:
        """What the stream holds besides pages."""
        self._check_open()
        return self._contents

    @property
    def fd(self) -> int:
        """Where the pages are to be read from, at the places in ``map``. It is closed with the image."""
        self._check_open()
        return self._fd

    @property
    def began(self) -> os.stat_result:
        """What fstat() said of the input before it was read."""
        self._check_open()
        return self._began

    def pfns(self) -> Iterator[int]:
        """Each pfn that has content, ascending."""
        return self.map.with_content()

    def types(self) -> Mapping[PageType, int]:
        """How many pfns the stream left with each type."""
        return {PageType(kind): count for kind, count in self.map.count_types().items()}

    def type_of(self, pfn: int) -> PageType:
        """A pfn's type; XTAB for one that the stream never named."""
        word = self.map.word(pfn)
        return PageType(word & 0xF) if word & KNOWN else PageType.XTAB

    # Memory

    def page(self, pfn: int) -> Optional[bytes]:
        """A pfn's 4096 bytes, or None if the stream left it without content. Raises InputError, OSError."""
        word = self.map.word(pfn)
        return self.at(word >> PLACE_SHIFT) if word & 0xFF in WITH_CONTENT else None

    def at(self, place: int, count: int = 1) -> bytes:
        """``count`` pages from a place in the file on. Raises InputError where it has become too short."""
        data = os.pread(self.fd, count * PAGE_SIZE, place)
        if len(data) < count * PAGE_SIZE:
            raise InputError(f"the file has changed: it ends at byte {place + len(data)}", errno=0, offset=place)
        return data

    def fill(self, view: memoryview, place: int) -> None:
        """Reads pages from a place in the file on to where the caller wants them. Raises as ``at`` does."""
        done = 0
        while done < len(view):
            got = os.preadv(self.fd, [view[done:]], place + done)
            if got == 0:
                raise InputError(f"the file has changed: it ends at byte {place + done}", errno=0, offset=place)
            done += got

    def read(self, paddr: int, count: int) -> bytes:
        """``count`` bytes of memory from ``paddr`` on. Raises PageError (pfn, type) where a page has no content."""
        parts = []
        while count > 0:
            pfn, within = paddr >> PAGE_SHIFT, paddr % PAGE_SIZE
            page = self.page(pfn)
            if page is None:
                kind = self.type_of(pfn)
                raise PageError(f"pfn 0x{pfn:x} has no content ({kind.name})", pfn=pfn, type=int(kind))
            parts.append(page[within : within + count])
            paddr, count = paddr + len(parts[-1]), count - len(parts[-1])
        return b"".join(parts)

    def find(self, text: bytes) -> Iterator[int]:
        """Each address at which ``text``, which may cross pages, stands in the guest's memory, ascending."""
        if not text:
            raise UsageError("there is nothing to be found in an empty text")
        for first, count in self.map.ranges():
            kept, at = b"", first
            while at < first + count:
                here = min(FIND_STEP, first + count - at)
                data = kept + self.read(at << PAGE_SHIFT, here << PAGE_SHIFT)
                yield from _occurrences(text, data, (at << PAGE_SHIFT) - len(kept))
                kept, at = data[max(len(data) - len(text) + 1, 0) :], at + here

    def array(self, pfn: int) -> Any:
        """A pfn's page as a numpy array of 4096 bytes, without a copy and not to be written. Raises PageError.

        The array is the file itself, mapped: if the file is cut off afterwards, reading the array ends the process
        with SIGBUS, and no exception can tell of it. Of a file that may change use ``page``, which raises InputError.
        Raises UsageError where numpy is not installed.
        """
        try:
            import numpy as np
        except ImportError as error:
            raise UsageError("arrays need numpy, which is not installed: apt-get install python3-numpy") from error
        word = self.map.word(pfn)
        if word & 0xFF not in WITH_CONTENT:
            raise PageError(f"pfn 0x{pfn:x} has no content", pfn=pfn, type=int(self.type_of(pfn)))
        if self._view is None:
            size = os.lseek(self.fd, 0, os.SEEK_END)  # mmap() itself would go by fstat(), which tells no device's
            self._view = mmap.mmap(self.fd, size, access=mmap.ACCESS_READ)
        place = word >> PLACE_SHIFT
        if place + PAGE_SIZE > len(self._view):
            raise InputError("the file has changed: it has become shorter", errno=0, offset=place)
        return np.frombuffer(self._view, np.uint8, PAGE_SIZE, place)

    # Vcpus

    def vcpus(self) -> list[int]:
        """The vcpus that have registers, ascending."""
        return self.contents.vcpus() if self.contents.pv else sorted(self._hvm_cpus())

    def registers(self, vcpu: int = 0) -> Registers:
        """A vcpu's registers. Raises UsageError if there is no such vcpu, or it is offline."""
        found = self.contents.blob(RecordType.X86_PV_VCPU_BASIC, vcpu) if self.contents.pv else None
        if found is not None:
            return registers.of_pv(vcpu, found, self.contents.width, self.contents.levels)
        cpus = {} if self.contents.pv else self._hvm_cpus()
        if vcpu not in cpus:
            raise UsageError(f"there are no registers of vcpu {vcpu}; there are of {self.vcpus()}")
        return registers.of_hvm(vcpu, cpus[vcpu])

    def save_record(self, vcpu: int) -> bytes:
        """Xen's save record CPU of an HVM vcpu; it is there if the vcpu has registers."""
        return self._hvm_cpus()[vcpu]

    def _hvm_cpus(self) -> dict[int, bytes]:
        self._check_open()
        if self._cpus is None:
            context = self.contents.blob(RecordType.HVM_CONTEXT) or b""
            entries = (x for x in hvm_context.look(context)[0].entries if x.typecode == hvm_context.CPU)
            self._cpus = {x.instance: bytes(x.body(context)) for x in entries if x.instance < hvm_context.VCPU_LIMIT}
        return self._cpus

    # Virtual addresses

    def walk(self, vaddr: int, vcpu: int = 0, *, top: Optional[int] = None, levels: Optional[int] = None) -> Walk:
        """The way of a virtual address through the page tables, by a vcpu's cr3, or from the table at ``top``.

        ``levels``: 2, 3 (PAE), 4 or 5, if not as the vcpu has them. Raises PageTableError (level, index, pfn) where it
        is not mapped or not canonical, PageError where a table is missing, UsageError for a vcpu that there is not.
        """
        if top is None or levels is None:
            known = self.registers(vcpu)
            top = known.top if top is None else top
            levels = known.levels if levels is None else levels
        return walk(self.read, vaddr, top, levels)

    def translate(self, vaddr: int, vcpu: int = 0) -> int:
        """The address in the guest's memory of a virtual one. Raises as ``walk`` does."""
        return self.walk(vaddr, vcpu).paddr

    def read_virtual(self, vaddr: int, count: int, vcpu: int = 0) -> bytes:
        """``count`` bytes from a virtual address on. Raises as ``walk`` and ``read`` do."""
        parts: list[bytes] = []
        read: Callable[[int, int], bytes] = self.read
        while count > 0:
            here = min(count, PAGE_SIZE - vaddr % PAGE_SIZE)
            parts.append(read(self.translate(vaddr, vcpu), here))
            vaddr, count = vaddr + here, count - here
        return b"".join(parts)


def _input_given(path: object) -> Union[str, int]:
    """A file's name or a descriptor. Raises UsageError for anything else."""
    if isinstance(path, int) and not isinstance(path, bool):
        check_descriptor(path)
        return path
    if isinstance(path, (str, bytes, os.PathLike)):
        name = os.fsdecode(path)
        if "\0" in name:
            raise UsageError(f"{name!r} is no file's name: there is a zero byte in it")
        return name
    raise UsageError(f"an image is read from a path or a descriptor, not {path!r}: give FILE.name, or FILE.fileno()")


@contextmanager
def _of_temporary_file(folder: Optional[str]) -> Iterator[None]:
    """Whoever reads a stream does not expect that there is anything to be written."""
    try:
        yield
    except OutputError as error:
        where = folder or tempfile.gettempdir()
        error.args = (f"the temporary file in {where} for the stream's pages: {error}", *error.args[1:])
        raise


def _occurrences(text: bytes, data: bytes, base: int) -> Iterator[int]:
    at = data.find(text)
    while at >= 0:
        yield base + at
        at = data.find(text, at + 1)
