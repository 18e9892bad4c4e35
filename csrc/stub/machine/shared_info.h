/* The page that Xen and a guest share, in the layout of the guest's width. */
#ifndef XCSR_STUB_MACHINE_SHARED_INFO_H
#define XCSR_STUB_MACHINE_SHARED_INFO_H

#include "stub/machine/domain.h"

/* A page of Xen's; what Xen keeps in it is there, the rest is zero. */
int st_make_shared_info(struct st_domain *d);
/* A domain without memory becomes one of that width: the page lies where a start_info can say that it is. */
int st_narrow_shared_info(struct st_domain *d, const struct st_geometry *narrow);
void *st_shared_info(const struct st_domain *d);
void st_mask_all_events(struct st_domain *d);
uint64_t st_arch_get(const struct st_domain *d, enum st_arch_field field);
/* In one write. */
void st_arch_set(struct st_domain *d, enum st_arch_field field, uint64_t value);

#endif
