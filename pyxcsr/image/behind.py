"""Write-behind: a file that is written from its beginning to its end goes to the disk meanwhile.

Left to itself the kernel keeps gigabytes of it in memory, and the disk idles until the fsync at the end.
"""

from __future__ import annotations

import errno
import os
from typing import Callable, Optional

from pyxcsr.errors import OutputError

STEP = 8 << 20
"""Bytes that are sent on their way together."""

CANNOT = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ESPIPE)
"""What is answered where there is no such call, or not for such a file."""

_WRITE = 2  # SYNC_FILE_RANGE_WRITE of <linux/fs.h>: begin, and wait for nothing

Call = Callable[[int, int, int, int], int]


class Behind:
    """Tells the kernel to begin. The dump does not rest on that: where the kernel cannot, all is left to the fsync."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._call = sync_file_range()
        self._begun = self._waiting = 0

    def written(self, start: int, count: int) -> None:
        """``count`` bytes from ``start`` on, which is behind all there was. Raises OutputError where the disk fails."""
        self._waiting += count
        if self._call is None or self._waiting < STEP:
            return
        first, self._begun, self._waiting = self._begun, start + count, 0
        number = _errno_of(self._call, self._fd, first, self._begun - first)
        if number in CANNOT:
            self._call = None
        elif number:
            raise OutputError(f"cannot write: {os.strerror(number)}", errno=number, offset=first)


def sync_file_range() -> Optional[Call]:
    """sync_file_range(2), which Python has no name for. None for a Python without ctypes, a C library without it."""
    try:
        import ctypes
    except ImportError:
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


def _errno_of(call: Call, fd: int, start: int, count: int) -> int:
    """0 if the call went well."""
    import ctypes

    return ctypes.get_errno() if call(fd, start, count, _WRITE) else 0
