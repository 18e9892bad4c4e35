/* Gfns without a page: most of a small guest's, since its last pages lie just below 4 GiB.
 *
 * A receiver gives memory to those gfns only that a stream names with a page. So while the stream has said nothing of any
 * gfn, in a save's first pass, a hole gets no entry, and a batch of holes no record. Later a hole does get one: its gfn may
 * have had a page before.
 *
 * Xen is asked about each gfn all the same. It does say how many pages the guest has, but not where the last one is; and a gfn
 * may also have a page that is another domain's, which the guest was granted, say, and which that number leaves out. So
 * having found as many does not show that a gfn which was not asked about has none. */
#include "save/holes.h"
#include "xen/page_types.h"

void holes_begin(xcsr_save *s)
{
    struct holes *o = &s->holes;
    o->unsaid = !s->p2m && !o->off && !o->begun && s->all_marked;
    o->begun = true;
}

void holes_leave_out(xcsr_save *s, struct batch *b)
{
    uint32_t kept = 0, nr_mapped = 0;
    if (!s->holes.unsaid || b->is_ordinary)
        return;
    for (uint32_t i = 0; i < b->nr; i++) {
        uint64_t type = b->entries[i] >> TYPE_SHIFT;
        if (type == TYPE_XTAB)
            continue;
        if (type != TYPE_BROKEN)
            b->mapped_slot[nr_mapped++] = (uint16_t)kept;
        b->pfns[kept] = b->pfns[i];
        b->entries[kept] = b->entries[i];
        b->frame_at[kept] = b->frame_at[i];
        b->page[kept++] = b->page[i];
    }
    b->nr = kept;
}

int xcsr_with_holes(xcsr_save *s)
{
    XCSR_ENTER(s->h);
    s->holes.off = true;
    return 0;
}
