/* The set of pfns whose last entry in the stream carried no data: holes, and pages to come back to.
 * Sparse: a piece of the bitmap exists only where there is such a pfn. */
#ifndef XCSR_DEFERRED_H
#define XCSR_DEFERRED_H

#include "xcsr_api.h"

#define DEFERRED_CHUNK_BITS 32768u
#define DEFERRED_CHUNK_WORDS (DEFERRED_CHUNK_BITS / 64)

typedef struct deferred_set {
    uint64_t **chunks; /* nr_chunks, NULL where empty; owned */
    uint64_t nr_chunks, count;
} deferred_set;

int deferred_init(deferred_set *d, uint64_t nr_pfns); /* -ENOMEM */
int deferred_grow(deferred_set *d, uint64_t nr_pfns); /* -ENOMEM; no-op if not larger */
void deferred_clear(deferred_set *d);
void deferred_free(deferred_set *d);
int deferred_add(deferred_set *d, uint64_t pfn); /* -ENOMEM */

/* Of every page that is sent: most sets are empty where it is. */
static inline void deferred_remove(deferred_set *d, uint64_t pfn)
{
    uint64_t *chunk = d->chunks[pfn / DEFERRED_CHUNK_BITS];
    if (!chunk)
        return;
    uint64_t *word = &chunk[pfn % DEFERRED_CHUNK_BITS / 64], bit = 1ull << pfn % 64;
    d->count -= !!(*word & bit);
    *word &= ~bit;
}

#endif
