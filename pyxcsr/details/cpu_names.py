"""Names of MSRs, CPUID leaves and CPUID features, as in the vendors' manuals."""

from __future__ import annotations

from typing import NamedTuple

from pyxcsr.stream.describe import MSR_NAMES

NAMES_OF_MSRS = {
    **MSR_NAMES,
    0x10: "TSC",
    0x1B: "APIC_BASE",
    0x3A: "FEATURE_CONTROL",
    0x3B: "TSC_ADJUST",
    0x174: "SYSENTER_CS",
    0x175: "SYSENTER_ESP",
    0x176: "SYSENTER_EIP",
    0x1A0: "MISC_ENABLE",
    0x1D9: "DEBUGCTL",
    0x277: "PAT",
    0x6A0: "U_CET",
    0x6A2: "S_CET",
    0x6E0: "TSC_DEADLINE",
    0x6E1: "PKRS",
    0xD90: "BNDCFGS",
    0xC000_0080: "EFER",
    0xC000_0081: "STAR",
    0xC000_0082: "LSTAR",
    0xC000_0083: "CSTAR",
    0xC000_0084: "SYSCALL_MASK",
    0xC000_0100: "FS_BASE",
    0xC000_0101: "GS_BASE",
    0xC000_0102: "KERNEL_GS_BASE",
    0xC001_1004: "CPUID_1_OVERRIDE",
    0xC001_1005: "CPUID_80000001_OVERRIDE",
}
"""Index -> name."""


def msr_name(index: int) -> str:
    """The name of an MSR, or its number."""
    return NAMES_OF_MSRS.get(index, f"0x{index:x}")


LEAVES = {
    0x0: "highest leaf and vendor",
    0x1: "family, model and features",
    0x2: "cache descriptors",
    0x4: "caches",
    0x5: "MONITOR",
    0x6: "thermal and power",
    0x7: "features",
    0x9: "direct cache access",
    0xA: "performance monitoring",
    0xB: "topology",
    0xD: "XSAVE state",
    0xF: "resource monitoring",
    0x10: "resource allocation",
    0x12: "SGX",
    0x14: "processor trace",
    0x15: "TSC and crystal clock",
    0x16: "frequencies",
    0x17: "vendor of the chip",
    0x18: "address translation",
    0x1F: "topology, second version",
    0x4000_0000: "hypervisor",
    0x8000_0000: "highest extended leaf",
    0x8000_0001: "extended features",
    0x8000_0002: "brand, first part",
    0x8000_0003: "brand, second part",
    0x8000_0004: "brand, third part",
    0x8000_0005: "first level caches and TLBs",
    0x8000_0006: "second level caches and TLBs",
    0x8000_0007: "power management",
    0x8000_0008: "address sizes",
    0x8000_000A: "SVM",
    0x8000_001A: "performance hints",
    0x8000_001B: "instruction based sampling",
    0x8000_001C: "lightweight profiling",
    0x8000_001D: "caches",
    0x8000_001E: "topology",
    0x8000_001F: "memory encryption",
    0x8000_0021: "more extended features",
}
"""Leaf -> what it is about."""


class FeatureWord(NamedTuple):
    """A register with feature bits."""

    leaf: int
    subleaf: int
    register: str


NO_SUBLEAF = 0xFFFF_FFFF
"""What a CPU policy has in place of a subleaf, of a leaf that has none."""

FEATURES: dict[FeatureWord, str] = {
    FeatureWord(1, NO_SUBLEAF, "edx"): (
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 psn clfsh - ds acpi mmx fxsr "
        "sse sse2 ss htt tm ia64 pbe"
    ),
    FeatureWord(1, NO_SUBLEAF, "ecx"): (
        "sse3 pclmulqdq dtes64 monitor ds_cpl vmx smx eist tm2 ssse3 cnxt_id sdbg fma cx16 xtpr pdcm - pcid dca "
        "sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline aes xsave osxsave avx f16c rdrand hypervisor"
    ),
    FeatureWord(7, 0, "ebx"): (
        "fsgsbase tsc_adjust sgx bmi1 hle avx2 fdp_excptn smep bmi2 erms invpcid rtm pqm fpcsds mpx pqe avx512f "
        "avx512dq rdseed adx smap avx512_ifma - clflushopt clwb pt avx512pf avx512er avx512cd sha avx512bw "
        "avx512vl"
    ),
    FeatureWord(7, 0, "ecx"): (
        "prefetchwt1 avx512_vbmi umip pku ospke waitpkg avx512_vbmi2 cet_ss gfni vaes vpclmulqdq avx512_vnni "
        "avx512_bitalg tme avx512_vpopcntdq - la57 - - - - - rdpid key_locker bus_lock_detect cldemote - movdiri "
        "movdir64b enqcmd sgx_lc pks"
    ),
    FeatureWord(0x8000_0001, NO_SUBLEAF, "edx"): (
        "fpu vme de pse tsc msr pae mce cx8 apic - syscall mtrr pge mca cmov pat pse36 - mp nx - mmxext mmx fxsr "
        "ffxsr page1gb rdtscp - lm 3dnowext 3dnow"
    ),
    FeatureWord(0x8000_0001, NO_SUBLEAF, "ecx"): (
        "lahf_lm cmp_legacy svm extapic cr8_legacy lzcnt sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt "
        "- lwp fma4 tce - nodeid - tbm topoext perfctr_core perfctr_nb - dbext perftsc perfctr_llc monitorx "
        "addr_mask_ext -"
    ),
}
"""The names of a register's 32 bits, from bit 0 on; - is one without a name here."""


def features(leaf: int, subleaf: int, register: str, value: int) -> list[str]:
    """The names of the bits that are set in a register of a leaf; a bit without a name is bit_N. [] for other leaves.

    ``subleaf``: as in a CPU policy, all ones for a leaf that has none.
    """
    names = FEATURES.get(FeatureWord(leaf, subleaf, register))
    if names is None:
        return []
    words = names.split() + ["-"] * 32
    return [words[bit] if words[bit] != "-" else f"bit_{bit}" for bit in range(32) if value >> bit & 1]


def leaf_name(leaf: int) -> str:
    """What a leaf is about, or ""."""
    if 0x4000_0000 < leaf < 0x4000_0100:
        return "Xen"
    return LEAVES.get(leaf, "")
