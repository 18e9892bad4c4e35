/* Page tables that have been put in: see tables.h. */
#include "restore/tables.h"

#include <sys/mman.h>

void *tables_map(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, int prot)
{
    for (uint32_t i = 0; i < nr; i++)
        r->frames[i] = restore_frame(r, pfns[i]);
    void *at = xenforeignmemory_map(r->h->fmem, r->domid, prot, nr, r->frames, NULL);
    if (!at)
        xcsr_fail_call(r->h, errno, "xenforeignmemory_map", "cannot map %u frames of domain %u", nr, r->domid);
    return at;
}

bool tables_wanted(const xcsr_restore *r, uint64_t pfn)
{
    uint8_t flags = r->flags[pfn];
    return (flags & FLAG_DATA) && (flags & FLAG_TYPE & 7);
}

/* The pfn of a frame that we gave the domain. */
static uint64_t pfn_of(const xcsr_restore *r, uint64_t mfn)
{
    uint64_t pfn = mfn < r->h->nr_mfns ? xcsr_load(&r->h->m2p[mfn]) : XCSR_INVALID;
    return pfn < r->nr_pfns && restore_has_memory(r, pfn) && restore_frame(r, pfn) == mfn ? pfn : XCSR_INVALID;
}

int tables_targets(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, target_fn *fn, uint64_t *count)
{
    uint64_t *at = tables_map(r, pfns, nr, PROT_READ);
    if (!at)
        return -r->h->error.err;
    for (uint32_t k = 0; k < nr; k++) {
        const uint64_t *table = at + (size_t)k * PTE_PER_TABLE;
        uint32_t level = r->flags[pfns[k]] & FLAG_TYPE & 7;
        for (uint32_t i = 0; i < PTE_PER_TABLE; i++)
            if ((table[i] & PTE_PRESENT) && !pt_is_xens(r->geometry, level, i))
                fn(r, pfns[k], level, i, pfn_of(r, pte_frame(table[i])), count);
    }
    xenforeignmemory_unmap(r->h->fmem, at, nr);
    return 0;
}
