"""What the folder of saves is called; apart from what opens it, which a save of a guest of the stub has no need of."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional

DEFAULT = "/run/pyxcsr"
VARIABLE = "PYXCSR_RUN_DIR"
OFF = ("", "none")
"""As the folder's name: no socket and no lock."""


def folder_name(given: Optional[str], default: Optional[str] = DEFAULT) -> Optional[str]:
    """The folder that was given, or the default one; None: there is to be none."""
    name = default if given is None else given
    return None if name is None or name in OFF else name
