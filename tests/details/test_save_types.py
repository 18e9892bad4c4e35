"""Offsets of fields are those of Xen's public headers, where these are installed; and what hostile records come to."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from support import hvm as made

from pyxcsr.details import hvm
from pyxcsr.details.save_types import SAVE_FIELDS
from pyxcsr.stream.hvm_context import CPU, MSR, TYPES

SAMES = {  # typecode, our name -> structure, its field
    (1, "changeset"): "hvm_save_header changeset", (1, "cpuid_1_eax"): "hvm_save_header cpuid",
    (1, "tsc_khz"): "hvm_save_header gtsc_khz", (3, "irq_base"): "hvm_hw_vpic irq_base",
    (3, "elcr"): "hvm_hw_vpic elcr", (3, "int_output"): "hvm_hw_vpic int_output",
    (4, "ioregsel"): "hvm_hw_vioapic ioregsel", (4, "id"): "hvm_hw_vioapic id",
    (4, "redirect_0"): "hvm_hw_vioapic redirtbl[0]", (4, "redirect_47"): "hvm_hw_vioapic redirtbl[47]",
    (5, "apic_base"): "hvm_hw_lapic apic_base_msr", (5, "timer_divisor"): "hvm_hw_lapic timer_divisor",
    (5, "tsc_deadline"): "hvm_hw_lapic tdt_msr", (7, "devices_16_31"): "hvm_hw_pci_irqs pad[1]",
    (8, "irqs"): "hvm_hw_isa_irqs pad[0]", (9, "route_3"): "hvm_hw_pci_link route[3]",
    (10, "channel_0_latched_count"): "hvm_hw_pit channels[0].latched_count",
    (10, "channel_1_status"): "hvm_hw_pit channels[1].status", (10, "channel_2_gate"): "hvm_hw_pit channels[2].gate",
    (10, "channel_2_rw_mode"): "hvm_hw_pit channels[2].rw_mode",
    (10, "speaker_data_on"): "hvm_hw_pit speaker_data_on", (11, "cmos_13"): "hvm_hw_rtc cmos_data[13]",
    (11, "cmos_index"): "hvm_hw_rtc cmos_index", (11, "offset_seconds"): "hvm_hw_rtc rtc_offset",
    (12, "config"): "hvm_hw_hpet config", (12, "isr"): "hvm_hw_hpet isr", (12, "counter"): "hvm_hw_hpet mc64",
    (12, "timer_0_config"): "hvm_hw_hpet timers[0].config", (12, "timer_2_comparator"): "hvm_hw_hpet timers[2].cmp",
    (12, "timer_1_fsb"): "hvm_hw_hpet timers[1].fsb", (12, "period_2"): "hvm_hw_hpet period[2]",
    (13, "pm1a_status"): "hvm_hw_pmtimer pm1a_sts", (13, "pm1a_enable"): "hvm_hw_pmtimer pm1a_en",
    (14, "pat"): "hvm_hw_mtrr msr_pat_cr", (14, "base_0"): "hvm_hw_mtrr msr_mtrr_var[0]",
    (14, "mask_7"): "hvm_hw_mtrr msr_mtrr_var[15]", (14, "fixed_64k_00000"): "hvm_hw_mtrr msr_mtrr_fixed[0]",
    (14, "fixed_4k_f8000"): "hvm_hw_mtrr msr_mtrr_fixed[10]", (14, "capability"): "hvm_hw_mtrr msr_mtrr_cap",
    (14, "default_type"): "hvm_hw_mtrr msr_mtrr_def_type",
    (15, "reference_tsc"): "hvm_viridian_domain_context reference_tsc",
    (16, "xcr0_accum"): "hvm_hw_cpu_xsave xcr0_accum",
    (16, "xstate_bv"): "hvm_hw_cpu_xsave save_area.xsave_hdr.xstate_bv",
    (16, "xcomp_bv"): "hvm_hw_cpu_xsave save_area.xsave_hdr.xcomp_bv",
    (17, "apic_assist_pending"): "hvm_viridian_vcpu_context apic_assist_pending",
    (17, "simp"): "hvm_viridian_vcpu_context simp_msr", (17, "sint_0"): "hvm_viridian_vcpu_context sint_msr[0]",
    (17, "stimer_config_0"): "hvm_viridian_vcpu_context stimer_config_msr[0]",
    (17, "stimer_count_3"): "hvm_viridian_vcpu_context stimer_count_msr[3]",
    (18, "ext_ctl"): "hvm_vmce_vcpu mcg_ext_ctl", (19, "tsc_adjust"): "hvm_tsc_adjust tsc_adjust",
}  # fmt: skip


def test_offsets_and_sizes_are_those_of_xens_headers(tmp_path: Path) -> None:
    if not Path("/usr/include/xen/arch-x86/hvm/save.h").exists():
        pytest.skip("Xen's public headers are not installed: apt-get install libxen-dev")
    prints = "".join(
        f'printf("%zu %zu\\n", offsetof(struct {kind}, {field}), sizeof(((struct {kind} *)0)->{field}));\n'
        for kind, field in (x.split() for x in SAMES.values())
    )
    head = "".join(f"#include <{x}.h>\n" for x in ("stddef", "stdint", "stdio", "xen/xen", "xen/hvm/save"))
    (tmp_path / "at.c").write_text(f"{head}int main(void)\n{{\n{prints}return 0;\n}}\n")
    subprocess.run(["cc", "-o", str(tmp_path / "at"), str(tmp_path / "at.c")], check=True, timeout=60)
    done = subprocess.run([str(tmp_path / "at")], capture_output=True, text=True, check=True, timeout=60)
    for (typecode, name), line in zip(SAMES, done.stdout.splitlines()):
        field = next(x for x in SAVE_FIELDS[typecode] if x.name == name)
        assert f"{field.at} {field.size}" == line, f"{typecode} {name}"


def test_each_type_is_decoded_and_fields_do_not_overlap() -> None:
    assert {*SAVE_FIELDS, 0, CPU, MSR, hvm.LAPIC_REGS} == set(TYPES)
    for typecode, fields in SAVE_FIELDS.items():
        assert len({x.name for x in fields}) == len(fields)
        for before, after in zip(fields, fields[1:]):
            assert before.at + before.size <= after.at, f"{typecode}: {before.name} reaches into {after.name}"
        longest = TYPES[typecode].lengths[-1] if TYPES[typecode].lengths else 600
        assert fields[-1].at + fields[-1].size <= longest


def body_of(typecode: int, **values: int) -> bytes:
    """A save record's body with some fields set."""
    body = bytearray((TYPES[typecode].lengths or (600,))[-1])
    for field in SAVE_FIELDS[typecode]:
        if field.name in values:
            body[field.at : field.at + field.size] = values[field.name].to_bytes(field.size, "little", signed=True)
    return bytes(body)


