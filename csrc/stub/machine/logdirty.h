/* Log-dirty mode: which pfns were written since the bitmap was last cleaned. */
#ifndef XCSR_STUB_MACHINE_LOGDIRTY_H
#define XCSR_STUB_MACHINE_LOGDIRTY_H

#include "stub/machine/domain.h"

void st_mark_dirty(struct st_domain *d, uint64_t pfn);
void st_mark_clean(struct st_domain *d, uint64_t pfn);

#endif
