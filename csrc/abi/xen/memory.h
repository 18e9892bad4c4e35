/* Memory operations of Xen 4.17, as far as this project uses them. See ../README. */
#ifndef XCSR_ABI_XEN_MEMORY_H
#define XCSR_ABI_XEN_MEMORY_H

#include "xen.h"

/* The gfns get entries that find their memory when they are first touched. */
#define XENMEMF_populate_on_demand (1 << 16)

#endif
