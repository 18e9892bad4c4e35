/*
 * The stub hypervisor's control panel: what tests, the demo and benchmarks may do to the
 * machine and its guests. This file is both a C header and the text given to cffi, so it
 * holds plain declarations only (lines that start with '#' are dropped for cffi).
 *
 * Functions that return int give 0 or a count when they succeed and -errno when they do not;
 * stub_error() then tells why. pfn: a guest's frame number; mfn: the machine's.
 */
#ifndef XCSR_STUB_PANEL_STUB_API_H
#define XCSR_STUB_PANEL_STUB_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stub/kernel/described.h"
#include "stub/machine/described.h"

/* STUB_PV32 is made as STUB_PV64 is: such a domain is told later that it has 32 bits. */
typedef enum { STUB_PV64 = 0, STUB_PVH = 1, STUB_HVM = 2, STUB_PV32 = 3 } stub_domain_kind;

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
    uint64_t kernel_pfn;        /* the page in which its kernel keeps what it knows */
    uint64_t shared_info_mfn;
    uint64_t kernel_root_pfn;
    uint64_t user_root_pfn;
    uint64_t nr_leaves;         /* pages of the p2m list */
    uint64_t missing_leaf_pfn;  /* the shared page of invalid entries, ~0: none */
    uint32_t shutdown_reason;   /* valid if shutdown */
    bool shutdown;
    bool paused;
    bool dying;
    bool logdirty;
    bool running;               /* none of shutdown, paused, dying */
    bool booted;                /* the stub's own kernel runs in it; else the pfns above are ~0 */
    uint32_t width;             /* of PV: bytes of a word, 8 or 4 */
    bool hvm;                   /* HVM or PVH */
    bool device_model;          /* HVM */
    bool devmodel_logdirty;     /* its device model tells Xen what it writes */
    bool devmodel_stopped;
    uint64_t devmodel_writes;
    uint64_t pod_entries;
    uint64_t pod_cache;
    uint32_t sched_weight;
    uint32_t sched_cap;         /* percent of one processor, 0: none */
    uint64_t bitmaps;           /* how often its log-dirty bitmap was fetched and cleared */
    uint64_t final_bitmaps;     /* of these, with XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL */
} stub_domain_state;

/* The machine. Everything is made anew, call counts and fault rules included; handles stay open. */
int stub_reset(const stub_machine_config *config);
const char *stub_error(void);
void stub_get_usage(stub_usage *usage);
uint64_t stub_max_page(void);
uint64_t stub_free_frames(void);
int stub_add_memory(uint64_t frames); /* Xen says that there are so many more; no guest gets them */
int stub_frame(uint64_t mfn, stub_frame_info *info);

/* What a restored domain was given, besides memory and vcpus. -ENOENT: it was not given it. */
int stub_get_tsc(uint32_t domid, stub_tsc *tsc);
int stub_get_policy(uint32_t domid, uint32_t *nr_leaves, uint32_t *nr_msrs);
int stub_get_grant_seed(uint32_t domid, stub_grant_seed *seed);
int stub_read_shared_info(uint32_t domid, void *page);

/* Guests. stub_create returns the domid; stub_domids how many there are (at most max are written). */
int stub_create(const stub_guest_config *config);
int stub_create_hvm(const stub_guest_config *config, const stub_hvm_config *hvm);
int stub_destroy(uint32_t domid);
/* A domain as a toolstack makes it to restore into: paused, without memory and contexts. */
int stub_create_empty(stub_domain_kind kind, uint64_t max_pages, uint32_t vcpus, const char *name);
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

/* HVM and PVH: params as the guest, or nobody, would set them: any value. -EINVAL: there is no such param. */
int stub_get_param(uint32_t domid, uint32_t index, uint64_t *value);
int stub_set_param(uint32_t domid, uint32_t index, uint64_t value);
/* What QEMU does when it is told to: its tracking of its own writes; whether it writes at all. */
int stub_devmodel_logdirty(uint32_t domid, bool on);
int stub_devmodel_run(uint32_t domid, bool on);
/* A turn of the device model alone, whatever the guest does. */
int stub_devmodel_tick(uint32_t domid, uint32_t times);

/* The store, as the guest sees it. Returns the length, -ENOENT, or -ENOSPC if max is too small. */
int stub_store_read(const char *path, char *value, uint32_t max);
int stub_store_write(const char *path, const char *value);

#endif
