"""HVM contexts: what Xen writes passes, what no Xen loads is named, hostile ones end in StreamError."""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path

import pytest
from support import hvm

from pyxcsr.errors import StreamError
from pyxcsr.stream import hvm_context as ctx

GOOD = hvm.context(nr_vcpus=2)


def first_problem(context: bytes) -> str:
    """The text of the first thing that is wrong."""
    return ctx.look(context)[1][0].text


def test_what_a_context_says() -> None:
    facts = ctx.check(GOOD, offset=0, nr_vcpus=2)
    assert facts.vcpus == [0, 1] and facts.vcpu_end == 2
    assert facts.tsc_khz == 2_500_000 and facts.changeset == (1 << 64) - 1 and facts.cpuid == 0x306C3
    assert [entry.name for entry in facts.entries[:3]] == ["HEADER", "CPU", "CPU"]
    cpu = facts.entries[1]
    assert (cpu.at, cpu.instance, cpu.length, bytes(cpu.body(GOOD))) == (32, 0, 1032, bytes(1032))
    assert facts.entries[-1].at == len(GOOD) - 8


def test_offline_vcpus_have_no_registers() -> None:
    parts = hvm.records(nr_vcpus=3)
    del parts[2]
    facts = ctx.check(b"".join(parts) + hvm.END, offset=0, nr_vcpus=3)
    assert facts.vcpus == [0, 2] and facts.vcpu_end == 3


def test_a_vcpu_that_the_domain_has_not() -> None:
    with pytest.raises(StreamError, match="state of vcpu 1, but the domain has 1") as caught:
        ctx.check(GOOD, offset=0x100, nr_vcpus=1)
    assert (caught.value.offset, caught.value.record, caught.value.at) == (0x100, "HVM_CONTEXT", 32 + 1040)


def context(*parts: bytes, end: bytes = hvm.END) -> bytes:
    """A context of a header and a vcpu's registers, with more in it."""
    return hvm.header() + hvm.record(hvm.CPU, 0, bytes(1032)) + b"".join(parts) + end


