/*
 * What Xen keeps of an HVM or PVH domain, as xc_domain_hvm_getcontext() gives it in Xen 4.17: entries, each a
 * descriptor and its data, from the header to the end. See ../../README.
 */
#ifndef XCSR_ABI_XEN_HVM_SAVE_H
#define XCSR_ABI_XEN_HVM_SAVE_H

#include <stdint.h>

struct hvm_save_descriptor {
    uint16_t typecode;
    uint16_t instance;
    uint32_t length;            /* of the data that follow */
};

#define HVM_FILE_MAGIC   0x54381286
#define HVM_FILE_VERSION 0x00000001

struct hvm_save_end {};

struct hvm_save_header {
    uint32_t magic, version;
    uint64_t changeset;
    uint32_t cpuid, gtsc_khz;
};

struct hvm_hw_cpu {
    uint8_t fpu_regs[512];
    uint64_t rax, rbx, rcx, rdx, rbp, rsi, rdi, rsp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags;
    uint64_t cr0, cr2, cr3, cr4;
    uint64_t dr0, dr1, dr2, dr3, dr6, dr7;
    uint32_t cs_sel, ds_sel, es_sel, fs_sel, gs_sel, ss_sel, tr_sel, ldtr_sel;
    uint32_t cs_limit, ds_limit, es_limit, fs_limit, gs_limit, ss_limit, tr_limit, ldtr_limit;
    uint32_t idtr_limit, gdtr_limit;
    uint64_t cs_base, ds_base, es_base, fs_base, gs_base, ss_base, tr_base, ldtr_base;
    uint64_t idtr_base, gdtr_base;
    uint32_t cs_arbytes, ds_arbytes, es_arbytes, fs_arbytes, gs_arbytes, ss_arbytes, tr_arbytes, ldtr_arbytes;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t shadow_gs;
    uint64_t msr_flags;         /* not in use */
    uint64_t msr_lstar, msr_star, msr_cstar, msr_syscall_mask, msr_efer, msr_tsc_aux;
    uint64_t tsc;
    union {
        uint32_t pending_event;
        struct {
            uint8_t pending_vector : 8;
            uint8_t pending_type : 3;
            uint8_t pending_error_valid : 1;
            uint32_t pending_reserved : 19;
            uint8_t pending_valid : 1;
        };
    };
    uint32_t error_code;
    uint32_t flags;
    uint32_t pad0;
};
#define XEN_X86_FPU_INITIALISED (1U << 0)

struct hvm_hw_vpic {
    uint8_t irr, imr, isr, irq_base;
    uint8_t init_state : 4, priority_add : 4;
    uint8_t readsel_isr : 1, poll : 1, auto_eoi : 1, rotate_on_auto_eoi : 1;
    uint8_t special_fully_nested_mode : 1, special_mask_mode : 1, is_master : 1;
    uint8_t elcr, int_output;
};

#define VIOAPIC_NUM_PINS 48
union vioapic_redir_entry {
    uint64_t bits;
};
struct hvm_hw_vioapic {
    uint64_t base_address;
    uint32_t ioregsel, id;
    union vioapic_redir_entry redirtbl[VIOAPIC_NUM_PINS];
};

struct hvm_hw_lapic {
    uint64_t apic_base_msr;
    uint32_t disabled, timer_divisor;
    uint64_t tdt_msr;
};

struct hvm_hw_lapic_regs {
    uint8_t data[1024];
};

struct hvm_hw_pci_irqs {
    union { unsigned long i[2]; uint64_t pad[2]; };
};

struct hvm_hw_isa_irqs {
    union { unsigned long i[1]; uint64_t pad[1]; };
};

struct hvm_hw_pci_link {
    uint8_t route[4], pad0[4];
};

struct hvm_hw_pit {
    struct hvm_hw_pit_channel {
        uint32_t count;
        uint16_t latched_count;
        uint8_t count_latched, status_latched, status;
        uint8_t read_state, write_state, write_latch, rw_mode, mode, bcd, gate;
    } channels[3];
    uint32_t speaker_data_on, pad0;
};

#define RTC_CMOS_SIZE 14
struct hvm_hw_rtc {
    uint8_t cmos_data[RTC_CMOS_SIZE], cmos_index, pad0;
    int64_t rtc_offset;
};

#define HPET_TIMER_NUM 3
struct hvm_hw_hpet {
    uint64_t capability, res0, config, res1, isr, res2[25], mc64, res3;
    struct {
        uint64_t config, cmp, fsb, res4;
    } timers[HPET_TIMER_NUM];
    uint64_t res5[4 * (24 - HPET_TIMER_NUM)];
    uint64_t period[HPET_TIMER_NUM];
};

