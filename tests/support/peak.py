"""The most memory that a process has held.

getrusage(2) tells more: of what held the process's place before exec, too. That may be a worker of pytest that once had
2 GiB, beside which nothing that a test measures is seen.
"""

from __future__ import annotations

import inspect
from pathlib import Path


def status(name: str) -> int:
    """Bytes, as the kernel tells them of this process: VmRSS is what it holds now, VmHWM the most that it has held."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def peak_begins() -> int:
    """From now on VmHWM tells the most that is held from now on. Returns what is held now, in bytes.

    Raises OSError where the kernel cannot do that.
    """
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


STATUS = inspect.getsource(status)
"""For a program of a test's that measures itself. It has held nothing before it began: exec begins VmHWM anew."""
