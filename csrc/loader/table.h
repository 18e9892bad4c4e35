/* Internal: the one table of what differs between Xen's releases, and of what this project calls of their libraries.
 *
 * The core is compiled against csrc/abi, which has Xen 4.17's prototypes and sizes. Everything in which another release
 * differs from these, as far as it is used, stands here; tests/loader compares the table with facts that were taken
 * from each release's headers. A release later than the last is taken for that one. */
#ifndef XCSR_LOADER_TABLE_H
#define XCSR_LOADER_TABLE_H

#include "xen/compat.h"

#define NEWEST 22 /* the last in the list below */

/* Minor number (of Xen 4), version of the domctl interface, libxenstore's soname, sizeof(xc_domaininfo_t). */
#define LOADER_RELEASES(R)                    \
    R(14, 0x12, "libxenstore.so.3.0", 104)    \
    R(15, 0x13, "libxenstore.so.3.0", 104)    \
    R(16, 0x14, "libxenstore.so.4", 112)      \
    R(17, 0x15, "libxenstore.so.4", 112)      \
    R(18, 0x16, "libxenstore.so.4", 112)      \
    R(19, 0x17, "libxenstore.so.4", 112)      \
    R(20, 0x17, "libxenstore.so.4", 112)      \
    R(21, 0x17, "libxenstore.so.4", 112)      \
    R(NEWEST, 0x18, "libxenstore.so.4", 112)

/* Functions that not every release has in this form: library, symbol, the first and the last release that has it, what
 * it is called here, result, parameters. forms.c chooses among them. */
#define LOADER_FORMS(F)                                                                                            \
    F(CTRL, xc_shadow_control, 14, 15, shadow_control_14, int,                                                     \
      (xc_interface *, uint32_t domid, unsigned int sop, xc_hypercall_buffer_t *dirty_bitmap, unsigned long pages, \
       unsigned long *mb, uint32_t mode, xc_shadow_op_stats_t *stats))                                             \
    F(CTRL, xc_shadow_control, 16, NEWEST, shadow_control_16, int,                                                 \
      (xc_interface *, uint32_t domid, unsigned int sop, unsigned int *mb, unsigned int mode))                     \
    F(CTRL, xc_logdirty_control, 16, NEWEST, logdirty_control_16, long long,                                       \
      (xc_interface *, uint32_t domid, unsigned int sop, xc_hypercall_buffer_t *dirty_bitmap, unsigned long pages, \
       unsigned int mode, xc_shadow_op_stats_t *stats))                                                            \
    F(CTRL, do_memory_op, 14, 16, memory_op_14, long, (xc_interface *, int cmd, void *arg, size_t len))             \
    F(CTRL, xc_memory_op, 17, NEWEST, memory_op_17, long, (xc_interface *, unsigned int cmd, void *arg, size_t len)) \
    F(GUEST, xc_get_cpu_policy_size, 14, 15, policy_size_14, int,                                                  \
      (xc_interface *, uint32_t *nr_leaves, uint32_t *nr_msrs))                                                    \
    F(GUEST, xc_get_domain_cpu_policy, 14, 15, policy_domain_14, int,                                              \
      (xc_interface *, uint32_t domid, uint32_t *nr_leaves, xen_cpuid_leaf_t *leaves, uint32_t *nr_msrs,           \
       xen_msr_entry_t *msrs))                                                                                     \
    F(GUEST, xc_cpu_policy_init, 16, NEWEST, policy_init_16, xc_cpu_policy_t *, (void))                            \
    F(GUEST, xc_cpu_policy_destroy, 16, NEWEST, policy_destroy_16, void, (xc_cpu_policy_t *))                      \
    F(GUEST, xc_cpu_policy_get_size, 16, NEWEST, policy_size_16, int,                                              \
      (xc_interface *, uint32_t *nr_leaves, uint32_t *nr_msrs))                                                    \
    F(GUEST, xc_cpu_policy_get_domain, 16, NEWEST, policy_domain_16, int,                                          \
      (xc_interface *, uint32_t domid, xc_cpu_policy_t *))                                                         \
    F(GUEST, xc_cpu_policy_serialise, 16, NEWEST, policy_serialise_16, int,                                        \
      (xc_interface *, const xc_cpu_policy_t *, xen_cpuid_leaf_t *leaves, uint32_t *nr_leaves,                     \
       xen_msr_entry_t *msrs, uint32_t *nr_msrs))                                                                  \
    F(CTRL, xc_domain_getinfolist, 14, NEWEST, getinfolist, int,                                                   \
      (xc_interface *, uint32_t first_domain, unsigned int max_domains, xc_domaininfo_t *info))

