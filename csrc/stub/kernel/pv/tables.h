/* A guest's page tables. */
#ifndef XCSR_STUB_KERNEL_PV_TABLES_H
#define XCSR_STUB_KERNEL_PV_TABLES_H

#include "stub/machine/domain.h"

uint64_t st_pte(const struct st_domain *d, uint64_t pfn, uint64_t flags);
int st_new_table(struct st_domain *d, unsigned level, uint64_t *pfn);
/* A pinned root; of a 32-bit guest with an L2 table of its own in which Xen has slots. */
int st_new_root(struct st_domain *d, uint64_t *root);
/* A root that says the same as the kernel's. */
int st_copy_root(struct st_domain *d, uint64_t *root);
void st_free_root(struct st_domain *d, uint64_t root);
/* A table that is used no more becomes a data page. */
void st_free_table(struct st_domain *d, uint64_t table);
/* An entry above level 1; what the kernel's part of a 32-bit guest's address space says, it says in every root. */
void st_set_entry(struct st_domain *d, uint64_t table, unsigned slot, uint64_t pte);
int st_map(struct st_domain *d, uint64_t root, uint64_t vaddr, uint64_t pte);
/* The table of that level that translates vaddr, by pfn; ST_NONE where there is none. */
uint64_t st_find_table(const struct st_domain *d, uint64_t root, uint64_t vaddr, unsigned level);
unsigned st_slot(uint64_t vaddr, unsigned level);
int st_direct_map(struct st_domain *d, uint64_t pfn);
void st_direct_unmap(struct st_domain *d, uint64_t pfn);
void st_set_level(struct st_domain *d, uint64_t pfn, unsigned level, bool pinned);
int st_expected_page(const struct st_domain *d, uint64_t pfn, uint64_t *page);

#endif
