"""To the libxc stream within a container, for a restorer that reads nothing else."""

from __future__ import annotations

import os

from pyxcsr.container import reader as cont
from pyxcsr.container.reader import ContainerReader, Kind
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
        reader.optional_data(reader.known_xl_header())
    reader.libxl_header()
    reader.libxc_context()
    return kind
