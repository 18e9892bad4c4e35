/* Internal: a vcpu's state. The caller has entered. */
#ifndef XCSR_VCPU_H
#define XCSR_VCPU_H

#include "xen/handle.h"

int vcpu_online(xcsr *h, uint32_t domid, uint32_t vcpu, uint32_t *online);
/* width: of the guest's words, as in xcsr_vcpu_blob. */
int vcpu_blob(xcsr *h, uint32_t domid, uint32_t vcpu, enum xcsr_vcpu_blob which, uint32_t width, void *buf, size_t *len);

#endif
