"""What a caller asks of a checkpointed save (Remus): when checkpoints are taken, and who does what between them."""

from __future__ import annotations

from pyxcsr.arguments import check_callback, check_number
from pyxcsr.errors import UsageError
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.units import parse_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional, Union

    from pyxcsr.report import Checkpoint

MOST_SECONDS = 3600.0
"""The longest interval: what a guest does in longer than an hour nobody wants to lose."""


class Checkpointed:
    """How a save goes on after its first checkpoint.

    ``interval``: for how long the guest runs between two checkpoints, in seconds or as text ("200ms").
    ``count``: so many checkpoints; the stream ends with the last one, at which the guest stays suspended. None: until
    the save is ended. ``last``: asked when the guest has been suspended for a checkpoint whether it is the last one.
    ``postcopy``: lets the suspended guest, and its QEMU, go on once a checkpoint is written, as :func:`pyxcsr.resume`
    does; None: what suspended it does.
    ``checkpoint``: called with a :class:`pyxcsr.Checkpoint` when the guest goes on again; at the last one it stays
    suspended, and END follows. It may write to the output, as libxl does, for what reads there what is its own at each
    checkpoint (``restore(checkpoint=...)``); to end the save it raises. (Both names are libxl's.)
    """

    __slots__ = ("_last", "checkpoint", "count", "interval", "postcopy")

    def __init__(
        self,
        interval: Union[float, str] = 0.2,
        *,
        count: Optional[int] = None,
        last: Optional[Callable[[], bool]] = None,
        postcopy: Optional[Callable[[], object]] = None,
        checkpoint: Optional[Callable[[Checkpoint], object]] = None,
    ) -> None:
        self.interval = parse_seconds(interval)
        if not 0 <= self.interval <= MOST_SECONDS:
            raise UsageError(f"the interval between checkpoints is {interval!r}: it must be 0 to {MOST_SECONDS:.0f} s")
        if count is not None:
            check_number("count", count, 1)
        for name, value, what in (
            ("last", last, "a function that returns True at the last checkpoint"),
            ("postcopy", postcopy, "a function that lets the guest go on"),
            ("checkpoint", checkpoint, "a function of a pyxcsr.Checkpoint"),
        ):
            if value is not None:
                check_callback(name, value, what)
        self.count, self.postcopy, self.checkpoint, self._last = count, postcopy, checkpoint, last

    def is_last(self, number: int) -> bool:
        """Whether the checkpoint of that number, counted from 1, is the last one. The guest is suspended."""
        if self.count is not None and number >= self.count:
            return True
        return self._last is not None and bool(self._last())


def as_checkpointed(given: object) -> Checkpointed:
    """``given`` itself, or an interval made into a Checkpointed. Raises UsageError."""
    if isinstance(given, Checkpointed):
        return given
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        raise UsageError(f"checkpointed is {given!r}: give an interval, as '200ms', or a pyxcsr.Checkpointed")
    return Checkpointed(given)
