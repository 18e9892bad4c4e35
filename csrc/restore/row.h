/* Internal: memory of an HVM guest given in extents of 2 MiB, ahead of a row of pages. The caller has entered. */
#ifndef XCSR_ROW_H
#define XCSR_ROW_H

#include "restore/session.h"

/* A batch of the stream, of which nothing is noted yet, wants memory for these pfns, and, if whole, has no others. If they go
 * on in a row, the row may get it, and some ahead of it; if they do not, what is ahead is taken back. What still has none
 * afterwards is restore_populate's. */
int row_next(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, bool whole);

#endif