BROKEN = {
    "empty": (b"", "ends after 0 bytes without an END"),
    "random": (b"what Xen gav", "claims"),
    "half a descriptor": (GOOD[:-8] + b"\0\0\0", "without an END"),
    "no end": (GOOD[:-8], "without an END"),
    "no header": (context()[32:], "begins with CPU, not with HEADER"),
    "end alone": (hvm.END, "begins with END, not with HEADER"),
    "magic": (hvm.header(magic=0x54381287) + context()[32:], "magic number is 0x54381287, must be 0x54381286"),
    "version": (hvm.header(version=2) + context()[32:], "format version 2"),
    "short header": (hvm.record(1, 0, bytes(16)) + context()[32:], "HEADER of instance 0 has 16 bytes, must have 24"),
    "no registers": (hvm.header() + hvm.END, "no registers"),
    "a long end": (context(end=hvm.record(0, 0, b"x")), "END of instance 0 has 1 bytes, must have 0"),
    "behind the end": (GOOD + b"\0", "1 bytes follow its END"),
    "beyond the end": (context(end=struct.pack("<HHI", 3, 0, 9) + bytes(8)), "claims 9 bytes, of which 8 are there"),
    "four GiB": (context(end=struct.pack("<HHI", 3, 0, 0xFFFF_FFFF)), "claims 4294967295 bytes"),
    "registers of 1000 bytes": (context(hvm.record(hvm.CPU, 1, bytes(1000))), "must have 1016 or 1024 or 1032"),
    "short mtrr": (context(hvm.record(hvm.MTRR, 0, bytes(239))), "MTRR of instance 0 has 239 bytes, must have 240"),
    "long mtrr": (context(hvm.record(hvm.MTRR, 0, bytes(248))), "must have 240"),
    "third pic": (context(hvm.record(hvm.PIC, 2, bytes(8))), "there can be 2 at most"),
    "second ioapic": (context(hvm.record(hvm.IOAPIC, 1, bytes(400))), "there can be 1 at most"),
    "vcpu 8192": (context(hvm.record(hvm.LAPIC, 8192, bytes(24))), "there can be 8192 at most"),
    "twice": (context(hvm.record(hvm.CPU, 0, bytes(1032))), "CPU of instance 0 comes twice"),
    "second header": (context(hvm.header()), "HEADER of instance 0 comes twice"),
    "short xsave": (context(hvm.xsave(0, area=575)), "has 599 bytes, must have at least 600"),
    "xcr0": (context(hvm.xsave(0, xcr0=7, accum=3)), "xcr0 0x7 with xcr0_accum 0x3 cannot be"),
    "xcr0 without x87": (context(hvm.xsave(0, xcr0=6, accum=6)), "cannot be"),
    "no msrs": (context(hvm.msrs(0)), "has no MSR in it"),
    "msrs of 4 bytes": (context(hvm.record(hvm.MSR, 0, bytes(4))), "has no MSR in it"),
    "msr count": (context(hvm.record(hvm.MSR, 0, struct.pack("<II", 2, 0) + bytes(16))), "must have 40 for 2 MSRs"),
    "msr reserved": (
        context(hvm.record(hvm.MSR, 0, struct.pack("<IIIIQ", 1, 0, 0x48, 1, 0))),
        "reserved field that is not zero",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str) -> None:
    data, words = BROKEN[name]
    assert words in first_problem(data)
    with pytest.raises(StreamError) as caught:
        ctx.check(data, offset=7)
    assert caught.value.offset == 7 and words in str(caught.value)


@pytest.mark.parametrize(
    ("typecode", "instance", "lengths"),
    [
        (hvm.CPU, 1, (1016, 1024, 1032)),
        (hvm.LAPIC, 0, (16, 24, 32)),
        (11, 0, (16, 24)),
        (15, 0, (16, 24, 32)),
        (17, 0, (8, 16, 152, 216)),
        (18, 0, (8, 24, 32)),
    ],
)
def test_what_older_releases_wrote(typecode: int, instance: int, lengths: tuple[int, ...]) -> None:
    for length in lengths:
        ctx.check(context(hvm.record(typecode, instance, bytes(length))), offset=0)
        assert ctx.look(context(hvm.record(typecode, instance, bytes(length - 1))))[1]


@pytest.mark.parametrize("part", [hvm.record(21, 0, b"new"), hvm.record(hvm.LAPIC, 0, bytes(40))])
def test_what_a_newer_xen_may_write_is_left_to_xen(part: bytes) -> None:
    problems = ctx.look(context(part))[1]
    assert [problem.unknown for problem in problems] == [True]
    ctx.check(context(part), offset=0)


@pytest.mark.parametrize("nr_unknown", [0, 3, 1000, 5000])
def test_no_number_of_unknown_things_hides_what_is_wrong(nr_unknown: int) -> None:
    unknown = b"".join(hvm.record(99, instance, b"") for instance in range(nr_unknown))
    twice = context(unknown, hvm.record(hvm.PIC, 0, bytes(8)) * 2)
    problems = ctx.look(twice)[1]
    assert "PIC of instance 0 comes twice" in problems[0].text
    assert [problem.unknown for problem in problems] == [False] + [True] * min(nr_unknown, ctx.PROBLEMS_MAX)
    with pytest.raises(StreamError, match="comes twice"):
        ctx.check(twice, offset=0)


def test_random_contexts_never_end_in_another_error() -> None:
    rng = random.Random(1)
    for _ in range(3000):
        data = bytearray(GOOD[: rng.randrange(len(GOOD))] if rng.random() < 0.2 else GOOD)
        for _ in range(rng.randrange(1, 4)):
            if data:
                data[rng.randrange(min(len(data), 64) if rng.random() < 0.5 else len(data))] = rng.randrange(256)
        try:
            ctx.check(bytes(data), offset=0, nr_vcpus=2)
        except StreamError:
            continue


C_SIZES = r"""
#include <stdio.h>
#include <stddef.h>
#include <stdint.h>
#define __XEN_TOOLS__ 1
#include <xen/xen.h>
#include <xen/hvm/save.h>
#define P(name) printf("%d %zu\n", HVM_SAVE_CODE(name), sizeof(HVM_SAVE_TYPE(name)))
int main(void)
{
    P(END); P(HEADER); P(CPU); P(PIC); P(IOAPIC); P(LAPIC); P(LAPIC_REGS); P(PCI_IRQ); P(ISA_IRQ); P(PCI_LINK); P(PIT);
    P(RTC); P(HPET); P(PMTIMER); P(MTRR); P(VIRIDIAN_DOMAIN); P(VIRIDIAN_VCPU); P(VMCE_VCPU); P(TSC_ADJUST);
    printf("%d %zu\n", 1000, sizeof(struct hvm_hw_cpu_compat));
    printf("%d %zu\n", 1001, sizeof(struct hvm_hw_cpu_xsave));
    printf("%d %d\n", 1002, HVM_SAVE_CODE_MAX);
    return 0;
}
"""


def test_the_lengths_are_those_of_xens_headers(tmp_path: Path) -> None:
    if not Path("/usr/include/xen/arch-x86/hvm/save.h").exists():
        pytest.skip("Xen's public headers are not installed: apt-get install libxen-dev")
    source = tmp_path / "sizes.c"
    source.write_text(C_SIZES)
    subprocess.run(["cc", "-o", str(tmp_path / "sizes"), str(source)], check=True, timeout=60)
    done = subprocess.run([str(tmp_path / "sizes")], capture_output=True, text=True, check=True, timeout=60)
    sizes = dict(map(int, line.split()) for line in done.stdout.splitlines())  # type: ignore[misc]
    assert sizes.pop(1000) in ctx.TYPES[ctx.CPU].lengths
    assert sizes.pop(1001) == 600
    assert sizes.pop(1002) == max(ctx.TYPES)
    assert len(sizes) == len(ctx.TYPES) - 2
    for typecode, size in sizes.items():
        # END is an empty structure, of which C makes 0 or 1 bytes; Xen writes none
        assert size in ctx.TYPES[typecode].lengths or typecode == ctx.END
