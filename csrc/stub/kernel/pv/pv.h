/* The PV guest as a kind. */
#ifndef XCSR_STUB_KERNEL_PV_PV_H
#define XCSR_STUB_KERNEL_PV_PV_H

#include "stub/kernel/kernel.h"

extern const struct st_guest_kind st_pv_kind;
/* What the kernel does when it runs again, the first time, too. */
void st_pv_after_resume(struct st_domain *d);

#endif
