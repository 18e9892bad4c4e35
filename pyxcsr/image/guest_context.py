"""An HVM vcpu's registers as a vcpu_guest_context, which is what XEN_DOMCTL_getvcpucontext gives of any guest.

Source: struct vcpu_guest_context (xen/include/public/arch-x86/xen.h), and which registers of an HVM vcpu Xen puts into
it: general ones, segments, cr0 to cr4, debug registers, the bases of fs and gs, and the x87 and SSE state.
"""

from __future__ import annotations

from pyxcsr.image.registers import PV_FIELDS, Registers
from pyxcsr.stream.format import VCPU_LAYOUTS

SIZE = VCPU_LAYOUTS[8].size
_FLAGS_AT, _FPU_SIZE = 512, 512
_FPU_VALID, _ONLINE = 1 << 0, 1 << 5
_DPL_SHIFT = 5  # in a segment's attributes


def guest_context(known: Registers, cpu: bytes) -> bytes:
    """The context of an HVM vcpu. ``cpu``: its save record, which begins with the x87 and SSE state."""
    out = bytearray(SIZE)
    out[:_FPU_SIZE] = cpu[:_FPU_SIZE].ljust(_FPU_SIZE, b"\0")
    out[_FLAGS_AT : _FLAGS_AT + 8] = (_FPU_VALID | _ONLINE).to_bytes(8, "little")
    values = {**known.values, "fs_base": known.fs_base, **_gs(known)}
    for field in PV_FIELDS[8]:
        value = values.get(field.name, 0) & (1 << 8 * field.size) - 1
        out[field.at : field.at + field.size] = value.to_bytes(field.size, "little")
    return bytes(out)


def _gs(known: Registers) -> dict[str, int]:
    """In the kernel the base in use is the kernel's, and what swapgs would bring is the user's; else the other way."""
    in_kernel = not known.ss_attributes >> _DPL_SHIFT & 3
    here, there = known.gs_base, known.gs_base_kernel
    return {"gs_base_kernel": here if in_kernel else there, "gs_base": there if in_kernel else here}
