/*
 * The device model. It writes to the guest through mappings of its own, which Xen does not see; where its log-dirty
 * tracking is on it tells Xen of each write.
 */
#include "stub/kernel/hvm/guest.h"
#include "stub/kernel/kernel.h"
#include "stub/kernel/pages.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"
#include "stub/machine/rng.h"

/* Video memory every other time, else what it reads from a disk, which goes anywhere. */
static bool pick(struct st_domain *d, uint64_t *gfn)
{
    struct st_kernel *k = d->kernel;

    if (k->hvm.vram && st_below(&k->dm_rng, 2))
        *gfn = st_layout_vram(&k->config, &k->hvm) + st_below(&k->dm_rng, k->hvm.vram);
    else if (d->nr_mem)
        *gfn = d->mem[st_below(&k->dm_rng, d->nr_mem)];
    else
        return false;
    return st_has_memory(d, *gfn) && st.frames[d->truth[*gfn]].kind == ST_DATA;
}

static void write_one(struct st_domain *d)
{
    struct st_rng *rng = &d->kernel->dm_rng;
    uint64_t gfn, offset = st_below(rng, ST_ENTRIES), value = st_random(rng);

    if (!pick(d, &gfn))
        return;
    __atomic_store_n((uint64_t *)st_guest_page(d, gfn) + offset, value, __ATOMIC_RELAXED);
    d->kernel->dm_writes++;
    if (d->hv->dm_logdirty)
        st_mark_dirty(d, gfn);
}

void st_hvm_devices(struct st_domain *d)
{
    const struct st_kernel *k = d->kernel;
    bool works = st_domain_running(d) || (k->hvm.devmodel_goes_on && d->shutdown && !d->dying);

    for (uint32_t i = 0; works && !k->dm_stopped && i < k->hvm.devmodel; i++)
        write_one(d);
}
