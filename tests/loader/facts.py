"""Facts of Xen's releases, by which the loader's table is judged: also for releases that cannot be booted.

They were taken from the headers of RELEASE-4.14.0 to RELEASE-4.22.0 with a compiler.
"""

from __future__ import annotations

OLDEST, NEWEST = 14, 22

PROTOTYPES = """
14-22 void *xc__hypercall_buffer_alloc(xc_interface *, xc_hypercall_buffer_t *, size_t)
14-22 void *xc__hypercall_buffer_alloc_pages(xc_interface *, xc_hypercall_buffer_t *, int)
14-22 void xc__hypercall_buffer_free(xc_interface *, xc_hypercall_buffer_t *)
14-22 void xc__hypercall_buffer_free_pages(xc_interface *, xc_hypercall_buffer_t *, int)
16-22 void xc_cpu_policy_destroy(xc_cpu_policy_t *)
16-22 int xc_cpu_policy_get_domain(xc_interface *, uint32_t, xc_cpu_policy_t *)
16-22 int xc_cpu_policy_get_size(xc_interface *, uint32_t *, uint32_t *)
16-22 xc_cpu_policy_t *xc_cpu_policy_init(void)
16-22 int xc_cpu_policy_serialise(xc_interface *, const xc_cpu_policy_t *, xen_cpuid_leaf_t *, uint32_t *,
    xen_msr_entry_t *, uint32_t *)
14-22 int xc_dom_gnttab_seed(xc_interface *, uint32_t, bool, xen_pfn_t, xen_pfn_t, uint32_t, uint32_t)
14-22 int xc_domain_decrease_reservation_exact(xc_interface *, uint32_t, unsigned long, unsigned int, xen_pfn_t *)
14-22 int xc_domain_destroy(xc_interface *, uint32_t)
14-22 int xc_domain_get_guest_width(xc_interface *, uint32_t, unsigned int *)
14-22 int xc_domain_get_pod_target(xc_interface *, uint32_t, uint64_t *, uint64_t *, uint64_t *)
14-22 int xc_domain_get_tsc_info(xc_interface *, uint32_t, uint32_t *, uint64_t *, uint32_t *, uint32_t *)
14-22 int xc_domain_getinfolist(xc_interface *, uint32_t, unsigned int, xc_domaininfo_t *)
14-22 int xc_domain_hvm_getcontext(xc_interface *, uint32_t, uint8_t *, uint32_t)
14-22 int xc_domain_hvm_setcontext(xc_interface *, uint32_t, uint8_t *, uint32_t)
14-22 int xc_domain_nr_gpfns(xc_interface *, uint32_t, xen_pfn_t *)
14-22 int xc_domain_pause(xc_interface *, uint32_t)
14-22 int xc_domain_populate_physmap(xc_interface *, uint32_t, unsigned long, unsigned int, unsigned
    int, xen_pfn_t *)
14-22 int xc_domain_populate_physmap_exact(xc_interface *, uint32_t, unsigned long, unsigned int, unsigned
    int, xen_pfn_t *)
14-22 int xc_domain_resume(xc_interface *, uint32_t, int)
14-22 int xc_domain_set_tsc_info(xc_interface *, uint32_t, uint32_t, uint64_t, uint32_t, uint32_t)
14-22 int xc_domain_shutdown(xc_interface *, uint32_t, int)
14-22 int xc_domain_unpause(xc_interface *, uint32_t)
14-22 int xc_domctl(xc_interface *, struct xen_domctl *)
14-15 int xc_get_cpu_policy_size(xc_interface *, uint32_t *, uint32_t *)
14-15 int xc_get_domain_cpu_policy(xc_interface *, uint32_t, uint32_t *, xen_cpuid_leaf_t *, uint32_t *,
    xen_msr_entry_t *)
14-22 int xc_get_pfn_type_batch(xc_interface *, uint32_t, unsigned int, xen_pfn_t *)
14-22 int xc_hvm_param_get(xc_interface *, uint32_t, uint32_t, uint64_t *)
14-22 int xc_hvm_param_set(xc_interface *, uint32_t, uint32_t, uint64_t)
14-22 int xc_interface_close(xc_interface *)
14-22 xc_interface *xc_interface_open(xentoollog_logger *, xentoollog_logger *, unsigned int)
16-22 long long xc_logdirty_control(xc_interface *, uint32_t, unsigned int, xc_hypercall_buffer_t *, unsigned
    long, unsigned int, xc_shadow_op_stats_t *)
14-22 int xc_machphys_mfn_list(xc_interface *, unsigned long, xen_pfn_t *)
14-22 int xc_maximum_ram_page(xc_interface *, unsigned long *)
14-16 long do_memory_op(xc_interface *, int, void *, size_t)
17-22 long xc_memory_op(xc_interface *, unsigned int, void *, size_t)
14-22 int xc_mmuext_op(xc_interface *, struct mmuext_op *, unsigned int, uint32_t)
14-22 int xc_sched_credit2_domain_get(xc_interface *, uint32_t, struct xen_domctl_sched_credit2 *)
14-22 int xc_sched_credit2_domain_set(xc_interface *, uint32_t, struct xen_domctl_sched_credit2 *)
14-22 int xc_sched_credit_domain_get(xc_interface *, uint32_t, struct xen_domctl_sched_credit *)
14-22 int xc_sched_credit_domain_set(xc_interface *, uint32_t, struct xen_domctl_sched_credit *)
14-22 int xc_sched_id(xc_interface *, int *)
14-22 int xc_set_domain_cpu_policy(xc_interface *, uint32_t, uint32_t, xen_cpuid_leaf_t *, uint32_t,
    xen_msr_entry_t *, uint32_t *, uint32_t *, uint32_t *)
14-15 int xc_shadow_control(xc_interface *, uint32_t, unsigned int, xc_hypercall_buffer_t *, unsigned long,
    unsigned long *, uint32_t, xc_shadow_op_stats_t *)
16-22 int xc_shadow_control(xc_interface *, uint32_t, unsigned int, unsigned int *, unsigned int)
14-22 int xc_vcpu_getcontext(xc_interface *, uint32_t, uint32_t, vcpu_guest_context_any_t *)
14-22 int xc_vcpu_getinfo(xc_interface *, uint32_t, uint32_t, xc_vcpuinfo_t *)
14-22 int xc_vcpu_setcontext(xc_interface *, uint32_t, uint32_t, vcpu_guest_context_any_t *)
14-22 int xc_version(xc_interface *, int, void *)
14-22 int xenforeignmemory_close(xenforeignmemory_handle *)
14-22 void *xenforeignmemory_map(xenforeignmemory_handle *, uint32_t, int, size_t, const xen_pfn_t *, int *)
14-22 xenforeignmemory_handle *xenforeignmemory_open(struct xentoollog_logger *, unsigned int)
14-22 int xenforeignmemory_unmap(xenforeignmemory_handle *, void *, size_t)
14-22 void xs_close(struct xs_handle *)
14-22 char **xs_directory(struct xs_handle *, xs_transaction_t, const char *, unsigned int *)
14-22 struct xs_handle *xs_open(unsigned long)
14-22 void *xs_read(struct xs_handle *, xs_transaction_t, const char *, unsigned int *)
14-22 bool xs_resume_domain(struct xs_handle *, unsigned int)
14-22 bool xs_transaction_end(struct xs_handle *, xs_transaction_t, bool)
14-22 xs_transaction_t xs_transaction_start(struct xs_handle *)
14-22 bool xs_write(struct xs_handle *, xs_transaction_t, const char *, const void *, unsigned int)
"""
"""The first and the last release with a function in this form, and the form; a line that begins with blanks goes
on with the one before. xc_get_pfn_type_batch is exported, but is declared in libxenctrl's private header only."""

