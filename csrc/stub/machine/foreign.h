/* Foreign mappings. */
#ifndef XCSR_STUB_MACHINE_FOREIGN_H
#define XCSR_STUB_MACHINE_FOREIGN_H

#include "stub/machine/base.h"

/* How many of a domain's frames' mappings are alive. */
uint64_t st_mappings_of(uint32_t domid);
void st_mappings_drop(void);
/* In a forked child: no mapping and no handle is this machine's any more; what is mapped stays so. */
void st_mappings_abandon(void);

#endif
