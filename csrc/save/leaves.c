/* The p2m's own pages, where the guest has written them.
 *
 * One that has become a page table would be sent as such, and no receiver could write its p2m into it: the stream would look
 * complete, and nobody could take it. What becomes a page table is dirty then, so only pages that the bitmap names are asked
 * about. */
#include "save/leaves.h"
#include "save/dirty.h"
#include "xen/p2m.h"

int leaves_written(xcsr_save *s)
{
    xcsr_p2m *p = s->p2m;
    for (uint64_t i = 0; i < p->nr_leaves; i++)
        if (dirty_has_frame(s, p->leaf_mfns[i]))
            p->fresh[i] = 1;
    return p2m_check_fresh(p);
}
