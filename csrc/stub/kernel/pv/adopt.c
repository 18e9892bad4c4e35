/*
 * A restored guest's kernel finds itself again. All that it knows is in the domain's own memory, as with a
 * real kernel: vcpu 0's rdx is the frame of start_info, gs_base_kernel (of a 32-bit guest: kernel_sp) the
 * virtual address of a page of the kernel's own, to be found through the page tables that cr3 names. It trusts neither the builder's
 * p2m nor its page tables: where one of them is not what it was, the kernel crashes and says why.
 */
#include "stub/kernel/pv/adopt.h"
#include "stub/kernel/pv/build.h"
#include "stub/kernel/config.h"
#include "stub/kernel/kernel.h"
#include "stub/kernel/pv/p2m.h"
#include "stub/kernel/pv/pv.h"
#include "stub/kernel/pv/space.h"
#include "stub/kernel/pv/start_info.h"
#include "stub/kernel/pv/tables.h"
#include "stub/kernel/writer.h"
#include "stub/machine/domain.h"
#include "stub/machine/frames.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"
#include "stub/machine/rng.h"
#include "stub/machine/vcpu.h"

#define MAGIC 0x6c656e72656b7473UL
#define START_MAGIC_BYTES 32

struct remembered {                         /* in its page since the last suspend */
    uint64_t magic, checksum;           /* checksum: of all that follows */
    stub_guest_config config;
    uint64_t nr_pfns, nr_leaves, p2m_vaddr, rng, hot_first;
    uint64_t kernel_root, user_root, p2m_root, user_l2, fixmap_l1, missing_leaf, missing_l1, fll, fll_pfns;
};

_Static_assert(sizeof(struct remembered) <= ST_PAGE_SIZE && sizeof(struct remembered) % 8 == 0, "it is one page of words");

static uint64_t checksum(const struct remembered *k)
{
    const uint64_t *words = (const uint64_t *)k;
    uint64_t sum = MAGIC;

    for (unsigned i = 2; i < sizeof(*k) / sizeof(*words); i++)
        sum = st_hash(sum, words[i]);
    return sum;
}

/* Before it suspends the kernel has all it needs in memory. */
void st_kernel_remember(struct st_domain *d)
{
    struct remembered *k = st_guest_page(d, d->kernel->page_pfn);

    memset(k, 0, sizeof(*k));
    k->magic = MAGIC;
    memcpy(&k->config, &d->kernel->config, sizeof(k->config));
    memcpy(k->config.name, d->name, sizeof(k->config.name));
    k->nr_pfns = d->nr_pfns;
    k->nr_leaves = d->kernel->nr_leaves;
    k->p2m_vaddr = d->kernel->p2m_vaddr;
    k->rng = d->kernel->rng.state;
    k->hot_first = d->kernel->hot_first;
    k->kernel_root = d->kernel->kernel_root;
    k->user_root = d->kernel->user_root;
    k->p2m_root = d->kernel->p2m_root;
    k->user_l2 = d->kernel->user_l2;
    k->fixmap_l1 = d->kernel->fixmap_l1;
    k->missing_leaf = d->kernel->missing_leaf;
    k->missing_l1 = d->kernel->missing_l1;
    k->fll = d->kernel->fll;
    k->fll_pfns = d->kernel->fll_pfns;
    k->checksum = checksum(k);
    st_mark_dirty(d, d->kernel->page_pfn);
}

/* ---- finding it ---- */

static int find_kernel(struct st_domain *d, struct remembered *k)
{
    const vcpu_guest_context_t *c = &d->vcpu[0].context;
    uint64_t root = st_own_pfn(d, xen_cr3_to_pfn(c->ctrlreg[3])), address = st_kernel_page_register(d, c);

    if (root == ST_NONE)
        return st_error(EINVAL, "vcpu 0's cr3 is no frame of the guest");
    d->kernel->page_pfn = st_find_table(d, root, address, 0);
    if (d->kernel->page_pfn == ST_NONE)
        return st_error(EINVAL, "the kernel's page is not mapped at %#lx", (unsigned long)address);
    memcpy(k, st_guest_page(d, d->kernel->page_pfn), sizeof(*k));
    if (k->magic != MAGIC || k->checksum != checksum(k))
        return st_error(EINVAL, "pfn %#lx is not the kernel's page as it was", (unsigned long)d->kernel->page_pfn);
    if (k->kernel_root != root)
        return st_error(EINVAL, "vcpu 0's cr3 is pfn %#lx, and was %#lx", (unsigned long)root,
                        (unsigned long)k->kernel_root);
    return 0;
}

