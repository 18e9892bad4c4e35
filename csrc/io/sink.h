/* Internal face of the sink: gathers of the batch. */
#ifndef XCSR_SINK_H
#define XCSR_SINK_H

#include "xcsr_api.h"

#include <sys/uio.h>

/* Starts writing the gather; the array and what it points at stay the caller's and must live, and
 * are changed, until xcsr_sink_flush says 0 or an error. Returns as xcsr_sink_flush. */
int sink_writev(xcsr_sink *s, struct iovec *iov, uint32_t nr);

/* Where the next byte goes: in a file as it lies there, elsewhere from the stream's beginning. */
uint64_t sink_position(const xcsr_sink *s);

/* From now on a paused guest waits for what is written, or not any more: no write waits for a disk then that
 * need not. */
void sink_hurry(xcsr_sink *s, int on);

#endif
