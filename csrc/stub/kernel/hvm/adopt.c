/*
 * A restored guest's kernel finds itself again, from what is in the domain: gs_base of vcpu 0 leads to a page of
 * its own, which says what there was. Where something is not as it was, the kernel crashes and says why.
 */
#include "stub/kernel/config.h"
#include "stub/kernel/hvm/guest.h"
#include "stub/kernel/kernel.h"
#include "stub/kernel/writer.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"
#include "stub/machine/rng.h"
#include "stub/machine/vcpu.h"

#define MAGIC      0x6d76686b74737562UL
#define DIRECT_MAP 0xffff888000000000UL
#define RING_BYTES 3088U                /* of the console's page: what its rings and their indexes take */

/* Params that a stream carries. */
static const uint32_t carried[] = {
    HVM_PARAM_STORE_PFN, HVM_PARAM_IOREQ_PFN, HVM_PARAM_BUFIOREQ_PFN, HVM_PARAM_PAGING_RING_PFN,
    HVM_PARAM_MONITOR_RING_PFN, HVM_PARAM_SHARING_RING_PFN, HVM_PARAM_VM86_TSS_SIZED, HVM_PARAM_CONSOLE_PFN,
    HVM_PARAM_ACPI_IOPORTS_LOCATION, HVM_PARAM_VIRIDIAN, HVM_PARAM_IDENT_PT, HVM_PARAM_VM_GENERATION_ID_ADDR,
    HVM_PARAM_IOREQ_SERVER_PFN, HVM_PARAM_NR_IOREQ_SERVER_PAGES, HVM_PARAM_X87_FIP_WIDTH, HVM_PARAM_MCA_CAP,
};
#define NR_CARRIED (sizeof(carried) / sizeof(carried[0]))

struct remembered {
    uint64_t magic, checksum;           /* checksum: of all that follows */
    stub_guest_config config;
    stub_hvm_config hvm;
    uint64_t hot_first, page_gfn, online_vcpus, prepared;
    uint64_t pages;                     /* that the kernel believes to have */
    uint64_t ballooned;
    uint64_t params[NR_CARRIED];
};

_Static_assert(sizeof(struct remembered) <= ST_PAGE_SIZE && sizeof(struct remembered) % 8 == 0, "one page of words");

static uint64_t checksum(const struct remembered *r)
{
    const uint64_t *words = (const uint64_t *)r;
    uint64_t sum = MAGIC;

    for (unsigned i = 2; i < sizeof(*r) / sizeof(*words); i++)
        sum = st_hash(sum, words[i]);
    return sum;
}

static uint64_t online_vcpus(const struct st_domain *d)
{
    uint64_t mask = 0;

    for (uint32_t v = 0; v < d->nr_vcpus; v++)
        mask |= (uint64_t)(st_hvm_cpu(d, v) != NULL) << v;
    return mask;
}

static void fill(const struct st_domain *d, struct remembered *r)
{
    const struct st_kernel *k = d->kernel;

    memset(r, 0, sizeof(*r));
    r->magic = MAGIC;
    memcpy(&r->config, &k->config, sizeof(r->config));
    memcpy(&r->hvm, &k->hvm, sizeof(r->hvm));
    r->hot_first = k->hot_first;
    r->page_gfn = k->page_pfn;
    r->online_vcpus = online_vcpus(d);
    r->prepared = k->prepared;
    r->pages = d->nr_mem + d->hv->pod_entries;
    r->ballooned = k->ballooned;
    for (unsigned i = 0; i < NR_CARRIED; i++)
        st_hvm_param_get(d, carried[i], &r->params[i]);
    r->checksum = checksum(r);
}

void st_hvm_remember(struct st_domain *d)
{
    struct remembered r;

    fill(d, &r);
    memcpy(st_guest_page(d, d->kernel->page_pfn), &r, sizeof(r));
    st_mark_dirty(d, d->kernel->page_pfn);
}

/* ---- finding it ---- */

static int find(struct st_domain *d, struct remembered *r)
{
    const struct hvm_hw_cpu *c = st_hvm_cpu(d, 0);
    uint64_t gfn;

    if (!c)
        return st_error(EINVAL, "vcpu 0 has no registers");
    gfn = (c->gs_base - DIRECT_MAP) >> ST_PAGE_SHIFT;
    if (!st_has_memory(d, gfn))
        return st_error(EINVAL, "the kernel's page is not at gs_base %#lx", (unsigned long)c->gs_base);
    memcpy(r, st_guest_page(d, gfn), sizeof(*r));
    if (r->magic != MAGIC || r->checksum != checksum(r) || r->page_gfn != gfn)
        return st_error(EINVAL, "gfn %#lx is not the kernel's page as it was", (unsigned long)gfn);
    if (r->hvm.device_model != d->hv->device_model)
        return st_error(EINVAL, "the guest was %s", r->hvm.device_model ? "HVM" : "PVH");
    return 0;
}

