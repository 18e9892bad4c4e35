/* All pfns, batch by batch: see walk.h. */
#include "restore/walk.h"

int walk_batches(xcsr_restore *r, wants_fn *wants, batch_fn *fn, uint64_t *count)
{
    uint64_t pfns[XCSR_BATCH];
    uint32_t nr = 0;
    for (uint64_t pfn = 0; pfn < r->nr_pfns; pfn++) {
        if (wants(r, pfn))
            pfns[nr++] = pfn;
        if (nr < XCSR_BATCH && (pfn + 1 < r->nr_pfns || !nr))
            continue;
        int rc = fn(r, pfns, nr, count);
        if (rc)
            return rc;
        nr = 0;
    }
    return 0;
}
