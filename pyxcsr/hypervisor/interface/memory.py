"""A guest's frames: read, and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class MappedFrames(Protocol):
    """Frames of a guest, mapped read-only; a context manager that unmaps."""

    def __enter__(self) -> MappedFrames: ...
    def __exit__(self, *exc: object) -> None: ...

    def load(self, offset: int, width: int) -> int:
        """One atomic read of a word, straight from the guest: never cached. In bytes: ``offset``, a multiple of
        ``width``, which is 4 or 8."""

    def comparing(self, words: Sequence[tuple[int, int, int]]) -> Callable[[], bool]:
        """Returns a function that tells whether these words have these values now: (offset, width, value), as in
        load(). Raises UsageError for a word that is not in the frames; the function does once they are unmapped."""

    def copy(self) -> bytes:
        """The frames as they are now."""

    def close(self) -> None:
        """Unmaps; harmless when done before."""


class Memory(Protocol):
    """Frames of a domain: mfns of a PV guest's, gfns of an HVM one's."""

    def map_frames(self, domid: int, mfns: Sequence[int]) -> MappedFrames:
        """Maps frames read-only: all, or HypervisorError."""

    def read_frames(self, domid: int, mfns: Sequence[int]) -> bytes:
        """A copy of the frames as they are now."""

    def write_frame(self, domid: int, mfn: int, offset: int, data: bytes) -> None:
        """Writes bytes into one frame of a domain."""

    def clear_frames(self, domid: int, frames: Sequence[int]) -> None:
        """Fills frames of a domain with zeros."""
