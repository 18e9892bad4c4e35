/* CPU policies. */
#ifndef XCSR_STUB_MACHINE_POLICY_H
#define XCSR_STUB_MACHINE_POLICY_H

#include "stub/machine/domain.h"

void st_policy_free(struct st_domain *d);

#endif
