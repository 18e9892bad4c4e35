/* A guest with its kernel, and a domain that waits for one. */
#include "stub/kernel/adopt.h"
#include "stub/kernel/build.h"
#include "stub/kernel/config.h"
#include "stub/kernel/create.h"
#include "stub/kernel/kernel.h"
#include "stub/kernel/run.h"
#include "stub/kernel/writer.h"
#include "stub/machine/domain.h"
#include "stub/machine/frames.h"
#include "stub/machine/rng.h"

static void kernel_free(struct st_domain *d)
{
    if (d->kernel)
        free(d->kernel->leaf);
    free(d->kernel);
}

static const struct st_hooks hooks = {
    .tick = st_guest_tick, .start = st_guest_adopt, .after_resume = st_guest_after_resume, .stop = st_writer_stop,
    .free = kernel_free,
};

/* A kernel that knows nothing yet. */
static int kernel_alloc(struct st_domain *d)
{
    struct st_kernel *k = calloc(1, sizeof(*k));

    if (!k)
        return -ENOMEM;
    k->missing_leaf = k->missing_l1 = k->fll = k->fll_pfns = k->fixmap_l1 = ST_NONE;
    k->start_info_pfn = k->store_pfn = k->console_pfn = k->page_pfn = ST_NONE;
    k->kernel_l4 = k->user_l4 = k->p2m_l4 = k->user_l2 = ST_NONE;
    d->kernel = k;
    d->hooks = &hooks;
    return 0;
}

/* What is decided before the first page is there. */
static int configure(struct st_domain *d, const stub_guest_config *config)
{
    struct st_kernel *k = d->kernel;

    memcpy(d->name, config->name, sizeof(d->name));
    d->nr_vcpus = config->vcpus;
    d->seed = config->seed;
    d->nr_pfns = d->cap_pfns;
    d->creation_finished = true;
    k->config = *config;
    k->nr_leaves = (d->nr_pfns + ST_ENTRIES - 1) / ST_ENTRIES;
    k->p2m_vaddr = config->p2m_vaddr;
    k->rng.state = st_hash(config->seed, d->id);
    k->hot_first = st_random(&k->rng) % config->pages;
    k->leaf = calloc(k->nr_leaves, sizeof(*k->leaf));
    return k->leaf ? 0 : -ENOMEM;
}

static struct st_domain *guest_alloc(const stub_guest_config *config)
{
    struct st_domain *d = st_domain_alloc(config->span + config->spare);

    if (!d)
        return NULL;
    if (!kernel_alloc(d) && !configure(d, config))
        return d;
    st_domain_free(d);
    return NULL;
}

int st_guest_new(const stub_guest_config *config, struct st_domain **result)
{
    struct st_domain *d;
    int rc = st_config_check(config);

    if (rc)
        return rc;
    d = guest_alloc(config);
    if (!d)
        return st_error(ENOMEM, "no memory for a domain of %lu pfns",
                        (unsigned long)(config->span + config->spare));
    st_domain_enlist(d);
    rc = st_guest_build(d);
    rc = rc ? rc : st_domain_store_nodes(d, config->pages);
    rc = rc ? rc : st_writer_start(d);
    if (rc)
        st_domain_remove(d);
    *result = rc ? NULL : d;
    return rc;
}

int st_guest_awaited(uint64_t max_pages, uint32_t vcpus, const char *name, struct st_domain **result)
{
    int rc = st_domain_empty(max_pages, vcpus, name, result);

    if (rc)
        return rc;
    rc = kernel_alloc(*result);
    if (rc)
        st_domain_remove(*result);
    return rc;
}