static int check_params(const struct st_domain *d, const struct remembered *r)
{
    for (unsigned i = 0; i < NR_CARRIED; i++) {
        uint64_t value = 0;

        st_hvm_param_get(d, carried[i], &value);
        if (value != r->params[i])
            return st_error(EINVAL, "param %u is %#lx and was %#lx", carried[i], (unsigned long)value,
                            (unsigned long)r->params[i]);
    }
    return 0;
}

static bool is_zero(const struct st_domain *d, uint64_t gfn, unsigned bytes)
{
    const uint64_t *page = st_guest_page(d, gfn);

    for (unsigned i = 0; i < bytes / sizeof(*page); i++)
        if (page[i])
            return false;
    return true;
}

static uint64_t special(const struct remembered *r, enum st_special which)
{
    return st_layout_special(&r->config, &r->hvm, which);
}

/* Rings begin anew after a restore; Xen's identity map is what it was. */
static int check_specials(const struct st_domain *d, const struct remembered *r)
{
    const enum st_special rings[] = { ST_SP_STORE, ST_SP_CONSOLE, ST_SP_IOREQ, ST_SP_BUFIOREQ };
    uint64_t expected[ST_ENTRIES];

    for (unsigned which = 0; which < ST_NR_SPECIALS; which++)
        if (!st_has_memory(d, special(r, which)))
            return st_error(EINVAL, "special page %#lx has no memory", (unsigned long)special(r, which));
    st_special_page(ST_SP_IDENT_PT, expected);
    if (memcmp(expected, st_guest_page(d, special(r, ST_SP_IDENT_PT)), ST_PAGE_SIZE) != 0)
        return st_error(EINVAL, "the identity map is not what it was");
    for (unsigned i = 0; i < sizeof(rings) / sizeof(rings[0]); i++)
        if (!is_zero(d, special(r, rings[i]), rings[i] == ST_SP_CONSOLE ? RING_BYTES : ST_PAGE_SIZE))
            return st_error(EINVAL, "the ring at %#lx was not cleared", (unsigned long)special(r, rings[i]));
    return 0;
}

/* Of those that left it may have more than it knows of: a stream does not say that a page has gone. */
static int check_state(const struct st_domain *d, const struct remembered *r)
{
    if (online_vcpus(d) != r->online_vcpus)
        return st_error(EINVAL, "vcpus %#lx are online, and were %#lx", (unsigned long)online_vcpus(d),
                        (unsigned long)r->online_vcpus);
    if (d->nr_mem + d->hv->pod_entries < r->pages)
        return st_error(EINVAL, "the guest has %lu pages, and had %lu", (unsigned long)d->nr_mem,
                        (unsigned long)r->pages);
    if (r->hvm.pv_drivers && !r->hvm.asleep && !r->prepared) /* one that sleeps is not asked */
        return st_error(EINVAL, "the guest's PV drivers were not asked before it was suspended");
    return 0;
}

/* ---- being it ---- */

static void mark(struct st_domain *d, uint64_t first, uint64_t count)
{
    for (uint64_t gfn = first; gfn < first + count; gfn++)
        if (st_has_memory(d, gfn))
            st.frames[d->truth[gfn]].kind = ST_SPECIAL;
}

static void take_over(struct st_domain *d, const struct remembered *r)
{
    struct st_kernel *k = d->kernel;

    k->config = r->config;
    k->hvm = r->hvm;
    k->config.vcpus = d->nr_vcpus;
    k->hot_first = r->hot_first;
    k->page_pfn = r->page_gfn;
    k->ballooned = r->ballooned;
    k->store_pfn = special(r, ST_SP_STORE);
    k->console_pfn = special(r, ST_SP_CONSOLE);
    k->rng.state = st_hvm_cpu(d, 0)->r12;
    k->dm_rng.state = st_hash(k->config.seed, d->id);
}

int st_hvm_start(struct st_domain *d)
{
    struct remembered r;
    int rc = find(d, &r);

    rc = rc ? rc : st_config_check_hvm(&r.config, &r.hvm);
    rc = rc ? rc : check_params(d, &r);
    rc = rc ? rc : check_specials(d, &r);
    rc = rc ? rc : check_state(d, &r);
    if (rc)
        return rc;
    take_over(d, &r);
    st_sort_memory(d);
    mark(d, special(&r, 0), ST_NR_SPECIALS);
    if (d->hv->device_model)
        mark(d, st_layout_ioreq(&r.config, &r.hvm), ST_NR_IOREQ);
    mark(d, d->kernel->page_pfn, 1);
    d->built = true;
    st_hvm_guest_kind.after_resume(d);
    return st_writer_start(d);
}
