/* Pages that the hardware has lost: see broken.h.
 *
 * Xen says BROKEN of a page, whatever its type was. If it was a page table, no guest can be made of the image. That it was one,
 * the tables of the levels above tell, which name it; they may come before it or after it. What is said of a page in a live
 * pass is said again in the last one, since it is deferred. */
#include "save/broken.h"
#include "xen/page_types.h"

static int is_lost_table(xcsr_save *s, uint64_t pfn)
{
    s->h->error.pfn = pfn;
    s->h->error.type = TYPE_BROKEN;
    return xcsr_fail(&s->h->error, XCSR_E_PAGE, EIO, "page", "pfn %#llx is, or was, a page table of the guest's, and BROKEN: the "
                     "hardware has lost its content", (unsigned long long)pfn);
}

int broken_note(xcsr_save *s, uint64_t pfn)
{
    if (s->p2m)
        s->p2m->has_broken = true;
    if (sparse_add(&s->broken, pfn))
        return xcsr_fail_call(s->h, ENOMEM, "calloc", "no memory to note pfn %#llx as broken", (unsigned long long)pfn);
    return s->suspended && sparse_has(&s->named, pfn) ? is_lost_table(s, pfn) : 0;
}

int broken_look(xcsr_save *s, uint32_t level, const uint64_t *table)
{
    for (uint32_t i = 0; level > 1 && i < PTE_PER_TABLE; i++) {
        if (!(table[i] & PTE_PRESENT) || pt_is_xens(s->p2m->geometry, level, i))
            continue;
        uint64_t pfn = pte_frame(table[i]);
        if (pfn < s->nr_pfns && sparse_add(&s->named, pfn))
            return xcsr_fail_call(s->h, ENOMEM, "calloc", "no memory to note that pfn %#llx is a table", (unsigned long long)pfn);
        if (pfn < s->nr_pfns && s->suspended && s->broken.count && sparse_has(&s->broken, pfn) && sparse_has(&s->without_data, pfn))
            return is_lost_table(s, pfn);
    }
    return 0;
}

struct first_ones {
    const xcsr_save *s;
    uint64_t max, nr, *pfns;
};

static int list_broken(void *first_ones, uint64_t pfn)
{
    struct first_ones *f = first_ones;
    if (!sparse_has(&f->s->without_data, pfn))
        return 0;
    if (f->nr < f->max)
        f->pfns[f->nr] = pfn;
    f->nr++;
    return 0;
}

int xcsr_save_broken(xcsr_save *s, uint64_t max, uint64_t *pfns, uint64_t *nr)
{
    XCSR_ENTER(s->h);
    struct first_ones f = {.s = s, .max = max, .pfns = pfns};
    int rc = sparse_each(&s->broken, list_broken, &f);
    *nr = f.nr;
    return rc;
}
