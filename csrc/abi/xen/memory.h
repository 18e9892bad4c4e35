/* Memory operations of Xen 4.17, as far as this project uses them. See ../README. */
#ifndef XCSR_ABI_XEN_MEMORY_H
#define XCSR_ABI_XEN_MEMORY_H

#include "xen.h"

/* The gfns get entries that find their memory when they are first touched. */
#define XENMEMF_populate_on_demand (1 << 16)

/* Where the m2p that 32-bit guests see lies, in extents of 2 MiB. */
#define XENMEM_machphys_compat_mfn_list 25

struct xen_machphys_mfn_list {
    unsigned int max_extents;
    XEN_GUEST_HANDLE(xen_pfn_t) extent_start;
    unsigned int nr_extents; /* how many were written */
};
typedef struct xen_machphys_mfn_list xen_machphys_mfn_list_t;

#endif
