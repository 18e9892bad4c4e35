"""Constants and layouts of the libxc migration stream, version 3 (and 2, for reading).

Source: Xen's docs/specs/libxc-migration-stream and the public headers (domctl.h, arch-x86/xen-x86_64.h,
arch-x86/xen-x86_32.h). The image header is big-endian; everything after it is little-endian here, since
x86 savers never write anything else. tests/stream/test_format.py pins each size and offset.
"""

from __future__ import annotations

import struct

from pyxcsr.frames import PAGE_SIZE
from pyxcsr.plain import TYPE_CHECKING, NamedTuple
from pyxcsr.plain_enum import IntEnum

if TYPE_CHECKING:
    from pyxcsr.frames import PageType

# Image header: marker, id, version, options, reserved, reserved (big-endian, 24 bytes).
IMAGE_HEADER = struct.Struct(">QIIHHI")
IMAGE_MARKER = 0xFFFF_FFFF_FFFF_FFFF
IMAGE_ID = 0x5845_4E46
IMAGE_VERSION = 3
IMAGE_VERSIONS = (2, 3)
OPTION_BIG_ENDIAN = 0x0001
OPTIONS_RESERVED = 0xFFFE

# Domain header: type, page_shift, reserved, xen_major, xen_minor (16 bytes).
DOMAIN_HEADER = struct.Struct("<IHHII")

# Record header: type, body length without padding (8 bytes). Bodies are padded to RECORD_ALIGN.
RECORD_HEADER = struct.Struct("<II")
RECORD_ALIGN = 8
RECORD_LENGTH_MAX = 128 << 20
RECORD_OPTIONAL = 0x8000_0000

# Fixed parts of bodies.
PAGE_DATA_HEADER = struct.Struct("<II")  # count, reserved
PV_INFO = struct.Struct("<BB6s")  # guest width, page-table levels, reserved
P2M_FRAMES_HEADER = struct.Struct("<II")  # first pfn, last pfn
VCPU_HEADER = struct.Struct("<II")  # vcpu id, reserved
TSC_INFO = struct.Struct("<IIQII")  # mode, khz, nsec, incarnation, reserved
HVM_PARAMS_HEADER = struct.Struct("<II")  # count, reserved
HVM_PARAMS_ENTRY = struct.Struct("<QQ")  # index, value
CPUID_LEAF = struct.Struct("<IIIIII")  # leaf, subleaf, eax, ebx, ecx, edx
MSR_POLICY_ENTRY = struct.Struct("<IIQ")  # index, flags, value
VCPU_MSR_ENTRY = struct.Struct("<IIQ")  # index, reserved, value

# PAGE_DATA entries: type in bits 63-60, 59-52 reserved, pfn in 51-0.
ENTRY_TYPE_SHIFT = 60
ENTRY_PFN_MASK = (1 << 52) - 1
ENTRY_RESERVED_MASK = ((1 << 60) - 1) & ~ENTRY_PFN_MASK

BATCH_PAGES = 1024
"""Pages that a saver puts in one PAGE_DATA record at most (Xen's limit on one type query)."""

PAGE_BYTES = PAGE_SIZE + 8 + 24 / BATCH_PAGES
"""What a page with data takes in a stream: with its entry, and its share of the heads of a full record."""

PFN_LIMIT = 1 << 40
"""First pfn that no x86 guest can have: physical addresses have at most 52 bits."""

P2M_ENTRIES_LIMIT = 1 << 32
"""X86_PV_P2M_FRAMES holds its pfns in 32 bits."""

VCPU_ID_LIMIT = 8192
"""First vcpu id that Xen cannot have (MAX_VIRT_CPUS of a PV guest)."""

VCPU_EXTENDED_MIN = 8
"""The vcpu and the size, which Xen goes by; what it asks for behind them differs from release to release."""

