/* The guest at work, whatever its kind. */
#include "stub/kernel/kernel.h"
#include "stub/kernel/pages.h"
#include "stub/kernel/run.h"
#include "stub/kernel/suspend.h"
#include "stub/machine/domain.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/memory.h"
#include "stub/machine/rng.h"

static void write_data(struct st_domain *d)
{
    uint64_t pfn, offset = st_below(&d->kernel->rng, ST_ENTRIES) * sizeof(uint64_t);

    if (st_pick_data(d, &pfn))
        return;
    st_write_word(d, pfn, offset, st_random(&d->kernel->rng));
    d->kernel->writes++;
}

void st_guest_work(struct st_domain *d, uint32_t writes, uint32_t updates)
{
    for (uint32_t i = 0; i < writes; i++)
        write_data(d);
    for (uint32_t i = 0; i < updates; i++)
        d->kernel->kind->update(d);
    if (d->kernel->kind->worked)
        d->kernel->kind->worked(d);
}

void st_guest_tick(struct st_domain *d)
{
    if (d->hv && d->hv->s3)
        return;
    d->kernel->kind->registers(d);
    if (!d->kernel->config.rate)
        st_guest_work(d, (d->kernel->config.writes * st_domain_share(d) + ST_WHOLE - 1) / ST_WHOLE,
                      d->kernel->config.pt_updates);
    st_guest_poll(d);
}

void st_guest_before_suspend(struct st_domain *d)
{
    d->kernel->kind->before_suspend(d);
}

void st_guest_after_resume(struct st_domain *d)
{
    d->kernel->kind->after_resume(d);
    d->kernel->step = ST_STEP_NONE;
    d->kernel->polls = 0;
}

void st_guest_devices(struct st_domain *d)
{
    if (!d->kernel->config.rate && d->kernel->kind->devices)
        d->kernel->kind->devices(d);
}
