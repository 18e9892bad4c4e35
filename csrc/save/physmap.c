/* What came and what went in a guest without a p2m of its own.
 *
 * Xen's dirty bitmap does not tell (before 4.22, and of what has gone never): a page that was added after the last
 * bitmap was fetched is in none until it is written after the next one, and one that was taken away is in none at all. A
 * page that has come is therefore sent once more after the next bitmap, whoever found it: a look, or the batch (batch.c).
 * So Xen is asked of which gfns it has pages, and its answer is compared with what the stream said of them last. */
#include "save/physmap.h"
#include "save/dirty.h"
#include "xen/domain.h"
#include "xen/page_types.h"

static int no_memory(xcsr_save *s, uint64_t gfn)
{
    return xcsr_fail_call(s->h, ENOMEM, "calloc", "no memory to note that gfn %#llx came or went", (unsigned long long)gfn);
}

int physmap_untracked(xcsr_save *s, uint64_t gfn)
{
    return sparse_add(&s->untracked, gfn) ? no_memory(s, gfn) : 0;
}

/* What is found must outlive this bitmap, which the next one overwrites. And it must be sent after the next one even if
 * this pass still comes to it: it may get a page, and be written, before Xen tracks its writes. One that has gone counts
 * as a hole from now on, not only when it has been sent as one: it may get a page again after the next bitmap and before
 * it is sent, and that page must be known to be new.
 *
 * Each coming and each going counts once, however many looks see it before it is sent: a count that the number of pages
 * does not bear out makes the save send everything again (moves.py). */
static int look_at(xcsr_save *s, uint64_t gfn, uint32_t type, xcsr_look_result *out)
{
    bool is_page = type != TYPE_XTAB && type != TYPE_BROKEN, was_page = !sparse_has(&s->without_data, gfn);
    bool is_still_to_come = gfn >= s->cursor && dirty_has(s, gfn), is_counted = sparse_has(&s->counted, gfn);
    was_page |= is_counted;
    if (is_page == was_page || (is_page && is_still_to_come)) /* the batch knows that it is new */
        return 0;
    sparse_remove(&s->counted, gfn);
    if (is_page && sparse_add(&s->counted, gfn))
        return no_memory(s, gfn);
    int rc = physmap_untracked(s, gfn);
    if (rc)
        return rc;
    if (!is_page && sparse_add(&s->without_data, gfn))
        return no_memory(s, gfn);
    dirty_add(s, gfn);
    out->appeared += is_page;
    out->vanished += !is_page;
    return 0;
}

/* In a pass over all gfns those that it has still to come to are left to it: nothing was said of them yet. In any other
 * pass marked ones are asked about, too: one that has lost its page may have another one by the time that it is sent. */
static uint32_t next_gfns(xcsr_save *s, uint64_t *from, xen_pfn_t *gfns)
{
    uint32_t nr = 0;
    for (; *from < s->nr_pfns && nr < XCSR_BATCH; ++*from)
        if (*from < s->cursor || !s->all_marked)
            gfns[nr++] = *from;
    return nr;
}

static int look_once(xcsr_save *s, uint64_t *from, xcsr_look_result *out)
{
    xen_pfn_t gfns[XCSR_BATCH], types[XCSR_BATCH];
    uint32_t nr = next_gfns(s, from, gfns);
    if (!nr)
        return 0;
    memcpy(types, gfns, nr * sizeof *types);
    int rc = page_types(s->h, s->domid, nr, types);
    for (uint32_t i = 0; !rc && i < nr; i++)
        rc = look_at(s, gfns[i], (uint32_t)types[i], out);
    out->nr_asked += nr;
    out->nr_calls++;
    return rc;
}

int xcsr_watch_pages(xcsr_save *s, uint64_t *nr_pages)
{
    xcsr_domain info;
    XCSR_ENTER(s->h);
    int rc = domain_ask(s->h, s->domid, &info);
    if (rc)
        return rc;
    s->watched = true;
    *nr_pages = s->nr_watched = info.tot_pages;
    return 0;
}

bool physmap_moves(xcsr_save *s)
{
    xcsr_domain info;
    /* where it cannot be asked, whoever asks next is told why */
    return s->watched && !s->suspended && (domain_ask(s->h, s->domid, &info) || info.tot_pages != s->nr_watched);
}

int xcsr_physmap_look(xcsr_save *s, uint64_t *from, uint32_t for_us, xcsr_look_result *out)
{
    int64_t until = xcsr_now_us() + for_us;
    int rc;
    XCSR_ENTER(s->h);
    memset(out, 0, sizeof *out);
    if (s->p2m)
        return xcsr_fail_call(s->h, EINVAL, "xcsr_physmap_look", "domain %u has a p2m, which is swept instead", s->domid);
    do
        rc = look_once(s, from, out);
    while (!rc && *from < s->nr_pfns && xcsr_now_us() < until && !physmap_moves(s));
    out->done = *from >= s->nr_pfns;
    return rc;
}
