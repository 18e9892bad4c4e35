/* A guest's page tables. */
#ifndef XCSR_STUB_KERNEL_PV_TABLES_H
#define XCSR_STUB_KERNEL_PV_TABLES_H

#include "stub/machine/domain.h"

uint64_t st_pte(const struct st_domain *d, uint64_t pfn, uint64_t flags);
int st_new_table(struct st_domain *d, unsigned level, uint64_t *pfn);
int st_map(struct st_domain *d, uint64_t l4, uint64_t vaddr, uint64_t pte);
/* The table of that level that translates vaddr, by pfn; ST_NONE where there is none. */
uint64_t st_find_table(const struct st_domain *d, uint64_t l4, uint64_t vaddr, unsigned level);
unsigned st_slot(uint64_t vaddr, unsigned level);
uint64_t st_direct_address(uint64_t pfn);
int st_direct_map(struct st_domain *d, uint64_t pfn);
void st_direct_unmap(struct st_domain *d, uint64_t pfn);
void st_set_level(struct st_domain *d, uint64_t pfn, unsigned level, bool pinned);
int st_expected_page(const struct st_domain *d, uint64_t pfn, uint64_t *page);

#endif
