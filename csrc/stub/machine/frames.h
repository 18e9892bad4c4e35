/* The machine and its frames: who has which, what it is used for, where its memory is. */
#ifndef XCSR_STUB_MACHINE_FRAMES_H
#define XCSR_STUB_MACHINE_FRAMES_H

#include "stub/machine/base.h"

#define ST_SHARED_FRAMES (1UL << 16)    /* what frames without memory of their own share: 256 MiB */

enum st_kind { ST_FREE = 0, ST_XEN, ST_DATA, ST_TABLE, ST_P2M, ST_SPECIAL, ST_GDT, ST_LINGERS };

struct st_domain;

struct st_frame {
    uint64_t pfn;           /* valid unless free or Xen's */
    uint32_t mem_index;     /* place in the owner's list of pfns with memory */
    uint32_t refs;          /* as a page table: by tables above it, vcpus and its pin (types.c) */
    uint32_t writable;      /* writable entries of L1 tables that refer to it (types.c) */
    uint32_t foreign;       /* foreign mappings of it: a PV guest's that are writable, an HVM guest's (foreign.c) */
    uint16_t gdt;           /* vcpus that have it in their GDT (types.c) */
    uint16_t owner;
    uint8_t kind;           /* enum st_kind */
    uint8_t level : 4;      /* 1 to 4: validated as a page table of that level */
    uint8_t pinned : 1;
    uint8_t xens : 1;       /* an L2 table in which Xen has slots: a 32-bit guest's (types.c) */
    uint8_t fresh : 1;      /* of HVM: came since the bitmap was cleaned: writes to it are not seen */
};

/* The m2p's own frames: where they begin, and how many chunks of 2 MiB they are. */
struct st_m2p_place { uint64_t first, chunks; };

struct st_machine {
    bool up, shadow, dying_refused;
    bool physmap_dirty, scattered;      /* as in stub_machine_config */
    bool pv32;                          /* a hypervisor that has 32-bit PV guests */
    bool shared_info_anywhere;          /* not below 4 GiB only, as since Xen 4.22 */
    bool mapped_by_window;              /* window.c */
    int fd;
    unsigned order;
    uint32_t scheduler;                 /* XEN_SCHEDULER_*, of domains in no other cpupool */
    uint64_t seed, nr_frames;
    uint64_t added;                     /* frames that were added to the host later; no guest has one */
    uint64_t backed;                    /* frames below have memory of their own; the others share */
    struct st_m2p_place m2p_place, compat_m2p_place;
    uint64_t pool_first, pool_frames, pool_next;
    uint8_t *window;                    /* the whole machine memory */
    uint64_t *m2p;
    uint32_t *compat_m2p;               /* what 32-bit guests see; NULL: there are none */
    struct st_frame *frames;
    uint64_t *freed, nr_freed, cap_freed;
    uint64_t foreign[16];               /* frames of domain 0, for PTEs that refer to them */
    uint32_t next_domid;
    struct st_domain *domains;          /* by ascending domid */
};
extern struct st_machine st;

/* Open things. */
extern stub_usage st_usage;
/* The same with what is counted only when it is asked for. */
void st_usage_now(stub_usage *usage);

/* Makes the default machine if there is none. */
int st_machine_ready(void);
/* A new machine, with no domain and no script. */
int st_machine_reset(const stub_machine_config *config);
void st_machine_idle(void);
/* Room in this process; NULL if there is none. */
void *st_reserve(uint64_t length, int protection, int flags, int fd);

void *st_page(uint64_t mfn);
/* Where a frame's memory is in the machine's file. */
off_t st_file_offset(uint64_t mfn);
/* How many of these frames, at least one, lie in a row in the machine's file. */
size_t st_frames_in_a_row(const xen_pfn_t *frames, size_t max);
int st_frame_alloc(uint16_t owner, enum st_kind kind, uint64_t pfn, uint64_t *mfn);
/* The same with a frame below that one. */
int st_frame_alloc_below(uint64_t limit, uint16_t owner, enum st_kind kind, uint64_t pfn, uint64_t *mfn);
int st_extent_alloc(unsigned order, uint64_t *mfn);
int st_frame_take(uint64_t mfn);
void st_frame_claim(uint16_t owner, enum st_kind kind, uint64_t pfn, uint64_t mfn);
/*
 * As on Xen an HVM guest's stays the guest's, and counts as that, for as long as a mapping of it is counted: at no gfn,
 * and as it is (ST_LINGERS).
 */
void st_frame_free(uint64_t mfn);
/* A mapping of it less. */
void st_frame_unmapped(uint64_t mfn);
uint64_t st_free_frames(void);
uint32_t st_frame_type(uint64_t mfn);
/* Type and pin bit of a frame below the machine's end, as XEN_DOMCTL_PFINFO_*. */
static inline uint32_t st_type_of(const struct st_frame *frame)
{
    if (frame->kind == ST_FREE || frame->kind == ST_XEN)
        return XEN_DOMCTL_PFINFO_XTAB;
    return (uint32_t)frame->level << XEN_DOMCTL_PFINFO_LTAB_SHIFT
           | (frame->pinned ? XEN_DOMCTL_PFINFO_LPINTAB : 0);
}

#endif
