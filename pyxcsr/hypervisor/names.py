"""The names of the hypervisors that can be opened, of the stub's kinds of guests, and of domains.

They stand apart from what opens and makes these, which takes time to load.
"""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING, Protocol, late

if TYPE_CHECKING:
    from typing import Literal, Optional

    BackendName = Literal["xen", "stub"]
else:
    __getattr__ = late(__name__, BackendName=lambda typing: typing.Literal["xen", "stub"])

BACKENDS: tuple[BackendName, ...] = ("xen", "stub")

KINDS = ("pv64", "pvh", "hvm", "pv32")
"""What a guest of the stub can be, in the order of enum stub_domain_kind."""

INCOMING, AWAY = "--incoming", "--migratedaway"
"""What xl puts behind the name of a guest that is on its way: at the other end; here, once it has given it away."""

MOST_DIGITS = 5
"""Of a domain's id, which is below 0x7FF0."""


def id_in(text: str) -> Optional[int]:
    """A domain's id, if the text is a number that can be one, however many zeros it begins with."""
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdigit()) or len(digits) > MOST_DIGITS:
        return None
    return int(digits or "0")


class Named(Protocol):
    """The part of a Hypervisor that is needed here."""

    def xenstore_read(self, path: str, /) -> Optional[bytes]:
        """A node's value, or None if there is no such node."""


def domain_name(hv: Named, domid: int) -> Optional[bytes]:
    """A domain's name, or None if it has none in xenstore."""
    return hv.xenstore_read(f"/local/domain/{domid}/name") or None
