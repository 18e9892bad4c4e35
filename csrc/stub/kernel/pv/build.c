/* Building a PV guest: memory, special pages, address spaces, shared_info, start_info. */
#include "stub/kernel/pv/build.h"
#include "stub/kernel/kernel.h"
#include "stub/kernel/pv/p2m.h"
#include "stub/kernel/pages.h"
#include "stub/kernel/pv/pv.h"
#include "stub/kernel/pv/space.h"
#include "stub/kernel/pv/start_info.h"
#include "stub/kernel/pv/tables.h"
#include "stub/kernel/pv/vcpus.h"
#include "stub/machine/domain.h"
#include "stub/machine/frames.h"
#include "stub/machine/memory.h"
#include "stub/machine/pte.h"
#include "stub/machine/shared_info.h"
#include "stub/machine/vcpu.h"

#include <stdio.h>

#define ISLAND         512UL                    /* pfns: memory spread over a span lies in such runs */
#define USER_BASE      ST_USER_BASE
#define NR_USER_L1     4UL

static int add_run(struct st_domain *d, uint64_t first, uint64_t count)
{
    for (uint64_t pfn = first; pfn < first + count; pfn++) {
        int rc = st_is_hole(d, pfn) ? 0 : st_add_memory(d, pfn);

        if (rc)
            return rc;
    }
    return 0;
}

/* Where island number i begins: evenly over the span, the last one at its end. */
static uint64_t island_start(const stub_guest_config *c, uint64_t i, uint64_t islands)
{
    uint64_t slots = c->span / ISLAND, slot = islands > 1 ? (slots - 1) * i / (islands - 1) : 0;

    return slot * ISLAND;
}

static int add_memory(struct st_domain *d)
{
    const stub_guest_config *c = &d->kernel->config;
    uint64_t islands = c->pages / ISLAND;

    if (c->pages == c->span)
        return add_run(d, 0, c->pages);
    if (!islands || c->pages % ISLAND || c->span % ISLAND)
        return st_error(EINVAL, "memory spread over a span comes in multiples of %lu pages", ISLAND);
    for (uint64_t i = 0; i < islands; i++) {
        int rc = add_run(d, island_start(c, i, islands), ISLAND);

        if (rc)
            return rc;
    }
    return 0;
}

static int take_special(struct st_domain *d, uint64_t *pfn)
{
    int rc = st_take_data(d, ST_SPECIAL, pfn);

    if (!rc)
        memset(st_guest_page(d, *pfn), 0, ST_PAGE_SIZE);
    return rc;
}

static int take_specials(struct st_domain *d)
{
    int rc = take_special(d, &d->kernel->start_info_pfn);

    rc = rc ? rc : take_special(d, &d->kernel->store_pfn);
    rc = rc ? rc : take_special(d, &d->kernel->console_pfn);
    return rc ? rc : take_special(d, &d->kernel->page_pfn);
}

static int make_roots(struct st_domain *d)
{
    int rc = st_new_root(d, &d->kernel->kernel_root);

    rc = rc ? rc : st_new_root(d, &d->kernel->user_root);
    if (!rc)
        d->kernel->p2m_root = d->kernel->kernel_root;
    return rc;
}

static int make_direct_map(struct st_domain *d)
{
    for (uint64_t i = 0; i < d->nr_mem; i++) {
        int rc = st_direct_map(d, d->mem[i]);

        if (rc)
            return rc;
    }
    /* Making the tables turned data pages into tables: set those entries again, read-only. */
    for (uint64_t i = 0; i < d->nr_mem; i++)
        if (st.frames[d->truth[d->mem[i]]].level) {
            int rc = st_direct_map(d, d->mem[i]);

            if (rc)
                return rc;
        }
    return 0;
}

/* One process: a few L1 tables, pinned one by one as Linux does with split locks. */
static int make_user_tables(struct st_domain *d)
{
    const uint64_t *root;

    for (uint64_t i = 0; i < NR_USER_L1; i++) {
        uint64_t vaddr = USER_BASE + (i * ST_ENTRIES << ST_PAGE_SHIFT);
        int rc = st_map(d, d->kernel->user_root, vaddr, 0);

        if (rc)
            return rc;
        st_set_level(d, st_find_table(d, d->kernel->user_root, vaddr, 1), 1, true);
    }
    d->kernel->user_l2 = st_find_table(d, d->kernel->user_root, USER_BASE, 2);
    root = st_guest_page(d, d->kernel->user_root);
    st_write_word(d, d->kernel->kernel_root, 0, root[0]);
    return 0;
}

