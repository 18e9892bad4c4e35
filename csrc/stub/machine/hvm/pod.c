/*
 * Populate on demand: gfns that get their memory when somebody first looks at them, from a cache of zeroed frames
 * that belongs to the domain. With the cache empty Xen looks for pages that hold nothing but zeroes and makes
 * entries of them again; if there are none, the domain crashes.
 */
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"

#include <sys/mman.h>

static int make_marks(struct st_hvm *h)
{
    void *at;

    if (h->pod)
        return 0;
    at = st_reserve(ST_MAX_SPAN / 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (!at)
        return -ENOMEM;
    h->pod = at;
    return 0;
}

int st_pod_mark(struct st_domain *d, uint64_t gfn)
{
    int rc = st_domain_reserve(d, gfn + 1);

    rc = rc ? rc : make_marks(d->hv);
    if (rc)
        return rc;
    if (st_has_memory(d, gfn))
        return st_error(EBUSY, "gfn %#lx has memory", (unsigned long)gfn);
    if (!st_hvm_is_pod(d, gfn))
        d->hv->pod_entries++;
    d->hv->pod[gfn / 64] |= 1UL << gfn % 64;
    return 0;
}

static void clear_mark(struct st_domain *d, uint64_t gfn)
{
    d->hv->pod[gfn / 64] &= ~(1UL << gfn % 64);
    d->hv->pod_entries--;
}

static int add_to_cache(struct st_domain *d, uint64_t mfn)
{
    struct st_hvm *h = d->hv;

    int rc = st_list_add(&h->pod_cache, &h->pod_cached, &h->pod_room, mfn);

    if (!rc)
        memset(st_page(mfn), 0, ST_PAGE_SIZE);
    return rc;
}

int st_pod_set_cache(struct st_domain *d, uint64_t pages)
{
    while (d->hv->pod_cached > pages)
        st_frame_free(d->hv->pod_cache[--d->hv->pod_cached]);
    while (d->hv->pod_cached < pages) {
        uint64_t mfn;
        int rc = st_domain_pages(d) >= d->max_pages ? -ENOMEM : 0;

        rc = rc ? rc : st_frame_alloc((uint16_t)d->id, ST_DATA, ST_NONE, &mfn);
        if (rc)
            return rc;
        rc = add_to_cache(d, mfn);
        if (rc) {
            st_frame_free(mfn);
            return rc;
        }
    }
    return 0;
}

void st_pod_unmark(struct st_domain *d, uint64_t gfn)
{
    clear_mark(d, gfn);
    if (d->hv->pod_cached > d->hv->pod_entries)
        st_pod_set_cache(d, d->hv->pod_entries);
}

static bool is_zero(const struct st_domain *d, uint64_t gfn)
{
    const uint64_t *page = st_guest_page(d, gfn);

    for (unsigned i = 0; i < ST_ENTRIES; i++)
        if (page[i])
            return false;
    return true;
}

/* A page that nobody has mapped becomes an entry again. */
static bool reclaim(struct st_domain *d, uint64_t gfn)
{
    const struct st_frame *frame = st_has_memory(d, gfn) ? &st.frames[d->truth[gfn]] : NULL;

    if (!frame || frame->kind != ST_DATA || frame->foreign || !is_zero(d, gfn))
        return false;
    return st_remove_memory(d, gfn) == 0 && st_pod_mark(d, gfn) == 0 && st_pod_set_cache(d, 1) == 0;
}

static bool reclaim_any(struct st_domain *d)
{
    for (uint64_t i = 0; i < d->nr_pfns; i++) {
        uint64_t gfn = (d->hv->pod_reclaimed + i) % d->nr_pfns;

        if (reclaim(d, gfn)) {
            d->hv->pod_reclaimed = gfn + 1;
            return true;
        }
    }
    return false;
}

/* What is populated is dirty, in all releases of Xen. */
int st_pod_populate(struct st_domain *d, uint64_t gfn)
{
    struct st_hvm *h = d->hv;

    if (d->dying)
        return -EINVAL;
    if (!h->pod_cached && !reclaim_any(d)) {
        st_domain_shut_down(d, SHUTDOWN_crash);
        return st_error(EINVAL, "domain %u is out of memory for its %lu populate-on-demand entries", d->id,
                        (unsigned long)h->pod_entries);
    }
    st_own(d, gfn, h->pod_cache[--h->pod_cached]);
    clear_mark(d, gfn);
    st_mark_dirty(d, gfn);
    return 0;
}

/* ---- libxenctrl ---- */

static int pod_target(uint32_t domid, const uint64_t *target, uint64_t *tot, uint64_t *cached, uint64_t *entries)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);
    uint64_t populated;

    if (!d)
        return rc;
    if (!d->hv || d->dying)
        return -EINVAL;
    populated = st_domain_pages(d) - d->hv->pod_cached;
    if (target && d->hv->pod_entries && *target >= populated) {
        uint64_t pages = *target - populated;

        rc = st_pod_set_cache(d, pages < d->hv->pod_entries ? pages : d->hv->pod_entries);
    }
    if (tot)
        *tot = st_domain_pages(d);
    if (cached)
        *cached = d->hv->pod_cached;
    if (entries)
        *entries = d->hv->pod_entries;
    return rc;
}

int xc_domain_get_pod_target(xc_interface *xch, uint32_t domid, uint64_t *tot_pages, uint64_t *pod_cache_pages,
                             uint64_t *pod_entries)
{
    int rc = st_begin_xc(ST_FN_xc_domain_get_pod_target, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_get_pod_target, xch, rc);
    return (int)st_end(ST_FN_xc_domain_get_pod_target, xch,
                       pod_target(domid, NULL, tot_pages, pod_cache_pages, pod_entries));
}

int xc_domain_set_pod_target(xc_interface *xch, uint32_t domid, uint64_t target_pages, uint64_t *tot_pages,
                             uint64_t *pod_cache_pages, uint64_t *pod_entries)
{
    int rc = st_begin_xc(ST_FN_xc_domain_set_pod_target, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_set_pod_target, xch, rc);
    return (int)st_end(ST_FN_xc_domain_set_pod_target, xch,
                       pod_target(domid, &target_pages, tot_pages, pod_cache_pages, pod_entries));
}
