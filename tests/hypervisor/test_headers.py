"""Numbers and offsets that stand in our own files are those of Xen's public headers, as a compiler finds them there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from pyxcsr.frames import PageType
from pyxcsr.guest.pv.geometry import GEOMETRIES
from pyxcsr.hypervisor.interface import results
from pyxcsr.image import guest_context
from pyxcsr.image.registers import HVM_FIELDS, PV_FIELDS
from pyxcsr.stream import format as fmt

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.skipif(
        not Path("/usr/include/xenctrl.h").exists(),
        reason="libxenctrl's headers are not installed: apt-get install libxen-dev",
    ),
]

INCLUDES = """
#include <stddef.h>
#include <stdio.h>
#include <xenctrl.h>
#include <xen/foreign/x86_32.h>
#include <xen/foreign/x86_64.h>
#include <xen/hvm/save.h>
#include "save/records.h"
#include "xen/page_types.h"
#include "xen/pte.h"
"""

OFFSETS = r"""
#define P(type, m) printf("%zu ", offsetof(struct type, m));
#define GUEST(x, word, dx, cr1)                                                                             \
    P(vcpu_info_##x, evtchn_pending_sel) P(shared_info_##x, evtchn_pending) P(shared_info_##x, evtchn_mask) \
    P(shared_info_##x, arch.max_pfn) P(shared_info_##x, arch.pfn_to_mfn_frame_list_list)                    \
    P(shared_info_##x, arch.p2m_cr3) P(shared_info_##x, arch.p2m_vaddr) P(shared_info_##x, arch.p2m_generation) \
    P(start_info_##x, nr_pages) P(start_info_##x, shared_info) P(start_info_##x, flags)                     \
    P(start_info_##x, store_mfn) P(start_info_##x, store_evtchn) P(start_info_##x, console.domU.mfn)        \
    P(start_info_##x, console.domU.evtchn) P(start_info_##x, pt_base)                                       \
    printf("%zu %zu ", sizeof(struct vcpu_guest_context_##x), sizeof(word));                                \
    P(vcpu_guest_context_##x, user_regs.dx) P(vcpu_guest_context_##x, gdt_frames)                           \
    P(vcpu_guest_context_##x, gdt_ents) P(vcpu_guest_context_##x, ctrlreg[3])                               \
    printf("%zu %zu\n", cr1 ? offsetof(struct vcpu_guest_context_##x, ctrlreg[1]) : 0,                      \
           offsetof(struct vcpu_guest_context_##x, flags));
#define ROW(g) printf("%u %u %u %u %u %u %u\n", g.vcpu.size, g.vcpu.start_info, g.vcpu.gdt_frames,          \
                      g.vcpu.gdt_ents, g.vcpu.cr3, g.vcpu.cr1, g.vcpu.flags)
int main(void) {
    GUEST(x86_64, uint64_t, rdx, 1)
    GUEST(x86_32, uint32_t, edx, 0)
    for (int i = 0; i < 2; i++)
        ROW(pt_geometries[i]);
}
"""


FOR_32_BITS = Path("/usr/include/xen/arch-x86/xen-x86_32.h")
"""A compiler for 64 bits cannot read this one."""


def start_pae() -> str:
    """Where Xen's part of a 32-bit guest's addresses begins."""
    found = re.search(r"#define __HYPERVISOR_VIRT_START_PAE +(0x[0-9A-F]+)", FOR_32_BITS.read_text())
    assert found
    return f"#define START_PAE {found[1]}ULL\n"


def told(folder: Path, program: str) -> list[str]:
    """The lines that a program in C writes."""
    (folder / "o.c").write_text(INCLUDES + start_pae() + program)
    words = (os.environ.get("CC", "cc"), f"-I{ROOT / 'csrc'}", "-D_GNU_SOURCE", "-o")
    words = (*words, str(folder / "o"), str(folder / "o.c"))
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return subprocess.run([folder / "o"], capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


def values(folder: Path, words: list[str]) -> list[int]:
    """What numbers in C come to."""
    prints = "".join(f'printf("%llu\\n", (unsigned long long)({x}));\n' for x in words)
    return [int(x) for x in told(folder, f"int main(void)\n{{\n{prints}}}\n")]


def test_offsets_in_pages_that_a_guest_shares(tmp_path: Path) -> None:
    found = [[int(x) for x in line.split()] for line in told(tmp_path, OFFSETS)]
    for width, line, ours in zip((8, 4), found[:2], found[2:]):
        one = GEOMETRIES[width]
        vcpu = [x or 0 for x in one.vcpu]
        assert line == [*one.shared_info, *one.start_info, *vcpu, 512], "Python's table"
        assert ours == [vcpu[0], *vcpu[2:], 512], "C's table"
        assert fmt.SHARED_INFO_NR_PFNS[width] == (one.shared_info.max_pfn, width)





def in_context(name: str, width: int) -> str:
    """Where struct vcpu_guest_context has a register."""
    number = re.fullmatch(r"(cr|dr)(\d)", name)
    if number:
        return f"{'ctrlreg' if number[1] == 'cr' else 'debugreg'}[{number[2]}]"
    if name in ("fs_base", "gs_base_kernel", "gs_base"):
        return {"gs_base": "gs_base_user"}.get(name, name)
    return "user_regs." + ("e" + name[1:] if width == 4 and name[0] == "r" else name)


@pytest.mark.parametrize("width", [8, 4])
def test_registers_of_a_pv_vcpu(tmp_path: Path, width: int) -> None:
    kind = f"struct vcpu_guest_context_x86_{8 * width}"
    words = [f"offsetof({kind}, {in_context(x.name, width)})" for x in PV_FIELDS[width]]
    sizes = [f"sizeof((({kind} *)0)->{in_context(x.name, width)})" for x in PV_FIELDS[width]]
    found = values(tmp_path, words + sizes)
    assert found[: len(words)] == [x.at for x in PV_FIELDS[width]]
    assert found[len(words) :] == [x.size for x in PV_FIELDS[width]]


def in_record(name: str) -> str:
    """Where struct hvm_hw_cpu has a register."""
    table = re.fullmatch(r"(\w+)_(limit|base|attributes)", name)
    if table and name != "gs_base_kernel":
        return f"{table[1]}_{'arbytes' if table[2] == 'attributes' else table[2]}"
    if name in ("lstar", "star", "cstar", "syscall_mask", "efer", "tsc_aux"):
        return f"msr_{name}"
    if name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldtr"):
        return f"{name}_sel"
    return "shadow_gs" if name == "gs_base_kernel" else name


def test_registers_of_an_hvm_vcpu(tmp_path: Path) -> None:
    kind = "struct hvm_hw_cpu"
    words = [f"offsetof({kind}, {in_record(x.name)})" for x in HVM_FIELDS]
    sizes = [f"sizeof((({kind} *)0)->{in_record(x.name)})" for x in HVM_FIELDS]
    found = values(tmp_path, words + sizes)
    assert found[: len(words)] == [x.at for x in HVM_FIELDS]
    assert found[len(words) :] == [x.size for x in HVM_FIELDS]


PFINFO = {PageType.NOTAB: "NOTAB", PageType.BROKEN: "BROKEN", PageType.XALLOC: "XALLOC", PageType.XTAB: "XTAB"}


def page_type(kind: PageType) -> str:
    word = PFINFO.get(kind) or f"L{kind.level}TAB"
    return f"XEN_DOMCTL_PFINFO_{word}" + (" | XEN_DOMCTL_PFINFO_LPINTAB" if kind.name.endswith("PINNED") else "")


NUMBERS = {
    **{f"SHUTDOWN_{x.replace(' ', '_')}": code for code, x in results.SHUTDOWN_NAMES.items()},
    "SHUTDOWN_suspend": results.SHUTDOWN_SUSPEND,
    **{f"XEN_SCHEDULER_{x.upper()}": code for code, x in results.SCHEDULER_NAMES.items()},
    **{f"(uint32_t)({page_type(x)}) >> XEN_DOMCTL_PFINFO_LTAB_SHIFT": int(x) for x in PageType},
    "TYPE_BROKEN": PageType.BROKEN,
    "TYPE_XALLOC": PageType.XALLOC,
    "TYPE_XTAB": PageType.XTAB,
    "TYPE_SHIFT": fmt.ENTRY_TYPE_SHIFT,
    "FIRST_RESERVED_GDT_ENTRY": fmt.GDT_ENTRIES_MAX,
    "PT_GDT_FRAMES * 512": fmt.GDT_ENTRIES_MAX,
    "sizeof(((struct vcpu_guest_context_x86_64 *)0)->gdt_frames) / 8": fmt.GDT_FRAMES,
    "sizeof(((struct vcpu_guest_context_x86_32 *)0)->gdt_frames) / 4": fmt.GDT_FRAMES,
    "VGCF_online": guest_context._ONLINE,
    "VGCF_i387_valid": guest_context._FPU_VALID,
    "~HYPERVISOR_VIRT_START": GEOMETRIES[8].ranges[0][1],
    "HYPERVISOR_VIRT_END": GEOMETRIES[8].ranges[1][0],
    "pt_geometries[0].xens[4].first - (HYPERVISOR_VIRT_START >> 39 & 511)": 0,
    "pt_geometries[0].xens[4].end - (HYPERVISOR_VIRT_END >> 39 & 511)": 0,
    "START_PAE - 1": GEOMETRIES[4].ranges[0][1],
    "pt_geometries[1].beside_m2p[2].first - (START_PAE >> 21 & 511)": 0,
    **{f"RECORD_{x}": fmt.RecordType[y] for x, y in (
        ("VCPU_BASIC", "X86_PV_VCPU_BASIC"), ("VCPU_EXTENDED", "X86_PV_VCPU_EXTENDED"),
        ("VCPU_XSAVE", "X86_PV_VCPU_XSAVE"), ("VCPU_MSRS", "X86_PV_VCPU_MSRS"), ("SHARED_INFO", "SHARED_INFO"),
        ("TSC_INFO", "X86_TSC_INFO"), ("HVM_CONTEXT", "HVM_CONTEXT"), ("HVM_PARAMS", "HVM_PARAMS"),
    )},
}  # fmt: skip
"""Words of C, and what they come to in Python's files."""


def test_numbers(tmp_path: Path) -> None:
    assert dict(zip(NUMBERS, values(tmp_path, list(NUMBERS)))) == {x: int(y) for x, y in NUMBERS.items()}