static int own_frame(const struct st_domain *d, uint64_t mfn, const char *what, uint64_t *pfn)
{
    *pfn = st_own_pfn(d, mfn);
    if (*pfn == ST_NONE || st.m2p[mfn] != *pfn)
        return st_error(EINVAL, "mfn %#lx of the %s is not the guest's", (unsigned long)mfn, what);
    return 0;
}

static int find_start_info(struct st_domain *d)
{
    int rc = own_frame(d, d->vcpu[0].context.user_regs.rdx, "start_info page", &d->kernel->start_info_pfn);

    if (rc)
        return rc;
    if (strncmp(st_guest_page(d, d->kernel->start_info_pfn), st_space(d->geometry)->magic, START_MAGIC_BYTES) != 0)
        return st_error(EINVAL, "pfn %#lx is no start_info page", (unsigned long)d->kernel->start_info_pfn);
    if (st_start_get(d, ST_SHARED_INFO) != d->shared_info_mfn << ST_PAGE_SHIFT)
        return st_error(EINVAL, "start_info says that shared_info is at %#lx",
                        (unsigned long)st_start_get(d, ST_SHARED_INFO));
    rc = own_frame(d, st_start_get(d, ST_STORE_MFN), "store's ring", &d->kernel->store_pfn);
    return rc ? rc : own_frame(d, st_start_get(d, ST_CONSOLE_MFN), "console's ring", &d->kernel->console_pfn);
}

/* ---- believing it ---- */

struct expected_table {
    const char *name;
    uint64_t pfn;
    unsigned level;
};

static int check_tables(const struct st_domain *d, const struct remembered *k)
{
    const unsigned top = d->geometry->levels;
    const struct expected_table tables[] = {
        { "kernel's root", k->kernel_root, top }, { "process's root", k->user_root, top },
        { "p2m's root", k->p2m_root, top },
        { "process's L2", k->user_l2, 2 }, { "fixmap's L1", k->fixmap_l1, 1 }, { "shared L1", k->missing_l1, 1 },
    };

    for (unsigned i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        const struct expected_table *t = &tables[i];

        if (t->pfn == ST_NONE && t->pfn == k->missing_l1)
            continue;
        if (!st_has_memory(d, t->pfn) || st.frames[d->truth[t->pfn]].level != t->level)
            return st_error(EINVAL, "the %s table, pfn %#lx, is not an L%u table", t->name, (unsigned long)t->pfn,
                            t->level);
    }
    return 0;
}

