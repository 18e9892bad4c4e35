/* Pages of a domain. */
#ifndef XCSR_STUB_MACHINE_MEMORY_H
#define XCSR_STUB_MACHINE_MEMORY_H

#include "stub/machine/domain.h"

static inline bool st_has_memory(const struct st_domain *d, uint64_t pfn)
{
    return pfn < d->nr_pfns && d->truth[pfn];
}
void *st_guest_page(const struct st_domain *d, uint64_t pfn);
/* A frame that nobody has, or that is the domain's at no pfn, at that pfn. */
void st_own(struct st_domain *d, uint64_t pfn, uint64_t mfn);
int st_add_memory(struct st_domain *d, uint64_t pfn);
/* The same with that frame, which must be free (-EBUSY). */
int st_add_frame(struct st_domain *d, uint64_t pfn, uint64_t mfn);
/* The same with a run of 2^order frames. */
int st_add_extent(struct st_domain *d, uint64_t pfn, unsigned order, uint64_t *mfn);
void st_sort_memory(struct st_domain *d);
/* The pfn of a frame, if it is the domain's memory; else ST_NONE. */
uint64_t st_own_pfn(const struct st_domain *d, uint64_t mfn);
int st_remove_memory(struct st_domain *d, uint64_t pfn);
/* A frame goes from one pfn to another that has none. */
void st_move_memory(struct st_domain *d, uint64_t from, uint64_t to);
/* Writes of the guest's own: the page is marked dirty. 64 bits whatever the guest's width, as page tables have; */
void st_write_word(struct st_domain *d, uint64_t pfn, uint64_t offset, uint64_t value);
/* and word number i, of the guest's width. */
void st_set_word(struct st_domain *d, uint64_t pfn, uint64_t i, uint64_t value);

#endif