/* Functions that are the same in all of them: library, result, symbol, parameters, arguments. A function is looked for in
 * the other one of libxenctrl and libxenguest, too: some have moved. */
#define LOADER_SAME(F)                                                                                                \
    F(CTRL, xc_interface *, xc_interface_open, (xentoollog_logger *l, xentoollog_logger *d, unsigned f), (l, d, f)) \
    F(CTRL, int, xc_interface_close, (xc_interface *x), (x))                                                         \
    F(CTRL, int, xc_version, (xc_interface *x, int cmd, void *arg), (x, cmd, arg))                                   \
    F(CTRL, int, xc_domctl, (xc_interface *x, struct xen_domctl *op), (x, op))                                      \
    F(CTRL, void *, xc__hypercall_buffer_alloc, (xc_interface *x, xc_hypercall_buffer_t *b, size_t n), (x, b, n))   \
    F(CTRL, void, xc__hypercall_buffer_free, (xc_interface *x, xc_hypercall_buffer_t *b), (x, b))                   \
    F(CTRL, void *, xc__hypercall_buffer_alloc_pages, (xc_interface *x, xc_hypercall_buffer_t *b, int n),           \
      (x, b, n))                                                                                                      \
    F(CTRL, void, xc__hypercall_buffer_free_pages, (xc_interface *x, xc_hypercall_buffer_t *b, int n), (x, b, n))   \
    F(CTRL, int, xc_domain_pause, (xc_interface *x, uint32_t d), (x, d))                                             \
    F(CTRL, int, xc_domain_unpause, (xc_interface *x, uint32_t d), (x, d))                                           \
    F(CTRL, int, xc_domain_destroy, (xc_interface *x, uint32_t d), (x, d))                                           \
    F(CTRL, int, xc_domain_shutdown, (xc_interface *x, uint32_t d, int reason), (x, d, reason))                      \
    F(GUEST, int, xc_domain_resume, (xc_interface *x, uint32_t d, int fast), (x, d, fast))                           \
    F(CTRL, int, xc_domain_get_guest_width, (xc_interface *x, uint32_t d, unsigned int *width), (x, d, width))       \
    F(CTRL, int, xc_domain_nr_gpfns, (xc_interface *x, uint32_t d, xen_pfn_t *nr), (x, d, nr))                      \
    F(CTRL, int, xc_domain_get_tsc_info,                                                                              \
      (xc_interface *x, uint32_t d, uint32_t *mode, uint64_t *nsec, uint32_t *khz, uint32_t *incarnation),       \
      (x, d, mode, nsec, khz, incarnation))                                                                           \
    F(CTRL, int, xc_domain_set_tsc_info,                                                                              \
      (xc_interface *x, uint32_t d, uint32_t mode, uint64_t nsec, uint32_t khz, uint32_t incarnation),               \
      (x, d, mode, nsec, khz, incarnation))                                                                           \
    F(CTRL, int, xc_maximum_ram_page, (xc_interface *x, unsigned long *max), (x, max))                               \
    F(CTRL, int, xc_machphys_mfn_list, (xc_interface *x, unsigned long max, xen_pfn_t *start), (x, max, start))     \
    F(CTRL, int, xc_get_pfn_type_batch, (xc_interface *x, uint32_t d, unsigned int n, xen_pfn_t *a), (x, d, n, a))  \
    F(CTRL, int, xc_domain_populate_physmap,                                                                          \
      (xc_interface *x, uint32_t d, unsigned long nr, unsigned int order, unsigned int flags, xen_pfn_t *start),    \
      (x, d, nr, order, flags, start))                                                                                \
    F(CTRL, int, xc_domain_populate_physmap_exact,                                                                    \
      (xc_interface *x, uint32_t d, unsigned long nr, unsigned int order, unsigned int flags, xen_pfn_t *start),    \
      (x, d, nr, order, flags, start))                                                                                \
    F(CTRL, int, xc_domain_decrease_reservation_exact,                                                                \
      (xc_interface *x, uint32_t d, unsigned long nr, unsigned int order, xen_pfn_t *start),                        \
      (x, d, nr, order, start))                                                                                       \
    F(CTRL, int, xc_domain_get_pod_target,                                                                            \
      (xc_interface *x, uint32_t d, uint64_t *tot, uint64_t *cache, uint64_t *entries), (x, d, tot, cache, entries)) \
    F(CTRL, int, xc_mmuext_op, (xc_interface *x, struct mmuext_op *op, unsigned int nr, uint32_t d), (x, op, nr, d)) \
    F(GUEST, int, xc_set_domain_cpu_policy,                                                                           \
      (xc_interface *x, uint32_t d, uint32_t nr_leaves, xen_cpuid_leaf_t *leaves, uint32_t nr_msrs,                 \
       xen_msr_entry_t *msrs, uint32_t *leaf, uint32_t *subleaf, uint32_t *msr),                                  \
      (x, d, nr_leaves, leaves, nr_msrs, msrs, leaf, subleaf, msr))                                                   \
    F(GUEST, int, xc_dom_gnttab_seed,                                                                                 \
      (xc_interface *x, uint32_t d, bool hvm, xen_pfn_t console, xen_pfn_t store, uint32_t console_domid,            \
       uint32_t store_domid),                                                                                         \
      (x, d, hvm, console, store, console_domid, store_domid))                                                        \
    F(CTRL, int, xc_sched_id, (xc_interface *x, int *id), (x, id))                                                   \
    F(CTRL, int, xc_sched_credit_domain_set, (xc_interface *x, uint32_t d, struct xen_domctl_sched_credit *s),      \
      (x, d, s))                                                                                                      \
    F(CTRL, int, xc_sched_credit_domain_get, (xc_interface *x, uint32_t d, struct xen_domctl_sched_credit *s),      \
      (x, d, s))                                                                                                      \
    F(CTRL, int, xc_sched_credit2_domain_set, (xc_interface *x, uint32_t d, struct xen_domctl_sched_credit2 *s),    \
      (x, d, s))                                                                                                      \
    F(CTRL, int, xc_sched_credit2_domain_get, (xc_interface *x, uint32_t d, struct xen_domctl_sched_credit2 *s),    \
      (x, d, s))                                                                                                      \
    F(CTRL, int, xc_hvm_param_set, (xc_interface *x, uint32_t d, uint32_t param, uint64_t value), (x, d, param, value)) \
    F(CTRL, int, xc_hvm_param_get, (xc_interface *x, uint32_t d, uint32_t param, uint64_t *value),                  \
      (x, d, param, value))                                                                                           \
    F(CTRL, int, xc_domain_hvm_getcontext, (xc_interface *x, uint32_t d, uint8_t *buf, uint32_t n), (x, d, buf, n)) \
    F(CTRL, int, xc_domain_hvm_setcontext, (xc_interface *x, uint32_t d, uint8_t *buf, uint32_t n), (x, d, buf, n)) \
    F(CTRL, int, xc_vcpu_getinfo, (xc_interface *x, uint32_t d, uint32_t v, xc_vcpuinfo_t *info), (x, d, v, info))  \
    F(CTRL, int, xc_vcpu_setcontext, (xc_interface *x, uint32_t d, uint32_t v, vcpu_guest_context_any_t *c),        \
      (x, d, v, c))                                                                                                   \
    F(CTRL, int, xc_vcpu_getcontext, (xc_interface *x, uint32_t d, uint32_t v, vcpu_guest_context_any_t *c),        \
      (x, d, v, c))                                                                                                   \
    F(FMEM, xenforeignmemory_handle *, xenforeignmemory_open, (struct xentoollog_logger *l, unsigned f), (l, f))     \
    F(FMEM, int, xenforeignmemory_close, (xenforeignmemory_handle *m), (m))                                          \
    F(FMEM, void *, xenforeignmemory_map,                                                                             \
      (xenforeignmemory_handle *m, uint32_t d, int prot, size_t nr, const xen_pfn_t a[], int err[]),                 \
      (m, d, prot, nr, a, err))                                                                                       \
    F(FMEM, int, xenforeignmemory_unmap, (xenforeignmemory_handle *m, void *at, size_t nr), (m, at, nr))             \
    F(STORE, struct xs_handle *, xs_open, (unsigned long flags), (flags))                                             \
    F(STORE, void, xs_close, (struct xs_handle *h), (h))                                                             \
    F(STORE, void *, xs_read, (struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len),        \
      (h, t, path, len))                                                                                              \
    F(STORE, bool, xs_write,                                                                                          \
      (struct xs_handle *h, xs_transaction_t t, const char *path, const void *data, unsigned int len),               \
      (h, t, path, data, len))                                                                                        \
    F(STORE, char **, xs_directory, (struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *nr),   \
      (h, t, path, nr))                                                                                               \
    F(STORE, xs_transaction_t, xs_transaction_start, (struct xs_handle *h), (h))                                     \
    F(STORE, bool, xs_transaction_end, (struct xs_handle *h, xs_transaction_t t, bool abort), (h, t, abort))         \
    F(STORE, bool, xs_resume_domain, (struct xs_handle *h, unsigned int d), (h, d))

#endif
