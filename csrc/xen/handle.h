/* Internal: the handle, errors, release next to acquire. */
#ifndef XCSR_H
#define XCSR_H

#include "base/base.h"
#include "xen/compat.h"
#include "xen/pte.h"

#include <stdatomic.h>
#include <sys/types.h>

struct xcsr_logger { /* keeps the last message that libxc gave at warning level or above */
    xentoollog_logger vt;
    char last[256];
};

struct xcsr {
    xc_interface *xch;
    xenforeignmemory_handle *fmem;
    struct xs_handle *xs; /* opened at first use */
    struct xcsr_logger log;
    pid_t pid;
    atomic_flag busy;
    xcsr_error error;
    uint64_t nr_mfns; /* 0: m2p not mapped yet */
    uint64_t *m2p;
    uint64_t m2p_frames;
    uint64_t compat_m2p; /* first frame of Xen's m2p for 32-bit guests; 0: not asked yet */
};

struct xcsr_p2m {
    xcsr *h;
    uint32_t domid;
    const struct pt_geometry *geometry;
    uint64_t nr_pfns, nr_leaves;
    uint64_t *leaf_mfns;
    uint64_t *leaf_pfns; /* since xcsr_p2m_leaf_pfns; until then XCSR_INVALID */
    uint8_t *fresh;      /* by leaf: it is another page than before, or was written. See follow.c */
    const void *entries; /* nr_leaves * geometry->per_leaf, mapped from the guest; see p2m_load */
    uint64_t compat_m2p; /* as the handle's, for a guest that sees that m2p; else XCSR_INVALID */
    bool has_broken; /* Xen has said of a page of the guest's that the hardware has lost it */
};

/* xcsr_fail for a failed libxenctrl call: adds libxc's own last message. */
int xcsr_fail_call(xcsr *h, int err, const char *op, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Entered by every public function that uses the handle; leave with xcsr_leave, by XCSR_ENTER's
 * cleanup. */
int xcsr_enter(xcsr *h);
void xcsr_leave(xcsr **h);
/* Whoever has entered begins something new: what an earlier call said is not told in an error of this one. */
void xcsr_fresh(xcsr *h);
/* For what releases: waits until another thread's call is over; leave with xcsr_leave. False in another
 * process, where nothing but memory may be released. */
bool xcsr_seize(xcsr *h);
#define XCSR_ENTER(handle)                                                                          \
    int enter_rc_ = xcsr_enter(handle);                                                             \
    if (enter_rc_)                                                                                  \
        return enter_rc_;                                                                           \
    __attribute__((cleanup(xcsr_leave), unused)) xcsr *entered_ = (handle)

int xcsr_m2p_need(xcsr *h); /* maps the m2p unless it is; caller has entered */
int m2p_need_whole(xcsr *h); /* the same; -ERANGE if the machine has more frames than when the m2p was mapped */
int m2p_need_compat(xcsr *h); /* h->compat_m2p; caller has entered */

void xcsr_logger_init(struct xcsr_logger *log);

/* The guest writes both tables: each word is read once. */
static inline uint64_t xcsr_load(const uint64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

/* An entry of a p2m whose words have width bytes. All ones, in whatever width, are XCSR_INVALID. */
static inline uint64_t p2m_load(const void *entries, uint32_t width, uint64_t pfn)
{
    if (width == sizeof(uint64_t))
        return xcsr_load((const uint64_t *)entries + pfn);
    uint32_t entry = __atomic_load_n((const uint32_t *)entries + pfn, __ATOMIC_RELAXED);
    return entry == UINT32_MAX ? XCSR_INVALID : entry;
}

static inline const void *p2m_at(const void *entries, uint32_t width, uint64_t pfn)
{
    return (const char *)entries + pfn * width;
}

/* Raw; none beyond the end. */
static inline uint64_t p2m_entry(const struct xcsr_p2m *p, uint64_t pfn)
{
    return pfn < p->nr_pfns ? p2m_load(p->entries, p->geometry->width, pfn) : XCSR_INVALID;
}

/* A frame's pfn if the p2m agrees that it is the guest's, else XCSR_INVALID. */
static inline uint64_t xcsr_lookup_pfn(const struct xcsr_p2m *p, uint64_t mfn)
{
    if (mfn >= p->h->nr_mfns)
        return XCSR_INVALID;
    uint64_t pfn = xcsr_load(&p->h->m2p[mfn]);
    return p2m_entry(p, pfn) == mfn ? pfn : XCSR_INVALID;
}

#endif
