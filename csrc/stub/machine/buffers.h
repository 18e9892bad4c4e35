/* Hypercall-safe buffers. */
#ifndef XCSR_STUB_MACHINE_BUFFERS_H
#define XCSR_STUB_MACHINE_BUFFERS_H

#include "stub/machine/base.h"

bool st_buffer_holds(const void *address, uint64_t length);
/* In a forked child: those that there are may be released, but count no more. */
void st_buffers_abandon(void);

#endif
