"""How a save of libxl's is seen and steered from outside: by what environment and settings file say."""

from __future__ import annotations

from pyxcsr.control.control import Control
from pyxcsr.errors import UsageError
from pyxcsr.limits.file import STDERR
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def control_for(words: Mapping[str, str], warn: Callable[[str], None]) -> Control:
    """The control. A file that cannot be opened is no reason to fail: ``warn`` is told.

    Raises UsageError for a descriptor other than standard error: libxl hands down none but the stream and its own.
    """
    run_dir, events = words.get("run_dir"), words.get("events")
    if events is not None and events.isascii() and events.isdigit() and events != STDERR:
        raise UsageError(f"PYXCSR_EVENTS is {events!r}: name a file, or {STDERR} for standard error")
    try:
        return Control(run_dir, events)
    except UsageError as problem:
        warn(str(problem))
        return Control(run_dir)
