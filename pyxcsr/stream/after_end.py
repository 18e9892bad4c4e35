"""What follows the END of a stream in its input: one answer for all commands.

On a block device something always follows: the device is longer than the stream, and holds whatever it held before.
That is worth a note. In a file, a pipe or a socket nothing should follow: it was damaged, or two streams were written
one behind the other. Xen's convert-legacy-stream leaves what it was given of an HVM guest's devices behind the stream,
unless it is told not to.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from pyxcsr.stream import format as fmt
from pyxcsr.stream.source import Source

_HEAD = 32
_STEP = 1 << 20
_SECONDS = (
    (fmt.IMAGE_MARKER.to_bytes(8, "big"), "a second libxc stream"),
    (b"LibxlFmt", "a second libxl stream"),
    (b"Xen saved domain, xl", "a second xl save file"),
)
_LEGACY_DEVICES = b"DeviceModelRecord0002"


class AfterEnd(NamedTuple):
    """Bytes behind END, at ``offset`` in the input. ``bytes``: how many; None: not counted. ``what`` they are.

    ``on_device``: they are the rest of a block device, which is as it should be. ``legacy_devices``: they begin as the
    device model's state in a legacy image does, which a converter has left there.
    """

    offset: int
    bytes: Optional[int]
    what: str
    on_device: bool = False
    legacy_devices: bool = False

    @property
    def text(self) -> str:
        """All of it in words."""
        if self.on_device:
            return f"{self.bytes} bytes of the device follow END: they are no part of the stream"
        if self.bytes is None:
            return f"something follows END: {self.what}"
        return f"{self.bytes} bytes follow END: {self.what}"


def look(source: Source, *, count: bool = True) -> Optional[AfterEnd]:
    """What follows in ``source``, from which a stream has been read up to its END; None if nothing does.

    ``count`` reads to the input's end, however long it is, but on a block device, of which nothing is read. Without it
    some few bytes are looked at, which stay to be read. Raises OSError.
    """
    offset = source.offset
    left = source.device_left()
    if left is not None:
        return AfterEnd(offset, left, "the rest of the device", on_device=True) if left else None
    head = source.peek(_HEAD)
    if not head:
        return None
    if not count:
        return _after(offset, None, head, not any(head))
    zero = True
    while piece := source.read(_STEP):
        zero = zero and not any(piece)
    return _after(offset, source.offset - offset, head, zero)


def _after(offset: int, count: Optional[int], head: bytes, zero: bool) -> AfterEnd:
    return AfterEnd(offset, count, _what(head, zero), legacy_devices=head.startswith(_LEGACY_DEVICES))


def _what(head: bytes, zero: bool) -> str:
    if zero:
        return "all zero"
    if head.startswith(_LEGACY_DEVICES):
        return "the device model's state as in a legacy image, which convert-legacy-stream leaves there"
    for magic, what in _SECONDS:
        if head.startswith(magic):
            return f"{what}, which receivers do not look at"
    return f"beginning with {head[:8].hex(' ')}, no stream that is known here"
