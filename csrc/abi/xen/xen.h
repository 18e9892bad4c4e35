/* Xen's public interface for 64-bit x86 guests, as far as this project uses it. See ../README. */
#ifndef XCSR_ABI_XEN_XEN_H
#define XCSR_ABI_XEN_XEN_H

#include <stdint.h>

#if !defined(__x86_64__)
#error "These headers describe x86-64 only"
#endif

typedef unsigned long xen_pfn_t;
typedef unsigned long xen_ulong_t;
typedef uint16_t domid_t;
typedef uint8_t xen_domain_handle_t[16];

#define PRI_xen_pfn "lx"
#define PRIu_xen_pfn "lu"

/* A guest handle is a pointer in a struct of its own. */
#define DEFINE_XEN_GUEST_HANDLE_OF(name, type) typedef struct { type *p; } xcsr_abi_handle_##name
#define DEFINE_XEN_GUEST_HANDLE(name)          DEFINE_XEN_GUEST_HANDLE_OF(name, name)
#define XEN_GUEST_HANDLE(name)                 xcsr_abi_handle_##name
#define XEN_GUEST_HANDLE_64(name)              XEN_GUEST_HANDLE(name)
#define set_xen_guest_handle_raw(handle, value) do { (handle).p = (value); } while (0)
#define set_xen_guest_handle(handle, value)     set_xen_guest_handle_raw(handle, value)

DEFINE_XEN_GUEST_HANDLE_OF(uint8, uint8_t);
DEFINE_XEN_GUEST_HANDLE_OF(uint64, uint64_t);
DEFINE_XEN_GUEST_HANDLE(xen_pfn_t);

#define uint64_aligned_t uint64_t __attribute__((aligned(8)))

#define DOMID_FIRST_RESERVED 0x7FF0U
#define DOMID_SELF           0x7FF0U
#define DOMID_IO             0x7FF1U
#define DOMID_XEN            0x7FF2U
#define DOMID_COW            0x7FF3U
#define DOMID_INVALID        0x7FF4U
#define DOMID_IDLE           0x7FFFU

/* Xen's own part of a 64-bit address space: L4 slots 256 to 271. */
#define HYPERVISOR_VIRT_START 0xFFFF800000000000UL
#define HYPERVISOR_VIRT_END   0xFFFF880000000000UL

#define XEN_LEGACY_MAX_VCPUS 32

#define FIRST_RESERVED_GDT_PAGE  14
#define FIRST_RESERVED_GDT_BYTE  (FIRST_RESERVED_GDT_PAGE * 4096)
#define FIRST_RESERVED_GDT_ENTRY (FIRST_RESERVED_GDT_BYTE / 8)

#define xen_pfn_to_cr3(pfn) ((unsigned long)(pfn) << 12)
#define xen_cr3_to_pfn(cr3) ((unsigned long)(cr3) >> 12)

/* One register by its 64-bit and its 32-bit name. */
#define XCSR_ABI_REGISTER(wide, narrow) union { uint64_t wide; uint32_t narrow; }

struct cpu_user_regs {
    uint64_t r15, r14, r13, r12;
    XCSR_ABI_REGISTER(rbp, ebp);
    XCSR_ABI_REGISTER(rbx, ebx);
    uint64_t r11, r10, r9, r8;
    XCSR_ABI_REGISTER(rax, eax);
    XCSR_ABI_REGISTER(rcx, ecx);
    XCSR_ABI_REGISTER(rdx, edx);
    XCSR_ABI_REGISTER(rsi, esi);
    XCSR_ABI_REGISTER(rdi, edi);
    uint32_t error_code, entry_vector;
    XCSR_ABI_REGISTER(rip, eip);
    uint16_t cs, xcsr_pad0[1];
    uint8_t saved_upcall_mask, xcsr_pad1[3];
    XCSR_ABI_REGISTER(rflags, eflags);
    XCSR_ABI_REGISTER(rsp, esp);
    uint16_t ss, xcsr_pad2[3];
    uint16_t es, xcsr_pad3[3];
    uint16_t ds, xcsr_pad4[3];
    uint16_t fs, xcsr_pad5[3];
    uint16_t gs, xcsr_pad6[3];
};
typedef struct cpu_user_regs cpu_user_regs_t;

struct trap_info {
    uint8_t vector, flags;
    uint16_t cs;
    unsigned long address;
};
typedef struct trap_info trap_info_t;

