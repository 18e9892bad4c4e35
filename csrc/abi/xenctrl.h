/* libxenctrl of Xen 4.17, as far as this project uses it. See README. */
#ifndef XCSR_ABI_XENCTRL_H
#define XCSR_ABI_XENCTRL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xen/xen.h>
#include <xen/foreign/x86_32.h>
#include <xen/domctl.h>
#include <xen/sched.h>
#include <xen/memory.h>
#include <xen/version.h>
#include <xen/hvm/params.h>

#include "xentoollog.h"

#define XC_PAGE_SHIFT 12
#define XC_PAGE_SIZE  (1UL << XC_PAGE_SHIFT)
#define XC_PAGE_MASK  (~(XC_PAGE_SIZE - 1))

#define INVALID_MFN (~0UL)

#define XENCTRL_HAS_XC_INTERFACE 1

#define xen_barrier() __asm__ volatile ("" ::: "memory")
#define xen_mb()      __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define xen_rmb()     xen_barrier()
#define xen_wmb()     xen_barrier()

typedef struct xc_interface_core xc_interface;

enum xc_open_flags {
    XC_OPENFLAG_DUMMY = 1,
    XC_OPENFLAG_NON_REENTRANT = 2
};

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild_logger,
                                unsigned open_flags);
int xc_interface_close(xc_interface *xch);

/*
 * Memory that is safe to pass to a hypercall. A variable `name` declared by the macros
 * has a companion object that says where its memory is; an argument's companion points to
 * the caller's through param_shadow.
 */
struct xc_hypercall_buffer {
    void *hbuf;
    struct xc_hypercall_buffer *param_shadow;
    int dir;
    void *ubuf;
    size_t sz;
};
typedef struct xc_hypercall_buffer xc_hypercall_buffer_t;

#define XC__HYPERCALL_BUFFER_NAME(name) xc__hypercall_buffer_##name

#define XCSR_ABI_BUFFER_INIT(memory, shadow) \
    { .hbuf = (memory), .param_shadow = (shadow), .dir = 0, .ubuf = (void *)-1, .sz = 0 }

static inline xc_hypercall_buffer_t *xcsr_abi_buffer(xc_hypercall_buffer_t *own)
{
    return own->param_shadow ? own->param_shadow : own;
}

#define HYPERCALL_BUFFER(name) xcsr_abi_buffer(&XC__HYPERCALL_BUFFER_NAME(name))

#define DECLARE_HYPERCALL_BUFFER(type, name) \
    type *name = NULL;                       \
    xc_hypercall_buffer_t XC__HYPERCALL_BUFFER_NAME(name) = XCSR_ABI_BUFFER_INIT(NULL, NULL)

#define DECLARE_HYPERCALL_BUFFER_SHADOW(type, name, buffer)                        \
    type *name = (type *)(buffer)->hbuf;                                           \
    __attribute__((unused)) xc_hypercall_buffer_t XC__HYPERCALL_BUFFER_NAME(name) = \
        XCSR_ABI_BUFFER_INIT((void *)-1, (buffer))

#define DECLARE_HYPERCALL_BUFFER_ARGUMENT(name) \
    xc_hypercall_buffer_t XC__HYPERCALL_BUFFER_NAME(name) = XCSR_ABI_BUFFER_INIT((void *)-1, (name))

#define HYPERCALL_BUFFER_AS_ARG(name) ((unsigned long)HYPERCALL_BUFFER(name)->hbuf)

/* Only a declared hypercall buffer has a companion, so plain pointers do not compile here. */
#undef set_xen_guest_handle
#define set_xen_guest_handle(handle, name) \
    set_xen_guest_handle_raw(handle, HYPERCALL_BUFFER(name)->hbuf)

extern xc_hypercall_buffer_t XC__HYPERCALL_BUFFER_NAME(HYPERCALL_BUFFER_NULL);

void *xc__hypercall_buffer_alloc(xc_interface *xch, xc_hypercall_buffer_t *b, size_t size);
void xc__hypercall_buffer_free(xc_interface *xch, xc_hypercall_buffer_t *b);
void *xc__hypercall_buffer_alloc_pages(xc_interface *xch, xc_hypercall_buffer_t *b, int nr_pages);
void xc__hypercall_buffer_free_pages(xc_interface *xch, xc_hypercall_buffer_t *b, int nr_pages);

#define xc_hypercall_buffer_alloc(xch, name, size) \
    xc__hypercall_buffer_alloc(xch, HYPERCALL_BUFFER(name), size)
#define xc_hypercall_buffer_free(xch, name) xc__hypercall_buffer_free(xch, HYPERCALL_BUFFER(name))
#define xc_hypercall_buffer_alloc_pages(xch, name, nr) \
    xc__hypercall_buffer_alloc_pages(xch, HYPERCALL_BUFFER(name), nr)
#define xc_hypercall_buffer_free_pages(xch, name, nr)                               \
    do {                                                                            \
        if (name)                                                                   \
            xc__hypercall_buffer_free_pages(xch, HYPERCALL_BUFFER(name), nr);       \
    } while (0)

/* Guest state of either width. */
typedef union {
    vcpu_guest_context_x86_64_t x64;
    vcpu_guest_context_x86_32_t x32;
    vcpu_guest_context_t c;
} vcpu_guest_context_any_t;

typedef union {
    shared_info_x86_64_t x64;
    shared_info_x86_32_t x32;
    shared_info_t s;
} shared_info_any_t;

