"""To the libxc stream within a container, and out of it again, for whoever reads nothing else."""

from __future__ import annotations

from typing import Optional

from pyxcsr.container import reader as cont
from pyxcsr.container.foreign import ForeignReader, PartType
from pyxcsr.container.reader import ContainerReader, Kind, LibxlType
from pyxcsr.errors import StreamTruncated
from pyxcsr.stream import format as fmt
from pyxcsr.stream.after_end import AfterEnd, look
from pyxcsr.stream.source import Source


def enter(source: Source) -> Kind:
    """Reads from the beginning of a container to that of the libxc stream in it.

    Returns what it was. Of a bare libxc stream (or what is none) nothing is read; bytes that were looked at stay to be
    read. The input may be a pipe. Raises NotAStream, StreamTruncated, StreamError, with offsets in the whole input, and
    OSError.
    """
    kind = cont.kind_of(source)
    if kind is Kind.LIBXC:
        return kind
    reader = ForeignReader(source)
    if kind is Kind.XENSERVER:
        reader.signature()
        reader.libxc_part()
        return kind
    if kind is Kind.XL:
        reader.optional_data(reader.known_xl_header())
    elif kind is Kind.LIBVIRT:
        reader.libvirt()
    reader.libxl_header()
    reader.libxc_context()
    return kind


def leave(source: Source, kind: Kind) -> Optional[AfterEnd]:
    """Reads from behind the END of a libxc stream to that of its container, and looks at what follows.

    ``kind``: what ``enter`` returned. Raises StreamTruncated, StreamError, OSError.
    """
    if kind is Kind.XENSERVER:
        _leave_image(ForeignReader(source))
        return look(source)
    going_on = kind is not Kind.LIBXC
    reader = ContainerReader(source)
    while going_on:
        header = reader.record_header()
        wanted = header.size - fmt.RECORD_HEADER.size
        got = source.skip(wanted)
        if got < wanted:
            text = f"the input ends within {header.name}: it is not complete"
            raise StreamTruncated(text, offset=header.offset, record=header.name, wanted=wanted, got=got)
        going_on = header.code != LibxlType.END
    return look(source)


def _leave_image(reader: ForeignReader) -> None:
    part = reader.part()
    while part.code != PartType.END_OF_IMAGE:
        reader.skip(part)
        part = reader.part()
