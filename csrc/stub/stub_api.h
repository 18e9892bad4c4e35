/*
 * The stub hypervisor's control panel: what tests, the demo and benchmarks may do to the
 * machine and its guests. This file is both a C header and the text given to cffi, so it
 * holds plain declarations only (lines that start with '#' are dropped for cffi).
 *
 * Functions that return int give 0 or a count when they succeed and -errno when they do not;
 * stub_error() then tells why. pfn: a guest's frame number; mfn: the machine's.
 */
#ifndef XCSR_STUB_API_H
#define XCSR_STUB_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t frames;        /* of the machine, 4 KiB each */
    uint64_t seed;          /* of the permutation by which mfns are handed out */
    uint32_t extent_order;  /* mfns are handed out in runs of 2^extent_order */
    bool shadow;            /* false: a hypervisor built without shadow paging */
    bool force;             /* drop live foreign mappings instead of refusing with EBUSY */
    bool window;            /* for benchmarks: mappings that cost next to nothing (window.c); seed 0: frames in order */
    uint64_t backed;        /* frames from here on share a little memory between them; 0: none do */
} stub_machine_config;

typedef enum {
    STUB_P2M_LINEAR = 0,    /* p2m_cr3/p2m_vaddr only, frame_list_list ~0 (recent Linux) */
    STUB_P2M_BOTH = 1,      /* the three-level tree as well */
    STUB_P2M_TREE = 2       /* the tree only: p2m_cr3 is 0 */
} stub_p2m_kind;

typedef enum {
    STUB_SUSPEND_OK = 0,
    STUB_SUSPEND_IGNORE = 1,    /* never looks at control/shutdown */
    STUB_SUSPEND_CRASH = 2,     /* acknowledges, then crashes */
    STUB_SUSPEND_POWEROFF = 3,  /* acknowledges, then shuts down for good */
    STUB_SUSPEND_ACK_ONLY = 4   /* acknowledges, then goes on running */
} stub_suspend_kind;

typedef struct {
    uint64_t pages;             /* pfns with memory, before holes */
    uint64_t span;              /* pfns over which that memory is spread, >= pages */
    uint64_t max_pages;         /* pages it may own, as Xen says; at least pages */
    uint64_t spare;             /* pfns without memory that the p2m covers beyond the span */
    double holes;               /* share of the pages that is ballooned out, 0 to below 1 */
    uint64_t p2m_vaddr;         /* page aligned, kernel half, outside Xen's hole */
    uint64_t seed;
    uint64_t offline_vcpus;     /* bit mask */
    uint64_t hot;               /* how many pages the guest writes to; 0: all data pages */
    uint64_t rate;              /* writer thread: writes a second; 0: no thread */
    uint32_t vcpus;             /* 1 to 64, online and offline */
    uint32_t writes;            /* data writes a tick */
    uint32_t pt_updates;        /* page-table updates a tick */
    uint32_t msrs;              /* MSRs a vcpu has state in, at most 8 */
    uint32_t xsave;             /* bytes of a vcpu's extended state, 0: no XSAVE */
    uint32_t ack_polls;         /* calls until the guest acknowledges control/shutdown */
    uint32_t suspend_polls;     /* calls from there until it is suspended */
    stub_p2m_kind p2m_kind;
    stub_suspend_kind suspend;
    bool share_invalid;         /* p2m pages without any memory share one page, as Linux's do */
    bool map_shared_info;       /* while it runs, a PTE refers to shared_info, as Linux's fixmap */
    bool packed;                /* tables and p2m pages are its first pages, in a row, and not anywhere */
    bool unfilled;              /* data pages hold whatever their frames do */
    char name[64];              /* /local/domain/ID/name; empty: "stub-ID" */
} stub_guest_config;

typedef struct {
    uint64_t nr_pfns;           /* pfns that the p2m covers: a count */
    uint64_t tot_pages;         /* pages owned */
    uint64_t max_pages;         /* pages it may own */
    uint64_t ticks;             /* how often it was given time to run */
    uint64_t writes;            /* data writes made */
    uint64_t pt_updates;        /* page-table updates made */
    uint64_t dirty;             /* pfns in the log-dirty bitmap now */
    uint64_t start_info_pfn;
    uint64_t store_pfn;
    uint64_t console_pfn;
    uint64_t shared_info_mfn;
    uint64_t kernel_l4_pfn;
    uint64_t user_l4_pfn;
    uint64_t nr_leaves;         /* pages of the p2m list */
    uint64_t missing_leaf_pfn;  /* the shared page of invalid entries, ~0: none */
    uint32_t shutdown_reason;   /* valid if shutdown */
    bool shutdown;
    bool paused;
    bool dying;
    bool logdirty;
    bool running;               /* none of shutdown, paused, dying */
    bool booted;                /* the stub's own kernel runs in it; else the pfns above are ~0 */
} stub_domain_state;

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

