/* A guest with its kernel, and a domain that waits for one. */
#ifndef XCSR_STUB_KERNEL_CREATE_H
#define XCSR_STUB_KERNEL_CREATE_H

#include "stub/kernel/described.h"
#include "stub/machine/domain.h"

int st_guest_new(const stub_guest_config *config, struct st_domain **result);
/* A domain to restore into; its kernel starts with the first unpause. */
int st_guest_awaited(uint64_t max_pages, uint32_t vcpus, const char *name, struct st_domain **result);

#endif
