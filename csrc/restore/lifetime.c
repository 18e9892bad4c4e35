/* A restore's memory, and how large the guest is. */
#include "restore/pages.h"

#include <stdlib.h>
#include <sys/mman.h>

static void *lazy_memory(uint64_t nr_bytes) /* zero, and resident only where it is touched */
{
    void *at = mmap(NULL, nr_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static void release(xcsr_restore *r)
{
    if (r->mfns)
        munmap(r->mfns, r->limit * sizeof *r->mfns);
    if (r->flags)
        munmap(r->flags, r->limit);
    if (r->bounce)
        munmap(r->bounce, XCSR_BATCH * XCSR_PAGE);
    free(r->entries);
    free(r);
}

int xcsr_restore_new(xcsr *h, uint32_t domid, uint64_t limit, uint32_t width, xcsr_restore **out)
{
    XCSR_ENTER(h);
    *out = NULL;
    const struct pt_geometry *geometry = pt_geometry(width);
    const bool translated = !width;
    if (!translated && !geometry)
        return xcsr_fail_call(h, EOPNOTSUPP, "xcsr_restore_new", "page tables of a guest with words of %u bytes", width);
    int rc = translated ? 0 : m2p_need_whole(h);
    if (rc)
        return rc;
    xcsr_restore *r = calloc(1, sizeof *r);
    if (!r)
        return xcsr_fail_call(h, ENOMEM, "calloc", "no memory for a restore");
    r->h = h;
    r->domid = domid;
    r->limit = limit;
    r->translated = translated;
    r->geometry = geometry;
    r->mfns = translated ? NULL : lazy_memory(limit * sizeof *r->mfns); /* address space only, until pfns are named */
    r->flags = lazy_memory(limit);
    r->bounce = lazy_memory(XCSR_BATCH * XCSR_PAGE);
    if (!limit || (!translated && !r->mfns) || !r->flags || !r->bounce) {
        release(r);
        return xcsr_fail_call(h, ENOMEM, "mmap", "no room to restore up to %llu pfns", (unsigned long long)limit);
    }
    *out = r;
    return 0;
}

void xcsr_restore_free(xcsr_restore *r)
{
    if (!r)
        return;
    xcsr *h = r->h;
    if (xcsr_seize(h)) { /* else the parent's restore goes on, and nothing is mapped here */
        pages_drop(r);
        xcsr_leave(&h);
    }
    release(r);
}

int xcsr_restore_grow(xcsr_restore *r, uint64_t nr_pfns)
{
    XCSR_ENTER(r->h);
    if (nr_pfns > r->limit)
        return xcsr_fail(&r->h->error, XCSR_E_STREAM, E2BIG, "X86_PV_P2M_FRAMES",
                         "a p2m of %#llx pfns is asked for, but by what Xen says of domain %u it can have %#llx",
                         (unsigned long long)nr_pfns, r->domid, (unsigned long long)r->limit);
    if (nr_pfns > r->nr_pfns)
        r->nr_pfns = nr_pfns;
    return 0;
}

int xcsr_restore_cut(xcsr_restore *r, uint64_t nr_pfns)
{
    XCSR_ENTER(r->h);
    for (uint64_t pfn = nr_pfns; pfn < r->nr_pfns; pfn++)
        if (r->flags[pfn])
            restore_note(r, pfn, FLAG_SEEN | TYPE_XTAB);
    return 0;
}

void xcsr_restore_compare(xcsr_restore *r, uint32_t on)
{
    r->compare = on;
}
