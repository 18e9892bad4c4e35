"""To the libxc stream within a container, and out of it again, for a restorer that reads nothing else."""

from __future__ import annotations

from typing import Optional

from pyxcsr.container import reader as cont
from pyxcsr.container.reader import ContainerReader, Kind, LibxlType
from pyxcsr.errors import StreamTruncated
from pyxcsr.stream import format as fmt
from pyxcsr.stream.after_end import AfterEnd, look
from pyxcsr.stream.source import Source


def enter(source: Source) -> Kind:
    """Reads from the beginning of an xl save file or a libxl stream to that of the libxc stream in it.

    Returns what it was. Of a bare libxc stream (or what is none) nothing is read; bytes that were looked at stay to be
    read. The input may be a pipe. Raises NotAStream, StreamTruncated, StreamError, with offsets in the whole input, and
    OSError.
    """
    kind = cont.kind_of(source)
    if kind is Kind.LIBXC:
        return kind
    reader = ContainerReader(source)
    if kind is Kind.XL:
        reader.optional_data(reader.known_xl_header())
    reader.libxl_header()
    reader.libxc_context()
    return kind


def leave(source: Source, kind: Kind) -> Optional[AfterEnd]:
    """Reads from behind the END of a libxc stream to that of its container, and looks at what follows.

    ``kind``: what ``enter`` returned. Raises StreamTruncated, StreamError, OSError.
    """
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