/* The machine. Everything is made anew, call counts and fault rules included; handles stay open. */
int stub_reset(const stub_machine_config *config);
const char *stub_error(void);
void stub_get_usage(stub_usage *usage);
uint64_t stub_max_page(void);
uint64_t stub_free_frames(void);
int stub_frame(uint64_t mfn, stub_frame_info *info);

/* What a restored domain was given, besides memory and vcpus. -ENOENT: it was not given it. */
int stub_get_tsc(uint32_t domid, stub_tsc *tsc);
int stub_get_policy(uint32_t domid, uint32_t *nr_leaves, uint32_t *nr_msrs);
int stub_get_grant_seed(uint32_t domid, stub_grant_seed *seed);
int stub_read_shared_info(uint32_t domid, void *page);

/* Guests. stub_create returns the domid; stub_domids how many there are (at most max are written). */
int stub_create(const stub_guest_config *config);
int stub_destroy(uint32_t domid);
/* A domain as a toolstack makes it to restore into: paused, without memory and contexts. */
int stub_create_empty(uint64_t max_pages, uint32_t vcpus, const char *name);
/* Starts the kernel of a guest that was restored into such a domain, and unpauses it. */
int stub_adopt(uint32_t domid);
int stub_domids(uint32_t *domids, uint32_t max);
int stub_state(uint32_t domid, stub_domain_state *state);

/* Scripts. A rule counts calls from the moment it is set; page >= 0 (map only) fails that page. */
int stub_functions(const char **names, uint32_t max);
int stub_fail(const char *function, uint64_t nth, int error, int64_t page);
void stub_fail_clear(void);
int64_t stub_calls(const char *function);
void stub_calls_clear(void);
/* When the function was last entered (CLOCK_MONOTONIC), and how long calls that ended before it had taken in
 * all, in nanoseconds: what the stub itself costs. 0 and 0: never since the reset. */
int stub_entered(const char *function, int64_t *at, int64_t *inside);
/* How long all calls since the reset have taken. */
int64_t stub_inside(void);
void stub_set_hook(int (*hook)(const char *function, uint64_t count));

/* The truth about a guest's memory, from the machine's own tables. */
int stub_mfn(uint32_t domid, uint64_t pfn, uint64_t *mfn);
int64_t stub_pfns(uint32_t domid, uint64_t *pfns, uint64_t max);
int64_t stub_pfns_of_type(uint32_t domid, uint32_t type, uint64_t *pfns, uint64_t max);
int64_t stub_leaf_pfns(uint32_t domid, uint64_t *pfns, uint64_t max);
int stub_read_page(uint32_t domid, uint64_t pfn, void *page);
int stub_expected_page(uint32_t domid, uint64_t pfn, void *page, uint32_t *type);
int stub_expected_pages(uint32_t domid, const uint64_t *pfns, uint64_t nr, void *pages, uint32_t *types);

/* What the guest itself does: contents (marked dirty), p2m, balloon. */
int stub_write_page(uint32_t domid, uint64_t pfn, uint64_t offset, const void *data, uint64_t length);
int stub_tick(uint32_t domid, uint32_t times);
int stub_bump_generation(uint32_t domid, uint64_t by);
int stub_move_p2m(uint32_t domid, uint64_t vaddr, bool new_root);
int stub_replace_leaf(uint32_t domid, uint64_t index);
int stub_balloon_out(uint32_t domid, uint64_t pfn);
int stub_balloon_in(uint32_t domid, uint64_t pfn, uint64_t mfn); /* mfn ~0: any */
int stub_move_page(uint32_t domid, uint64_t from, uint64_t to);
int stub_move_tree(uint32_t domid);
int stub_resize_p2m(uint32_t domid, uint64_t nr_pfns);
int stub_set_honest(uint32_t domid, bool honest);

/* What a broken or hostile guest has: raw values. */
int stub_write_pte(uint32_t domid, uint64_t table_pfn, uint32_t index, uint64_t value, uint64_t *old);
int stub_write_p2m(uint32_t domid, uint64_t pfn, uint64_t value, uint64_t *old);
int stub_set_m2p(uint64_t mfn, uint64_t pfn);
int stub_set_type(uint32_t domid, uint64_t pfn, uint32_t type);
int stub_get_shared_info(uint32_t domid, const char *field, uint64_t *value);
int stub_set_shared_info(uint32_t domid, const char *field, uint64_t value);
int stub_get_vcpu(uint32_t domid, uint32_t vcpu, const char *field, uint64_t *value);
int stub_set_vcpu(uint32_t domid, uint32_t vcpu, const char *field, uint64_t value);
int stub_set_domain(uint32_t domid, const char *field, uint64_t value);
int stub_shut_down(uint32_t domid, int reason);
int stub_set_suspend(uint32_t domid, stub_suspend_kind kind, uint32_t ack_polls, uint32_t suspend_polls);
int stub_set_writes(uint32_t domid, uint32_t writes, uint32_t pt_updates);

/* The store, as the guest sees it. Returns the length, -ENOENT, or -ENOSPC if max is too small. */
int stub_store_read(const char *path, char *value, uint32_t max);
int stub_store_write(const char *path, const char *value);

#endif
