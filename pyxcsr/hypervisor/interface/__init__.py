"""What a saver and a restorer need of a hypervisor: plain facts and Protocols, by subject; no cffi.

The Protocols are for type checkers, and are loaded at run time only if somebody asks for one.
"""

from __future__ import annotations

from pyxcsr.hypervisor.interface.results import (
    SCHEDULER_NAMES,
    SHUTDOWN_NAMES,
    SHUTDOWN_SUSPEND,
    BatchResult,
    DomainInfo,
    LookResult,
    PageResult,
    PodInfo,
    Share,
    SweepResult,
    Trial,
    TscInfo,
)
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from pyxcsr.hypervisor.interface.building import Building, RestoreHandle
    from pyxcsr.hypervisor.interface.domains import Domains
    from pyxcsr.hypervisor.interface.ending import EndPlan, EndResult
    from pyxcsr.hypervisor.interface.hvm import Hvm
    from pyxcsr.hypervisor.interface.measuring import How, Measuring, MeterHandle
    from pyxcsr.hypervisor.interface.memory import MappedFrames, Memory
    from pyxcsr.hypervisor.interface.pv import P2mHandle, Pv
    from pyxcsr.hypervisor.interface.saving import SaveHandle, Saving
    from pyxcsr.hypervisor.interface.scheduling import Scheduling
    from pyxcsr.hypervisor.interface.streams import Again, SinkHandle, SourceHandle, Streams
    from pyxcsr.hypervisor.interface.whole import Hypervisor
    from pyxcsr.hypervisor.interface.x86 import X86
    from pyxcsr.hypervisor.interface.xenstore import Xenstore

__all__ = [
    "SCHEDULER_NAMES",
    "SHUTDOWN_NAMES",
    "SHUTDOWN_SUSPEND",
    "X86",
    "Again",
    "BatchResult",
    "Building",
    "DomainInfo",
    "Domains",
    "EndPlan",
    "EndResult",
    "How",
    "Hvm",
    "Hypervisor",
    "LookResult",
    "MappedFrames",
    "Measuring",
    "Memory",
    "MeterHandle",
    "P2mHandle",
    "PageResult",
    "PodInfo",
    "Pv",
    "RestoreHandle",
    "SaveHandle",
    "Saving",
    "Scheduling",
    "Share",
    "SinkHandle",
    "SourceHandle",
    "Streams",
    "SweepResult",
    "Trial",
    "TscInfo",
    "Xenstore",
]


_WHERE = {
    **dict.fromkeys(('Building', 'RestoreHandle'), "building"),
    "Domains": "domains",
    **dict.fromkeys(('EndPlan', 'EndResult'), "ending"),
    "Hvm": "hvm",
    **dict.fromkeys(('How', 'Measuring', 'MeterHandle'), "measuring"),
    **dict.fromkeys(('MappedFrames', 'Memory'), "memory"),
    **dict.fromkeys(('P2mHandle', 'Pv'), "pv"),
    **dict.fromkeys(('SaveHandle', 'Saving'), "saving"),
    "Scheduling": "scheduling",
    **dict.fromkeys(('Again', 'SinkHandle', 'SourceHandle', 'Streams'), "streams"),
    "Hypervisor": "whole",
    "X86": "x86",
    "Xenstore": "xenstore",
}


if not TYPE_CHECKING:

    def __getattr__(name):
        where = _WHERE.get(name)
        if where is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{where}"), name)
