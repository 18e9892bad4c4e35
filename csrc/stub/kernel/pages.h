/* Pages of a guest, as its kernel uses them. */
#ifndef XCSR_STUB_KERNEL_PAGES_H
#define XCSR_STUB_KERNEL_PAGES_H

#include "stub/machine/domain.h"
#include "stub/machine/frames.h"

/* Puts a data page to another use. */
int st_take_data(struct st_domain *d, enum st_kind kind, uint64_t *pfn);
void st_fill_data(struct st_domain *d, uint64_t pfn);
/* What a page that came holds: other words each time. Nobody's write: it is in no dirty bitmap. */
void st_fill_anew(struct st_domain *d, uint64_t pfn);
/* Whether that pfn is one of those that the guest begins without. */
bool st_is_hole(const struct st_domain *d, uint64_t pfn);
/* The data page that the guest writes to next. */
int st_pick_data(struct st_domain *d, uint64_t *pfn);

#endif
