/*
 * The machine as data: what the panel gives and gets. Plain declarations only, because cffi reads this text, too
 * (lines that start with '#' are dropped for it).
 */
#ifndef XCSR_STUB_MACHINE_DESCRIBED_H
#define XCSR_STUB_MACHINE_DESCRIBED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t frames;        /* of the machine, 4 KiB each */
    uint64_t seed;          /* of the permutation by which mfns are handed out */
    uint32_t extent_order;  /* mfns are handed out in runs of 2^extent_order */
    uint32_t scheduler;     /* XEN_SCHEDULER_*; 0: credit2 */
    bool shadow;            /* false: a hypervisor built without shadow paging */
    bool force;             /* drop live foreign mappings instead of refusing with EBUSY */
    bool window;            /* for benchmarks: mappings that cost next to nothing (window.c); seed 0: frames in order */
    uint64_t backed;        /* frames from here on share a little memory between them; 0: none do */
    bool physmap_dirty;     /* a gfn that comes is dirty, as since Xen 4.22 */
    bool pv32;              /* it has 32-bit PV guests; false: as built without */
    bool shared_info_anywhere; /* a 64-bit guest's may lie beyond 4 GiB, as since Xen 4.22 */
    bool dying_refused;     /* log-dirty calls on a domain that is being destroyed: EINVAL, as since Xen 4.18 */
    bool scattered;         /* HVM guests get no superpages: populating with an order above 0 gives none */
} stub_machine_config;

typedef struct {
    uint64_t pfn;               /* ~0: none */
    uint32_t owner;             /* domid, DOMID_XEN, or DOMID_INVALID for a free frame */
    uint32_t type;              /* bits 31-28 as XEN_DOMCTL_PFINFO_* */
} stub_frame_info;

typedef struct {
    uint64_t nsec;              /* elapsed, as it was set */
    uint32_t mode;
    uint32_t khz;
    uint32_t incarnation;
} stub_tsc;

typedef struct {
    uint64_t console_gfn;       /* ~0: no entry was made */
    uint64_t store_gfn;
    uint32_t console_domid;
    uint32_t store_domid;
} stub_grant_seed;

typedef struct {
    uint64_t mappings;          /* foreign mappings of guests' frames that are alive */
    uint64_t mapped_pages;
    uint64_t xen_mappings;      /* of Xen's own frames: the m2p */
    uint64_t xc_handles;
    uint64_t fmem_handles;
    uint64_t xs_handles;
    uint64_t xs_transactions;
    uint64_t hypercall_buffers;
    uint64_t cpu_policies;
    uint64_t logdirty_domains;
    uint64_t paused_domains;
} stub_usage;

#endif