VCPU_EXTENDED_MAX = 128
VCPU_XSAVE_MIN = 16
XSAVE_AREA_MIN = 576
"""The XSAVE area of the oldest two states, x87 and SSE: 512 bytes, and its header of 64."""

GDT_ENTRIES_MAX = 7168
"""First GDT entry that belongs to Xen (FIRST_RESERVED_GDT_ENTRY)."""

TSC_MODES = (0, 1, 2)
"""Default, always emulate, never emulate."""

TSC_MODE_PVRDTSCP = 3
"""A mode of Xen up to 4.11."""


class DomainType(IntEnum):
    """What kind of guest the stream holds (domain header); PVH guests are sent as HVM."""

    PV = 1
    HVM = 2


class RecordType(IntEnum):
    """Record types of version 3."""

    END = 0x00
    PAGE_DATA = 0x01
    X86_PV_INFO = 0x02
    X86_PV_P2M_FRAMES = 0x03
    X86_PV_VCPU_BASIC = 0x04
    X86_PV_VCPU_EXTENDED = 0x05
    X86_PV_VCPU_XSAVE = 0x06
    SHARED_INFO = 0x07
    X86_TSC_INFO = 0x08
    HVM_CONTEXT = 0x09
    HVM_PARAMS = 0x0A
    TOOLSTACK = 0x0B
    X86_PV_VCPU_MSRS = 0x0C
    VERIFY = 0x0D
    CHECKPOINT = 0x0E
    CHECKPOINT_DIRTY_PFN_LIST = 0x0F
    STATIC_DATA_END = 0x10
    X86_CPUID_POLICY = 0x11
    X86_MSR_POLICY = 0x12


_NAMES = {int(kind): kind.name for kind in RecordType}


def record_name(code: int) -> str:
    """The name of a record type, also of one that the specification does not define."""
    known = _NAMES.get(code)
    if known is not None:
        return known
    return f"unknown optional 0x{code:08x}" if code & RECORD_OPTIONAL else f"unknown 0x{code:08x}"


def padding_of(length: int) -> int:
    """How many bytes of padding follow a body of ``length`` bytes."""
    return -length % RECORD_ALIGN


def pack_entry(pfn: int, kind: PageType) -> int:
    """One PAGE_DATA entry. ValueError if the pfn does not fit in 52 bits."""
    if not 0 <= pfn <= ENTRY_PFN_MASK:
        raise ValueError(f"pfn 0x{pfn:x} does not fit in a PAGE_DATA entry")
    return kind << ENTRY_TYPE_SHIFT | pfn


def unpack_entry(entry: int) -> tuple[int, int]:
    """(pfn, type bits) of a PAGE_DATA entry; the type may be one that PageType does not know."""
    return entry & ENTRY_PFN_MASK, entry >> ENTRY_TYPE_SHIFT


class VcpuLayout(NamedTuple):
    """Where the frame numbers stand in a vcpu_guest_context, whose ``size`` is the blob's length.

    Offsets are in bytes; ``word`` is the size of one number. ``ctrlreg1`` is None where the guest has no
    separate user page table (32-bit).
    """

    size: int
    word: int
    start_info: int
    gdt_frames: int
    gdt_ents: int
    cr3: int
    ctrlreg1: int | None


# By guest width. start_info is user_regs.rdx / edx of vcpu 0.
VCPU_LAYOUTS = {
    8: VcpuLayout(size=5168, word=8, start_info=616, gdt_frames=4832, gdt_ents=4960, cr3=5008, ctrlreg1=4992),
    4: VcpuLayout(size=2800, word=4, start_info=524, gdt_frames=2640, gdt_ents=2704, cr3=2728, ctrlreg1=None),
}

SHARED_INFO_NR_PFNS = {8: (3088, 8), 4: (2316, 4)}
"""By guest width: where arch.max_pfn, which is a count in spite of its name, stands in shared_info, and its size."""

GDT_FRAMES = 16
GDT_ENTRIES_PER_FRAME = 512
