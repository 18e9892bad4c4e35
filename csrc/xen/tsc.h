/* Internal: a domain's time stamp counter. The caller has entered. */
#ifndef XCSR_TSC_H
#define XCSR_TSC_H

#include "xen/handle.h"

int domain_tsc(xcsr *h, uint32_t domid, xcsr_tsc *out);

#endif
