/* Guests: making them, their state, what they were given, how they run. */
#include "stub/kernel/create.h"
#include "stub/kernel/kernel.h"
#include "stub/kernel/run.h"
#include "stub/machine/domain.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/memory.h"
#include "stub/machine/shared_info.h"
#include "stub/machine/vcpu.h"
#include "stub/panel/guest.h"
#include "stub/panel/stub_api.h"

/* With the lock: the guest, or an error that says there is none. */
struct st_domain *st_panel_guest(uint32_t domid, int *rc)
{
    struct st_domain *d = st_domain_find(domid);

    *rc = d ? 0 : st_error(ESRCH, "there is no guest %u", domid);
    return d;
}

/* A guest that the stub's own kernel runs in. */
struct st_domain *st_panel_booted(uint32_t domid, int *rc)
{
    struct st_domain *d = st_panel_guest(domid, rc);

    if (!d || d->built)
        return d;
    *rc = st_error(EINVAL, "the kernel of guest %u does not run (adopt() starts it)", domid);
    return NULL;
}

struct st_domain *st_panel_pv(uint32_t domid, int *rc)
{
    struct st_domain *d = st_panel_booted(domid, rc);

    if (!d || !d->hv)
        return d;
    *rc = st_error(EINVAL, "guest %u is no PV guest: it has neither a p2m of its own nor page tables that Xen knows",
                   domid);
    return NULL;
}

struct st_domain *st_panel_guest_with(uint32_t domid, uint64_t pfn, int *rc)
{
    struct st_domain *d = st_panel_guest(domid, rc);

    if (!d)
        return NULL;
    if (!st_has_memory(d, pfn)) {
        *rc = st_error(ENOENT, "pfn %#lx of guest %u has no memory", (unsigned long)pfn, domid);
        return NULL;
    }
    return d;
}

int stub_create(const stub_guest_config *config)
{
    struct st_domain *d = NULL;
    int rc;

    st_lock();
    rc = st_machine_ready();
    rc = rc ? rc : st_guest_new(config, &d);
    rc = rc ? rc : (int)d->id;
    st_unlock();
    return rc;
}

int stub_create_hvm(const stub_guest_config *config, const stub_hvm_config *hvm)
{
    struct st_domain *d = NULL;
    int rc;

    st_lock();
    rc = st_machine_ready();
    rc = rc ? rc : st_guest_new_hvm(config, hvm, &d);
    rc = rc ? rc : (int)d->id;
    st_unlock();
    return rc;
}

int stub_destroy(uint32_t domid)
{
    ST_LOCKED;
    int rc;
    struct st_domain *d = st_panel_guest(domid, &rc);

    if (d)
        st_domain_kill(d);
    return rc;
}

int stub_domids(uint32_t *domids, uint32_t max)
{
    int count = 0;

    st_lock();
    for (const struct st_domain *d = st.domains; d; d = d->next, count++)
        if ((uint32_t)count < max)
            domids[count] = d->id;
    st_unlock();
    return count;
}

int stub_create_empty(stub_domain_kind kind, uint64_t max_pages, uint32_t vcpus, const char *name)
{
    struct st_domain *d = NULL;
    int rc;

    st_lock();
    rc = st_machine_ready();
    rc = rc ? rc : st_guest_awaited(kind == STUB_PV32 ? ST_PV : (enum st_domain_kind)kind, max_pages, vcpus, name, &d);
    rc = rc ? rc : (int)d->id;
    st_unlock();
    return rc;
}

static int adopt(struct st_domain *d)
{
    if (d->built && !d->pause_count)
        return 0;
    if (!d->kernel->crash[0] && !d->vcpu[0].online)
        return st_error(EINVAL, "vcpu 0 of guest %u has no context to start from", d->id);
    if (!d->kernel->crash[0] && d->pause_count != 1)
        return st_error(EBUSY, "guest %u is paused %u times", d->id, d->pause_count);
    if (!d->kernel->crash[0])
        st_domain_unpause(d);
    return d->kernel->crash[0] ? st_error(EINVAL, "the guest's kernel crashed: %s", d->kernel->crash) : 0;
}

int stub_adopt(uint32_t domid)
{
    ST_LOCKED;
    int rc;
    struct st_domain *d = st_panel_guest(domid, &rc);

    return d ? adopt(d) : rc;
}

int stub_get_tsc(uint32_t domid, stub_tsc *tsc)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = st_panel_guest(domid, &rc);
    if (d && !d->tsc.set)
        rc = st_error(ENOENT, "guest %u was given no TSC", domid);
    else if (d)
        *tsc = (stub_tsc){ d->tsc.given, d->tsc.mode, d->tsc.khz, d->tsc.incarnation - 1 };
    st_unlock();
    return rc;
}

