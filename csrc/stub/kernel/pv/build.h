/* Building a guest. */
#ifndef XCSR_STUB_KERNEL_PV_BUILD_H
#define XCSR_STUB_KERNEL_PV_BUILD_H

#include "stub/machine/domain.h"

int st_guest_build(struct st_domain *d);

#endif
