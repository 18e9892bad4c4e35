"""Our own headers say what the installed ones say: sizes, offsets, numbers, types of functions."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from .conftest import ROOT, have_real_headers

pytestmark = pytest.mark.toolchain

HEADERS = ("xenctrl.h", "xenguest.h", "xenforeignmemory.h", "xenstore.h", "xentoollog.h")

STRUCTS = {
    "struct xen_domctl": "cmd interface_version domain u.pad",
    "struct xen_domctl_ext_vcpucontext": (
        "vcpu size syscall32_callback_eip sysenter_callback_eip syscall32_callback_cs "
        "sysenter_callback_cs syscall32_disables_events sysenter_disables_events mcg_cap "
        "vmce.caps"
    ),
    "struct xen_domctl_vcpuextstate": "vcpu xfeature_mask size buffer",
    "struct xen_domctl_vcpu_msrs": "vcpu msr_count msrs",
    "struct xen_domctl_vcpu_msr": "index reserved value",
    "struct xen_domctl_cpu_policy": "nr_leaves nr_msrs leaves msrs err_leaf err_subleaf err_msr",
    "struct xen_domctl_tsc_info": "tsc_mode gtsc_khz incarnation elapsed_nsec",
    "struct xen_domctl_address_size": "size",
    "struct xen_domctl_sched_credit": "weight cap",
    "struct xen_domctl_sched_credit2": "weight cap",
    "xc_domaininfo_t": (
        "domain flags tot_pages max_pages outstanding_pages shr_pages paged_pages "
        "shared_info_frame cpu_time nr_online_vcpus max_vcpu_id ssidref handle cpupool "
        "gpaddr_bits arch_config"
    ),
    "xc_vcpuinfo_t": "vcpu online blocked running cpu_time cpu",
    "xc_shadow_op_stats_t": "fault_count dirty_count",
    "xen_cpuid_leaf_t": "leaf subleaf a b c d",
    "xen_msr_entry_t": "idx flags val",
    "struct mmuext_op": "cmd arg1 arg1.mfn arg1.linear_addr arg2 arg2.nr_ents arg2.vcpumask arg2.src_mfn",
    "mmuext_op_t": "",
    "struct xc_hypercall_buffer": "hbuf param_shadow dir ubuf sz",
    "xentoollog_logger": "vmessage progress destroy",
    "vcpu_guest_context_t": (
        "fpu_ctxt flags user_regs trap_ctxt ldt_base ldt_ents gdt_frames gdt_ents kernel_ss "
        "kernel_sp ctrlreg debugreg event_callback_eip failsafe_callback_eip syscall_callback_eip "
        "vm_assist fs_base gs_base_kernel gs_base_user"
    ),
    "vcpu_guest_context_x86_64_t": (
        "fpu_ctxt flags user_regs gdt_frames gdt_ents ctrlreg vm_assist gs_base_user"
    ),
    "vcpu_guest_context_x86_32_t": (
        "fpu_ctxt flags user_regs trap_ctxt ldt_base ldt_ents gdt_frames gdt_ents kernel_ss kernel_sp ctrlreg "
        "debugreg event_callback_cs event_callback_eip failsafe_callback_cs failsafe_callback_eip vm_assist"
    ),
    "vcpu_guest_context_any_t": "c x64 x32",
    "cpu_user_regs_x86_32_t": (
        "ebx ecx edx esi edi ebp eax error_code entry_vector eip cs saved_upcall_mask eflags esp ss es ds fs gs"
    ),
    "trap_info_x86_32_t": "vector flags cs address",
    "struct cpu_user_regs": (
        "r15 r12 rbp ebp rbx r11 r8 rax eax rcx rdx edx rsi rdi error_code entry_vector rip cs "
        "saved_upcall_mask rflags rsp ss es ds fs gs"
    ),
    "trap_info_t": "vector flags cs address",
    "shared_info_t": (
        "vcpu_info evtchn_pending evtchn_mask wc_version wc_sec wc_nsec wc_sec_hi arch.max_pfn "
        "arch.pfn_to_mfn_frame_list_list arch.nmi_reason arch.p2m_cr3 arch.p2m_vaddr "
        "arch.p2m_generation"
    ),
    "shared_info_x86_64_t": "vcpu_info evtchn_pending evtchn_mask wc_sec arch.max_pfn arch.p2m_generation",
    "shared_info_x86_32_t": (
        "vcpu_info evtchn_pending evtchn_mask wc_version wc_sec wc_nsec arch.max_pfn arch.pfn_to_mfn_frame_list_list "
        "arch.nmi_reason arch.p2m_cr3 arch.p2m_vaddr arch.p2m_generation arch.wc_sec_hi"
    ),
    "shared_info_any_t": "x64 s x32",
    "vcpu_info_t": "evtchn_upcall_pending evtchn_upcall_mask evtchn_pending_sel arch time",
    "vcpu_time_info_t": "version tsc_timestamp system_time tsc_to_system_mul tsc_shift",
    "start_info_t": (
        "magic nr_pages shared_info flags store_mfn store_evtchn console.domU.mfn "
        "console.domU.evtchn console.dom0.info_size pt_base nr_pt_frames mfn_list mod_start "
        "mod_len cmd_line first_p2m_pfn nr_p2m_frames"
    ),
    "start_info_x86_64_t": "nr_pages store_mfn console.domU.mfn nr_p2m_frames",
    "start_info_x86_32_t": (
        "magic nr_pages shared_info flags store_mfn store_evtchn console.domU.mfn console.domU.evtchn "
        "console.dom0.info_size pt_base nr_pt_frames mfn_list mod_start mod_len cmd_line first_p2m_pfn nr_p2m_frames"
    ),
    "start_info_any_t": "x64 s x32",
    "vcpu_info_x86_32_t": "evtchn_upcall_pending evtchn_upcall_mask evtchn_pending_sel arch time",
    "struct xen_machphys_mfn_list": "max_extents extent_start nr_extents",
    "struct hvm_save_descriptor": "typecode instance length",
    "struct hvm_save_header": "magic version changeset cpuid gtsc_khz",
    "struct hvm_hw_cpu": (
        "fpu_regs rax rsp r8 r15 rip rflags cr0 cr2 cr3 cr4 dr0 dr7 cs_sel ldtr_sel cs_limit gdtr_limit cs_base "
        "gs_base gdtr_base cs_arbytes ldtr_arbytes sysenter_cs shadow_gs msr_flags msr_lstar msr_efer msr_tsc_aux "
        "tsc pending_event error_code flags"
    ),
    "struct hvm_hw_vpic": "irr irq_base elcr int_output",
    "struct hvm_hw_vioapic": "base_address ioregsel id redirtbl",
    "struct hvm_hw_lapic": "apic_base_msr disabled timer_divisor tdt_msr",
    "struct hvm_hw_lapic_regs": "data",
    "struct hvm_hw_pci_irqs": "i pad",
    "struct hvm_hw_isa_irqs": "i pad",
    "struct hvm_hw_pci_link": "route",
    "struct hvm_hw_pit": "channels speaker_data_on",
    "struct hvm_hw_rtc": "cmos_data cmos_index rtc_offset",
    "struct hvm_hw_hpet": "capability config isr mc64 timers period",
    "struct hvm_hw_pmtimer": "tmr_val pm1a_sts pm1a_en",
    "struct hvm_hw_mtrr": "msr_pat_cr msr_mtrr_var msr_mtrr_fixed msr_mtrr_cap msr_mtrr_def_type",
    "struct hvm_viridian_domain_context": "hypercall_gpa guest_os_id time_ref_count reference_tsc",
    "struct hvm_viridian_vcpu_context": "vp_assist_msr simp_msr sint_msr stimer_config_msr stimer_count_msr",
    "struct hvm_hw_cpu_xsave": "xfeature_mask xcr0 xcr0_accum save_area save_area.xsave_hdr",
    "struct hvm_vmce_vcpu": "caps mci_ctl2_bank0 mci_ctl2_bank1 mcg_ext_ctl",
    "struct hvm_tsc_adjust": "tsc_adjust",
    "struct hvm_msr": "count",
    "struct hvm_one_msr": "index val",
    "xen_pfn_t": "",
    "domid_t": "",
    "xen_domain_handle_t": "",
    "xen_extraversion_t": "",
    "xen_capabilities_info_t": "",
    "xs_transaction_t": "",
}

NUMBERS = """
XC_PAGE_SHIFT XC_PAGE_SIZE INVALID_MFN XC_OPENFLAG_DUMMY XC_OPENFLAG_NON_REENTRANT XTL_DEBUG XTL_VERBOSE
XTL_DETAIL XTL_PROGRESS XTL_INFO XTL_NOTICE XTL_WARN XTL_ERROR XTL_CRITICAL XTL_NUM_LEVELS
XEN_DOMCTL_INTERFACE_VERSION XEN_INVALID_MAX_VCPU_ID XEN_DOMINF_dying XEN_DOMINF_hvm_guest
XEN_DOMINF_shutdown XEN_DOMINF_paused XEN_DOMINF_blocked XEN_DOMINF_running XEN_DOMINF_debugged
XEN_DOMINF_xs_domain XEN_DOMINF_hap XEN_DOMINF_shutdownmask XEN_DOMINF_shutdownshift
XEN_DOMCTL_PFINFO_LTAB_SHIFT XEN_DOMCTL_PFINFO_NOTAB XEN_DOMCTL_PFINFO_L1TAB XEN_DOMCTL_PFINFO_L2TAB
XEN_DOMCTL_PFINFO_L3TAB XEN_DOMCTL_PFINFO_L4TAB XEN_DOMCTL_PFINFO_LTABTYPE_MASK
XEN_DOMCTL_PFINFO_LPINTAB XEN_DOMCTL_PFINFO_XTAB XEN_DOMCTL_PFINFO_XALLOC XEN_DOMCTL_PFINFO_BROKEN
XEN_DOMCTL_PFINFO_LTAB_MASK XEN_DOMCTL_SHADOW_OP_OFF XEN_DOMCTL_SHADOW_OP_ENABLE_TEST
XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY XEN_DOMCTL_SHADOW_OP_CLEAN XEN_DOMCTL_SHADOW_OP_PEEK
XEN_SCHEDULER_CREDIT XEN_SCHEDULER_CREDIT2 XEN_SCHEDULER_ARINC653 XEN_SCHEDULER_RTDS XEN_SCHEDULER_NULL
XEN_DOMCTL_SHADOW_OP_ENABLE XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL
XEN_DOMCTL_get_address_size XEN_DOMCTL_set_address_size XEN_DOMCTL_get_ext_vcpucontext
XEN_DOMCTL_set_ext_vcpucontext XEN_DOMCTL_getvcpuextstate XEN_DOMCTL_setvcpuextstate
XEN_DOMCTL_get_vcpu_msrs XEN_DOMCTL_set_vcpu_msrs XEN_DOMCTL_get_cpu_policy XEN_DOMCTL_set_cpu_policy
SHUTDOWN_poweroff SHUTDOWN_reboot SHUTDOWN_suspend SHUTDOWN_crash SHUTDOWN_watchdog SHUTDOWN_soft_reset
SHUTDOWN_MAX DOMID_FIRST_RESERVED DOMID_SELF DOMID_IO DOMID_XEN DOMID_COW DOMID_INVALID DOMID_IDLE
HYPERVISOR_VIRT_START HYPERVISOR_VIRT_END XEN_LEGACY_MAX_VCPUS FIRST_RESERVED_GDT_PAGE
FIRST_RESERVED_GDT_BYTE FIRST_RESERVED_GDT_ENTRY XEN_CPUID_NO_SUBLEAF MAX_GUEST_CMDLINE
SIF_VIRT_P2M_4TOOLS VGCF_i387_valid VGCF_in_kernel VGCF_failsafe_disables_events
VGCF_syscall_disables_events VGCF_online VGCF_in_syscall XENVER_version XENVER_extraversion
XENVER_capabilities XBT_NULL MMUEXT_PIN_L1_TABLE MMUEXT_PIN_L2_TABLE MMUEXT_PIN_L3_TABLE
MMUEXT_PIN_L4_TABLE MMUEXT_UNPIN_TABLE xen_pfn_to_cr3(0x12345) xen_cr3_to_pfn(0x12345678)
xen_pfn_to_cr3_x86_32(0x123456) xen_cr3_to_pfn_x86_32(0x12345678) XENMEM_machphys_compat_mfn_list
HVM_PARAM_CALLBACK_IRQ HVM_PARAM_CALLBACK_TYPE_GSI HVM_PARAM_CALLBACK_TYPE_PCI_INTX
HVM_PARAM_CALLBACK_TYPE_VECTOR HVM_PARAM_STORE_PFN HVM_PARAM_STORE_EVTCHN HVM_PARAM_IOREQ_PFN
HVM_PARAM_BUFIOREQ_PFN HVM_PARAM_CONSOLE_PFN HVM_PARAM_CONSOLE_EVTCHN HVM_PARAM_VIRIDIAN HVMPV_base_freq
HVMPV_no_freq HVMPV_time_ref_count HVMPV_reference_tsc HVMPV_hcall_remote_tlb_flush HVMPV_apic_assist
HVMPV_crash_ctl HVMPV_synic HVMPV_stimer HVMPV_hcall_ipi HVMPV_ex_processor_masks HVMPV_no_vp_limit
HVMPV_cpu_hotplug HVMPV_feature_mask HVM_PARAM_TIMER_MODE HVMPTM_delay_for_missed_ticks
HVMPTM_no_delay_for_missed_ticks HVMPTM_no_missed_ticks_pending HVMPTM_one_missed_tick_pending
HVM_PARAM_HPET_ENABLED HVM_PARAM_IDENT_PT HVM_PARAM_ACPI_S_STATE HVM_PARAM_VM86_TSS HVM_PARAM_VPT_ALIGN
HVM_PARAM_ACPI_IOPORTS_LOCATION HVM_PARAM_PAGING_RING_PFN HVM_PARAM_MONITOR_RING_PFN
HVM_PARAM_SHARING_RING_PFN HVM_PARAM_TRIPLE_FAULT_REASON HVM_PARAM_IOREQ_SERVER_PFN
HVM_PARAM_NR_IOREQ_SERVER_PAGES HVM_PARAM_VM_GENERATION_ID_ADDR HVM_PARAM_ALTP2M HVM_PARAM_X87_FIP_WIDTH
HVM_PARAM_VM86_TSS_SIZED HVM_PARAM_MCA_CAP XEN_HVM_MCA_CAP_MASK HVM_NR_PARAMS HVM_PARAM_PAE_ENABLED
HVM_PARAM_DM_DOMAIN HVM_PARAM_MEMORY_EVENT_CR0 HVM_PARAM_MEMORY_EVENT_CR3 HVM_PARAM_MEMORY_EVENT_CR4
HVM_PARAM_MEMORY_EVENT_INT3 HVM_PARAM_NESTEDHVM HVM_PARAM_MEMORY_EVENT_SINGLE_STEP
HVM_PARAM_BUFIOREQ_EVTCHN HVM_PARAM_MEMORY_EVENT_MSR XENMEMF_populate_on_demand HVM_FILE_MAGIC
HVM_FILE_VERSION CPU_XSAVE_CODE CPU_MSR_CODE HVM_SAVE_CODE_MAX XEN_X86_FPU_INITIALISED VIOAPIC_NUM_PINS
RTC_CMOS_SIZE HPET_TIMER_NUM MTRR_VCNT NUM_FIXED_MSR HVM_SAVE_CODE(END) HVM_SAVE_LENGTH(END)
HVM_SAVE_CODE(HEADER) HVM_SAVE_LENGTH(HEADER) HVM_SAVE_CODE(CPU) HVM_SAVE_LENGTH(CPU) HVM_SAVE_CODE(PIC)
HVM_SAVE_LENGTH(PIC) HVM_SAVE_CODE(IOAPIC) HVM_SAVE_LENGTH(IOAPIC) HVM_SAVE_CODE(LAPIC)
HVM_SAVE_LENGTH(LAPIC) HVM_SAVE_CODE(LAPIC_REGS) HVM_SAVE_LENGTH(LAPIC_REGS) HVM_SAVE_CODE(PCI_IRQ)
HVM_SAVE_LENGTH(PCI_IRQ) HVM_SAVE_CODE(ISA_IRQ) HVM_SAVE_LENGTH(ISA_IRQ) HVM_SAVE_CODE(PCI_LINK)
HVM_SAVE_LENGTH(PCI_LINK) HVM_SAVE_CODE(PIT) HVM_SAVE_LENGTH(PIT) HVM_SAVE_CODE(RTC)
HVM_SAVE_LENGTH(RTC) HVM_SAVE_CODE(HPET) HVM_SAVE_LENGTH(HPET) HVM_SAVE_CODE(PMTIMER)
HVM_SAVE_LENGTH(PMTIMER) HVM_SAVE_CODE(MTRR) HVM_SAVE_LENGTH(MTRR) HVM_SAVE_CODE(VIRIDIAN_DOMAIN)
HVM_SAVE_LENGTH(VIRIDIAN_DOMAIN) HVM_SAVE_CODE(VIRIDIAN_VCPU) HVM_SAVE_LENGTH(VIRIDIAN_VCPU)
HVM_SAVE_CODE(VMCE_VCPU) HVM_SAVE_LENGTH(VMCE_VCPU) HVM_SAVE_CODE(TSC_ADJUST)
HVM_SAVE_LENGTH(TSC_ADJUST)
"""

FUNCTIONS = """
xc_interface_open xc_interface_close xc_version xc_domctl xc_domain_getinfolist
xc_domain_get_guest_width xc_domain_nr_gpfns xc_domain_get_tsc_info xc_domain_pause xc_domain_unpause
xc_domain_destroy xc_domain_shutdown xc_domain_resume xc_maximum_ram_page xc_machphys_mfn_list
xc_shadow_control xc_logdirty_control xc_vcpu_getinfo xc_vcpu_getcontext xc_cpu_policy_init
xc_cpu_policy_destroy xc_cpu_policy_get_size xc_cpu_policy_get_domain xc_cpu_policy_serialise
xc__hypercall_buffer_alloc xc__hypercall_buffer_free xc__hypercall_buffer_alloc_pages
xc__hypercall_buffer_free_pages xenforeignmemory_open xenforeignmemory_close xenforeignmemory_map
xenforeignmemory_unmap xs_open xs_close xs_read xs_write xs_transaction_start xs_transaction_end
xs_resume_domain xc_domain_populate_physmap_exact xc_mmuext_op xc_vcpu_setcontext
xc_domain_set_tsc_info xc_set_domain_cpu_policy xc_dom_gnttab_seed
xc_domain_decrease_reservation_exact xc_domain_populate_physmap xc_domain_decrease_reservation
xc_domain_get_pod_target xc_domain_set_pod_target xc_hvm_param_set xc_hvm_param_get xc_domain_hvm_getcontext
xc_domain_hvm_setcontext xc_domain_maximum_gpfn xc_memory_op xs_directory xc_sched_id xc_sched_credit_domain_set
xc_sched_credit_domain_get xc_sched_credit2_domain_set xc_sched_credit2_domain_get
"""

MACROS = """
static int buffers(xc_interface *xch, xc_hypercall_buffer_t *given)
{
    DECLARE_HYPERCALL_BUFFER(uint64_t, mine);
    DECLARE_HYPERCALL_BUFFER_SHADOW(uint64_t, shadow, given);
    DECLARE_HYPERCALL_BUFFER_ARGUMENT(given);
    struct xen_domctl op;

    set_xen_guest_handle(op.u.vcpuextstate.buffer, HYPERCALL_BUFFER_NULL);
    printf("null %d\\n", op.u.vcpuextstate.buffer.p == NULL);
    mine = xc_hypercall_buffer_alloc_pages(xch, mine, 1);
    xc_hypercall_buffer_free_pages(xch, mine, 1);
    mine = xc_hypercall_buffer_alloc(xch, mine, 8);
    set_xen_guest_handle(op.u.vcpuextstate.buffer, mine);
    printf("own %d\\n", op.u.vcpuextstate.buffer.p == mine);
    printf("shadow %d %d\\n", shadow == given->hbuf, HYPERCALL_BUFFER(shadow) == given);
    printf("argument %d\\n", HYPERCALL_BUFFER(given) == given);
    xc_hypercall_buffer_free(xch, mine);
    return 0;
}
"""

FAKES = """
xc_hypercall_buffer_t XC__HYPERCALL_BUFFER_NAME(HYPERCALL_BUFFER_NULL);
static uint64_t word;
void *xc__hypercall_buffer_alloc(xc_interface *x, xc_hypercall_buffer_t *b, size_t n)
{ (void)x; (void)n; return b->hbuf = &word; }
void xc__hypercall_buffer_free(xc_interface *x, xc_hypercall_buffer_t *b) { (void)x; (void)b; }
void *xc__hypercall_buffer_alloc_pages(xc_interface *x, xc_hypercall_buffer_t *b, int n)
{ (void)x; (void)n; return b->hbuf = &word; }
void xc__hypercall_buffer_free_pages(xc_interface *x, xc_hypercall_buffer_t *b, int n)
{ (void)x; (void)b; (void)n; }
"""


def program() -> str:
    lines = [f"#include <{x}>" for x in HEADERS]
    lines = ["#include <stdio.h>", "#include <stddef.h>", *lines, FAKES, MACROS, "int main(void)", "{"]
    lines += ["    xc_hypercall_buffer_t given = { .hbuf = &word };"]
    for name, members in STRUCTS.items():
        lines.append(f'    printf("sizeof {name} %zu\\n", sizeof({name}));')
        for member in members.split():
            lines.append(
                f'    printf("{name} {member} %zu+%zu\\n", offsetof({name}, {member}), '
                f"sizeof((({name} *)0)->{member}));"
            )
    lines += [f'    printf("{name} %lld\\n", (long long)({name}));' for name in NUMBERS.split()]
    return "\n".join([*lines, "    return buffers(NULL, &given);", "}"])


def compile_and_run(folder: Path, name: str, *flags: str) -> list[str]:
    source, binary = folder / f"{name}.c", folder / name
    source.write_text(program())
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-Wall", "-D_GNU_SOURCE", *flags]
    command += [str(source), "-o", str(binary)]
    subprocess.run(command, check=True, capture_output=True)
    run = subprocess.run([str(binary)], check=True, capture_output=True, text=True)
    return run.stdout.splitlines()


def test_own_headers_compile(tmp_path: Path) -> None:
    lines = compile_and_run(tmp_path, "own", "-Werror", f"-I{ROOT / 'csrc/abi'}")
    assert "sizeof struct xen_domctl 144" in lines
    assert lines[-4:] == ["null 1", "own 1", "shadow 1 1", "argument 1"]


@pytest.mark.skipif(not have_real_headers(), reason="needs libxen-dev: there is nothing to compare with")
def test_same_layouts_and_numbers(tmp_path: Path) -> None:
    own = compile_and_run(tmp_path, "own", f"-I{ROOT / 'csrc/abi'}")
    real = compile_and_run(tmp_path, "real", "-Wno-unused-variable")
    assert len(own) > 250
    assert own == real


@pytest.mark.skipif(not have_real_headers(), reason="needs libxen-dev: there is nothing to compare with")
def test_same_prototypes(tmp_path: Path) -> None:
    """Our prototypes are declared again after the real ones: any difference is an error."""
    names = ("xenctrl.h", "xenguest.h", "xenforeignmemory.h", "xenstore.h")
    found = prototypes("\n".join((ROOT / "csrc/abi" / name).read_text() for name in names))
    assert set(FUNCTIONS.split()) <= set(found)
    source = tmp_path / "both.c"
    source.write_text("\n".join([*(f"#include <{x}>" for x in HEADERS), *found.values()]))
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-c", str(source), "-o", os.devnull]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def prototypes(text: str) -> dict[str, str]:
    """The function declarations of a header, by name: they begin a line, and no macro does."""
    return {x[1]: x[0] for x in re.finditer(r"^[a-z][\w ]*[ *]+(x[cse]\w+)\([^;{]*\);$", text, re.M)}