/* Its pages: every other one is there. Done last, so that none of them becomes a table. */
static int fill_user_space(struct st_domain *d)
{
    for (uint64_t page = 0; page < NR_USER_L1 * ST_ENTRIES; page += 2) {
        uint64_t pfn;
        int rc = st_pick_data(d, &pfn);

        rc = rc ? rc : st_map(d, d->kernel->user_root, USER_BASE + (page << ST_PAGE_SHIFT),
                              st_pte(d, pfn, ST_USER_PTE));
        if (rc)
            return rc;
    }
    return 0;
}

/* Room for shared_info, and the kernel's own page behind it. */
static int make_fixmap(struct st_domain *d)
{
    uint64_t pte = st_pte(d, d->kernel->page_pfn, ST_PTE_PRESENT | ST_PTE_RW | ST_PTE_ACCESSED | ST_PTE_DIRTY);
    int rc = st_map(d, d->kernel->kernel_root, st_kernel_page_address(d), pte);

    if (rc)
        return rc;
    d->kernel->fixmap_l1 = st_find_table(d, d->kernel->kernel_root, st_space(d->geometry)->fixmap, 1);
    return 0;
}

static int make_address_spaces(struct st_domain *d)
{
    int rc = make_roots(d);

    rc = rc ? rc : st_p2m_build(d);
    rc = rc ? rc : make_user_tables(d);
    rc = rc ? rc : make_fixmap(d);
    rc = rc ? rc : make_direct_map(d);
    return rc ? rc : fill_user_space(d);
}

/* Every vcpu runs on the kernel's root and finds the kernel's page; with 64 bits the first two have the process's, too. */
static void load_roots(struct st_domain *d)
{
    for (uint32_t v = 0; v < d->nr_vcpus; v++) {
        d->vcpu[v].context.ctrlreg[3] = xen_pfn_to_cr3(d->truth[d->kernel->kernel_root]);
        if (d->geometry->levels < 4) {
            d->vcpu[v].context.kernel_sp = st_kernel_page_address(d);
            continue;
        }
        d->vcpu[v].context.gs_base_kernel = st_kernel_page_address(d);
        d->vcpu[v].context.ctrlreg[1] = v < 2 ? xen_pfn_to_cr3(d->truth[d->kernel->user_root]) : 0;
    }
}

/* What Linux writes once its p2m is set up. */
void st_announce_p2m(struct st_domain *d)
{
    st_arch_set(d, ST_MAX_PFN, d->nr_pfns);
    st_arch_set(d, ST_FRAME_LIST_LIST, d->kernel->fll == ST_NONE ? ST_NONE : d->truth[d->kernel->fll]);
    st_arch_set(d, ST_P2M_GENERATION, 0);
    if (d->kernel->config.p2m_kind == STUB_P2M_TREE)
        return;
    st_arch_set(d, ST_P2M_VADDR, d->kernel->p2m_vaddr);
    st_arch_set(d, ST_P2M_CR3, st_cr3_of(d->geometry, d->truth[d->kernel->p2m_root]));
}

static void make_start_info(struct st_domain *d)
{
    strcpy(st_guest_page(d, d->kernel->start_info_pfn), st_space(d->geometry)->magic);
    st_start_set(d, ST_NR_PAGES, d->kernel->config.pages);
    st_start_set(d, ST_SHARED_INFO, d->shared_info_mfn << ST_PAGE_SHIFT);
    st_start_set(d, ST_FLAGS, SIF_VIRT_P2M_4TOOLS);
    st_start_set(d, ST_STORE_MFN, d->truth[d->kernel->store_pfn]);
    st_start_set(d, ST_STORE_EVTCHN, 1);
    st_start_set(d, ST_CONSOLE_MFN, d->truth[d->kernel->console_pfn]);
    st_start_set(d, ST_CONSOLE_EVTCHN, 2);
}

int st_guest_build(struct st_domain *d)
{
    int rc = st_make_shared_info(d);  /* as Xen does: when all low frames are a large guest's there is none for it */

    d->max_pages = d->kernel->config.max_pages;
    rc = rc ? rc : add_memory(d);
    rc = rc ? rc : take_specials(d);
    rc = rc ? rc : st_vcpus_build(d);
    rc = rc ? rc : make_address_spaces(d);
    if (rc)
        return rc;
    for (uint64_t i = 0; i < d->nr_mem && !d->kernel->config.unfilled; i++)
        if (st.frames[d->truth[d->mem[i]]].kind == ST_DATA)
            st_fill_data(d, d->mem[i]);
    load_roots(d);
    st_mask_all_events(d);
    st_announce_p2m(d);
    make_start_info(d);
    st_domain_make_handle(d);
    d->built = true;
    st_pv_after_resume(d);
    return 0;
}