int stub_get_policy(uint32_t domid, uint32_t *nr_leaves, uint32_t *nr_msrs)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = st_panel_guest(domid, &rc);
    if (d && !d->policy) {
        rc = st_error(ENOENT, "guest %u was given no CPU policy", domid);
    } else if (d) {
        *nr_leaves = d->policy_leaves;
        *nr_msrs = d->policy_msrs;
    }
    st_unlock();
    return rc;
}

int stub_get_grant_seed(uint32_t domid, stub_grant_seed *seed)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = st_panel_guest(domid, &rc);
    if (d && !d->granted)
        rc = st_error(ENOENT, "guest %u's grant table was not seeded", domid);
    else if (d)
        *seed = d->grants;
    st_unlock();
    return rc;
}

int stub_read_shared_info(uint32_t domid, void *page)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = st_panel_guest(domid, &rc);
    if (d)
        memcpy(page, st_shared_info(d), ST_PAGE_SIZE);
    st_unlock();
    return rc;
}

static uint64_t count_dirty(const struct st_domain *d)
{
    uint64_t count = 0;

    for (uint64_t word = 0; d->logdirty && word < (d->nr_pfns + 63) / 64; word++)
        count += (uint64_t)__builtin_popcountl(d->bitmap[word]);
    return count;
}

static void fill_state(const struct st_domain *d, stub_domain_state *s)
{
    *s = (stub_domain_state){
        .nr_pfns = d->nr_pfns, .tot_pages = st_domain_pages(d), .max_pages = d->max_pages,
        .ticks = d->ticks, .writes = d->kernel->writes, .pt_updates = d->kernel->pt_updates, .dirty = count_dirty(d),
        .start_info_pfn = d->kernel->start_info_pfn, .store_pfn = d->kernel->store_pfn,
        .console_pfn = d->kernel->console_pfn, .kernel_pfn = d->kernel->page_pfn,
        .shared_info_mfn = d->shared_info_mfn, .kernel_root_pfn = d->kernel->kernel_root,
        .user_root_pfn = d->kernel->user_root, .nr_leaves = d->kernel->nr_leaves, .missing_leaf_pfn = d->kernel->missing_leaf,
        .shutdown_reason = (uint32_t)d->shutdown_reason, .shutdown = d->shutdown,
        .paused = d->pause_count > 0, .dying = d->dying, .logdirty = d->logdirty,
        .running = st_domain_running(d), .booted = d->built, .width = d->geometry->width,
        .sched_weight = d->sched_weight, .sched_cap = d->sched_cap,
        .bitmaps = d->cleaned, .final_bitmaps = d->cleaned_as_final,
    };
}

static void add_hvm(const struct st_domain *d, stub_domain_state *s)
{
    s->hvm = true;
    s->device_model = d->hv->device_model;
    s->devmodel_logdirty = d->hv->dm_logdirty;
    s->devmodel_stopped = d->kernel->dm_stopped;
    s->devmodel_writes = d->kernel->dm_writes;
    s->pod_entries = d->hv->pod_entries;
    s->pod_cache = d->hv->pod_cached;
}

int stub_state(uint32_t domid, stub_domain_state *state)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = st_panel_guest(domid, &rc);
    if (d)
        fill_state(d, state);
    if (d && d->hv)
        add_hvm(d, state);
    st_unlock();
    return rc;
}

int stub_tick(uint32_t domid, uint32_t times)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = st_panel_guest(domid, &rc);
    for (uint32_t i = 0; d && i < times; i++)
        st_domain_tick(d);
    st_unlock();
    return rc;
}

int stub_shut_down(uint32_t domid, int reason)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = st_panel_guest(domid, &rc);
    if (d && d->built && reason == SHUTDOWN_suspend && !d->shutdown)
        st_guest_before_suspend(d);
    if (d)
        rc = st_domain_shut_down(d, reason);
    st_unlock();
    return rc;
}

int stub_set_suspend(uint32_t domid, stub_suspend_kind kind, uint32_t ack_polls, uint32_t suspend_polls)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = st_panel_guest(domid, &rc);
    if (d) {
        d->kernel->config.suspend = kind;
        d->kernel->config.ack_polls = ack_polls;
        d->kernel->config.suspend_polls = suspend_polls;
    }
    st_unlock();
    return rc;
}

int stub_set_writes(uint32_t domid, uint32_t writes, uint32_t pt_updates)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = st_panel_guest(domid, &rc);
    if (d) {
        d->kernel->config.writes = writes;
        d->kernel->config.pt_updates = pt_updates;
    }
    st_unlock();
    return rc;
}
