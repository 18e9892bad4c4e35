"""Where frame numbers stand in a vcpu's context.

Offsets are those of struct vcpu_guest_context for x86_64 (xen/include/public/arch-x86/xen.h); a test compares
them with the compiler's.
"""

from __future__ import annotations

SIZE = 5168
RDX = 616
GDT_FRAMES = 4832
GDT_ENTS = 4960
CTRLREG = 4984

GDT_PER_FRAME = 512
MAX_GDT_ENTS = 7168
"""FIRST_RESERVED_GDT_ENTRY: entries from here on are Xen's own."""
