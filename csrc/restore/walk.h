/* Internal: all pfns of a domain being built, batch by batch. */
#ifndef XCSR_WALK_H
#define XCSR_WALK_H

#include "restore/session.h"

typedef bool wants_fn(const xcsr_restore *r, uint64_t pfn);
typedef int batch_fn(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, uint64_t *count);

/* Calls fn for batches of the pfns that it wants, until one returns an error. */
int walk_batches(xcsr_restore *r, wants_fn *wants, batch_fn *fn, uint64_t *count);

#endif
