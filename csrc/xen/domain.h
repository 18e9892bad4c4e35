/* Internal: facts about a domain, for calls that have entered the handle. */
#ifndef XCSR_DOMAIN_H
#define XCSR_DOMAIN_H

#include "xen/handle.h"

int domain_ask(xcsr *h, uint32_t domid, xcsr_domain *out); /* -errno with a text: -ESRCH if there is no such domain */

#endif
