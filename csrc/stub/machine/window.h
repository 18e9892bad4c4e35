/* Mappings that cost next to nothing. */
#ifndef XCSR_STUB_MACHINE_WINDOW_H
#define XCSR_STUB_MACHINE_WINDOW_H

#include "stub/machine/base.h"

/* Where these frames, all of which may be mapped, are mapped for good; NULL: map them anew. */
uint8_t *st_window_find(const xen_pfn_t *frames, size_t pages);
void st_window_forget(void);
/* The same, but all stays mapped: in a forked child. */
void st_window_abandon(void);

#endif
