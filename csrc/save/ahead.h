/* Internal: a thread that maps and unmaps frames of guests while the thread that owns the handle does something else.
 *
 * It has a foreign memory handle and a logger of its own, and touches nothing else of the handle. It does what it is
 * asked for in the order in which it is asked. */
#ifndef XCSR_AHEAD_H
#define XCSR_AHEAD_H

#include "xen/handle.h"

struct ahead;

struct mapping { /* frames of a guest, mapped; at is NULL where there is none */
    void *at;
    uint32_t nr;
    struct ahead *by; /* whose foreign memory handle it was made with; NULL: the handle's */
};

/* Caller has entered. On failure *out is NULL and the handle tells why. */
int ahead_start(xcsr *h, struct ahead **out);
/* Begins to map frames, for reading. One mapping at a time; frames and errs (of zeros) stay until it is taken. */
void ahead_map(struct ahead *a, uint32_t domid, uint32_t nr, const xen_pfn_t *frames, int *errs);
/* Waits for that mapping, but for nothing asked for later. 0, or a positive errno, and then h has the library's message. */
int ahead_take(struct ahead *a, xcsr *h, struct mapping *out);
void ahead_unmap(struct ahead *a, void *at, uint32_t nr); /* a mapping that was taken; returns at once if it can */
void ahead_settle(struct ahead *a);                       /* waits until all is done; harmless for NULL */
int64_t ahead_busy_us(struct ahead *a);                   /* how long it has been mapping and unmapping in all */
/* Lets it do all that it was asked for, unmaps a mapping that nobody took, and ends the thread. Harmless for NULL. */
void ahead_stop(struct ahead *a);
void ahead_forget(struct ahead *a); /* in a forked child, where there is no such thread: memory only */

/* Unmaps, through the handle that it was mapped with; harmless where there is none. */
static inline void mapping_drop(xcsr *h, struct mapping *m)
{
    if (m->at && m->by)
        ahead_unmap(m->by, m->at, m->nr);
    else if (m->at)
        xenforeignmemory_unmap(h->fmem, m->at, m->nr);
    m->at = NULL;
}

#endif
