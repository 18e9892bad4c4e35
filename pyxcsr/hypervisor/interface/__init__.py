"""What a saver and a restorer need of a hypervisor: plain facts and Protocols, by subject; no cffi."""

from pyxcsr.hypervisor.interface.building import Building, PageResult, RestoreHandle
from pyxcsr.hypervisor.interface.domains import SHUTDOWN_NAMES, SHUTDOWN_SUSPEND, DomainInfo, Domains
from pyxcsr.hypervisor.interface.hvm import Hvm, PodInfo
from pyxcsr.hypervisor.interface.measuring import How, Measuring, MeterHandle
from pyxcsr.hypervisor.interface.memory import MappedFrames, Memory
from pyxcsr.hypervisor.interface.pv import P2mHandle, Pv
from pyxcsr.hypervisor.interface.saving import BatchResult, LookResult, SaveHandle, Saving, SweepResult
from pyxcsr.hypervisor.interface.scheduling import SCHEDULER_NAMES, Scheduling, Share
from pyxcsr.hypervisor.interface.streams import Again, SinkHandle, SourceHandle, Streams
from pyxcsr.hypervisor.interface.whole import Hypervisor
from pyxcsr.hypervisor.interface.x86 import X86, TscInfo
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
    "TscInfo",
    "Xenstore",
]
