/* Pages leave an HVM or PVH guest and come back. */
#include "stub/kernel/hvm/guest.h"
#include "stub/kernel/kernel.h"
#include "stub/kernel/pages.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/memory.h"
#include "stub/machine/rng.h"

#define LEAST_PAGES 256UL               /* that the kernel keeps of its own accord */

int st_hvm_balloon_out(struct st_domain *d, uint64_t gfn)
{
    int rc;

    if (st_hvm_is_pod(d, gfn)) {
        st_pod_unmark(d, gfn);
        st_hvm_remember(d);
        return 0;
    }
    if (!st_has_memory(d, gfn))
        return st_error(ENOENT, "gfn %#lx of guest %u has no memory", (unsigned long)gfn, d->id);
    if (st.frames[d->truth[gfn]].kind != ST_DATA)
        return st_error(EBUSY, "gfn %#lx is in use by the guest's kernel or by Xen", (unsigned long)gfn);
    rc = st_remove_memory(d, gfn);
    if (rc)
        return rc;
    st_hvm_removed(d, gfn);
    st_hvm_remember(d);
    return 0;
}

int st_hvm_balloon_in(struct st_domain *d, uint64_t gfn, uint64_t mfn)
{
    int rc = st_domain_reserve(d, gfn + 1);

    if (rc)
        return rc;
    if (d->truth[gfn] || st_hvm_is_pod(d, gfn))
        return st_error(EINVAL, "gfn %#lx has memory already", (unsigned long)gfn);
    if (st_domain_pages(d) >= d->max_pages)
        return st_error(ENOMEM, "guest %u owns as many pages as it may (%lu)", d->id, (unsigned long)d->max_pages);
    rc = mfn == ST_NONE ? st_add_memory(d, gfn) : st_add_frame(d, gfn, mfn);
    rc = rc ? rc : st_hvm_added(d, gfn);
    if (rc)
        return rc;
    st_fill_anew(d, gfn);
    st_hvm_remember(d);
    return 0;
}

static void one_out(struct st_domain *d)
{
    uint64_t gfn;

    if (d->nr_mem > LEAST_PAGES && st_pick_data(d, &gfn) == 0)
        st_hvm_balloon_out(d, gfn);
}

static void one_in(struct st_domain *d)
{
    uint64_t count = st_layout_nr_ram(&d->kernel->config, &d->kernel->hvm);

    for (unsigned attempt = 0; attempt < 16; attempt++) {
        uint64_t gfn = st_layout_ram(&d->kernel->hvm, st_below(&d->kernel->rng, count));

        if (st_has_memory(d, gfn) || st_hvm_is_pod(d, gfn))
            continue;
        st_hvm_balloon_in(d, gfn, ST_NONE);
        return;
    }
}

/* A balloon driver goes one way until it has what it was told to have. Then it does nothing, until it is told another
 * number. */
static void take_target(struct st_domain *d)
{
    struct st_kernel *k = d->kernel;

    k->balloon.inward = st_below(&k->rng, 2);
    k->balloon.left = 1 + st_below(&k->rng, 64);
}

void st_hvm_balloon_some(struct st_domain *d)
{
    struct st_kernel *k = d->kernel;

    if (d->ticks % k->hvm.balloon_every || d->ticks < k->balloon.rest_until)
        return;
    if (!k->balloon.left)
        take_target(d);
    if (k->balloon.inward)
        one_in(d);
    else
        one_out(d);
    k->pt_updates++;
    if (!--k->balloon.left)
        k->balloon.rest_until = d->ticks + 16 + st_below(&k->rng, 64);
}
