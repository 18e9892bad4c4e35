/* The guest at work, and what it does before it suspends and after it was resumed. */
#include "stub/kernel/adopt.h"
#include "stub/kernel/kernel.h"
#include "stub/kernel/pages.h"
#include "stub/kernel/process.h"
#include "stub/kernel/run.h"
#include "stub/kernel/suspend.h"
#include "stub/kernel/tables.h"
#include "stub/machine/domain.h"
#include "stub/machine/frames.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"
#include "stub/machine/pte.h"
#include "stub/machine/rng.h"
#include "stub/machine/vcpu.h"

static void write_data(struct st_domain *d)
{
    uint64_t pfn, offset = st_below(&d->kernel->rng, ST_ENTRIES) * sizeof(uint64_t);

    if (st_pick_data(d, &pfn))
        return;
    st_write_word(d, pfn, offset, st_random(&d->kernel->rng));
    d->kernel->writes++;
}

void st_guest_work(struct st_domain *d, uint32_t writes, uint32_t pt_updates)
{
    for (uint32_t i = 0; i < writes; i++)
        write_data(d);
    for (uint32_t i = 0; i < pt_updates; i++)
        st_process_update(d);
}

static void change_registers(struct st_domain *d)
{
    for (uint32_t v = 0; v < d->nr_vcpus; v++) {
        if (!d->vcpu[v].online)
            continue;
        d->vcpu[v].context.user_regs.rax = st_random(&d->kernel->rng);
        d->vcpu[v].context.user_regs.rdx = st_random(&d->kernel->rng);
        d->vcpu[v].context.user_regs.rip += 2;
    }
}

void st_guest_tick(struct st_domain *d)
{
    change_registers(d);
    if (!d->kernel->config.rate)
        st_guest_work(d, d->kernel->config.writes, d->kernel->config.pt_updates);
    st_guest_poll(d);
}

static void set_fixmap(struct st_domain *d, uint64_t pte)
{
    st_write_word(d, d->kernel->fixmap_l1, st_slot(ST_FIXMAP, 1) * sizeof(uint64_t), pte);
}

/* A guest hands over its start_info with pfns in it, and no entry that only it could understand. */
void st_guest_before_suspend(struct st_domain *d)
{
    start_info_t *info = st_start_info(d);

    st_process_settle(d);
    set_fixmap(d, 0);
    info->store_mfn = d->kernel->store_pfn;
    info->console.domU.mfn = d->kernel->console_pfn;
    st_mark_dirty(d, d->kernel->start_info_pfn);
    d->vcpu[0].context.user_regs.rdx = d->truth[d->kernel->start_info_pfn];
    d->vcpu[0].context.user_regs.rax = 0;       /* what the suspend call returns, if it is not cancelled */
    st_kernel_remember(d);
}

void st_guest_after_resume(struct st_domain *d)
{
    start_info_t *info = st_start_info(d);

    info->store_mfn = d->truth[d->kernel->store_pfn];
    info->console.domU.mfn = d->truth[d->kernel->console_pfn];
    info->shared_info = d->shared_info_mfn << ST_PAGE_SHIFT;
    st_mark_dirty(d, d->kernel->start_info_pfn);
    if (d->kernel->config.map_shared_info)
        set_fixmap(d, d->shared_info_mfn << ST_PAGE_SHIFT | ST_PTE_PRESENT | ST_PTE_RW | ST_PTE_ACCESSED);
    st_shared_info(d)->arch.p2m_generation = 0;
    d->kernel->step = ST_STEP_NONE;
    d->kernel->polls = 0;
}
