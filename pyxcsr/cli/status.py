"""The exit statuses of every command. docs/api.md and --help have the same table."""

from __future__ import annotations

from pyxcsr.errors import UsageError

DONE = 0
FAILED = 1
UNUSABLE = 2
UNTOLD = 3
"""The work is done and safe, but what there was to say about it could not be written."""
BUG = 70
"""sysexits.h's EX_SOFTWARE."""
BY_SIGNAL = 128

COMMON = (
    "3 done, but the report could not be written (standard output is full, closed, or has lost its reader); "
    "70 a bug in pyxcsr; 128 + N ended by signal N."
)


def of_error(error: BaseException) -> int:
    """Whether the work has failed, or has not been begun."""
    known = getattr(error, "__dict__", {}).get("untouched")
    untouched = isinstance(error, UsageError) if known is None else known
    return UNUSABLE if untouched else FAILED


def explained(done: str, failed: str, unusable: str) -> str:
    """For --help: a command's exit statuses in words."""
    return f"Exit status: 0 {done}; 1 {failed}; 2 {unusable}; {COMMON}"
