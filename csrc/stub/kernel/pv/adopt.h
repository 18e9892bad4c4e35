/* A restored guest's kernel finds itself again. */
#ifndef XCSR_STUB_KERNEL_PV_ADOPT_H
#define XCSR_STUB_KERNEL_PV_ADOPT_H

#include "stub/machine/domain.h"

void st_kernel_remember(struct st_domain *d);
int st_pv_start(struct st_domain *d);

#endif
