/* Internal: what is wrong with a stream, as an error record. */
#ifndef XCSR_COMPLAINT_H
#define XCSR_COMPLAINT_H

#include "restore/session.h"

/* level 0: of the pfn itself; else of entry index of the table that it is, which names pfn target. Returns -ERANGE. */
int restore_stream_error(xcsr_restore *r, uint64_t pfn, uint64_t target, uint32_t level, uint32_t index, const char *text);

#endif
