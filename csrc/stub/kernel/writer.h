/* A thread in which the guest writes. */
#ifndef XCSR_STUB_KERNEL_WRITER_H
#define XCSR_STUB_KERNEL_WRITER_H

#include "stub/machine/domain.h"

int st_writer_start(struct st_domain *d);
void st_writer_stop(struct st_domain *d);     /* lets go of the lock for a moment */

#endif
