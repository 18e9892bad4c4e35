/* Internal: a vcpu's context in pfns. */
#ifndef XCSR_VCPU_CONTEXT_H
#define XCSR_VCPU_CONTEXT_H

#include "xcsr.h"

/* Replaces a context's frames by pfns. -ERANGE, XCSR_E_STATE. The caller has entered. */
int vcpu_to_pfns(const xcsr_p2m *p, uint32_t vcpu, void *context);

#endif
