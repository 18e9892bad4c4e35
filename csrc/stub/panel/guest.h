/* Finding the guest that a function of the panel is about. */
#ifndef XCSR_STUB_PANEL_GUEST_H
#define XCSR_STUB_PANEL_GUEST_H

#include "stub/machine/domain.h"

/* With the lock: the guest, or NULL with *rc and a text that says why. */
struct st_domain *st_panel_guest(uint32_t domid, int *rc);
/* A guest that the stub's own kernel runs in. */
struct st_domain *st_panel_booted(uint32_t domid, int *rc);
/* A PV guest that the stub's own kernel runs in. */
struct st_domain *st_panel_pv(uint32_t domid, int *rc);
/* A guest in which that pfn has memory. */
struct st_domain *st_panel_guest_with(uint32_t domid, uint64_t pfn, int *rc);

#endif
