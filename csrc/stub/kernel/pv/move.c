/* The guest's p2m moves: the list to another address, its old tables become pages again. */
#include "stub/kernel/pv/balloon.h"
#include "stub/kernel/kernel.h"
#include "stub/kernel/pv/p2m.h"
#include "stub/kernel/pages.h"
#include "stub/kernel/pv/tables.h"
#include "stub/machine/domain.h"
#include "stub/machine/frames.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"
#include "stub/machine/pte.h"

/* A second kernel L4 table that says the same as the first. */
static int copy_root(struct st_domain *d, uint64_t *l4)
{
    int rc = st_new_table(d, 4, l4);

    if (rc)
        return rc;
    memcpy(st_guest_page(d, *l4), st_guest_page(d, d->kernel->kernel_root), ST_PAGE_SIZE);
    st_set_level(d, *l4, 4, true);
    return 0;
}

static bool is_empty(const struct st_domain *d, uint64_t table)
{
    const uint64_t *entries = st_guest_page(d, table);

    for (unsigned i = 0; i < ST_ENTRIES; i++)
        if (entries[i])
            return false;
    return true;
}

static void clear_entry(struct st_domain *d, uint64_t table, unsigned slot, uint64_t target)
{
    const uint64_t *entries = st_guest_page(d, table);

    if ((entries[slot] & ST_PTE_FRAME) >> ST_PAGE_SHIFT == d->truth[target])
        st_write_word(d, table, slot * sizeof(uint64_t), 0);
}

static void free_table(struct st_domain *d, uint64_t table)
{
    st_set_level(d, table, 0, false);
    st_fill_data(d, table);
    st_mark_dirty(d, table);
}

/* Tables on the way to vaddr in which nothing is left become pages again; roots share what is below them. */
static void prune(struct st_domain *d, uint64_t l4, uint64_t vaddr)
{
    const uint64_t roots[] = { l4, d->kernel->kernel_root, d->kernel->p2m_root };

    for (unsigned level = 1; level < 4; level++) {
        uint64_t table = st_find_table(d, l4, vaddr, level);

        if (table == ST_NONE)
            continue;
        if (table == d->kernel->missing_l1 || !is_empty(d, table))
            return;
        if (level < 3)
            clear_entry(d, st_find_table(d, l4, vaddr, level + 1), st_slot(vaddr, level + 1), table);
        for (unsigned i = 0; level == 3 && i < 3; i++)
            clear_entry(d, roots[i], st_slot(vaddr, 4), table);
        free_table(d, table);
    }
}

static void unmap_one(struct st_domain *d, uint64_t l4, uint64_t vaddr)
{
    uint64_t l1 = st_find_table(d, l4, vaddr, 1), l2 = st_find_table(d, l4, vaddr, 2);

    if (l1 != ST_NONE && l1 == d->kernel->missing_l1)
        st_write_word(d, l2, st_slot(vaddr, 2) * sizeof(uint64_t), 0);
    else if (l1 != ST_NONE)
        st_write_word(d, l1, st_slot(vaddr, 1) * sizeof(uint64_t), 0);
}

/* The list is at its new place: nothing of the old one may go on referring to its pages. */
static void unmap_old(struct st_domain *d, uint64_t l4, uint64_t vaddr)
{
    for (uint64_t i = 0; i < d->kernel->nr_leaves; i++)
        unmap_one(d, l4, vaddr + (i << ST_PAGE_SHIFT));
    for (uint64_t i = 0; i < d->kernel->nr_leaves; i++)
        prune(d, l4, vaddr + (i << ST_PAGE_SHIFT));
    if (l4 != d->kernel->kernel_root && l4 != d->kernel->p2m_root)
        free_table(d, l4);
}

static bool overlaps(const struct st_domain *d, uint64_t vaddr)
{
    uint64_t size = d->kernel->nr_leaves << ST_PAGE_SHIFT;

    return vaddr < d->kernel->p2m_vaddr + size && d->kernel->p2m_vaddr < vaddr + size;
}

int st_pv_move_p2m(struct st_domain *d, uint64_t vaddr, bool new_root)
{
    struct arch_shared_info *arch = &st_shared_info(d)->arch;
    uint64_t l4 = d->kernel->p2m_root, old_l4 = l4, old = d->kernel->p2m_vaddr;
    int rc;

    if (d->kernel->config.p2m_kind == STUB_P2M_TREE)
        return st_error(EINVAL, "the guest has no linear p2m to move");
    if (vaddr & (ST_PAGE_SIZE - 1) || vaddr < HYPERVISOR_VIRT_END || overlaps(d, vaddr))
        return st_error(EINVAL, "a p2m cannot be at %#lx", (unsigned long)vaddr);
    rc = new_root ? copy_root(d, &l4) : 0;
    rc = rc ? rc : st_p2m_map(d, l4, vaddr);
    if (rc)
        return rc;
    st_p2m_changes(d);
    d->kernel->p2m_root = l4;
    d->kernel->p2m_vaddr = vaddr;
    arch->p2m_vaddr = vaddr;
    arch->p2m_cr3 = xen_pfn_to_cr3(d->truth[l4]);
    unmap_old(d, old_l4, old);
    st_p2m_drop_shared_l1(d);
    st_p2m_changes(d);
    return 0;
}