static int check_pages(const struct st_domain *d, const struct remembered *k)
{
    const uint64_t pages[] = { k->missing_leaf, k->fll, k->fll_pfns };

    if (k->nr_leaves != (k->nr_pfns + d->geometry->per_page - 1) / d->geometry->per_page)
        return st_error(EINVAL, "a p2m of %lu pages for %lu pfns", (unsigned long)k->nr_leaves,
                        (unsigned long)k->nr_pfns);
    for (unsigned i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        if (pages[i] != ST_NONE && !st_has_memory(d, pages[i]))
            return st_error(EINVAL, "pfn %#lx of the p2m has no memory", (unsigned long)pages[i]);
    for (uint64_t i = 0; i < d->nr_mem; i++)
        if (d->mem[i] >= k->nr_pfns)
            return st_error(EINVAL, "pfn %#lx has memory beyond the p2m's end", (unsigned long)d->mem[i]);
    return 0;
}

/* Every page has its entry, and no entry is without its page. */
static int check_p2m(const struct st_domain *d)
{
    uint64_t found = 0, per_leaf = d->geometry->per_page;

    for (uint64_t i = 0; i < d->kernel->nr_leaves; i++) {
        const void *leaf = st_guest_page(d, d->kernel->leaf[i]);

        if (i && d->kernel->leaf[i] == d->kernel->missing_leaf && d->kernel->leaf[i - 1] == d->kernel->missing_leaf)
            continue;
        for (uint64_t pfn = i * per_leaf; pfn < (i + 1) * per_leaf; pfn++) {
            uint64_t mfn = st_frame_in(d->geometry, leaf, pfn % per_leaf);

            if (mfn != (st_has_memory(d, pfn) ? d->truth[pfn] : ST_NONE))
                return st_error(EINVAL, "the p2m says mfn %#lx for pfn %#lx", (unsigned long)mfn,
                                (unsigned long)pfn);
            found += mfn != ST_NONE;
        }
    }
    if (found != d->nr_mem)
        return st_error(EINVAL, "the p2m names %lu of %lu pages", (unsigned long)found, (unsigned long)d->nr_mem);
    return 0;
}

/* ---- being it ---- */

static void mark_kind(struct st_domain *d, uint64_t pfn, enum st_kind kind)
{
    st.frames[d->truth[pfn]].kind = (uint8_t)kind;
}

static void mark_gdts(struct st_domain *d)
{
    for (uint32_t v = 0; v < d->nr_vcpus; v++) {
        const vcpu_guest_context_t *c = &d->vcpu[v].context;

        for (uint64_t i = 0; d->vcpu[v].initialised && i < (c->gdt_ents + ST_ENTRIES - 1) / ST_ENTRIES; i++)
            st.frames[c->gdt_frames[i]].kind = ST_GDT;
    }
}

/* The name and the number of vcpus are the new domain's; the rest the kernel brings along. */
static void take_over(struct st_domain *d, const struct remembered *k)
{
    stub_guest_config config = k->config;

    memcpy(config.name, d->name, sizeof(config.name));
    config.vcpus = d->nr_vcpus;
    config.offline_vcpus = 0;
    for (uint32_t v = 0; v < config.vcpus; v++)
        config.offline_vcpus |= (uint64_t)!d->vcpu[v].online << v;
    d->kernel->config = config;
    d->kernel->p2m_vaddr = k->p2m_vaddr;
    d->kernel->rng.state = k->rng;
    d->kernel->hot_first = k->hot_first;
    d->kernel->kernel_root = k->kernel_root;
    d->kernel->user_root = k->user_root;
    d->kernel->p2m_root = k->p2m_root;
    d->kernel->user_l2 = k->user_l2;
    d->kernel->fixmap_l1 = k->fixmap_l1;
    d->kernel->missing_leaf = k->missing_leaf;
    d->kernel->missing_l1 = k->missing_l1;
    d->kernel->fll = k->fll;
    d->kernel->fll_pfns = k->fll_pfns;
    d->kernel->nr_leaves = k->nr_leaves;
}

static int find_p2m(struct st_domain *d)
{
    int rc;

    free(d->kernel->leaf);
    d->kernel->leaf = calloc(d->kernel->nr_leaves, sizeof(*d->kernel->leaf));
    if (!d->kernel->leaf)
        return -ENOMEM;
    rc = st_p2m_find(d);
    return rc ? rc : check_p2m(d);
}

int st_pv_start(struct st_domain *d)
{
    struct remembered k;
    int rc = find_kernel(d, &k);

    rc = rc ? rc : find_start_info(d);
    rc = rc ? rc : st_config_check(&k.config);
    if (!rc && k.config.width != d->geometry->width)
        rc = st_error(EINVAL, "the kernel has words of %u bytes, the domain of %u", k.config.width, d->geometry->width);
    rc = rc ? rc : st_domain_reserve(d, k.nr_pfns);
    rc = rc ? rc : check_tables(d, &k);
    rc = rc ? rc : check_pages(d, &k);
    if (rc)
        return rc;
    take_over(d, &k);
    st_sort_memory(d);
    rc = find_p2m(d);
    if (rc)
        return rc;
    mark_kind(d, d->kernel->start_info_pfn, ST_SPECIAL);
    mark_kind(d, d->kernel->store_pfn, ST_SPECIAL);
    mark_kind(d, d->kernel->console_pfn, ST_SPECIAL);
    mark_kind(d, d->kernel->page_pfn, ST_SPECIAL);
    mark_gdts(d);
    d->built = true;
    st_announce_p2m(d);
    st_pv_after_resume(d);
    return st_writer_start(d);
}
