/* The table from frames to pfns that Xen keeps, and the one of 32-bit words that 32-bit guests see. */
#ifndef XCSR_STUB_MACHINE_M2P_H
#define XCSR_STUB_MACHINE_M2P_H

#include "stub/machine/base.h"

#define ST_MAX_COMPAT_FRAMES (84UL << 19)   /* whose entries 84 slots of an L2 table map, at 2 MiB each */

/* Lays both out from that frame on; returns the first frame behind them. */
uint64_t st_m2p_place(uint64_t first);
int st_m2p_map(void);
/* Every entry invalid. */
void st_m2p_clear(void);
void st_m2p_unmap(void);
void st_m2p_set(uint64_t mfn, uint64_t pfn);
/* How many frames can be added to the machine until its 64-bit table has no entries for them. */
uint64_t st_m2p_room(void);
/* Frame of a chunk of the 32-bit m2p; ST_NONE behind its last one. */
uint64_t st_compat_m2p_mfn(uint64_t chunk);

#endif
