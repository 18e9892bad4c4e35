"""To the libxc stream within a container, for a restorer that reads nothing else."""

from __future__ import annotations

import os

from pyxcsr.errors import StreamError
from pyxcsr.stream import container as cont
from pyxcsr.stream.container import ContainerReader, Kind, LibxlType
from pyxcsr.stream.source import Source


def enter(fd: int) -> Kind:
    """Moves a seekable descriptor from the beginning of a container to that of the libxc stream in it.

    Returns what it was at; a bare libxc stream (or what is none) is left where it is. Raises NotAStream,
    StreamTruncated, StreamError, with offsets in the whole file, and OSError.
    """
    start = os.lseek(fd, 0, os.SEEK_CUR)
    kind = cont.kind_of(Source(fd))
    os.lseek(fd, start, os.SEEK_SET)
    if kind is Kind.LIBXC:
        return kind
    reader = ContainerReader(Source(fd))
    if kind is Kind.XL:
        header = reader.xl_header()
        unknown = header.mandatory_flags & ~cont.XL_MANDATORY
        if unknown:
            text = f"unknown mandatory flags 0x{unknown:x} in xl's header"
            raise StreamError(text, offset=0, record=cont.XL_HEADER_NAME)
        reader.optional_data(header)
    reader.libxl_header()
    first = reader.record_header()
    if first.code != LibxlType.LIBXC_CONTEXT or first.length:
        text = f"the first record is {first.name} of {first.length} octets, not an empty LIBXC_CONTEXT"
        raise StreamError(text, offset=first.offset, record=first.name)
    return kind
