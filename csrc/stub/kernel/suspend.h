/* The answer to control/shutdown. */
#ifndef XCSR_STUB_KERNEL_SUSPEND_H
#define XCSR_STUB_KERNEL_SUSPEND_H

#include "stub/machine/domain.h"

/* One look at it. */
void st_guest_poll(struct st_domain *d);

#endif
