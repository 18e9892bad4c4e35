/* Internal: the page tables of a PV guest being built, as they stand in its memory. The caller has entered. */
#ifndef XCSR_TABLES_H
#define XCSR_TABLES_H

#include "restore/session.h"

/* What a present entry names. target: a pfn that has memory, or XCSR_INVALID: the frame is none of the domain's. */
typedef void target_fn(xcsr_restore *r, uint64_t table, uint32_t level, uint32_t index, uint64_t target, uint64_t *count);

/* The frames of nr pfns, at most XCSR_BATCH; NULL: the error record says why. */
void *tables_map(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, int prot);
/* Whether a pfn was sent as a page table last: what walk_batches wants. */
bool tables_wanted(const xcsr_restore *r, uint64_t pfn);
/* Calls fn for each entry of a batch of them that is the guest's own and present. */
int tables_targets(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, target_fn *fn, uint64_t *count);

#endif
