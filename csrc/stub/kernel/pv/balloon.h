/* What a PV guest does with its p2m. */
#ifndef XCSR_STUB_KERNEL_PV_BALLOON_H
#define XCSR_STUB_KERNEL_PV_BALLOON_H

#include "stub/machine/domain.h"

int st_pv_move_p2m(struct st_domain *d, uint64_t vaddr, bool new_root);
int st_pv_balloon_out(struct st_domain *d, uint64_t pfn);
int st_pv_balloon_in(struct st_domain *d, uint64_t pfn, uint64_t mfn);
int st_pv_move_page(struct st_domain *d, uint64_t from, uint64_t to);

#endif
