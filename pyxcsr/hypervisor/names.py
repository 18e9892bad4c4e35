"""The names of the hypervisors that can be opened, and of the stub's kinds of guests.

They stand apart from what opens and makes these, which takes time to load.
"""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING, late

if TYPE_CHECKING:
    from typing import Literal

    BackendName = Literal["xen", "stub"]
else:
    __getattr__ = late(__name__, BackendName=lambda typing: typing.Literal["xen", "stub"])

BACKENDS: tuple[BackendName, ...] = ("xen", "stub")

KINDS = ("pv64", "pvh", "hvm", "pv32")
"""What a guest of the stub can be, in the order of enum stub_domain_kind."""
