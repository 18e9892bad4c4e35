"""What is fuzzed besides restoring and verifying: images, their index, dumps and comparisons, checkpoints, details."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pyxcsr
from pyxcsr.container.checkpoints import convert_checkpoint, count
from pyxcsr.container.survey import survey_input
from pyxcsr.container.verify import verify_input
from pyxcsr.details.collect import Details
from pyxcsr.image import beside
from pyxcsr.image.compare import compare
from pyxcsr.image.dump import Format, dump_image
from pyxcsr.image.memory import MemoryImage

PAGES = 16
"""Pages and addresses that are looked at, of each image."""

ADDRESSES = (0, 0x1000, 0xFFFF_8000_0000_0000, 0xFFFF_FFFF_8000_0000, (1 << 64) - 8)
ROOM, ROOM_PER_BYTE = 1 << 20, 4
"""What a dump may take on the disk: its holes, headers and tables of pages take little, whatever pfns there are."""

CONTEXT = 5168
"""And each vcpu's context, of which a stream may have as little as its id: Xen's format has all of it."""


class Misled(Exception):
    """An image that contradicts itself."""


def image(fd: int) -> None:
    """Pages, registers, addresses, an index that says the same, a comparison with itself, and dumps."""
    length = os.fstat(fd).st_size
    with suppress(pyxcsr.XcsrError), MemoryImage(fd) as found:
        look_into(found)
        check_index(fd, found)
        if not compare(found, found).same:
            raise Misled("an image differs from itself")
        for how in Format:
            check_dump(found, how, length)


def look_into(found: MemoryImage) -> None:
    """Some pages, and every vcpu's registers and page tables."""
    for pfn in islice(found.pfns(), PAGES):
        if len(found.page(pfn)) != 4096:
            raise Misled(f"pfn {pfn:#x}: no whole page")
    for vcpu in islice(found.vcpus(), PAGES):
        for address in ADDRESSES:
            with suppress(pyxcsr.XcsrError):
                found.translate(address, vcpu)
        with suppress(pyxcsr.XcsrError):
            repr(found.registers(vcpu))


def check_index(fd: int, found: MemoryImage) -> None:
    """The index that is kept beside a file has the same in it as the stream, if it is believed."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "s")
        Path(beside.beside(path)).write_bytes(beside.encode(fd, found.began, found.map, found.contents))
        known = beside.load(fd, path)
        if known is not None and known[0].chunks != found.map.chunks:  # None: longer than an index is worth
            raise Misled("the index is not what was found")


def check_dump(found: MemoryImage, how: Format, length: int) -> None:
    """A dump takes no more room than what is in the stream."""
    with tempfile.TemporaryFile() as out:
        with suppress(pyxcsr.XcsrError):
            dump_image(found, out.fileno(), how)
        taken = os.fstat(out.fileno()).st_blocks * 512
        if taken > ROOM + ROOM_PER_BYTE * length + CONTEXT * len(found.vcpus()):
            raise Misled(f"{how.value}: {taken >> 10} KiB on the disk for {length} bytes")


def index(fd: int) -> None:
    """The input as an index of a file: it is believed only if it is one of that file."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "s")
        Path(beside.beside(path)).write_bytes(os.pread(fd, os.fstat(fd).st_size, 0))
        if beside.load(fd, path) is not None:
            raise Misled("an index of another file was believed")


def checkpoints(fd: int) -> None:
    """As a checkpointed stream: counted, one taken out, verified."""

    def again(function: Callable[[int], object]) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        with suppress(pyxcsr.XcsrError):
            function(fd)

    again(count)
    again(lambda fd: convert_checkpoint(fd, len, 1))
    again(lambda fd: convert_checkpoint(fd, len, 2))
    again(lambda fd: verify_input(fd, checkpointed=True).to_dict())


def details(fd: int) -> None:
    """Everything by name."""
    found = Details()
    with suppress(pyxcsr.StreamError):
        survey_input(fd, lambda line: None, take=found.take)
    found.to_dict()


TARGETS: tuple[Callable[[int], None], ...] = (image, index, checkpoints, details)
