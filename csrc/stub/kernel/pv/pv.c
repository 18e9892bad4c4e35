/* The PV guest as a kind: a turn's registers, what it does before it suspends and after it was resumed. */
#include "stub/kernel/kernel.h"
#include "stub/kernel/pv/adopt.h"
#include "stub/kernel/pv/balloon.h"
#include "stub/kernel/pv/process.h"
#include "stub/kernel/pv/pv.h"
#include "stub/kernel/pv/space.h"
#include "stub/kernel/pv/start_info.h"
#include "stub/kernel/pv/tables.h"
#include "stub/machine/domain.h"
#include "stub/machine/memory.h"
#include "stub/machine/pte.h"
#include "stub/machine/rng.h"
#include "stub/machine/shared_info.h"
#include "stub/machine/vcpu.h"

static void change_registers(struct st_domain *d)
{
    for (uint32_t v = 0; v < d->nr_vcpus; v++) {
        if (!d->vcpu[v].online)
            continue;
        d->vcpu[v].context.user_regs.rax = st_random(&d->kernel->rng) & d->geometry->none;
        d->vcpu[v].context.user_regs.rdx = st_random(&d->kernel->rng) & d->geometry->none;
        d->vcpu[v].context.user_regs.rip += 2;
    }
}

static void set_fixmap(struct st_domain *d, uint64_t pte)
{
    st_write_word(d, d->kernel->fixmap_l1, st_slot(st_space(d->geometry)->fixmap, 1) * sizeof(uint64_t), pte);
}

/* A guest hands over its start_info with pfns in it, and no entry that only it could understand. */
static void before_suspend(struct st_domain *d)
{
    st_process_settle(d);
    set_fixmap(d, 0);
    st_start_set(d, ST_STORE_MFN, d->kernel->store_pfn);
    st_start_set(d, ST_CONSOLE_MFN, d->kernel->console_pfn);
    d->vcpu[0].context.user_regs.rdx = d->truth[d->kernel->start_info_pfn];
    d->vcpu[0].context.user_regs.rax = 0;       /* what the suspend call returns, if it is not cancelled */
    st_kernel_remember(d);
}

void st_pv_after_resume(struct st_domain *d)
{
    st_start_set(d, ST_STORE_MFN, d->truth[d->kernel->store_pfn]);
    st_start_set(d, ST_CONSOLE_MFN, d->truth[d->kernel->console_pfn]);
    st_start_set(d, ST_SHARED_INFO, d->shared_info_mfn << ST_PAGE_SHIFT);
    if (d->kernel->config.map_shared_info)
        set_fixmap(d, d->shared_info_mfn << ST_PAGE_SHIFT | ST_PTE_PRESENT | ST_PTE_RW | ST_PTE_ACCESSED);
    st_arch_set(d, ST_P2M_GENERATION, 0);
}

const struct st_guest_kind st_pv_kind = {
    .start = st_pv_start, .registers = change_registers, .update = st_process_update,
    .before_suspend = before_suspend, .after_resume = st_pv_after_resume, .lose_page = st_user_unmap,
    .balloon_out = st_pv_balloon_out, .balloon_in = st_pv_balloon_in,
};
