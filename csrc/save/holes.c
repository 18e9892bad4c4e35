/* Gfns without a page: most of a small guest's, since its last pages lie just below 4 GiB.
 *
 * A receiver gives memory to those gfns only that a stream names with a page. So while the stream has said nothing of any
 * gfn, in a save's first pass, a hole gets no entry, and a batch of holes no record. Later a hole does get one: its gfn may
 * have had a page before.
 *
 * Neither is Xen asked of all of them, 1024 a call. It says how many pages the guest has. Where a whole batch had none, those
 * that are still to come are looked for from the last gfn downwards; when all are found, there are none in between. The
 * number counts only if it has not moved since the pass began: then whatever moves afterwards is found as it would be had
 * these gfns been asked about (physmap.c).
 *
 * But a gfn may have a page that is another domain's, which the number leaves out: one that the guest was granted, say. It
 * must not be taken for one of the guest's own that is still to come. So they are looked for only where nothing but devices
 * and special pages are, and a guest has no reason to map anything. */
#include "save/holes.h"
#include "xen/domain.h"
#include "xen/hvm_space.h"
#include "xen/page_types.h"

static bool is_page(uint64_t type)
{
    return type != TYPE_XTAB && type != TYPE_BROKEN;
}

void holes_begin(xcsr_save *s)
{
    struct holes *o = &s->holes;
    o->unsaid = !s->p2m && !o->off && !o->begun && s->all_marked;
    o->begun = true;
    o->moved = o->is_empty = false;
    o->look_below = UINT64_MAX;
}

/* -- past those that need not be asked about */

static int count_pages(xcsr_save *s, uint64_t first, uint64_t end, uint64_t *found)
{
    xen_pfn_t types[XCSR_BATCH];
    uint32_t nr = (uint32_t)(end - first);
    for (uint32_t i = 0; i < nr; i++)
        types[i] = first + i;
    int rc = page_types(s->h, s->domid, nr, types);
    for (uint32_t i = 0; i < nr && !rc; i++)
        *found += is_page(types[i]);
    return rc;
}

/* How many pages the guest has; 0 if they have moved since the pass began, so that those found so far do not count. */
static int nr_pages(xcsr_save *s, uint64_t *nr)
{
    xcsr_domain now;
    *nr = 0;
    int rc = domain_ask(s->h, s->domid, &now);
    if (rc)
        return rc;
    bool stays = s->suspended || (s->watched && !s->holes.moved && now.tot_pages == s->nr_watched);
    *nr = stays ? now.tot_pages : 0;
    return 0;
}

/* Looks for nr pages from the last gfn downwards, not farther than `least`. *top: from where on they are, or 0: not found.
 * Where none should be left, that is looked at, too. */
static int find_last(xcsr_save *s, uint64_t nr, uint64_t least, uint64_t *top)
{
    uint64_t found = 0, end = s->nr_pfns;
    int rc = 0;
    do {
        uint64_t first = (end - 1) / XCSR_BATCH * XCSR_BATCH; /* as the batches will be */
        rc = count_pages(s, first, end, &found);
        end = first;
    } while (!rc && found < nr && end > least);
    *top = found == nr ? end : 0;
    return rc;
}

static int pass_over(xcsr_save *s, struct batch *b, uint64_t end)
{
    uint64_t nr = end - s->cursor;
    if (sparse_add_range(&s->without_data, s->cursor, end))
        return xcsr_fail_call(s->h, ENOMEM, "calloc", "no memory to note %llu gfns without a page", (unsigned long long)nr);
    b->result.nr_pfns += nr;
    b->result.nr_holes += nr;
    s->cursor = end;
    return 0;
}

/* Costs a fourth as many calls as are still to come, at most, and is done again only when half of them have come: where
 * nothing is found the pass has half as many calls more at the very worst. */
static int look(xcsr_save *s, struct batch *b)
{
    uint64_t rest = s->nr_pfns - s->cursor, least = s->nr_pfns - rest / 4, nr = 0, again = 0, top = 0;
    s->holes.look_below = rest / 2;
    if (least < HVM_DEVICES)
        least = HVM_DEVICES;
    if (s->nr_pfns > HVM_DEVICES_END || s->nr_pfns <= least)
        return 0;
    int rc = nr_pages(s, &nr);
    if (rc || !nr || nr < s->nr_found || nr - s->nr_found > s->nr_pfns - least)
        return rc;
    rc = find_last(s, nr - s->nr_found, least, &top);
    if (!rc)
        rc = nr_pages(s, &again);
    return rc || again != nr || top <= s->cursor ? rc : pass_over(s, b, top);
}

int holes_skip(xcsr_save *s, struct batch *b)
{
    const struct holes *o = &s->holes;
    bool is_due = o->unsaid && o->is_empty && s->cursor < s->nr_pfns && s->nr_pfns - s->cursor < o->look_below;
    return is_due ? look(s, b) : 0;
}

/* -- no entries for the others */

void holes_leave_out(xcsr_save *s, struct batch *b)
{
    uint32_t kept = 0, nr_mapped = 0;
    if (!s->holes.unsaid)
        return;
    s->holes.is_empty = b->nr && !b->pages.nr;
    if (b->is_ordinary)
        return;
    for (uint32_t i = 0; i < b->nr; i++) {
        uint64_t type = b->entries[i] >> TYPE_SHIFT;
        if (type == TYPE_XTAB)
            continue;
        if (is_page(type))
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
