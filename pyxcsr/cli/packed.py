"""``save --compress``: what is written goes through a compressor on its way to a file, standard output or receiver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Optional

from pyxcsr.errors import Cancelled
from pyxcsr.report import SaveReport
from pyxcsr.transfer.descriptor import output_descriptor

if TYPE_CHECKING:
    from pyxcsr.transfer.descriptor import Stream


class Packed:
    """Where a save writes to. ``report``: of the save, once there is one; it is told how many bytes came out."""

    def __init__(self, out: Stream) -> None:
        self.out = out
        self.report: Optional[SaveReport] = None

    def fileno(self) -> int:
        """The descriptor to write to."""
        return output_descriptor(self.out)


def check_compression(words: str) -> None:
    """Raises UsageError for words that mean nothing, and where the program is not installed."""
    from pyxcsr.transfer import compressing  # what it needs takes time to load

    compressing.check(words)


@contextmanager
def compressed(
    fd: int, words: Optional[str], cancel: Callable[[], bool], *, whole: bool = False
) -> Iterator[Packed]:
    """The descriptor, or a compressor that writes to it and has to end well.

    ``whole``: the save itself waits for that, with its limits, and whoever watches it is told what comes of it. Raises
    OutputError, UsageError, Cancelled.
    """
    if words is None:
        yield Packed(fd)
        return
    from pyxcsr.transfer import compressing

    def poll() -> None:
        if cancel():
            raise Cancelled("cancelled while the compressor was waited for")

    with compressing.compressing(fd, words, whole=whole) as program:
        packed = Packed(program)
        yield packed
        if not program.finished:
            program.finish(poll)
        if packed.report is not None:
            packed.report.compress, packed.report.bytes_compressed = words, program.bytes_out