typedef union {
    start_info_x86_64_t x64;
    start_info_x86_32_t x32;
    start_info_t s;
} start_info_any_t;

typedef xen_domctl_getdomaininfo_t xc_domaininfo_t;
typedef struct xen_domctl_getvcpuinfo xc_vcpuinfo_t;
typedef struct xen_domctl_shadow_op_stats xc_shadow_op_stats_t;

int xc_version(xc_interface *xch, int cmd, void *arg);
int xc_domctl(xc_interface *xch, struct xen_domctl *domctl);

int xc_domain_getinfolist(xc_interface *xch, uint32_t first_domain, unsigned int max_domains,
                          xc_domaininfo_t *info);
int xc_domain_get_guest_width(xc_interface *xch, uint32_t domid, unsigned int *guest_width);
int xc_domain_maximum_gpfn(xc_interface *xch, uint32_t domid, xen_pfn_t *gpfns);
int xc_domain_nr_gpfns(xc_interface *xch, uint32_t domid, xen_pfn_t *gpfns);
int xc_domain_get_tsc_info(xc_interface *xch, uint32_t domid, uint32_t *tsc_mode,
                           uint64_t *elapsed_nsec, uint32_t *gtsc_khz, uint32_t *incarnation);
int xc_domain_set_tsc_info(xc_interface *xch, uint32_t domid, uint32_t tsc_mode,
                           uint64_t elapsed_nsec, uint32_t gtsc_khz, uint32_t incarnation);
int xc_domain_pause(xc_interface *xch, uint32_t domid);
int xc_domain_unpause(xc_interface *xch, uint32_t domid);
int xc_domain_destroy(xc_interface *xch, uint32_t domid);
int xc_domain_shutdown(xc_interface *xch, uint32_t domid, int reason);

int xc_maximum_ram_page(xc_interface *xch, unsigned long *max_mfn);
/* The memory operations of xen/memory.h that have no function of their own. */
long xc_memory_op(xc_interface *xch, unsigned int cmd, void *arg, size_t len);
int xc_machphys_mfn_list(xc_interface *xch, unsigned long max_extents, xen_pfn_t *extent_start);

int xc_domain_populate_physmap_exact(xc_interface *xch, uint32_t domid, unsigned long nr_extents,
                                     unsigned int extent_order, unsigned int mem_flags,
                                     xen_pfn_t *extent_start);
int xc_domain_populate_physmap(xc_interface *xch, uint32_t domid, unsigned long nr_extents,
                               unsigned int extent_order, unsigned int mem_flags,
                               xen_pfn_t *extent_start);
int xc_domain_decrease_reservation(xc_interface *xch, uint32_t domid, unsigned long nr_extents,
                                   unsigned int extent_order, xen_pfn_t *extent_start);
int xc_domain_decrease_reservation_exact(xc_interface *xch, uint32_t domid, unsigned long nr_extents,
                                         unsigned int extent_order, xen_pfn_t *extent_start);
int xc_domain_get_pod_target(xc_interface *xch, uint32_t domid, uint64_t *tot_pages,
                             uint64_t *pod_cache_pages, uint64_t *pod_entries);
int xc_domain_set_pod_target(xc_interface *xch, uint32_t domid, uint64_t target_pages,
                             uint64_t *tot_pages, uint64_t *pod_cache_pages, uint64_t *pod_entries);
int xc_mmuext_op(xc_interface *xch, struct mmuext_op *op, unsigned int nr_ops, uint32_t dom);

int xc_set_domain_cpu_policy(xc_interface *xch, uint32_t domid, uint32_t nr_leaves,
                             xen_cpuid_leaf_t *leaves, uint32_t nr_msrs, xen_msr_entry_t *msrs,
                             uint32_t *err_leaf_p, uint32_t *err_subleaf_p, uint32_t *err_msr_p);

int xc_shadow_control(xc_interface *xch, uint32_t domid, unsigned int sop, unsigned int *mb,
                      unsigned int mode);
long long xc_logdirty_control(xc_interface *xch, uint32_t domid, unsigned int sop,
                              xc_hypercall_buffer_t *dirty_bitmap, unsigned long pages,
                              unsigned int mode, xc_shadow_op_stats_t *stats);

int xc_sched_id(xc_interface *xch, int *sched_id);
int xc_sched_credit_domain_set(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit *sdom);
int xc_sched_credit_domain_get(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit *sdom);
int xc_sched_credit2_domain_set(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit2 *sdom);
int xc_sched_credit2_domain_get(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit2 *sdom);

int xc_hvm_param_set(xc_interface *handle, uint32_t dom, uint32_t param, uint64_t value);
int xc_hvm_param_get(xc_interface *handle, uint32_t dom, uint32_t param, uint64_t *value);
/* get: returns the size, or -1; with no buffer, how much room is enough. set: 0 or -1. */
int xc_domain_hvm_getcontext(xc_interface *xch, uint32_t domid, uint8_t *ctxt_buf, uint32_t size);
int xc_domain_hvm_setcontext(xc_interface *xch, uint32_t domid, uint8_t *hvm_ctxt, uint32_t size);

int xc_vcpu_getinfo(xc_interface *xch, uint32_t domid, uint32_t vcpu, xc_vcpuinfo_t *info);
int xc_vcpu_setcontext(xc_interface *xch, uint32_t domid, uint32_t vcpu,
                       vcpu_guest_context_any_t *ctxt);
int xc_vcpu_getcontext(xc_interface *xch, uint32_t domid, uint32_t vcpu,
                       vcpu_guest_context_any_t *ctxt);

#endif
