/* The guest's own p2m. */
#ifndef XCSR_STUB_KERNEL_PV_P2M_H
#define XCSR_STUB_KERNEL_PV_P2M_H

#include "stub/machine/domain.h"

int st_p2m_build(struct st_domain *d);
/* Finds the list's pages through the kernel's own page tables, and hangs them into the tree again. */
int st_p2m_find(struct st_domain *d);
int st_p2m_set(struct st_domain *d, uint64_t pfn, uint64_t value);
int st_p2m_map(struct st_domain *d, uint64_t root, uint64_t vaddr);
int st_p2m_replace_leaf(struct st_domain *d, uint64_t index);
void st_p2m_generation(struct st_domain *d, uint64_t by);
/* Around a change of the structure: the generation is odd in between, unless the guest says nothing of it. */
void st_p2m_changes(struct st_domain *d);
void st_p2m_drop_shared_l1(struct st_domain *d);
int st_p2m_resize(struct st_domain *d, uint64_t nr_pfns);
/* The tree, in other pages than before. */
int st_p2m_move_tree(struct st_domain *d);
/* What Linux writes once its p2m is set up. */
void st_announce_p2m(struct st_domain *d);

#endif
