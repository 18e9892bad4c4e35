/* A guest with its kernel, and a domain that waits for one. */
#include "stub/kernel/config.h"
#include "stub/kernel/create.h"
#include "stub/kernel/hvm/guest.h"
#include "stub/kernel/kernel.h"
#include "stub/kernel/pv/build.h"
#include "stub/kernel/pv/pv.h"
#include "stub/kernel/run.h"
#include "stub/kernel/writer.h"
#include "stub/machine/domain.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/m2p.h"
#include "stub/machine/rng.h"

#include <stdio.h>

#define ST_HVM_PFNS (1UL << 20)         /* room at first: below 4 GiB */

static void kernel_free(struct st_domain *d)
{
    if (d->kernel)
        free(d->kernel->leaf);
    free(d->kernel);
}

static int start(struct st_domain *d)
{
    int rc = d->kernel->kind->start(d);

    if (rc)
        snprintf(d->kernel->crash, sizeof(d->kernel->crash), "%s", st_error_text());
    return rc;
}

static const struct st_hooks hooks = {
    .tick = st_guest_tick, .devices = st_guest_devices, .start = start, .after_resume = st_guest_after_resume,
    .stop = st_writer_stop, .free = kernel_free,
};

/* A kernel that knows nothing yet. */
static int kernel_alloc(struct st_domain *d, const struct st_guest_kind *kind)
{
    struct st_kernel *k = calloc(1, sizeof(*k));

    if (!k)
        return -ENOMEM;
    k->kind = kind;
    k->missing_leaf = k->missing_l1 = k->fll = k->fll_pfns = k->fixmap_l1 = ST_NONE;
    k->start_info_pfn = k->store_pfn = k->console_pfn = k->page_pfn = ST_NONE;
    k->kernel_root = k->user_root = k->p2m_root = k->user_l2 = ST_NONE;
    d->kernel = k;
    d->hooks = &hooks;
    return 0;
}

/* What is decided of any kind before the first page is there. */
static void configure(struct st_domain *d, const stub_guest_config *config)
{
    struct st_kernel *k = d->kernel;

    memcpy(d->name, config->name, sizeof(d->name));
    d->nr_vcpus = config->vcpus;
    d->seed = config->seed;
    d->creation_finished = true;
    k->config = *config;
    k->rng.state = st_hash(config->seed, d->id);
    k->hot_first = st_random(&k->rng) % config->pages;
}

/* In the list, built, with its nodes in the store and its thread; or removed again. */
static int finish(struct st_domain *d, int (*build)(struct st_domain *d), struct st_domain **result)
{
    int rc;

    st_domain_enlist(d);
    rc = build(d);
    rc = rc ? rc : st_domain_store_nodes(d, d->kernel->config.pages);
    rc = rc ? rc : st_writer_start(d);
    if (rc)
        st_domain_remove(d);
    *result = rc ? NULL : d;
    return rc;
}

static int configure_pv(struct st_domain *d, const stub_guest_config *config)
{
    struct st_kernel *k = d->kernel;

    configure(d, config);
    d->nr_pfns = d->cap_pfns;
    d->width = config->width;
    d->geometry = st_geometry(config->width);
    k->nr_leaves = (d->nr_pfns + d->geometry->per_page - 1) / d->geometry->per_page;
    k->p2m_vaddr = config->p2m_vaddr;
    k->leaf = calloc(k->nr_leaves, sizeof(*k->leaf));
    return k->leaf ? 0 : -ENOMEM;
}

static int no_memory(uint64_t pfns)
{
    return st_error(ENOMEM, "no memory for a domain of %lu pfns", (unsigned long)pfns);
}

int st_guest_new(const stub_guest_config *config, struct st_domain **result)
{
    uint64_t pfns = config->span + config->spare;
    struct st_domain *d;
    int rc = st_config_check(config);

    if (!rc && config->width != sizeof(uint64_t) && (!st.pv32 || st.nr_frames > ST_MAX_COMPAT_FRAMES))
        rc = st_error(EOPNOTSUPP, "this machine has no 32-bit PV guests%s", st.pv32 ? ": it has too many frames" : "");
    if (rc)
        return rc;
    d = st_domain_alloc(pfns);
    if (!d)
        return no_memory(pfns);
    if (!kernel_alloc(d, &st_pv_kind) && !configure_pv(d, config))
        return finish(d, st_guest_build, result);
    st_domain_free(d);
    return no_memory(pfns);
}

int st_guest_new_hvm(const stub_guest_config *config, const stub_hvm_config *hvm, struct st_domain **result)
{
    struct st_domain *d;
    int rc = st_config_check_hvm(config, hvm);

    if (rc)
        return rc;
    d = st_domain_alloc(ST_HVM_PFNS);
    if (!d)
        return no_memory(ST_HVM_PFNS);
    if (!st_hvm_alloc(d, hvm->device_model) && !kernel_alloc(d, &st_hvm_guest_kind)) {
        configure(d, config);
        d->kernel->hvm = *hvm;
        return finish(d, st_hvm_guest_build, result);
    }
    st_domain_free(d);
    return no_memory(ST_HVM_PFNS);
}

int st_guest_awaited(enum st_domain_kind kind, uint64_t max_pages, uint32_t vcpus, const char *name,
                     struct st_domain **result)
{
    int rc = st_domain_empty(kind, max_pages, vcpus, name, result);

    if (rc)
        return rc;
    rc = kernel_alloc(*result, kind == ST_PV ? &st_pv_kind : &st_hvm_guest_kind);
    if (rc)
        st_domain_remove(*result);
    return rc;
}
