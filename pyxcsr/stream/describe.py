"""The short content of a record, as text."""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable

from pyxcsr.frames import PageType
from pyxcsr.stream import format as fmt
from pyxcsr.stream import hvm_context, hvm_params
from pyxcsr.stream import records as rec
from pyxcsr.stream.hvm_context import HvmContextFacts, Problem

MSR_NAMES = {
    0x48: "SPEC_CTRL",
    0xCE: "PLATFORM_INFO",
    0x10A: "ARCH_CAPABILITIES",
    0x140: "MISC_FEATURES_ENABLES",
    0xDA0: "XSS",
    0xC000_0103: "TSC_AUX",
    0xC001_011F: "VIRT_SPEC_CTRL",
    0xC001_1019: "DR1_ADDRESS_MASK",
    0xC001_101A: "DR2_ADDRESS_MASK",
    0xC001_101B: "DR3_ADDRESS_MASK",
    0xC001_1027: "DR0_ADDRESS_MASK",
}
"""The MSRs that streams carry, named as in the vendors' manuals."""


def msr_name(msr: int) -> str:
    """The name of an MSR, or its number."""
    return MSR_NAMES.get(msr, f"0x{msr:x}")


def type_name(kind: int) -> str:
    """The name of a page type, also of one that does not exist."""
    try:
        return PageType(kind).name
    except ValueError:
        return f"unknown type 0x{kind:x}"


def vendor(policy: rec.CpuidPolicy) -> str | None:
    """The CPU vendor's name from leaf 0, None if there is none that can be printed."""
    size = fmt.CPUID_LEAF.size
    for leaf, _, _, ebx, ecx, edx in fmt.CPUID_LEAF.iter_unpack(policy.blob[: nr_leaves(policy) * size]):
        if leaf == 0:
            text = b"".join(part.to_bytes(4, "little") for part in (ebx, edx, ecx))
            name = text.decode("latin-1").strip("\0 ")
            return name if name.isascii() and name.isprintable() and name else None
    return None


def nr_leaves(policy: rec.CpuidPolicy) -> int:
    """How many whole leaves there are."""
    return len(policy.blob) // fmt.CPUID_LEAF.size


def first_msrs(blob: rec.Buffer, most: int) -> list[rec.MsrEntry]:
    """The first ``most`` entries of an MSR policy, or of a vcpu's MSRs: a hostile record can hold eight million."""
    return rec.MsrPolicy(blob[: most * fmt.MSR_POLICY_ENTRY.size]).msrs


def describe(record: rec.Record) -> str:
    """The short content of a record other than PAGE_DATA; empty if there is none."""
    function = _DESCRIPTIONS.get(type(record))
    return "" if function is None else function(record)


def _describe_vcpu(record: Any) -> str:
    return f"vcpu {record.vcpu_id}, {len(record.blob)} bytes"


def _describe_xsave(record: rec.VcpuXsave) -> str:
    text = _describe_vcpu(record)
    if len(record.blob) < 16:
        return text
    return f"{text}, xcr0 0x{int.from_bytes(record.blob[:8], 'little'):x}"


def _describe_msrs(record: rec.VcpuMsrs) -> str:
    return f"vcpu {record.vcpu_id}: {_list_msrs(record)}"


def _describe_frames(record: rec.P2mFrames) -> str:
    return f"pfns 0x{record.start_pfn:x} to 0x{record.end_pfn:x}, {len(record.frames)} frames"


def _describe_tsc(record: rec.TscInfo) -> str:
    return f"mode {record.mode}, {record.khz} kHz, {record.nsec} ns, incarnation {record.incarnation}"


def _describe_policy(record: rec.CpuidPolicy) -> str:
    maker = vendor(record)
    return f"{nr_leaves(record)} leaves" + (f", {maker}" if maker else "")


def _list_msrs(record: rec.MsrPolicy | rec.VcpuMsrs) -> str:
    more = len(record.blob) // fmt.MSR_POLICY_ENTRY.size - _MSRS_SHOWN
    shown = [f"{msr_name(msr.msr)} 0x{msr.value:x}" for msr in first_msrs(record.blob, _MSRS_SHOWN)]
    return ", ".join(shown + ([f"and {more} more"] if more > 0 else []))


def _describe_hvm_context(record: rec.HvmContext) -> str:
    return describe_context(record, *hvm_context.look(record.blob))


def describe_context(record: rec.HvmContext, facts: HvmContextFacts, problems: list[Problem]) -> str:
    """The save records by type, and of which vcpus there are registers. The rest: what a look at it has found."""
    text = f"{len(record.blob)} bytes"
    if facts.entries:
        counts = Counter(entry.name for entry in facts.entries)
        kinds = [name if count == 1 else f"{name} x {count}" for name, count in counts.items()]
        text += f": {', '.join(kinds[:_KINDS_SHOWN])}"
        vcpus = facts.vcpus[:_VCPUS_SHOWN]
        text += f"; registers of vcpu{'s' if len(vcpus) > 1 else ''} {ranges(vcpus)}" if vcpus else ""
    return f"{text}; damaged: {problems[0].text}" if problems else text


def _describe_params(record: rec.HvmParams) -> str:
    more = len(record.params) - _PARAMS_SHOWN
    shown = [hvm_params.describe(*param) for param in record.params[:_PARAMS_SHOWN]]
    return ", ".join(shown + ([f"and {more} more"] if more > 0 else []))


_KINDS_SHOWN = 40
_MSRS_SHOWN = 64
_PARAMS_SHOWN = 64
_VCPUS_SHOWN = 1024


def ranges(numbers: list[int]) -> str:
    """Ascending numbers, those that follow one another as a range: "0-3, 7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


_DESCRIPTIONS: dict[type[rec.Record], Callable[[Any], str]] = {
    rec.PvInfo: lambda record: f"{record.width * 8}-bit guest, {record.levels} levels of page tables",
    rec.P2mFrames: _describe_frames,
    rec.VcpuBasic: _describe_vcpu,
    rec.VcpuExtended: _describe_vcpu,
    rec.VcpuXsave: _describe_xsave,
    rec.VcpuMsrs: _describe_msrs,
    rec.TscInfo: _describe_tsc,
    rec.CpuidPolicy: _describe_policy,
    rec.MsrPolicy: _list_msrs,
    rec.HvmContext: _describe_hvm_context,
    rec.HvmParams: _describe_params,
    rec.Unknown: lambda record: f"{len(record.blob)} bytes",
}
