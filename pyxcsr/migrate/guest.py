"""What xenstore says of the guest that is to go."""

from __future__ import annotations

import subprocess
from typing import Optional


class GuestFacts:
    """``kind``: pv, pvh or hvm, as libxl notes it; None: not known. ``pending``: a request that it has not answered.

    A guest of kind hvm need not announce anything: if it has no PV driver, libxl suspends it without asking.
    """

    __slots__ = ("announces_suspend", "kind", "pending")

    def __init__(self, kind: Optional[str], announces_suspend: bool, pending: Optional[str]) -> None:
        self.kind, self.announces_suspend, self.pending = kind, announces_suspend, pending


def guest_facts(domid: int) -> GuestFacts:
    """Those of a domain here, by `xenstore-read`; without that program nothing is known."""
    kind = _read(f"/libxl/{domid}/type")
    control = f"/local/domain/{domid}/control"
    return GuestFacts(
        kind if kind in ("pv", "pvh", "hvm") else None,
        _read(f"{control}/feature-suspend") == "1",
        _read(f"{control}/shutdown"),
    )


def _read(path: str) -> Optional[str]:
    try:
        done = subprocess.run(
            ["xenstore-read", path], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout[:4096].decode("utf-8", "replace").rstrip("\n")
