/*
 * What the files of the stub hypervisor share. Everything here is called with the machine's
 * lock held unless it says otherwise, and returns 0 or -errno unless it says otherwise.
 */
#ifndef XCSR_STUB_INTERNAL_H
#define XCSR_STUB_INTERNAL_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <xenctrl.h>
#include <xenguest.h>
#include <xenforeignmemory.h>
#include <xenstore.h>

#include "stub/stub_api.h"

#define ST_PAGE_SHIFT  12
#define ST_PAGE_SIZE   (1UL << ST_PAGE_SHIFT)
#define ST_ENTRIES     512UL            /* entries of a page table, of a p2m page */
#define ST_NONE        (~0UL)           /* no pfn, no mfn; also the p2m and m2p entry that says so */
#define ST_M2P_SHARED  (~1UL)           /* m2p entry of a frame shared between Xen and a guest */
#define ST_MAX_VCPUS   64
#define ST_MAX_MSRS    8
#define ST_MAX_XSAVE   8192
#define ST_XFEATURES   7UL              /* of the machine's XSAVE: x87, SSE, AVX */
#define ST_GARBAGE     0xdeadfa1100000000UL /* in new frames: every word is this plus the mfn's low 32 bits */

#define ST_PTE_PRESENT  0x001UL
#define ST_PTE_RW       0x002UL
#define ST_PTE_USER     0x004UL
#define ST_PTE_ACCESSED 0x020UL
#define ST_PTE_DIRTY    0x040UL
#define ST_PTE_PSE      0x080UL
#define ST_PTE_NX       (1UL << 63)
#define ST_PTE_FRAME    0x000ffffffffff000UL

#define ST_USER_PTE     (ST_PTE_PRESENT | ST_PTE_RW | ST_PTE_USER | ST_PTE_ACCESSED)

#define ST_FIXMAP    0xffffffffff5fd000UL   /* where the kernel sees shared_info */
#define ST_USER_BASE 0x400000UL             /* where the one process begins */

#define ST_PIECE_BITS   65536UL         /* of a log-dirty bitmap: 8 KiB */
#define ST_PIECES       (1UL << 17)     /* room for 2^33 pfns, the most that a domain may have with its reserve */

#define ST_XEN_SLOT_FIRST 256UL         /* of an L4 table: Xen's own part of the address space */
#define ST_XEN_SLOT_LAST  271UL

/* ---- rng.c: a deterministic generator, and a hash of numbers ---- */
struct st_rng { uint64_t state; };
uint64_t st_hash(uint64_t a, uint64_t b);
uint64_t st_random(struct st_rng *rng);
uint64_t st_below(struct st_rng *rng, uint64_t limit);
uint64_t st_permute(uint64_t value, uint64_t limit, uint64_t seed);

/* ---- machine.c: frames ---- */
enum st_kind { ST_FREE = 0, ST_XEN, ST_DATA, ST_TABLE, ST_P2M, ST_SPECIAL, ST_GDT };

struct st_frame {
    uint64_t pfn;           /* valid unless free or Xen's */
    uint32_t mem_index;     /* place in the owner's list of pfns with memory */
    uint32_t refs;          /* as a page table: by tables above it, vcpus and its pin (types.c) */
    uint32_t writable;      /* writable entries of L1 tables that refer to it (types.c) */
    uint32_t foreign;       /* writable foreign mappings of it (foreign.c) */
    uint16_t gdt;           /* vcpus that have it in their GDT (types.c) */
    uint16_t owner;
    uint8_t kind;           /* enum st_kind */
    uint8_t level : 4;      /* 1 to 4: validated as a page table of that level */
    uint8_t pinned : 1;
};

struct st_machine {
    bool up, shadow;
    bool mapped_by_window;              /* window.c */
    int fd;
    unsigned order;
    uint64_t seed, nr_frames;
    uint64_t backed;                    /* frames below have memory of their own; the others share */
    uint64_t m2p_first, m2p_chunks;     /* where the m2p's own frames begin; 2 MiB each */
    uint64_t pool_first, pool_frames, pool_next;
    uint8_t *window;                    /* the whole machine memory */
    uint64_t *m2p;
    struct st_frame *frames;
    uint64_t *freed, nr_freed, cap_freed;
    uint64_t foreign[16];               /* frames of domain 0, for PTEs that refer to them */
    uint32_t next_domid;
    struct st_domain *domains;          /* by ascending domid */
};
extern struct st_machine st;

