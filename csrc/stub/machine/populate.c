/* Giving a domain memory, and taking it away. */
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
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

    if (d->dying || count > d->max_pages || st_domain_pages(d) > d->max_pages - count)
        return st_error(ENOMEM, "domain %u may have no more than %lu pages", d->id, (unsigned long)d->max_pages);
    if (pfn > ST_NONE - count)
        return st_error(EINVAL, "there is no pfn %#lx", (unsigned long)pfn);
    if (d->built && !d->hv && pfn + count > d->nr_pfns)
        return st_error(EINVAL, "pfn %#lx is beyond the end of the guest's p2m", (unsigned long)pfn);
    rc = st_domain_reserve(d, pfn + count);
    for (uint64_t i = 0; !rc && i < count; i++)
        if (d->truth[pfn + i])
            rc = st_error(EEXIST, "pfn %#lx has memory already", (unsigned long)(pfn + i));
    return rc;
}

/* The frames behind an HVM guest's extent need not follow one another on this machine, unless it says so. */
static int add_scattered(struct st_domain *d, uint64_t gfn, uint64_t count)
{
    if (st.scattered)
        return st_error(ENOMEM, "the machine gives no superpages");
    if (st_free_frames() < count)
        return st_error(ENOMEM, "the machine has no %lu free frames left", (unsigned long)count);
    for (uint64_t i = 0; i < count; i++) {
        int rc = st_add_memory(d, gfn + i);

        if (rc)
            return rc;
    }
    return 0;
}

static int populate_hvm(struct st_domain *d, uint64_t gfn, unsigned order)
{
    uint64_t count = 1UL << order, mfn;
    int rc = order && (st.scattered || order > st.order) ? add_scattered(d, gfn, count)
                                                        : st_add_extent(d, gfn, order, &mfn);

    for (uint64_t i = 0; !rc && i < count; i++) {
        if (st_hvm_is_pod(d, gfn + i))
            st_pod_unmark(d, gfn + i);
        fill_garbage(d->truth[gfn + i]);
        rc = st_hvm_added(d, gfn + i);
    }
    return rc;
}

static int populate_pv(struct st_domain *d, xen_pfn_t *extent, unsigned order)
{
    uint64_t pfn = *extent, mfn;
    int rc = st_add_extent(d, pfn, order, &mfn);

    if (rc)
        return rc;
    for (uint64_t i = 0; i < 1UL << order; i++) {
        fill_garbage(mfn + i);
        st_mark_dirty(d, pfn + i);
    }
    *extent = mfn;
    return 0;
}

static int mark_on_demand(struct st_domain *d, uint64_t gfn, uint64_t count)
{
    int rc = d->hv && gfn <= ST_NONE - count ? 0 : -EINVAL;

    for (uint64_t i = 0; !rc && i < count; i++)
        rc = st_pod_mark(d, gfn + i);
    return rc;
}

static int populate_extent(struct st_domain *d, xen_pfn_t *extent, unsigned order, unsigned flags)
{
    uint64_t nr_pfns = d->nr_pfns;
    int rc;

    if (flags & XENMEMF_populate_on_demand)
        return mark_on_demand(d, *extent, 1UL << order);
    rc = check_room(d, *extent, 1UL << order);
    if (!rc)
        rc = d->hv ? populate_hvm(d, *extent, order) : populate_pv(d, extent, order);
    if (rc)
        d->nr_pfns = nr_pfns;
    return rc;
}

/* How many were done; *error: why no more. A PV guest's extents become mfns, an HVM guest's stay gfns. */
static unsigned long populate(uint32_t domid, unsigned long nr, unsigned order, unsigned flags, xen_pfn_t *extents,
                              int *error)
{
    struct st_domain *d = st_domain_find(domid);
    unsigned long done = 0;

    *error = 0;
    while (d && order <= MAX_ORDER && done < nr && !*error) {
        *error = populate_extent(d, &extents[done], order, flags);
        done += !*error;
    }
    return done;
}

