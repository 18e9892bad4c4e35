/* The guest's one process. */
#ifndef XCSR_STUB_KERNEL_PV_PROCESS_H
#define XCSR_STUB_KERNEL_PV_PROCESS_H

#include "stub/machine/domain.h"

/* One update of its page tables. */
void st_process_update(struct st_domain *d);
/* Entries that stood for a while only are what they were. */
void st_process_settle(struct st_domain *d);
/* Takes a page out of the process's address space, before it becomes something else. */
void st_user_unmap(struct st_domain *d, uint64_t pfn);

#endif
