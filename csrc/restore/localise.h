/* Internal: page tables, from pfns to mfns. The caller has entered. */
#ifndef XCSR_LOCALISE_H
#define XCSR_LOCALISE_H

#include "restore/session.h"

/* Replaces, in a table just received, pfns by mfns; targets without memory get some. */
int restore_localise(xcsr_restore *r, uint64_t pfn, uint32_t level, uint64_t *table);

#endif
