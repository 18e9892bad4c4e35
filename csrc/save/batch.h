/* Internal: one batch, step by step. The caller has entered. */
#ifndef XCSR_BATCH_H
#define XCSR_BATCH_H

#include "save/session.h"

/* The next pfns of the bitmap, their frames and types. position: where in its output the record begins, but for whole
 * pages; as it is known by then. */
int batch_prepare(xcsr_save *s, struct batch *b, uint64_t position);
uint64_t batch_end(const struct batch *b); /* where the next record begins, but for whole pages */
/* Its pages are mapped: makes the record of them. */
int batch_build(xcsr_save *s, struct batch *b);

#endif
