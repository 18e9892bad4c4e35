/* The table from frames to pfns that Xen keeps. */
#ifndef XCSR_STUB_MACHINE_M2P_H
#define XCSR_STUB_MACHINE_M2P_H

#include "stub/machine/base.h"

uint64_t st_m2p_bytes(void);
int st_m2p_map(void);

#endif
