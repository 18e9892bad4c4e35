/* The HVM part of a domain comes and goes. */
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"

#include <sys/mman.h>

#define POD_BYTES (ST_MAX_SPAN / 8)

int st_hvm_alloc(struct st_domain *d, bool device_model)
{
    struct st_hvm *h = calloc(1, sizeof(*h));

    if (!h)
        return -ENOMEM;
    h->device_model = device_model;
    h->x87_fip_width = 8;
    h->params[HVM_PARAM_TRIPLE_FAULT_REASON] = SHUTDOWN_reboot;
    d->hv = h;
    d->hvm = true;
    return 0;
}

void st_hvm_give_back(struct st_domain *d)
{
    while (d->hv->pod_cached)
        st_frame_free(d->hv->pod_cache[--d->hv->pod_cached]);
}

void st_hvm_free(struct st_domain *d)
{
    struct st_hvm *h = d->hv;

    if (!h)
        return;
    st_hvm_drop_context(d);
    free(h->entries);
    free(h->pod_cache);
    free(h->fresh);
    if (h->pod)
        munmap(h->pod, POD_BYTES);
    free(h);
    d->hv = NULL;
}
