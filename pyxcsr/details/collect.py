"""Everything of a stream but its pages in detail, record by record. What came last counts, as in a restore."""

from __future__ import annotations

import struct
from typing import Any, Optional

from pyxcsr.details import hvm
from pyxcsr.details.cpu_names import NO_SUBLEAF, features, leaf_name, msr_name
from pyxcsr.image.registers import of_pv
from pyxcsr.stream import hvm_params
from pyxcsr.stream import records as rec
from pyxcsr.stream.describe import vendor
from pyxcsr.stream.format import CPUID_LEAF, MSR_POLICY_ENTRY

VCPUS_MAX = 8192
"""Vcpus of which details are kept: as many as a guest can have."""

LEAVES_MAX, MSRS_MAX, PARAMS_MAX = 4096, 1024, 256
"""Entries of one record that are kept. Xen's own policies have a few hundred."""

CONTEXT_MAX = 5168
"""Bytes of a PV vcpu's context, the longer of the two kinds."""

_EXTENDED = struct.Struct("<IIQQHHBB2xQ")
_EXTENDED_NAMES = ("syscall32_callback_eip", "sysenter_callback_eip", "syscall32_callback_cs", "sysenter_callback_cs",
                   "syscall32_disables_events", "sysenter_disables_events", "mcg_cap")  # fmt: skip
_XSAVE = struct.Struct("<QQ")
_XSAVE_BV_AT = 16 + 512
_BRAND = (0x8000_0002, 0x8000_0003, 0x8000_0004)


class Details:
    """Takes records; ``to_dict`` has what is known by then. Each is decoded at once: its bytes need not stay."""

    def __init__(self) -> None:
        self._pv: Optional[rec.PvInfo] = None
        self._vcpus: dict[int, dict[str, Any]] = {}
        self._context: list[dict[str, Any]] = []
        self._params: dict[int, int] = {}
        self._tsc: Optional[dict[str, int]] = None
        self._cpuid: Optional[dict[str, Any]] = None
        self._msrs: dict[str, int] = {}

    def take(self, record: rec.Record) -> None:
        """Any record of a stream, in the order of the stream; pages are left out."""
        if isinstance(record, (rec.VcpuBasic, rec.VcpuExtended, rec.VcpuXsave, rec.VcpuMsrs)):
            if record.vcpu_id in self._vcpus or len(self._vcpus) < VCPUS_MAX:
                found = self._vcpus.setdefault(record.vcpu_id, {"vcpu": record.vcpu_id})
                found.update(self._of_vcpu(record))
        elif isinstance(record, rec.HvmParams):
            self._take_params(record)
        elif isinstance(record, rec.PvInfo):
            self._pv = record
        elif isinstance(record, rec.HvmContext):
            self._context = hvm.decoded(record.blob)
        elif isinstance(record, rec.TscInfo):
            self._tsc = {name: getattr(record, name) for name in ("mode", "khz", "nsec", "incarnation")}
        elif isinstance(record, rec.CpuidPolicy):
            self._cpuid = _cpuid(rec.CpuidPolicy(record.blob[: LEAVES_MAX * CPUID_LEAF.size]))
        elif isinstance(record, rec.MsrPolicy):
            few = rec.MsrPolicy(record.blob[: MSRS_MAX * MSR_POLICY_ENTRY.size])
            self._msrs = {msr_name(x.msr): x.value for x in few.msrs}

    def to_dict(self) -> dict[str, Any]:
        """For JSON. docs/inspect.md says what is in it."""
        return {
            "vcpus": [self._vcpus[vcpu] for vcpu in sorted(self._vcpus)],
            "hvm_context": self._context,
            "hvm_params": {hvm_params.name(index): value for index, value in self._params.items()},
            "tsc": self._tsc,
            "cpuid": self._cpuid,
            "msrs": self._msrs,
        }

    def _take_params(self, record: rec.HvmParams) -> None:
        for index, value in record.params:
            if index in self._params or len(self._params) < PARAMS_MAX:
                self._params[index] = value

    def _of_vcpu(self, record: Any) -> dict[str, Any]:
        if isinstance(record, rec.VcpuBasic):
            return self._registers(record.vcpu_id, bytes(record.blob[:CONTEXT_MAX]))
        if isinstance(record, rec.VcpuExtended):
            return {"extended": _extended(bytes(record.blob[: _EXTENDED.size]))}
        if isinstance(record, rec.VcpuXsave):
            return {"xsave": _xsave(bytes(record.blob[: _XSAVE_BV_AT + _XSAVE.size]))}
        few = rec.VcpuMsrs(record.vcpu_id, record.blob[: MSRS_MAX * MSR_POLICY_ENTRY.size])
        return {"msrs": {msr_name(x.msr): x.value for x in few.msrs}}

    def _registers(self, vcpu: int, blob: bytes) -> dict[str, Any]:
        """A context cannot be read before PV_INFO has told how wide it is; in a stream from Xen it always has."""
        if self._pv is None or self._pv.width not in (4, 8):
            return {}
        registers = of_pv(vcpu, blob, self._pv.width, self._pv.levels)
        return {"registers": registers.values, "page_table_levels": registers.levels}


def _cpuid(policy: rec.CpuidPolicy) -> dict[str, Any]:
    return {"vendor": vendor(policy), "brand": _brand(policy), "leaves": [_leaf(x) for x in policy.leaves]}


def _leaf(leaf: rec.CpuidLeaf) -> dict[str, Any]:
    values = {"eax": leaf.eax, "ebx": leaf.ebx, "ecx": leaf.ecx, "edx": leaf.edx}
    names = [name for register, value in values.items() for name in features(leaf.leaf, leaf.subleaf, register, value)]
    head = {"leaf": leaf.leaf, "subleaf": None if leaf.subleaf == NO_SUBLEAF else leaf.subleaf}
    return {**head, "name": leaf_name(leaf.leaf), **values, **({"features": names} if names else {})}


def _brand(record: rec.CpuidPolicy) -> Optional[str]:
    parts = {x.leaf: struct.pack("<4I", x.eax, x.ebx, x.ecx, x.edx) for x in record.leaves}
    text = b"".join(parts.get(x, b"") for x in _BRAND).split(b"\0")[0].decode("latin-1").strip()
    return text if text and text.isascii() and text.isprintable() else None


def _extended(blob: bytes) -> dict[str, int]:
    if len(blob) < _EXTENDED.size:
        return {}
    _, _, *values = _EXTENDED.unpack_from(blob)
    return dict(zip(_EXTENDED_NAMES, values))


def _xsave(blob: bytes) -> dict[str, int]:
    found = dict(zip(("xcr0", "xcr0_accum"), _XSAVE.unpack_from(blob))) if len(blob) >= _XSAVE.size else {}
    if len(blob) >= _XSAVE_BV_AT + _XSAVE.size:
        found.update(zip(("xstate_bv", "xcomp_bv"), _XSAVE.unpack_from(blob, _XSAVE_BV_AT)))
    return found
