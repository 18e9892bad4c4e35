/* Internal: an HVM guest's state besides its memory. The caller has entered. */
#ifndef XCSR_HVM_STATE_H
#define XCSR_HVM_STATE_H

#include "save/records.h"

/* Puts the records of the TSC, Xen's context and the parameters, these if one is not zero. *as_told is false, and the
 * last record is missing, if a parameter has another value than params says. */
int hvm_state(xcsr *h, uint32_t domid, uint32_t nr_params, const xcsr_param *params, struct records *o, bool *as_told);

#endif
