/* The vcpus of a guest that is built. */
#ifndef XCSR_STUB_KERNEL_PV_VCPUS_H
#define XCSR_STUB_KERNEL_PV_VCPUS_H

#include "stub/machine/domain.h"

int st_vcpus_build(struct st_domain *d);

#endif
