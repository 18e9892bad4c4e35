/* Internal: memory for a domain being built. The caller has entered. */
#ifndef XCSR_POPULATE_H
#define XCSR_POPULATE_H

#include "restore/session.h"

/* Gives memory to those of the pfns (at most XCSR_BATCH) that have none; duplicates are allowed. */
int restore_populate(xcsr_restore *r, const uint64_t *pfns, uint32_t nr);

#endif
