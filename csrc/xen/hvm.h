/* Internal: what Xen has of HVM and PVH guests. The caller has entered. See xcsr_hvm_param and so on. */
#ifndef XCSR_HVM_H
#define XCSR_HVM_H

#include "xen/handle.h"

int hvm_nr_gpfns(xcsr *h, uint32_t domid, uint64_t *nr);
int hvm_param(xcsr *h, uint32_t domid, uint32_t index, uint64_t *value);
int hvm_context_size(xcsr *h, uint32_t domid, size_t *size);
int hvm_context(xcsr *h, uint32_t domid, void *buf, size_t *len);

#endif
