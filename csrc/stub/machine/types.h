/* Who refers to a frame, and as what. */
#ifndef XCSR_STUB_MACHINE_TYPES_H
#define XCSR_STUB_MACHINE_TYPES_H

#include "stub/machine/domain.h"

/* Counts anew where guests change tables without asking; before any of the next four. */
void st_types_ready(struct st_domain *d);
int st_table_get(struct st_domain *d, uint64_t mfn, unsigned level);
void st_table_put(struct st_domain *d, uint64_t mfn);
int st_gdt_get(struct st_domain *d, uint64_t mfn);
void st_gdt_put(struct st_domain *d, uint64_t mfn);
/* Xen's own mappings, in an L4 table. */
void st_set_xen_slots(struct st_domain *d, uint64_t l4);

#endif
