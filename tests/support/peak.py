"""The most memory that a process has held.

getrusage(2) tells more: of what held the process's place before exec, too. That may be a worker of pytest that once had
2 GiB, beside which nothing that a test measures is seen.
"""

from __future__ import annotations

from pathlib import Path

PEAK = '''
def peak():
    with open("/proc/self/status") as lines:
        return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM:"))
'''
"""For programs that measure themselves: in KiB, since the program began."""

_REFS = Path("/proc/self/clear_refs")


def peak() -> int:
    """Of this process, in KiB, since forget_peak()."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM:"))


def forget_peak() -> int:
    """Begins anew; returns what the process holds now, in KiB."""
    _REFS.write_text("5")
    return peak()
