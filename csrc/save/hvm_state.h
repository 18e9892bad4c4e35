/* Internal: an HVM guest's state besides its memory. The caller has entered. */
#ifndef XCSR_HVM_STATE_H
#define XCSR_HVM_STATE_H

#include "save/records.h"

/* Puts the records of the TSC, Xen's context and the parameters, these if one is not zero. *as_told is false, and the
 * last record is missing, if a parameter has another value than the plan says. Of records that are thrown away the context is
 * garbage if the guest has a PM timer: see xcsr_end_plan. */
int hvm_state(xcsr *h, uint32_t domid, const xcsr_end_plan *p, struct records *o, bool *as_told);

#endif