void st_lock(void);
void st_unlock(void);
int st_machine_ready(void);
void *st_page(uint64_t mfn);
/* Where a frame's memory is in the machine's file. */
off_t st_file_offset(uint64_t mfn);
/* How many of these frames, at least one, lie in a row in the machine's file. */
size_t st_frames_in_a_row(const xen_pfn_t *frames, size_t max);
int st_frame_alloc(uint16_t owner, enum st_kind kind, uint64_t pfn, uint64_t *mfn);
int st_extent_alloc(unsigned order, uint64_t *mfn);
int st_frame_take(uint64_t mfn);
void st_frame_claim(uint16_t owner, enum st_kind kind, uint64_t pfn, uint64_t mfn);
void st_frame_free(uint64_t mfn);
void st_machine_idle(void);
uint32_t st_frame_type(uint64_t mfn);
/* Type and pin bit of a frame below the machine's end, as XEN_DOMCTL_PFINFO_*. */
static inline uint32_t st_type_of(const struct st_frame *frame)
{
    if (frame->kind == ST_FREE || frame->kind == ST_XEN)
        return XEN_DOMCTL_PFINFO_XTAB;
    return (uint32_t)frame->level << XEN_DOMCTL_PFINFO_LTAB_SHIFT
           | (frame->pinned ? XEN_DOMCTL_PFINFO_LPINTAB : 0);
}
/* Keeps the text for stub_error() and returns -error. */
int st_error(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- domain.c ---- */
struct st_transient { uint64_t table_pfn, index, old; };

struct st_vcpu {
    bool online, initialised;           /* initialised: Xen has a context of it */
    vcpu_guest_context_t context;
    struct xen_domctl_ext_vcpucontext ext;
    uint64_t xfeature_mask;
    uint32_t xsave_size;
    uint32_t nr_msrs;
    uint8_t *xsave;                     /* ST_MAX_XSAVE bytes */
    struct xen_domctl_vcpu_msr msrs[ST_MAX_MSRS];
};

struct st_tsc {
    bool set;
    uint32_t mode, khz, incarnation;    /* incarnation: Xen's, one more than was set */
    uint64_t given;                     /* elapsed, as it was set */
    uint64_t nsec;                      /* elapsed when the domain had run for no tick */
};

enum st_suspend_step { ST_STEP_NONE = 0, ST_STEP_ASKED, ST_STEP_ACKED };

struct st_domain {
    struct st_domain *next;
    stub_guest_config config;
    uint32_t id;
    bool built;                         /* the stub's own kernel runs in it */
    bool dying, shutdown, logdirty;
    bool touched;                       /* a test wrote a raw entry or type: references are not counted */
    bool creation_finished;             /* was unpaused once: its CPU policy is fixed */
    int shutdown_reason;
    unsigned pause_count;
    xen_domain_handle_t handle;

    uint64_t nr_pfns;                   /* covered by the p2m; one past the last pfn without a kernel */
    uint64_t cap_pfns;                  /* room in the arrays by pfn */
    uint64_t *truth;                    /* pfn -> mfn, 0: no memory */
    uint64_t *mem;                      /* pfns with memory, in no order */
    uint64_t nr_mem, max_pages;
    bool hvm;                           /* what is reported, for tests of refusals */
    unsigned width;
    int64_t tot_pages_bias;             /* added to what is reported, for tests */

    uint64_t shared_info_mfn, fixmap_l1_pfn;
    uint64_t start_info_pfn, store_pfn, console_pfn;
    uint64_t kernel_l4, user_l4, p2m_l4, user_l2;
    uint64_t *leaf;                     /* pfn of each p2m page */
    uint64_t nr_leaves, missing_leaf, missing_l1;
    uint64_t fll;                       /* tree: the list of lists, ST_NONE: no tree */
    uint64_t fll_pfns;                  /* tree: the page in which the kernel keeps the lists' pfns */
    uint64_t p2m_vaddr;
    bool dishonest;                     /* it changes its p2m's structure without saying so */
    uint64_t ballooned;                 /* pages that it got, ever: no two come with the same content */
    uint64_t kernel_pfn;                /* the page in which the kernel keeps what it knows (guest_adopt.c) */
    char crash[192];                    /* why its kernel could not start */

    uint64_t *bitmap;                   /* log-dirty, by pfn */
    uint8_t set_pieces[ST_PIECES];      /* pieces of it in which a bit is set: the others are not looked at */
    uint64_t dirty_count, fault_count;

    struct st_rng rng;
    uint64_t hot_first;
    uint64_t next_packed;               /* index in mem: the next page to put to another use */
    struct st_transient transient[8];
    unsigned nr_transient;
    uint64_t ticks, writes, pt_updates;
    enum st_suspend_step step;
    uint32_t polls;

    struct st_vcpu *vcpu;
    struct st_tsc tsc;
    struct xc_cpu_policy *policy;       /* NULL: none was set */
    uint32_t policy_leaves, policy_msrs; /* how many were given */
    stub_grant_seed seed;
    bool seeded;
    pthread_t writer;
    bool has_writer, stop_writer;
};

struct st_domain *st_domain_find(uint32_t domid);
/* The domain a call is about, or NULL with *error = -ESRCH (-EINVAL for domain 0). */
struct st_domain *st_domain_get(uint32_t domid, int *error);
bool st_domain_running(const struct st_domain *d);
int st_domain_new(const stub_guest_config *config, struct st_domain **result);
/* Room for pfns below nr_pfns; nr_pfns grows, never shrinks. */
int st_domain_reserve(struct st_domain *d, uint64_t nr_pfns);
/* A guest that the stub's own kernel runs in, or NULL with *rc and the reason. */
struct st_domain *st_domain_booted(uint32_t domid, int *rc);
int st_domain_empty(uint64_t max_pages, uint32_t vcpus, const char *name, struct st_domain **result);
int st_domain_check_config(const stub_guest_config *config);
int st_domain_unpause(struct st_domain *d);
void st_domain_kill(struct st_domain *d);
void st_domain_reap(void);
void st_domain_free_all(void);
int st_domain_shut_down(struct st_domain *d, int reason);
int st_domain_resume(struct st_domain *d, int fast);

/* ---- memory.c: pages of a domain ---- */
static inline bool st_has_memory(const struct st_domain *d, uint64_t pfn)
{
    return pfn < d->nr_pfns && d->truth[pfn];
}
void *st_guest_page(const struct st_domain *d, uint64_t pfn);
int st_add_memory(struct st_domain *d, uint64_t pfn);
/* The same with that frame, which must be free (-EBUSY). */
int st_add_frame(struct st_domain *d, uint64_t pfn, uint64_t mfn);
/* The same with a run of 2^order frames. */
int st_add_extent(struct st_domain *d, uint64_t pfn, unsigned order, uint64_t *mfn);
void st_sort_memory(struct st_domain *d);
/* The pfn of a frame, if it is the domain's memory; else ST_NONE. */
uint64_t st_own_pfn(const struct st_domain *d, uint64_t mfn);
int st_remove_memory(struct st_domain *d, uint64_t pfn);
/* A frame goes from one pfn to another that has none. */
void st_move_memory(struct st_domain *d, uint64_t from, uint64_t to);
int st_take_data(struct st_domain *d, enum st_kind kind, uint64_t *pfn);
void st_fill_data(struct st_domain *d, uint64_t pfn);
void st_write_word(struct st_domain *d, uint64_t pfn, uint64_t offset, uint64_t value);
int st_pick_data(struct st_domain *d, uint64_t *pfn);

/* ---- pagetable.c ---- */
uint64_t st_pte(const struct st_domain *d, uint64_t pfn, uint64_t flags);
int st_new_table(struct st_domain *d, unsigned level, uint64_t *pfn);
int st_map(struct st_domain *d, uint64_t l4, uint64_t vaddr, uint64_t pte);
/* The table of that level that translates vaddr, by pfn; ST_NONE where there is none. */
uint64_t st_find_table(const struct st_domain *d, uint64_t l4, uint64_t vaddr, unsigned level);
unsigned st_slot(uint64_t vaddr, unsigned level);
void st_set_xen_slots(struct st_domain *d, uint64_t l4);
uint64_t st_direct_address(uint64_t pfn);
int st_direct_map(struct st_domain *d, uint64_t pfn);
void st_direct_unmap(struct st_domain *d, uint64_t pfn);
void st_set_level(struct st_domain *d, uint64_t pfn, unsigned level, bool pinned);
int st_expected_page(const struct st_domain *d, uint64_t pfn, uint64_t *page);

/* ---- p2m.c: the guest's own p2m ---- */
int st_p2m_build(struct st_domain *d);
/* Finds the list's pages through the kernel's own page tables, and hangs them into the tree again. */
int st_p2m_find(struct st_domain *d);
int st_p2m_set(struct st_domain *d, uint64_t pfn, uint64_t value);
int st_p2m_map(struct st_domain *d, uint64_t l4, uint64_t vaddr);
int st_p2m_replace_leaf(struct st_domain *d, uint64_t index);
void st_p2m_generation(struct st_domain *d, uint64_t by);
/* Around a change of the structure: the generation is odd in between, unless the guest says nothing of it. */
void st_p2m_changes(struct st_domain *d);
void st_p2m_drop_shared_l1(struct st_domain *d);
int st_p2m_resize(struct st_domain *d, uint64_t nr_pfns);
/* The tree, in other pages than before. */
int st_p2m_move_tree(struct st_domain *d);

/* ---- guest_build.c ---- */
int st_guest_build(struct st_domain *d);
int st_make_shared_info(struct st_domain *d);
void st_make_handle(struct st_domain *d);
void st_announce_p2m(struct st_domain *d);
shared_info_t *st_shared_info(const struct st_domain *d);
start_info_t *st_start_info(const struct st_domain *d);

/* ---- guest_run.c ---- */
void st_guests_tick(void);
void st_guest_tick(struct st_domain *d);
void st_guest_poll(struct st_domain *d);
void st_guest_before_suspend(struct st_domain *d);
void st_guest_after_resume(struct st_domain *d);
/* Takes a page out of the process's address space, before it becomes something else. */
void st_user_unmap(struct st_domain *d, uint64_t pfn);
int st_writer_start(struct st_domain *d);
void st_writer_stop(struct st_domain *d);     /* lets go of the lock for a moment */

/* ---- guest_adopt.c: a restored guest's kernel finds itself again ---- */
void st_kernel_remember(struct st_domain *d);
int st_guest_adopt(struct st_domain *d);

/* ---- types.c: who refers to a frame, and as what ---- */
/* Counts anew where guests change tables without asking; before any of the next four. */
void st_types_ready(struct st_domain *d);
int st_table_get(struct st_domain *d, uint64_t mfn, unsigned level);
void st_table_put(struct st_domain *d, uint64_t mfn);
int st_gdt_get(struct st_domain *d, uint64_t mfn);
void st_gdt_put(struct st_domain *d, uint64_t mfn);

/* ---- logdirty.c ---- */
void st_mark_dirty(struct st_domain *d, uint64_t pfn);

/* ---- vcpu.c ---- */
int st_vcpus_alloc(struct st_domain *d);
int st_vcpus_build(struct st_domain *d);
void st_vcpus_free(struct st_domain *d);
struct st_vcpu *st_vcpu_find(uint32_t domid, uint32_t vcpu, int *error);

/* ---- vcpu_set.c: the domctls that set what vcpu.c reads ---- */
int st_set_ext(struct xen_domctl *op);
int st_set_xsave(struct xen_domctl *op);
int st_set_msrs(struct xen_domctl *op);

/* ---- policy.c ---- */
void st_policy_free(struct st_domain *d);

/* ---- foreign.c ---- */
uint64_t st_mappings_of(uint32_t domid);
void st_mappings_drop(void);

/* ---- window.c ---- */
/* Where these frames, all of which may be mapped, are mapped for good; NULL: map them anew. */
uint8_t *st_window_find(const xen_pfn_t *frames, size_t pages);
void st_window_forget(void);

/* ---- buffers.c ---- */
bool st_buffer_holds(const void *address, uint64_t length);

/* ---- xenstore.c ---- */
int st_store_set(const char *path, const char *value);
/* NULL if there is no such node. */
const char *st_store_get(const char *path);
void st_store_remove(const char *prefix);
void st_store_clear(void);

/* ---- fault.c: the way into and out of every call ---- */
#define ST_FUNCTIONS(X)                                                                      \
    X(xc_interface_open) X(xc_interface_close) X(xc_version) X(xc_domctl)                    \
    X(xc_domain_getinfolist) X(xc_domain_get_guest_width) X(xc_domain_nr_gpfns)              \
    X(xc_domain_get_tsc_info) X(xc_domain_pause) X(xc_domain_unpause) X(xc_domain_resume)    \
    X(xc_domain_destroy) X(xc_domain_shutdown) X(xc_maximum_ram_page)                        \
    X(xc_machphys_mfn_list) X(xc_get_pfn_type_batch) X(xc_shadow_control)                    \
    X(xc_logdirty_control) X(xc_vcpu_getinfo) X(xc_vcpu_getcontext) X(xc_cpu_policy_init)    \
    X(xc_cpu_policy_destroy) X(xc_cpu_policy_get_size) X(xc_cpu_policy_get_domain)           \
    X(xc_cpu_policy_serialise) X(xc__hypercall_buffer_alloc) X(xc__hypercall_buffer_free)    \
    X(xc__hypercall_buffer_alloc_pages) X(xc__hypercall_buffer_free_pages)                   \
    X(xenforeignmemory_open) X(xenforeignmemory_close) X(xenforeignmemory_map)               \
    X(xenforeignmemory_unmap) X(xs_open) X(xs_close) X(xs_read) X(xs_write)                  \
    X(xs_transaction_start) X(xs_transaction_end) X(xs_resume_domain)                        \
    X(xc_domain_populate_physmap_exact) X(xc_mmuext_op) X(xc_vcpu_setcontext)                \
    X(xc_domain_set_tsc_info) X(xc_set_domain_cpu_policy) X(xc_dom_gnttab_seed)              \
    X(xc_domain_decrease_reservation_exact)

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

/* ---- interface.c: libxenctrl's handle ---- */
bool st_xch_valid(const xc_interface *xch);
void st_log_error(xc_interface *xch, const char *function, int error);
/* st_begin() for calls with a handle: -EBADF for a handle that is not open. */
int st_begin_xc(enum st_function function, xc_interface *xch);

/* Open things, for stub_get_usage. */
extern stub_usage st_usage;

#endif
