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
/*
 * Xen's own mappings, in an L4 table or, of a 32-bit guest, in the last L2 table of an address space: the m2p. In an
 * L3 table of a 32-bit guest: nothing, in the slots that it cannot use.
 */
void st_set_xen_slots(struct st_domain *d, uint64_t table);
/* Whether that slot of a table, given by its frame, is Xen's to fill in. */
bool st_is_xen_slot(const struct st_domain *d, uint64_t mfn, unsigned slot);

#endif
