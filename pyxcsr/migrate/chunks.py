"""The bytes between two relays: what zstd made, in chunks with their lengths, and short messages as they are.

MAGIC, then chunks: a kind (u8), a length (u32, big endian), and so many bytes. PACKED: a part of a zstd frame, which
FRAME_END ends; PLAIN: bytes as they are, between frames; END: all has been said. A stream without END was cut off.
"""

from __future__ import annotations

import os
import select
from struct import Struct

MAGIC = b"pyxcsr-relay 1\n"
HEAD = Struct(">BI")
PLAIN, PACKED, FRAME_END, END = range(4)

LARGEST = 1 << 20
"""Bytes of a chunk, at most."""


class RelayError(Exception):
    """The relay cannot go on."""


def write_all(fd: int, data: bytes) -> None:
    """Writes all of it, also to a descriptor that somebody has put into non-blocking mode."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
