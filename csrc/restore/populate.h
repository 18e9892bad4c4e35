/* Internal: memory for a domain being built. The caller has entered. */
#ifndef XCSR_POPULATE_H
#define XCSR_POPULATE_H

#include "restore/session.h"

/* Gives memory to those of the pfns (at most XCSR_BATCH) that have none; duplicates are allowed. */
int restore_populate(xcsr_restore *r, const uint64_t *pfns, uint32_t nr);
/* Sent once, and then said to be gone: ballooned out while the guest was saved. What is broken is not gone from a guest whose
 * page tables name it. */
bool restore_is_gone(const xcsr_restore *r, uint64_t pfn);
/* Takes the memory of nr pfns, at most XCSR_BATCH, from the domain. *given grows by them. */
int restore_take_back(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, uint64_t *given);
/* The same for what lies ahead of the row (row.h) and is nobody's yet. */
int restore_take_ahead(xcsr_restore *r, uint64_t *given);

#endif
