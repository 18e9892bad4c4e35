/* The physmap: what a look at a gfn finds, and what log-dirty mode sees of changes. */
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"

int st_hvm_frame(struct st_domain *d, uint64_t gfn, uint64_t *mfn)
{
    if (!st_has_memory(d, gfn)) {
        int rc = st_hvm_is_pod(d, gfn) ? st_pod_populate(d, gfn) : -EINVAL;

        if (rc)
            return rc;
    }
    *mfn = d->truth[gfn];
    return 0;
}

static int remember_fresh(struct st_hvm *h, uint64_t gfn)
{
    return st_list_add(&h->fresh, &h->nr_fresh, &h->fresh_room, gfn);
}

/*
 * Up to Xen 4.21 a gfn that comes is entered as writable: nothing of it is dirty, and no write to it traps, until
 * the next time that the bitmap is cleaned. Since 4.22 it is dirty.
 */
int st_hvm_added(struct st_domain *d, uint64_t gfn)
{
    int rc;

    if (!d->logdirty)
        return 0;
    if (st.physmap_dirty)
        st_mark_dirty(d, gfn);
    rc = remember_fresh(d->hv, gfn);
    if (!rc)
        st.frames[d->truth[gfn]].fresh = 1;
    return rc;
}

void st_hvm_removed(struct st_domain *d, uint64_t gfn)
{
    if (d->logdirty && st.physmap_dirty)
        st_mark_clean(d, gfn);
}

void st_hvm_track_all(struct st_domain *d)
{
    struct st_hvm *h = d->hv;

    while (h->nr_fresh) {
        uint64_t gfn = h->fresh[--h->nr_fresh];

        if (st_has_memory(d, gfn))
            st.frames[d->truth[gfn]].fresh = 0;
    }
}