#define VGCF_i387_valid               (1 << 0)
#define VGCF_in_kernel                (1 << 2)
#define VGCF_failsafe_disables_events (1 << 3)
#define VGCF_syscall_disables_events  (1 << 4)
#define VGCF_online                   (1 << 5)
#define VGCF_in_syscall               (1 << 8)

struct vcpu_guest_context {
    struct { char x[512]; } fpu_ctxt;
    unsigned long flags;
    struct cpu_user_regs user_regs;
    struct trap_info trap_ctxt[256];
    unsigned long ldt_base, ldt_ents;
    unsigned long gdt_frames[16], gdt_ents;
    unsigned long kernel_ss, kernel_sp;
    unsigned long ctrlreg[8];
    unsigned long debugreg[8];
    unsigned long event_callback_eip;
    unsigned long failsafe_callback_eip;
    unsigned long syscall_callback_eip;
    unsigned long vm_assist;
    uint64_t fs_base, gs_base_kernel, gs_base_user;
};
typedef struct vcpu_guest_context vcpu_guest_context_t;
typedef struct vcpu_guest_context vcpu_guest_context_x86_64_t;

struct arch_vcpu_info {
    unsigned long cr2, pad;
};

struct vcpu_time_info {
    uint32_t version, pad0;
    uint64_t tsc_timestamp, system_time;
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags, pad1[2];
};
typedef struct vcpu_time_info vcpu_time_info_t;

struct vcpu_info {
    uint8_t evtchn_upcall_pending, evtchn_upcall_mask;
    unsigned long evtchn_pending_sel;
    struct arch_vcpu_info arch;
    struct vcpu_time_info time;
};
typedef struct vcpu_info vcpu_info_t;

struct arch_shared_info {
    unsigned long max_pfn;      /* a count: one past the last pfn that the p2m covers */
    xen_pfn_t pfn_to_mfn_frame_list_list;
    unsigned long nmi_reason;
    unsigned long p2m_cr3, p2m_vaddr, p2m_generation;
};
typedef struct arch_shared_info arch_shared_info_t;

struct shared_info {
    struct vcpu_info vcpu_info[XEN_LEGACY_MAX_VCPUS];
    unsigned long evtchn_pending[64];
    unsigned long evtchn_mask[64];
    uint32_t wc_version, wc_sec, wc_nsec, wc_sec_hi;
    struct arch_shared_info arch;
};
typedef struct shared_info shared_info_t;
typedef struct shared_info shared_info_x86_64_t;

#define MAX_GUEST_CMDLINE 1024

#define SIF_VIRT_P2M_4TOOLS (1 << 4)

struct start_info {
    char magic[32];
    unsigned long nr_pages;
    unsigned long shared_info;
    uint32_t flags;
    xen_pfn_t store_mfn;
    uint32_t store_evtchn;
    union {
        struct {
            xen_pfn_t mfn;
            uint32_t evtchn;
        } domU;
        struct {
            uint32_t info_off, info_size;
        } dom0;
    } console;
    unsigned long pt_base, nr_pt_frames;
    unsigned long mfn_list;
    unsigned long mod_start, mod_len;
    int8_t cmd_line[MAX_GUEST_CMDLINE];
    unsigned long first_p2m_pfn, nr_p2m_frames;
};
typedef struct start_info start_info_t;
typedef struct start_info start_info_x86_64_t;

/* Changes of page tables' types, on behalf of a domain. */
#define MMUEXT_PIN_L1_TABLE 0
#define MMUEXT_PIN_L2_TABLE 1
#define MMUEXT_PIN_L3_TABLE 2
#define MMUEXT_PIN_L4_TABLE 3
#define MMUEXT_UNPIN_TABLE  4

struct mmuext_op {
    unsigned int cmd;
    union {
        xen_pfn_t mfn;
        unsigned long linear_addr;
    } arg1;
    union {
        unsigned int nr_ents;
        const void *vcpumask;
        xen_pfn_t src_mfn;
    } arg2;
};
typedef struct mmuext_op mmuext_op_t;

#define XEN_CPUID_NO_SUBLEAF 0xffffffffU

typedef struct xen_cpuid_leaf {
    uint32_t leaf, subleaf;
    uint32_t a, b, c, d;
} xen_cpuid_leaf_t;
DEFINE_XEN_GUEST_HANDLE(xen_cpuid_leaf_t);

typedef struct xen_msr_entry {
    uint32_t idx, flags;
    uint64_t val;
} xen_msr_entry_t;
DEFINE_XEN_GUEST_HANDLE(xen_msr_entry_t);

struct xen_arch_domainconfig {
    uint32_t emulation_flags, misc_flags;
};

#endif
