/* Domains: what Xen knows of one, and its life. */
#ifndef XCSR_STUB_MACHINE_DOMAIN_H
#define XCSR_STUB_MACHINE_DOMAIN_H

#include "stub/machine/base.h"
#include "stub/machine/geometry.h"

#define ST_PIECE_BITS   65536UL         /* of a log-dirty bitmap: 8 KiB */
#define ST_PIECES       (1UL << 17)     /* room for 2^33 pfns, the most that a domain may have with its reserve */
#define ST_MAX_SPAN     (1UL << 32)     /* pfns: 16 TiB */

struct st_domain;
struct st_vcpu;
struct st_hvm;
struct st_kernel;                       /* the guest's own (stub/kernel/): the machine does not look into it */

/*
 * What the machine lets the guest's kernel know. The kernel puts its table into the domain; without one nothing
 * runs there.
 */
struct st_hooks {
    void (*tick)(struct st_domain *d);          /* a turn of a domain that runs */
    void (*devices)(struct st_domain *d);       /* a turn of its device model, whether it runs or not */
    int (*start)(struct st_domain *d);          /* the first unpause with a context; an error: it crashes */
    void (*after_resume)(struct st_domain *d);
    void (*stop)(struct st_domain *d);          /* its threads end; lets go of the lock for a moment */
    void (*free)(struct st_domain *d);
};

struct st_tsc {
    bool set;
    uint32_t mode, khz, incarnation;    /* incarnation: Xen's, one more than was set */
    uint64_t given;                     /* elapsed, as it was set */
    uint64_t nsec;                      /* elapsed when the domain had run for no tick */
};

struct st_domain {
    struct st_domain *next;
    uint32_t id;
    char name[64];
    uint64_t seed;                      /* of what Xen and the toolstack make up: handle, CPU policy */
    const struct st_hooks *hooks;
    struct st_kernel *kernel;
    bool built;                         /* the stub's own kernel runs in it */
    bool busy;                          /* a thread of its kernel's has it in hand */
    bool dying, shutdown, logdirty;
    bool touched;                       /* a test wrote a raw entry or type: references are not counted */
    bool creation_finished;             /* was unpaused once: its CPU policy is fixed */
    int shutdown_reason;
    unsigned pause_count;
    xen_domain_handle_t handle;
    uint64_t ticks;                     /* turns that it had */

    uint64_t nr_pfns;                   /* covered by the p2m; one past the last pfn without a kernel */
    uint64_t cap_pfns;                  /* room in the arrays by pfn */
    uint64_t *truth;                    /* pfn -> mfn, 0: no memory */
    uint64_t *mem;                      /* pfns with memory, in no order */
    uint64_t nr_mem, max_pages;
    uint64_t shared_info_mfn;
    struct st_hvm *hv;                  /* of HVM and PVH only */
    bool hvm;                           /* what is reported; a test may say so of a PV guest */
    unsigned width;                     /* what is reported; a test may say another */
    const struct st_geometry *geometry; /* of a PV guest */
    int64_t tot_pages_bias;             /* added to what is reported, for tests */

    uint64_t *bitmap;                   /* log-dirty, by pfn */
    uint8_t set_pieces[ST_PIECES];      /* pieces of it in which a bit is set: the others are not looked at */
    uint64_t dirty_count, fault_count;
    uint64_t cleaned, cleaned_as_final; /* bitmaps fetched and cleared; those of them that were said to be the last */

    uint32_t nr_vcpus;
    uint32_t scheduler;                 /* XEN_SCHEDULER_*: its cpupool's */
    uint16_t sched_weight, sched_cap;   /* cap: percent of one processor, 0: none */
    struct st_vcpu *vcpu;
    struct st_tsc tsc;
    struct xc_cpu_policy *policy;       /* NULL: none was set */
    uint32_t policy_leaves, policy_msrs; /* how many were given */
    stub_grant_seed grants;
    bool granted;
};

struct st_domain *st_domain_find(uint32_t domid);
/* The domain a call is about, or NULL with *error = -ESRCH (-EINVAL for domain 0). */
struct st_domain *st_domain_get(uint32_t domid, int *error);
bool st_domain_running(const struct st_domain *d);
/* The frames that it owns, at a pfn or not: Xen's tot_pages. */
uint64_t st_domain_pages(const struct st_domain *d);
/* A domain with room for so many pfns, in no list yet; NULL if there is no memory. */
struct st_domain *st_domain_alloc(uint64_t pfns);
/* What was allocated but is in no list. */
void st_domain_free(struct st_domain *d);
void st_domain_enlist(struct st_domain *d);
/* Takes it out of the list, gives its frames back and frees it. */
void st_domain_remove(struct st_domain *d);
/* Its nodes in the store, as a toolstack makes them. */
int st_domain_store_nodes(struct st_domain *d, uint64_t target_pages);
/* What a domain is: HVM has a device model. */
enum st_domain_kind { ST_PV, ST_PVH, ST_HVM };
/* As Xen and a toolstack have made it when the restoring begins. */
int st_domain_empty(enum st_domain_kind kind, uint64_t max_pages, uint32_t vcpus, const char *name, struct st_domain **result);
/* Room for pfns below nr_pfns; nr_pfns grows, never shrinks. */
int st_domain_reserve(struct st_domain *d, uint64_t nr_pfns);
/* A PV domain without memory becomes a 32-bit one. */
int st_domain_narrow(struct st_domain *d);
void st_domain_make_handle(struct st_domain *d);
int st_domain_unpause(struct st_domain *d);
void st_domain_kill(struct st_domain *d);
void st_domain_reap(void);
void st_domain_free_all(void);
/* In a forked child, which has no thread of theirs: frees what is known of them. Their frames are the parent's. */
void st_domains_abandon(void);
int st_domain_shut_down(struct st_domain *d, int reason);
int st_domain_resume(struct st_domain *d, int fast);
/* How much of its processors the scheduler lets it have, in ST_WHOLE parts. */
#define ST_WHOLE 1000U
uint32_t st_domain_share(const struct st_domain *d);
/* A turn of one domain, if it runs, or of all. */
void st_domain_tick(struct st_domain *d);
void st_domains_tick(void);

#endif
