/* Internal: a domain being built from a stream. */
#ifndef XCSR_RESTORE_H
#define XCSR_RESTORE_H

#include "xen/page_types.h"
#include "io/source.h"
#include "xen/handle.h"

#define ENTRY_PFN 0x000fffffffffffffull

/* One byte a pfn. A pfn that was never sent is all zero: no memory, no data. */
#define FLAG_TYPE 0x0f  /* as sent last */
#define FLAG_SEEN 0x10  /* has had an entry */
#define FLAG_DATA 0x20  /* its last entry had data */
#define FLAG_LISTED 0x40 /* in the record under way: a second entry is refused */

enum step { STEP_HEAD, STEP_ENTRIES, STEP_PAGES };

struct xcsr_restore {
    xcsr *h;
    uint32_t domid;
    bool compare;
    uint64_t limit, nr_pfns;
    uint64_t *mfns; /* by pfn; 0: no memory (frame 0 is never a guest's) */
    uint8_t *flags; /* by pfn */

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
};

/* Gives memory to those of the pfns that have none; duplicates are allowed. Caller has entered. */
int restore_populate(xcsr_restore *r, const uint64_t *pfns, uint32_t nr);
/* Replaces, in a table just received, pfns by mfns; targets without memory get some. */
int restore_localise(xcsr_restore *r, uint64_t pfn, uint32_t level, uint64_t *table);
int restore_stream_error(xcsr_restore *r, uint64_t pfn, uint64_t mfn, uint32_t level, uint32_t index,
                         const char *text);

#endif
