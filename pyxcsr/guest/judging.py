"""What is asked of a checkpoint's records before they are put into a domain, which is a whole guest until then."""

from __future__ import annotations

from pyxcsr.errors import StreamError
from pyxcsr.plain import TYPE_CHECKING, Protocol
from pyxcsr.stream.format import TSC_MODES
from pyxcsr.stream.records import TscInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyxcsr.stream.records import Record


class Judge(Protocol):
    """Judges the records of one checkpoint in their order. Nothing is changed by it, but what it remembers itself."""

    def record(self, record: Record) -> None:
        """Raises StreamError for what RestoreOps.process_record would refuse."""

    def entries(self, entries: Sequence[int], length: int) -> str:
        """What RestoreOps.pages would have against a body of ``length`` bytes that begins so, "" if nothing."""


def no_place(record: Record, kind: str) -> StreamError:
    """Of a record that such a guest's stream cannot have."""
    return StreamError(
        f"{record.name} has no place in {kind} guest's stream", offset=record.offset or 0, record=record.name
    )


def is_common(record: Record) -> bool:
    """Whether it is a record that all guests have behind a checkpoint. Raises StreamError if it is wrong."""
    if not isinstance(record, TscInfo):
        return False
    if record.mode not in TSC_MODES:
        raise StreamError(
            f"X86_TSC_INFO: mode {record.mode} is not one of {TSC_MODES}", offset=record.offset or 0, record=record.name
        )
    return True
