/* Memory for a domain being built: given, and taken back. Xen holds the domain to its max_pages; we ask only for what
 * the stream names, once. */
#include "restore/populate.h"
#include "restore/walk.h"

#define EXTENT_ORDER 9u /* 2 MiB */
#define EXTENT (1u << EXTENT_ORDER)

static void set_memory(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, bool has)
{
    for (uint32_t i = 0; i < nr; i++)
        r->flags[pfns[i]] = (uint8_t)((r->flags[pfns[i]] & ~FLAG_MEMORY) | (has ? FLAG_MEMORY : 0));
}

static int refused(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, int err)
{
    set_memory(r, pfns, nr, false);
    r->h->error.pfn = pfns[0];
    return xcsr_fail_call(r->h, err, "xc_domain_populate_physmap_exact",
                          "cannot give domain %u memory for %u pfns from %#llx on (its limit, or the host's?)", r->domid, nr,
                          (unsigned long long)pfns[0]);
}

/* -- taken back */

bool restore_is_gone(const xcsr_restore *r, uint64_t pfn)
{
    uint32_t type = xcsr_restore_type(r, pfn);
    return restore_has_memory(r, pfn) && (type == TYPE_XTAB || (type == TYPE_BROKEN && r->translated));
}

int restore_take_back(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, uint64_t *given)
{
    xen_pfn_t frames[XCSR_BATCH];
    for (uint32_t i = 0; i < nr; i++)
        frames[i] = restore_frame(r, pfns[i]);
    if (xc_domain_decrease_reservation_exact(r->h->xch, r->domid, nr, 0, frames)) {
        r->h->error.pfn = pfns[0];
        return xcsr_fail_call(r->h, errno, "xc_domain_decrease_reservation_exact",
                              "cannot take %u pages from domain %u, from pfn %#llx on", nr, r->domid,
                              (unsigned long long)pfns[0]);
    }
    set_memory(r, pfns, nr, false);
    *given += nr;
    return 0;
}

static int take_some_ahead(xcsr_restore *r, uint64_t *pfn, uint64_t *given)
{
    uint64_t pfns[XCSR_BATCH];
    uint32_t nr = 0;
    for (; *pfn < r->row.ahead_end && nr < XCSR_BATCH; ++*pfn)
        if (restore_is_ahead(r, *pfn))
            pfns[nr++] = *pfn;
    int rc = nr ? restore_take_back(r, pfns, nr, given) : 0;
    for (uint32_t i = 0; i < nr && !rc; i++)
        r->flags[pfns[i]] = 0;
    return rc;
}

int restore_take_ahead(xcsr_restore *r, uint64_t *given)
{
    uint64_t pfn = r->row.next;
    int rc = 0;
    while (!rc && pfn < r->row.ahead_end)
        rc = take_some_ahead(r, &pfn, given);
    if (!rc)
        r->row.ahead_end = 0;
    return rc;
}

/* -- by frame: Xen says which it gave */

static int give_frames(xcsr_restore *r, const uint64_t *pfns, uint32_t nr)
{
    xen_pfn_t frames[XCSR_BATCH];
    memcpy(frames, pfns, nr * sizeof *frames);
    if (xc_domain_populate_physmap_exact(r->h->xch, r->domid, nr, 0, 0, frames))
        return refused(r, pfns, nr, errno);
    for (uint32_t i = 0; i < nr; i++)
        r->mfns[pfns[i]] = frames[i];
    for (uint32_t i = 0; i < nr; i++)
        if (frames[i] >= r->h->nr_mfns || frames[i] >= r->geometry->end_mfn)
            return xcsr_fail_call(r->h, EPROTO, "xc_domain_populate_physmap_exact", "Xen gave mfn %#llx for pfn %#llx, which the guest cannot name",
                                  (unsigned long long)frames[i], (unsigned long long)pfns[i]);
    return 0;
}

/* -- by gfn: Xen keeps to itself which frames it gave */

static bool is_extent(const uint64_t *pfns, uint32_t nr)
{
    if (nr < EXTENT || pfns[0] % EXTENT)
        return false;
    for (uint32_t i = 1; i < EXTENT; i++)
        if (pfns[i] != pfns[0] + i)
            return false;
    return true;
}

static bool give_extent(xcsr_restore *r, uint64_t first)
{
    xen_pfn_t gfn = first;
    return !xc_domain_populate_physmap_exact(r->h->xch, r->domid, 1, EXTENT_ORDER, 0, &gfn);
}

/* Whole and aligned runs as pages of 2 MiB, which the guest's translations profit from for the rest of its life. Moves
 * to the front what still has no memory, because it is in no run or Xen has no page of that size, and counts it. */
static uint32_t give_extents(xcsr_restore *r, uint64_t *pfns, uint32_t nr)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < nr;) {
        if (is_extent(pfns + i, nr - i) && give_extent(r, pfns[i]))
            i += EXTENT;
        else
            pfns[left++] = pfns[i++];
    }
    return left;
}

static int give_pages(xcsr_restore *r, const uint64_t *pfns, uint32_t nr)
{
    xen_pfn_t gfns[XCSR_BATCH];
    memcpy(gfns, pfns, nr * sizeof *gfns); /* Xen may write to it */
    return nr && xc_domain_populate_physmap_exact(r->h->xch, r->domid, nr, 0, 0, gfns) ? -(errno ? errno : EIO) : 0;
}

/* What was given ahead may be what the domain's limit, or the host, has no room for. So may pages that are gone by now, since
 * a guest that balloons moves its memory. In a guest without page tables of its own in the stream nothing refers to them.
 * A refused call may have given some of the pages: a second one would put others in their place (p2m_add_page in
 * xen/arch/x86/mm/p2m.c), and the first ones would stay the domain's, at no gfn, and count against its limit. So what the
 * first one gave is taken back before. */
static int give_pages_again(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, int err)
{
    uint64_t given = 0;
    xen_pfn_t gfn;
    int rc = restore_take_ahead(r, &given);
    r->without_rows = true; /* there is no more to be had than what is asked for */
    if (!rc)
        rc = walk_batches(r, restore_is_gone, restore_take_back, &given);
    if (rc || !given)
        return rc ? rc : refused(r, pfns, nr, err);
    for (uint32_t i = 0; i < nr; i++) {
        gfn = pfns[i];
        (void)xc_domain_decrease_reservation_exact(r->h->xch, r->domid, 1, 0, &gfn); /* fails where there is none */
    }
    r->h->log.last[0] = 0;
    rc = give_pages(r, pfns, nr);
    return rc ? refused(r, pfns, nr, -rc) : 0;
}

static int give_gfns(xcsr_restore *r, uint64_t *pfns, uint32_t nr)
{
    uint32_t left = give_extents(r, pfns, nr);
    r->h->log.last[0] = 0; /* what was said of a large page says nothing of the small ones */
    int rc = give_pages(r, pfns, left);
    return rc ? give_pages_again(r, pfns, left, -rc) : 0;
}

int restore_populate(xcsr_restore *r, const uint64_t *pfns, uint32_t nr)
{
    uint64_t wanted[XCSR_BATCH];
    uint32_t n = 0;
    for (uint32_t i = 0; i < nr; i++) {
        if (restore_has_memory(r, pfns[i]))
            continue;
        set_memory(r, &pfns[i], 1, true); /* a second mention is not asked for again */
        wanted[n++] = pfns[i];
    }
    if (!n)
        return 0;
    int rc = r->translated ? give_gfns(r, wanted, n) : give_frames(r, wanted, n);
    if (!rc)
        r->result.nr_populated += n;
    return rc;
}
