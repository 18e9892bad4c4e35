/* Giving a domain memory, and taking it away. */
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"

#define MAX_ORDER 12U                   /* of what domain 0 may ask for */
#define ST_GARBAGE     0xdeadfa1100000000UL /* in new frames: every word is this plus the mfn's low 32 bits */

/* Xen does not clear what it gives: whoever relies on zeroes shall see it. Benchmarks need not. */
static void fill_garbage(uint64_t mfn)
{
    uint64_t *page = st_page(mfn);

    if (st.mapped_by_window)
        return;
    for (unsigned i = 0; i < ST_ENTRIES; i++)
        page[i] = ST_GARBAGE + (uint32_t)mfn;
}

static int check_room(struct st_domain *d, uint64_t pfn, uint64_t count)
{
    int rc;

    if (d->dying || count > d->max_pages || d->nr_mem > d->max_pages - count)
        return st_error(ENOMEM, "domain %u may have no more than %lu pages", d->id, (unsigned long)d->max_pages);
    if (pfn > ST_NONE - count)
        return st_error(EINVAL, "there is no pfn %#lx", (unsigned long)pfn);
    if (d->built && pfn + count > d->nr_pfns)
        return st_error(EINVAL, "pfn %#lx is beyond the end of the guest's p2m", (unsigned long)pfn);
    rc = st_domain_reserve(d, pfn + count);
    for (uint64_t i = 0; !rc && i < count; i++)
        if (d->truth[pfn + i])
            rc = st_error(EEXIST, "pfn %#lx has memory already", (unsigned long)(pfn + i));
    return rc;
}

static int populate_extent(struct st_domain *d, xen_pfn_t *extent, unsigned order)
{
    uint64_t pfn = *extent, mfn;
    int rc = check_room(d, pfn, 1UL << order);

    rc = rc ? rc : st_add_extent(d, pfn, order, &mfn);
    if (rc)
        return rc;
    for (uint64_t i = 0; i < 1UL << order; i++) {
        fill_garbage(mfn + i);
        st_mark_dirty(d, pfn + i);
    }
    *extent = mfn;
    return 0;
}

/* pfns in, mfns out. Xen's answer is how many it did; the library makes EBUSY of fewer than all. */
static int populate(uint32_t domid, unsigned long nr, unsigned order, xen_pfn_t *extents)
{
    struct st_domain *d = st_domain_find(domid);

    if (!d || order > MAX_ORDER)
        return nr ? -EBUSY : 0;
    for (unsigned long i = 0; i < nr; i++) {
        int rc = populate_extent(d, &extents[i], order);

        if (rc)
            return rc == -EEXIST ? rc : -EBUSY;
    }
    return 0;
}

int xc_domain_populate_physmap_exact(xc_interface *xch, uint32_t domid, unsigned long nr_extents,
                                     unsigned int extent_order, unsigned int mem_flags, xen_pfn_t *extent_start)
{
    int rc = st_begin_xc(ST_FN_xc_domain_populate_physmap_exact, xch);

    (void)mem_flags;
    if (rc)
        return (int)st_refused(ST_FN_xc_domain_populate_physmap_exact, xch, rc);
    return (int)st_end(ST_FN_xc_domain_populate_physmap_exact, xch,
                       populate(domid, nr_extents, extent_order, extent_start));
}

/* Only what nothing refers to: Xen would take a frame in use away later, or crash the guest. */
static int take_back(struct st_domain *d, uint64_t mfn)
{
    const struct st_frame *frame = mfn < st.nr_frames ? &st.frames[mfn] : NULL;

    if (!frame || frame->owner != d->id || frame->pfn >= d->cap_pfns || d->truth[frame->pfn] != mfn)
        return st_error(EINVAL, "frame %#lx is not memory of domain %u", (unsigned long)mfn, d->id);
    if (frame->refs || frame->writable || frame->foreign || frame->gdt || frame->pinned)
        return st_error(EBUSY, "frame %#lx is in use", (unsigned long)mfn);
    return st_remove_memory(d, frame->pfn);
}

/* mfns in. Here, too, the library makes EBUSY of fewer than all. */
static int decrease(uint32_t domid, unsigned long nr, unsigned order, const xen_pfn_t *extents)
{
    struct st_domain *d = st_domain_find(domid);

    if (!d || order > MAX_ORDER)
        return nr ? -EBUSY : 0;
    for (unsigned long i = 0; i < nr << order; i++)
        if (take_back(d, extents[i >> order] + (i & ((1UL << order) - 1))))
            return -EBUSY;
    return 0;
}

int xc_domain_decrease_reservation_exact(xc_interface *xch, uint32_t domid, unsigned long nr_extents,
                                         unsigned int extent_order, xen_pfn_t *extent_start)
{
    int rc = st_begin_xc(ST_FN_xc_domain_decrease_reservation_exact, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_decrease_reservation_exact, xch, rc);
    return (int)st_end(ST_FN_xc_domain_decrease_reservation_exact, xch,
                       decrease(domid, nr_extents, extent_order, extent_start));
}
