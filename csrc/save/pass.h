/* Internal: a pass. */
#ifndef XCSR_PASS_H
#define XCSR_PASS_H

#include "save/session.h"

/* Lets go of the batch in hand and of the next; harmless when there is none. The caller has entered, or is freeing. */
void pass_drop(xcsr_save *s);

/* The caller has entered. See xcsr_pass_begin, xcsr_batches. */
void pass_begin(xcsr_save *s, bool suspended);
void pass_add(xcsr_batch_result *sum, const xcsr_batch_result *some); /* the later one stands where the pass stands */
int pass_batches(xcsr_save *s, xcsr_sink *sink, uint32_t for_us, xcsr_batch_result *out);

#endif