/* Xen's answer. Stricter than Xen: what has memory already is refused, and not given another frame. */
int xc_domain_populate_physmap(xc_interface *xch, uint32_t domid, unsigned long nr_extents,
                               unsigned int extent_order, unsigned int mem_flags, xen_pfn_t *extent_start)
{
    int error, rc = st_begin_xc(ST_FN_xc_domain_populate_physmap, xch);
    unsigned long done;

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_populate_physmap, xch, rc);
    done = populate(domid, nr_extents, extent_order, mem_flags, extent_start, &error);
    return (int)st_end(ST_FN_xc_domain_populate_physmap, xch, error == -EEXIST ? error : (int)done);
}

/* The library makes EBUSY of fewer than all. */
int xc_domain_populate_physmap_exact(xc_interface *xch, uint32_t domid, unsigned long nr_extents,
                                     unsigned int extent_order, unsigned int mem_flags, xen_pfn_t *extent_start)
{
    int error, rc = st_begin_xc(ST_FN_xc_domain_populate_physmap_exact, xch);
    unsigned long done;

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_populate_physmap_exact, xch, rc);
    done = populate(domid, nr_extents, extent_order, mem_flags, extent_start, &error);
    rc = error == -EEXIST ? error : done == nr_extents ? 0 : -EBUSY;
    return (int)st_end(ST_FN_xc_domain_populate_physmap_exact, xch, rc);
}

/* Of HVM any gfn that has a page or could have: a page that is mapped counts until it is not. */
static int take_gfn(struct st_domain *d, uint64_t gfn)
{
    int rc;

    if (st_hvm_is_pod(d, gfn)) {
        st_pod_unmark(d, gfn);
        return 0;
    }
    rc = st_remove_memory(d, gfn);
    if (!rc)
        st_hvm_removed(d, gfn);
    return rc;
}

/* Only what nothing refers to. Xen takes a frame that is in use away with the last reference. */
static int take_back(struct st_domain *d, uint64_t mfn)
{
    const struct st_frame *frame = mfn < st.nr_frames ? &st.frames[mfn] : NULL;

    if (!frame || frame->owner != d->id || frame->pfn >= d->cap_pfns || d->truth[frame->pfn] != mfn)
        return st_error(EINVAL, "frame %#lx is not memory of domain %u", (unsigned long)mfn, d->id);
    if (frame->refs || frame->writable || frame->foreign || frame->gdt || frame->pinned)
        return st_error(EBUSY, "frame %#lx is in use", (unsigned long)mfn);
    return st_remove_memory(d, frame->pfn);
}

/* How many extents were taken: mfns, of HVM gfns. */
static unsigned long decrease(uint32_t domid, unsigned long nr, unsigned order, const xen_pfn_t *extents)
{
    struct st_domain *d = st_domain_find(domid);
    unsigned long done = 0;

    for (; d && order <= MAX_ORDER && done < nr; done++) {
        for (uint64_t i = 0; i < 1UL << order; i++) {
            uint64_t frame = extents[done] + i;

            if (d->hv ? take_gfn(d, frame) : take_back(d, frame))
                return done;
        }
    }
    return done;
}

int xc_domain_decrease_reservation(xc_interface *xch, uint32_t domid, unsigned long nr_extents,
                                   unsigned int extent_order, xen_pfn_t *extent_start)
{
    int rc = st_begin_xc(ST_FN_xc_domain_decrease_reservation, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_decrease_reservation, xch, rc);
    return (int)st_end(ST_FN_xc_domain_decrease_reservation, xch,
                       (int)decrease(domid, nr_extents, extent_order, extent_start));
}

/* Here the library makes EINVAL of fewer than all. */
int xc_domain_decrease_reservation_exact(xc_interface *xch, uint32_t domid, unsigned long nr_extents,
                                         unsigned int extent_order, xen_pfn_t *extent_start)
{
    int rc = st_begin_xc(ST_FN_xc_domain_decrease_reservation_exact, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_decrease_reservation_exact, xch, rc);
    rc = decrease(domid, nr_extents, extent_order, extent_start) == nr_extents ? 0 : -EINVAL;
    return (int)st_end(ST_FN_xc_domain_decrease_reservation_exact, xch, rc);
}