struct hvm_hw_pmtimer {
    uint32_t tmr_val;
    uint16_t pm1a_sts, pm1a_en;
};

#define MTRR_VCNT     8
#define NUM_FIXED_MSR 11
struct hvm_hw_mtrr {
    uint64_t msr_pat_cr;
    uint64_t msr_mtrr_var[MTRR_VCNT * 2];
    uint64_t msr_mtrr_fixed[NUM_FIXED_MSR];
    uint64_t msr_mtrr_cap, msr_mtrr_def_type;
};

struct hvm_viridian_domain_context {
    uint64_t hypercall_gpa, guest_os_id, time_ref_count, reference_tsc;
};

/* Of variable length: what follows the header of the save area is not declared. */
#define CPU_XSAVE_CODE 16
struct hvm_hw_cpu_xsave {
    uint64_t xfeature_mask, xcr0, xcr0_accum;
    struct {
        struct { char x[512]; } fpu_sse;
        struct hvm_hw_cpu_xsave_hdr {
            uint64_t xstate_bv, xcomp_bv, reserved[6];
        } xsave_hdr;
    } save_area;
};

struct hvm_viridian_vcpu_context {
    uint64_t vp_assist_msr;
    uint8_t apic_assist_pending, _pad[7];
    uint64_t simp_msr, sint_msr[16], stimer_config_msr[4], stimer_count_msr[4];
};

struct hvm_vmce_vcpu {
    uint64_t caps, mci_ctl2_bank0, mci_ctl2_bank1, mcg_ext_ctl;
};

struct hvm_tsc_adjust {
    uint64_t tsc_adjust;
};

/* Of variable length: count elements. */
#define CPU_MSR_CODE 20
struct hvm_msr {
    uint32_t count;
    struct hvm_one_msr {
        uint32_t index, _rsvd;
        uint64_t val;
    } msr[];
};

#define HVM_SAVE_CODE_MAX 20

/* A kind of entry by its name: its number and the type of its data. */
#define XCSR_ABI_HVM_KIND(name, code, type) \
    enum { xcsr_abi_hvm_code_##name = (code) }; \
    typedef type xcsr_abi_hvm_type_##name
#define HVM_SAVE_TYPE(name)   xcsr_abi_hvm_type_##name
#define HVM_SAVE_LENGTH(name) (sizeof(HVM_SAVE_TYPE(name)))
#define HVM_SAVE_CODE(name)   ((unsigned long)xcsr_abi_hvm_code_##name)

XCSR_ABI_HVM_KIND(END, 0, struct hvm_save_end);
XCSR_ABI_HVM_KIND(HEADER, 1, struct hvm_save_header);
XCSR_ABI_HVM_KIND(CPU, 2, struct hvm_hw_cpu);
XCSR_ABI_HVM_KIND(PIC, 3, struct hvm_hw_vpic);
XCSR_ABI_HVM_KIND(IOAPIC, 4, struct hvm_hw_vioapic);
XCSR_ABI_HVM_KIND(LAPIC, 5, struct hvm_hw_lapic);
XCSR_ABI_HVM_KIND(LAPIC_REGS, 6, struct hvm_hw_lapic_regs);
XCSR_ABI_HVM_KIND(PCI_IRQ, 7, struct hvm_hw_pci_irqs);
XCSR_ABI_HVM_KIND(ISA_IRQ, 8, struct hvm_hw_isa_irqs);
XCSR_ABI_HVM_KIND(PCI_LINK, 9, struct hvm_hw_pci_link);
XCSR_ABI_HVM_KIND(PIT, 10, struct hvm_hw_pit);
XCSR_ABI_HVM_KIND(RTC, 11, struct hvm_hw_rtc);
XCSR_ABI_HVM_KIND(HPET, 12, struct hvm_hw_hpet);
XCSR_ABI_HVM_KIND(PMTIMER, 13, struct hvm_hw_pmtimer);
XCSR_ABI_HVM_KIND(MTRR, 14, struct hvm_hw_mtrr);
XCSR_ABI_HVM_KIND(VIRIDIAN_DOMAIN, 15, struct hvm_viridian_domain_context);
XCSR_ABI_HVM_KIND(VIRIDIAN_VCPU, 17, struct hvm_viridian_vcpu_context);
XCSR_ABI_HVM_KIND(VMCE_VCPU, 18, struct hvm_vmce_vcpu);
XCSR_ABI_HVM_KIND(TSC_ADJUST, 19, struct hvm_tsc_adjust);

#endif
