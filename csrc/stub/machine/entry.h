/* The way into and out of every call. */
#ifndef XCSR_STUB_MACHINE_ENTRY_H
#define XCSR_STUB_MACHINE_ENTRY_H

#include "stub/machine/base.h"

#define ST_FUNCTIONS(X)                                                                      \
    X(xc_interface_open) X(xc_interface_close) X(xc_version) X(xc_domctl)                    \
    X(xc_domain_getinfolist) X(xc_domain_get_guest_width) X(xc_domain_nr_gpfns)              \
    X(xc_domain_get_tsc_info) X(xc_domain_pause) X(xc_domain_unpause) X(xc_domain_resume)    \
    X(xc_domain_destroy) X(xc_domain_shutdown) X(xc_maximum_ram_page)                        \
    X(xc_machphys_mfn_list) X(xc_memory_op) X(xc_get_pfn_type_batch) X(xc_shadow_control)                    \
    X(xc_logdirty_control) X(xc_vcpu_getinfo) X(xc_vcpu_getcontext) X(xc_cpu_policy_init)    \
    X(xc_cpu_policy_destroy) X(xc_cpu_policy_get_size) X(xc_cpu_policy_get_domain)           \
    X(xc_cpu_policy_serialise) X(xc__hypercall_buffer_alloc) X(xc__hypercall_buffer_free)    \
    X(xc__hypercall_buffer_alloc_pages) X(xc__hypercall_buffer_free_pages)                   \
    X(xenforeignmemory_open) X(xenforeignmemory_close) X(xenforeignmemory_map)               \
    X(xenforeignmemory_unmap) X(xs_open) X(xs_close) X(xs_read) X(xs_write)                  \
    X(xs_transaction_start) X(xs_transaction_end) X(xs_resume_domain)                        \
    X(xc_domain_populate_physmap_exact) X(xc_mmuext_op) X(xc_vcpu_setcontext)                \
    X(xc_domain_set_tsc_info) X(xc_set_domain_cpu_policy) X(xc_dom_gnttab_seed)              \
    X(xc_domain_decrease_reservation_exact) X(xc_domain_decrease_reservation)                \
    X(xc_domain_populate_physmap) X(xc_domain_get_pod_target) X(xc_domain_set_pod_target)    \
    X(xc_domain_maximum_gpfn) X(xc_hvm_param_get) X(xc_hvm_param_set)                        \
    X(xc_domain_hvm_getcontext) X(xc_domain_hvm_setcontext) X(xs_directory)       \
    X(xc_sched_id) X(xc_sched_credit_domain_set) X(xc_sched_credit_domain_get)               \
    X(xc_sched_credit2_domain_set) X(xc_sched_credit2_domain_get)

#define ST_FUNCTION_ID(name) ST_FN_##name,
enum st_function { ST_FUNCTIONS(ST_FUNCTION_ID) ST_NR_FUNCTIONS };

/*
 * st_begin: counts the call, asks the rules and the hook, then takes the lock and lets the guests
 * run. Returns 0 with the lock held, or -errno without it. The variant _quiet lets no guest run.
 */
int st_begin(enum st_function function);
int st_begin_quiet(enum st_function function);
/* After st_begin() of xenforeignmemory_map: the error a rule has for that page, or 0. */
int st_page_fault(uint64_t page);
/* Whether there is a page for which that is not 0. */
bool st_page_faults(void);
/* Lets go of the lock. result < 0: sets errno, tells the logger, returns -1. Else returns result. */
long long st_end(enum st_function function, xc_interface *xch, long long result);
/* The same for a call whose st_begin() failed: no lock is held. */
long long st_refused(enum st_function function, xc_interface *xch, int error);
void st_faults_reset(void);

/* ---- handle.c: libxenctrl's handle ---- */
bool st_xch_valid(const xc_interface *xch);
void st_log_error(xc_interface *xch, const char *function, int error);
/* st_begin() for calls with a handle: -EBADF for a handle that is not open. */
int st_begin_xc(enum st_function function, xc_interface *xch);
/* In a forked child: none that was opened before is open. */
void st_handles_abandon(void);

/* ---- scripts: see the panel's stub_fail() and what follows it; these take no lock ---- */
/* The number of a function, or -ENOENT. */
int st_function_by_name(const char *name);
const char *st_function_name(enum st_function function);
int st_rule_add(const char *function, uint64_t nth, int error, int64_t page);
void st_rules_clear(void);
uint64_t st_calls(enum st_function function);
void st_calls_clear(void);
int64_t st_entered(enum st_function function, int64_t *inside_before);
int64_t st_inside(void);
void st_set_hook(int (*hook)(const char *function, uint64_t count));

#endif
