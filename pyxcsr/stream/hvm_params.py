"""HVM_PARAMS: what the parameters of an HVM or PVH guest are, which a saver sends, and which name pages.

Sources: Xen's public header hvm/params.h; what Xen's HVMOP_set_param accepts from a toolstack; libxenguest, which
sends sixteen parameters where they are not zero and, on restore, sets every one that comes but PAE_ENABLED.
"""

from __future__ import annotations

from pyxcsr.frames import PAGE_SHIFT
from pyxcsr.plain import TYPE_CHECKING, NamedTuple
from pyxcsr.stream.format import PFN_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Optional

CALLBACK_IRQ, STORE_PFN, STORE_EVTCHN, PAE_ENABLED, IOREQ_PFN, BUFIOREQ_PFN, VIRIDIAN = 0, 1, 2, 4, 5, 6, 9
IDENT_PT, ACPI_S_STATE, VM86_TSS, CONSOLE_PFN, CONSOLE_EVTCHN, ACPI_IOPORTS_LOCATION = 12, 14, 15, 17, 18, 19
PAGING_RING_PFN, MONITOR_RING_PFN, SHARING_RING_PFN = 27, 28, 29
IOREQ_SERVER_PFN, NR_IOREQ_SERVER_PAGES, VM_GENERATION_ID_ADDR = 32, 33, 34
X87_FIP_WIDTH, VM86_TSS_SIZED, MCA_CAP = 36, 37, 38

NAMES = {
    CALLBACK_IRQ: "CALLBACK_IRQ",
    STORE_PFN: "STORE_PFN",
    STORE_EVTCHN: "STORE_EVTCHN",
    PAE_ENABLED: "PAE_ENABLED",
    IOREQ_PFN: "IOREQ_PFN",
    BUFIOREQ_PFN: "BUFIOREQ_PFN",
    VIRIDIAN: "VIRIDIAN",
    10: "TIMER_MODE",
    11: "HPET_ENABLED",
    IDENT_PT: "IDENT_PT",
    13: "DM_DOMAIN",
    ACPI_S_STATE: "ACPI_S_STATE",
    VM86_TSS: "VM86_TSS",
    16: "VPT_ALIGN",
    CONSOLE_PFN: "CONSOLE_PFN",
    CONSOLE_EVTCHN: "CONSOLE_EVTCHN",
    ACPI_IOPORTS_LOCATION: "ACPI_IOPORTS_LOCATION",
    20: "MEMORY_EVENT_CR0",
    21: "MEMORY_EVENT_CR3",
    22: "MEMORY_EVENT_CR4",
    23: "MEMORY_EVENT_INT3",
    24: "NESTEDHVM",
    25: "MEMORY_EVENT_SINGLE_STEP",
    26: "BUFIOREQ_EVTCHN",
    PAGING_RING_PFN: "PAGING_RING_PFN",
    MONITOR_RING_PFN: "MONITOR_RING_PFN",
    SHARING_RING_PFN: "SHARING_RING_PFN",
    30: "MEMORY_EVENT_MSR",
    31: "TRIPLE_FAULT_REASON",
    IOREQ_SERVER_PFN: "IOREQ_SERVER_PFN",
    NR_IOREQ_SERVER_PAGES: "NR_IOREQ_SERVER_PAGES",
    VM_GENERATION_ID_ADDR: "VM_GENERATION_ID_ADDR",
    35: "ALTP2M",
    X87_FIP_WIDTH: "X87_FIP_WIDTH",
    VM86_TSS_SIZED: "VM86_TSS_SIZED",
    MCA_CAP: "MCA_CAP",
}
"""Index -> name (without HVM_PARAM_). Index 3, 7 and 8 mean nothing on x86."""

INDEX_LIMIT = 64
"""First index that no release is going to have for a long time: there are 39 of them after twenty years."""

SENT = (
    STORE_PFN,
    IOREQ_PFN,
    BUFIOREQ_PFN,
    PAGING_RING_PFN,
    MONITOR_RING_PFN,
    SHARING_RING_PFN,
    VM86_TSS_SIZED,
    CONSOLE_PFN,
    ACPI_IOPORTS_LOCATION,
    VIRIDIAN,
    IDENT_PT,
    VM_GENERATION_ID_ADDR,
    IOREQ_SERVER_PFN,
    NR_IOREQ_SERVER_PAGES,
    X87_FIP_WIDTH,
    MCA_CAP,
)
"""What today's savers send where it is not zero, in this order."""

DROPPED = frozenset({PAE_ENABLED})
"""Sent by Xen 4.6 to 4.13 and left out by receivers since: it only told libxc how to make a CPUID policy."""

RESTORED = frozenset({*SENT, VM86_TSS})
"""What a receiver sets. VM86_TSS was sent by Xen 4.6 to 4.8 and by what came before."""

REFUSED = frozenset({13, 20, 21, 22, 23, 24, 25, 26, 30, 35})
"""What Xen lets nobody set any more (35, ALTP2M: only when the domain is made)."""

