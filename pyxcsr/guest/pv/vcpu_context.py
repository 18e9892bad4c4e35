"""What Python has to know of a vcpu's context: its size, and where vcpu 0 names start_info. The rest is C's.

They are those of struct vcpu_guest_context for x86_64 (xen/include/public/arch-x86/xen.h); a test compares
them with the compiler's.
"""

from __future__ import annotations

SIZE = 5168
RDX = 616
