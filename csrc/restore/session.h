/* Internal: a domain being built from a stream. */
#ifndef XCSR_RESTORE_H
#define XCSR_RESTORE_H

#include "xen/page_types.h"

#include <sys/uio.h>

#define ENTRY_PFN 0x000fffffffffffffull

/* One byte a pfn. All zero: it was never sent, and has no memory. */
#define FLAG_TYPE 0x0f  /* as sent last */
#define FLAG_SEEN 0x10  /* has had an entry */
#define FLAG_DATA 0x20  /* its last entry had data */
#define FLAG_LISTED 0x40 /* in the record under way: a second entry is refused */
#define FLAG_GOING 0x40 /* the same bit, between records: those of the next checkpoint will say that it is gone */
#define FLAG_MEMORY 0x80 /* the domain has a frame for it */

/* Has memory ahead of its first mention (row.c). There is no such type, so that nothing else looks so. */
#define FLAGS_AHEAD (FLAG_MEMORY | 5)

enum step { STEP_HEAD, STEP_ENTRIES, STEP_PAGES };

struct xcsr_restore {
    xcsr *h;
    uint32_t domid;
    bool compare;
    const struct pt_geometry *geometry; /* of its page tables and its p2m; NULL: translated */
    bool translated; /* pfn == gfn: Xen alone knows the frames, and there are no page tables in the stream */
    uint64_t limit, nr_pfns;
    uint64_t *mfns; /* by pfn, where it has FLAG_MEMORY; NULL: translated */
    uint8_t *flags; /* by pfn */

    bool without_rows; /* row.c: no row gets memory ahead; Xen has refused some, or nobody wants it */
    struct {
        uint64_t next, length; /* the pfn that would go on in the row, and how many are in it */
        uint64_t ahead_end;    /* where what was given to it ends; 0: nothing was */
    } row;

    /* the record under way */
    enum step step;
    bool reading;
    struct {
        uint32_t count, reserved;
    } head;
    uint64_t *entries, nr_room; /* count of them; the buffer is kept */
    uint64_t at;                /* entries done with */
    xcsr_page_result result;

    /* the batch under way: entries at to at + nr */
    uint32_t nr, nr_pages;
    char *map; /* nr_pages frames, writable; or, comparing, NULL */
    uint64_t pfns[XCSR_BATCH];
    xen_pfn_t frames[XCSR_BATCH];
    int errs[XCSR_BATCH];
    struct iovec iov;
    char *bounce; /* comparing: XCSR_BATCH pages */
    uint64_t first_broken; /* complete.c: of the pages that were cleared */
};

static inline bool restore_has_memory(const xcsr_restore *r, uint64_t pfn)
{
    return r->flags[pfn] & FLAG_MEMORY;
}

static inline bool restore_is_ahead(const xcsr_restore *r, uint64_t pfn)
{
    return r->flags[pfn] == FLAGS_AHEAD;
}

/* By what Xen is to be told of a pfn that has memory: its frame, or itself. */
static inline uint64_t restore_frame(const xcsr_restore *r, uint64_t pfn)
{
    return r->mfns ? r->mfns[pfn] : pfn;
}

/* What is said of a pfn, by its entry or for want of one; whether it has memory stays as it is. */
static inline void restore_note(xcsr_restore *r, uint64_t pfn, uint8_t flags)
{
    r->flags[pfn] = (r->flags[pfn] & FLAG_MEMORY) | flags;
}

#endif
