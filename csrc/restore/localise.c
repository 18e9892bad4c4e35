/* Page tables, from pfns to mfns: the mirror of normalise.c, but on untrusted input. */
#include "restore/localise.h"
#include "restore/complaint.h"
#include "restore/populate.h"

/* First all entries are checked and their targets given memory, and only then are they rewritten: a table that is
 * refused stays as it was received. */
int restore_localise(xcsr_restore *r, uint64_t pfn, uint32_t level, uint64_t *table)
{
    const struct pt_geometry *g = r->geometry;
    uint64_t targets[PTE_PER_TABLE];
    uint32_t n = 0;
    for (unsigned int i = 0; i < PTE_PER_TABLE; i++) {
        if (!(table[i] & PTE_PRESENT) || pt_is_xens(g, level, i))
            continue;
        uint64_t target = pte_frame(table[i]);
        if (target >= r->nr_pfns)
            return restore_stream_error(r, pfn, target, level, i, "refers beyond the p2m, to");
        if (level > 1 && (table[i] & PTE_SUPERPAGE))
            return restore_stream_error(r, pfn, target, level, i, "maps a superpage at");
        targets[n++] = target;
    }
    int rc = restore_populate(r, targets, n);
    if (rc)
        return rc;
    for (unsigned int i = 0; i < PTE_PER_TABLE; i++) {
        if (pt_is_xens(g, level, i))
            table[i] = 0;
        else if (table[i] & PTE_PRESENT)
            table[i] = pte_with_frame(table[i], restore_frame(r, pte_frame(table[i])));
    }
    return 0;
}
