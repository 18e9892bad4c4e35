/* What a guest's own kernel knows. */
#ifndef XCSR_STUB_KERNEL_KERNEL_H
#define XCSR_STUB_KERNEL_KERNEL_H

#include "stub/kernel/described.h"
#include "stub/machine/domain.h"
#include "stub/machine/rng.h"

#include <pthread.h>

#define ST_USER_PTE  (ST_PTE_PRESENT | ST_PTE_RW | ST_PTE_USER | ST_PTE_ACCESSED)

struct st_transient { uint64_t table_pfn, index, old; };

/* What a kernel of one kind does in its own way. */
struct st_guest_kind {
    int (*start)(struct st_domain *d);          /* finds itself in a restored domain's memory, and runs */
    void (*registers)(struct st_domain *d);     /* a turn's change of registers */
    void (*update)(struct st_domain *d);        /* one change of its own besides data: PV's page tables */
    void (*before_suspend)(struct st_domain *d);
    void (*after_resume)(struct st_domain *d);
    void (*worked)(struct st_domain *d);        /* after some work, if not NULL */
    void (*devices)(struct st_domain *d);       /* a turn of its device model, if not NULL */
    void (*lose_page)(struct st_domain *d, uint64_t pfn); /* a data page gets another use; NULL: nothing to do */
    int (*balloon_out)(struct st_domain *d, uint64_t pfn);
    int (*balloon_in)(struct st_domain *d, uint64_t pfn, uint64_t mfn); /* ST_NONE: any frame */
};

enum st_suspend_step { ST_STEP_NONE = 0, ST_STEP_ASKED, ST_STEP_ACKED };

struct st_kernel {
    const struct st_guest_kind *kind;
    stub_guest_config config;
    stub_hvm_config hvm;                /* of HVM and PVH only */
    struct st_rng rng;
    uint64_t writes, pt_updates;
    struct st_rng dm_rng;
    uint64_t dm_writes;                 /* of the device model */
    bool dm_stopped;
    bool prepared;                      /* of HVM: its PV drivers have let go of what they had */
    enum st_suspend_step step;
    uint32_t polls;
    pthread_t writer;
    bool has_writer, stop_writer;
    char crash[192];                    /* why it could not start */

    uint64_t hot_first;
    uint64_t next_packed;               /* index in mem: the next page to put to another use */
    struct {                            /* of HVM and PVH: the balloon driver on its way to a target */
        bool inward;
        uint64_t left, rest_until;      /* pages; the tick from which it has another target */
    } balloon;
    uint64_t ballooned;                 /* pages that it got, ever: no two come with the same content */
    uint64_t page_pfn;                  /* the page in which it keeps what it knows (adopt.c) */
    uint64_t start_info_pfn, store_pfn, console_pfn;

    uint64_t fixmap_l1;
    uint64_t kernel_root, user_root, p2m_root, user_l2;
    uint64_t *leaf;                     /* pfn of each p2m page */
    uint64_t nr_leaves, missing_leaf, missing_l1;
    uint64_t fll;                       /* tree: the list of lists, ST_NONE: no tree */
    uint64_t fll_pfns;                  /* tree: the page in which the kernel keeps the lists' pfns */
    uint64_t p2m_vaddr;
    bool dishonest;                     /* it changes its p2m's structure without saying so */
    struct st_transient transient[8];
    unsigned nr_transient;
};

#endif