DOMCTL = {14: 0x12, 15: 0x13, 16: 0x14, 17: 0x15, 18: 0x16, 19: 0x17, 20: 0x17, 21: 0x17, 22: 0x18}
"""XEN_DOMCTL_INTERFACE_VERSION."""

DOMAININFO = {n: 104 if n < 16 else 112 for n in DOMCTL}
"""sizeof(xc_domaininfo_t): 4.16 put gpaddr_bits before arch_config, its last member."""

STORE = {n: "libxenstore.so.3.0" if n < 16 else "libxenstore.so.4" for n in DOMCTL}

SIZES = {
    "struct xen_domctl": 144,
    "struct xc_hypercall_buffer": 40,
    "xc_vcpuinfo_t": 24,
    "xc_shadow_op_stats_t": 8,
    "struct xen_domctl_sched_credit": 4,
    "struct xen_domctl_sched_credit2": 4,
    "struct mmuext_op": 24,
    "xen_cpuid_leaf_t": 24,
    "xen_msr_entry_t": 16,
    "vcpu_guest_context_any_t": 5168,
    "struct xen_domctl_ext_vcpucontext": 64,
    "struct xen_domctl_vcpu_msr": 16,
    "xs_transaction_t": 4,
}
"""The same in all these releases."""

OFFSETS = {
    "struct xen_domctl": {"cmd": 0, "interface_version": 4, "domain": 8, "u": 16},
    "xc_domaininfo_t": {
        "domain": 0,
        "flags": 4,
        "tot_pages": 8,
        "max_pages": 16,
        "shared_info_frame": 48,
        "nr_online_vcpus": 64,
        "max_vcpu_id": 68,
        "cpupool": 92,
    },
    "struct xc_hypercall_buffer": {"hbuf": 0, "param_shadow": 8, "dir": 16, "ubuf": 24, "sz": 32},
    "xc_vcpuinfo_t": {"vcpu": 0, "online": 4},
    "struct xen_domctl_ext_vcpucontext": {"vcpu": 0, "size": 4, "mcg_cap": 32},
    "struct xen_domctl_vcpuextstate": {"vcpu": 0, "xfeature_mask": 8, "size": 16, "buffer": 24},
    "struct xen_domctl_vcpu_msrs": {"vcpu": 0, "msr_count": 4, "msrs": 8},
    "struct xen_domctl_vcpu_msr": {"index": 0, "value": 8},
    "struct mmuext_op": {"cmd": 0, "arg1": 8, "arg2": 16},
    "xen_msr_entry_t": {"idx": 0, "val": 8},
}
"""Of the members that the core looks at; the same in all these releases."""

NUMBERS = {
    "XEN_DOMCTL_get_ext_vcpucontext": 43,
    "XEN_DOMCTL_set_ext_vcpucontext": 42,
    "XEN_DOMCTL_getvcpuextstate": 63,
    "XEN_DOMCTL_setvcpuextstate": 62,
    "XEN_DOMCTL_get_vcpu_msrs": 72,
    "XEN_DOMCTL_set_vcpu_msrs": 73,
    "XEN_DOMCTL_set_address_size": 35,
    "XEN_DOMCTL_SHADOW_OP_OFF": 0,
    "XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY": 2,
    "XEN_DOMCTL_SHADOW_OP_CLEAN": 11,
    "XEN_DOMCTL_SHADOW_OP_PEEK": 12,
    "XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL": 1,
    "XENMEMF_populate_on_demand": 0x10000,
    "MMUEXT_PIN_L4_TABLE": 3,
    "XEN_SCHEDULER_CREDIT": 5,
    "XEN_SCHEDULER_CREDIT2": 6,
}
"""The same in all these releases."""