CLEARED = frozenset({STORE_PFN, IOREQ_PFN, BUFIOREQ_PFN})
"""Pages that a receiver clears: rings whose other end is new. It rebuilds the console's page, too."""

NEEDED_PAGES = frozenset({STORE_PFN, CONSOLE_PFN, IDENT_PT})
"""Pages that a guest always has: nothing takes them out of its memory. Those of ioreq servers and rings can be out."""

FEATURES = frozenset({VIRIDIAN, MCA_CAP})
"""Sets of bits that grow with Xen's releases. Xen checks them when they are set, and a guest cannot set them."""

_PFNS = frozenset(
    {
        STORE_PFN,
        IOREQ_PFN,
        BUFIOREQ_PFN,
        CONSOLE_PFN,
        PAGING_RING_PFN,
        MONITOR_RING_PFN,
        SHARING_RING_PFN,
        IOREQ_SERVER_PFN,
    }
)
_ADDRESSES = frozenset({IDENT_PT, VM_GENERATION_ID_ADDR})
_NEVER_ZERO = frozenset({VIRIDIAN, NR_IOREQ_SERVER_PAGES, VM86_TSS_SIZED})
_ADDRESS_LIMIT = PFN_LIMIT << PAGE_SHIFT
_TSS_SIZE_MIN = 104
_TSS_UPDATED = 1 << 63
_VIRIDIAN_BASE, _VIRIDIAN_MASK = 0x1, 0x1FFF
_IOREQ_PAGES_MAX = 64


class PageOf(NamedTuple):
    """A page that a parameter names: the parameter's index, and the pfn."""

    param: int
    pfn: int


def name(index: int) -> str:
    """A parameter's name, or its number."""
    return NAMES.get(index, f"parameter {index}")


def describe(index: int, value: int) -> str:
    """A parameter and its value as text."""
    return f"{name(index)} 0x{value:x}"


def pages(params: Iterable[tuple[int, int]]) -> Iterator[PageOf]:
    """The pages that parameters name, in their order. A value of zero names none, nor does one beyond all memory.

    Of the pages of ioreq servers, which are many, only the first is given: they are taken out of the guest's
    memory while they are in use.
    """
    for index, value in params:
        pfn = _pfn(index, value)
        if pfn is not None and pfn < PFN_LIMIT:
            yield PageOf(index, pfn)


def _pfn(index: int, value: int) -> Optional[int]:
    if not value:
        return None
    if index in _PFNS:
        return value
    if index in _ADDRESSES:
        return value >> PAGE_SHIFT
    if index in (VM86_TSS, VM86_TSS_SIZED):
        return (value & 0xFFFF_FFFF) >> PAGE_SHIFT
    return None


def may_come(index: int) -> bool:
    """Whether an index is unknown here, but one that a later release of Xen could give a meaning."""
    return index not in NAMES and index < INDEX_LIMIT


def may_be_newer(index: int, value: int) -> bool:
    """Whether a later release of Xen could know what is unknown here: the index, or a bit of a set that grows."""
    return may_come(index) or (index in FEATURES and value != 0)


def problem(index: int, value: int) -> Optional[str]:
    """Why Xen would refuse to set this parameter, or could do nothing with it; None if there is nothing against it."""
    if index not in NAMES:
        return f"there is no parameter {index}"
    if index in REFUSED:
        return f"{describe(index, value)} cannot be set: Xen refuses it"
    wanted = _wanted(index, value)
    return None if wanted is None else f"{describe(index, value)} must be {wanted}"


def _wanted(index: int, value: int) -> Optional[str]:
    """What a value should be that is not so."""
    if not value:
        return "left out where it is zero" if index in _NEVER_ZERO else None
    if index in _PFNS and value >= PFN_LIMIT:
        return f"a pfn below 0x{PFN_LIMIT:x}"
    if index in _ADDRESSES and value >= _ADDRESS_LIMIT:
        return f"an address below 0x{_ADDRESS_LIMIT:x}"
    if index == IDENT_PT and value & ((1 << PAGE_SHIFT) - 1):
        return "the address of a page"
    return _wanted_number(index, value)


def _wanted_number(index: int, value: int) -> Optional[str]:
    if index == VM86_TSS and value >> 32:
        return "an address below 4 GiB"
    if index == VM86_TSS_SIZED and (value & ~_TSS_UPDATED) >> 32 < _TSS_SIZE_MIN:
        return f"a size of at least {_TSS_SIZE_MIN} bytes in the upper half, an address in the lower"
    if index == VIRIDIAN and (not value & _VIRIDIAN_BASE or value & ~_VIRIDIAN_MASK):
        return f"bit 0 with some of the bits 0x{_VIRIDIAN_MASK:x}"
    if index == NR_IOREQ_SERVER_PAGES and value > _IOREQ_PAGES_MAX:
        return f"at most {_IOREQ_PAGES_MAX}"
    if index == X87_FIP_WIDTH and value not in (4, 8):
        return "0, 4 or 8"
    if index == ACPI_IOPORTS_LOCATION and value > 1:
        return "0 or 1"
    if index == MCA_CAP and value > 1:
        return "0 or 1"
    return None