def test_values() -> None:
    rtc = hvm.fields_of(11, memoryview(body_of(11, offset_seconds=-3600, cmos_4=0x12)))
    assert rtc["offset_seconds"] == -3600 and rtc["cmos_4"] == 0x12 and rtc["cmos_5"] == 0
    cpu = bytearray(1032)
    cpu[640:648] = (0xFFFF_8000_0000_1234).to_bytes(8, "little")
    cpu[1016:1020] = (1 << 31 | 3 << 8 | 0x0E).to_bytes(4, "little")
    fields = hvm.fields_of(CPU, memoryview(cpu))
    assert fields["rip"] == 0xFFFF_8000_0000_1234 and (fields["pending_vector"], fields["pending_type"]) == (14, 3)
    lapic = bytearray(1024)
    lapic[0x80] = 0x20
    lapic[0x200 + 16 * 7 + 3] = 0x80  # the last vector
    lapic[0x100 + 16 + 1] = 0x01
    fields = hvm.fields_of(hvm.LAPIC_REGS, memoryview(lapic))
    assert (fields["tpr"], fields["irr"], fields["isr"], fields["tmr"]) == (0x20, [255], [40], [])


def test_a_short_record_lacks_what_it_has_not() -> None:
    fields = hvm.fields_of(5, memoryview(bytes(16)))  # as up to Xen 4.0
    assert list(fields) == ["apic_base", "disabled", "timer_divisor"]
    fields = hvm.fields_of(5, memoryview(bytes(24)))  # as up to Xen 4.20
    assert list(fields) == ["apic_base", "disabled", "timer_divisor", "tsc_deadline"]
    assert hvm.fields_of(5, memoryview(bytes(24) + b"\x40" + bytes(7)))["pending_esr"] == 0x40
    assert hvm.fields_of(99, memoryview(b"x" * 100)) == {} and hvm.fields_of(CPU, memoryview(b"")) == {}


def test_msrs_are_as_many_as_are_there() -> None:
    body = made.msrs(0, 0x48, 0x140, 0xABCDE)[8:]
    assert list(hvm.fields_of(MSR, memoryview(body))) == ["SPEC_CTRL", "MISC_FEATURES_ENABLES", "0xabcde"]
    hostile = b"\xff\xff\xff\xff" + body[4:]
    assert len(hvm.fields_of(MSR, memoryview(hostile))) == 3
    assert hvm.fields_of(MSR, memoryview(b"\xff" * 7)) == {}


@pytest.mark.parametrize("seed", range(20))
def test_whatever_bytes_there_are(seed: int) -> None:
    rng = random.Random(seed)
    context = bytearray(made.context(2))
    for _ in range(rng.randrange(1, 200)):
        context[rng.randrange(len(context))] = rng.randrange(256)
    for entry in hvm.decoded(bytes(context[: rng.randrange(len(context))])):
        assert set(entry) == {"type", "typecode", "instance", "length", "fields"}


def test_a_context_of_very_many_records_is_decoded_as_far_as_it_is_worth() -> None:
    assert len(hvm.decoded(made.header() + made.record(13, 0, bytes(8)) * 20000 + made.END)) == hvm.ENTRIES_MAX
