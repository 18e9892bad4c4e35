/* The p2m's own pages, where the guest has written them.
 *
 * One that has become a page table would be sent as such, and no receiver could write its p2m into it: the stream would look
 * complete, and nobody could take it. What becomes a page table is dirty then, so only pages that the bitmap names are asked
 * about. */
#include "save/leaves.h"
#include "save/dirty.h"
#include "xen/p2m.h"

static void by_m2p(const xcsr_save *s, xcsr_p2m *p)
{
    for (uint64_t i = 0; i < p->nr_leaves; i++)
        if (dirty_has_frame(s, p->leaf_mfns[i]))
            p->fresh[i] = 1;
}

/* What the m2p says of each was compared with leaf_pfns just now. A guest of 64 GiB has 32768 of them, and waits. */
static void by_pfn(const xcsr_save *s, xcsr_p2m *p)
{
    for (uint64_t i = 0; i < p->nr_leaves; i++)
        if (p->leaf_pfns[i] >= s->nr_pfns || dirty_has(s, p->leaf_pfns[i]))
            p->fresh[i] = 1;
}

int leaves_written(xcsr_save *s, bool stay)
{
    if (stay)
        by_pfn(s, s->p2m);
    else
        by_m2p(s, s->p2m);
    return p2m_check_fresh(s->p2m);
}
