/* Whether a guest as it is described can be. */
#ifndef XCSR_STUB_KERNEL_CONFIG_H
#define XCSR_STUB_KERNEL_CONFIG_H

#include "stub/kernel/described.h"

int st_config_check(const stub_guest_config *config);
int st_config_check_hvm(const stub_guest_config *config, const stub_hvm_config *hvm);

#endif
