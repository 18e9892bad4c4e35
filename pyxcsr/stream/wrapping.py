"""What ``verify`` and ``inspect`` found around a libxc stream."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Optional


@dataclass
class Container:
    """A container and its parts. Offsets are in the input; what was not there or not reached is None.

    ``kind``: libxl, xl, libvirt or xenserver. ``bytes``: read in all. ``complete``: its END has been read. ``name``:
    the guest's, by libvirt's XML. ``config``: the parsed JSON, ``config_bytes`` its length with the NUL, ``guest`` what
    it says in short. ``records`` counts libxl's (of a suspend image, parts).
    """

    kind: str
    bytes: int = 0
    complete: bool = False
    records: int = 0
    mandatory_flags: Optional[int] = None
    optional_flags: Optional[int] = None
    config_offset: Optional[int] = None
    config_bytes: Optional[int] = None
    guest: Optional[dict[str, Any]] = None
    config: Optional[dict[str, Any]] = None
    libxl_offset: Optional[int] = None
    libxl_options: Optional[int] = None
    libxc_offset: Optional[int] = None
    name: Optional[str] = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
