/* The guest at work. */
#ifndef XCSR_STUB_KERNEL_RUN_H
#define XCSR_STUB_KERNEL_RUN_H

#include "stub/machine/domain.h"

void st_guest_tick(struct st_domain *d);
/* A turn of its device model, where that writes in step. */
void st_guest_devices(struct st_domain *d);
void st_guest_work(struct st_domain *d, uint32_t writes, uint32_t updates);
void st_guest_before_suspend(struct st_domain *d);
void st_guest_after_resume(struct st_domain *d);

#endif
