/* A guest with its kernel, and a domain that waits for one. */
#ifndef XCSR_STUB_KERNEL_CREATE_H
#define XCSR_STUB_KERNEL_CREATE_H

#include "stub/kernel/described.h"
#include "stub/machine/domain.h"

int st_guest_new(const stub_guest_config *config, struct st_domain **result);
int st_guest_new_hvm(const stub_guest_config *config, const stub_hvm_config *hvm, struct st_domain **result);
/* A domain to restore into; its kernel starts with the first unpause. */
int st_guest_awaited(enum st_domain_kind kind, uint64_t max_pages, uint32_t vcpus, const char *name,
                     struct st_domain **result);

#endif
