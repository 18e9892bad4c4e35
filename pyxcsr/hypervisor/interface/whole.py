"""A hypervisor as a whole."""

from __future__ import annotations

from typing import Protocol

from pyxcsr.hypervisor.interface.building import Building
from pyxcsr.hypervisor.interface.domains import Domains
from pyxcsr.hypervisor.interface.hvm import Hvm
from pyxcsr.hypervisor.interface.measuring import Measuring
from pyxcsr.hypervisor.interface.memory import Memory
from pyxcsr.hypervisor.interface.pv import Pv
from pyxcsr.hypervisor.interface.saving import Saving
from pyxcsr.hypervisor.interface.scheduling import Scheduling
from pyxcsr.hypervisor.interface.streams import Streams
from pyxcsr.hypervisor.interface.x86 import X86
from pyxcsr.hypervisor.interface.xenstore import Xenstore


class Hypervisor(
    Domains, Memory, X86, Pv, Hvm, Saving, Measuring, Scheduling, Building, Streams, Xenstore, Protocol
):
    """An open hypervisor: a thin, typed face of libxenctrl. A context manager.

    Every method raises HypervisorError or a subclass when the call behind it fails. It is used by one
    thread at a time, in the process that opened it; anything else raises UsageError.
    """

    backend: str

    def __enter__(self) -> Hypervisor: ...
    def __exit__(self, *exc: object) -> None: ...

    def close(self) -> None:
        """Closes all that is open."""
