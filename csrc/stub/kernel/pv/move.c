/* The guest's p2m moves: the list to another address, its old tables become pages again. */
#include "stub/kernel/pv/balloon.h"
#include "stub/kernel/kernel.h"
#include "stub/kernel/pv/p2m.h"
#include "stub/kernel/pv/p2m_place.h"
#include "stub/kernel/pv/tables.h"
#include "stub/machine/domain.h"
#include "stub/machine/frames.h"
#include "stub/machine/memory.h"
#include "stub/machine/pte.h"
#include "stub/machine/shared_info.h"

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
        st_set_entry(d, table, slot, 0);
}

/* Tables on the way to vaddr in which nothing is left become pages again; roots share what is below them. */
static void prune(struct st_domain *d, uint64_t root, uint64_t vaddr)
{
    const uint64_t roots[] = { root, d->kernel->kernel_root, d->kernel->p2m_root };
    const unsigned top = d->geometry->levels;

    for (unsigned level = 1; level < top; level++) {
        uint64_t table = st_find_table(d, root, vaddr, level);

        if (table == ST_NONE)
            continue;
        if (table == d->kernel->missing_l1 || !is_empty(d, table))
            return;
        if (level < top - 1)
            clear_entry(d, st_find_table(d, root, vaddr, level + 1), st_slot(vaddr, level + 1), table);
        for (unsigned i = 0; level == top - 1 && i < 3; i++)
            clear_entry(d, roots[i], st_slot(vaddr, top), table);
        st_free_table(d, table);
    }
}

static void unmap_one(struct st_domain *d, uint64_t root, uint64_t vaddr)
{
    uint64_t l1 = st_find_table(d, root, vaddr, 1), l2 = st_find_table(d, root, vaddr, 2);

    if (l1 != ST_NONE && l1 == d->kernel->missing_l1)
        st_set_entry(d, l2, st_slot(vaddr, 2), 0);
    else if (l1 != ST_NONE)
        st_write_word(d, l1, st_slot(vaddr, 1) * sizeof(uint64_t), 0);
}

/* The list is at its new place: nothing of the old one may go on referring to its pages. */
static void unmap_old(struct st_domain *d, uint64_t root, uint64_t vaddr)
{
    for (uint64_t i = 0; i < d->kernel->nr_leaves; i++)
        unmap_one(d, root, vaddr + (i << ST_PAGE_SHIFT));
    for (uint64_t i = 0; i < d->kernel->nr_leaves; i++)
        prune(d, root, vaddr + (i << ST_PAGE_SHIFT));
    if (root != d->kernel->kernel_root && root != d->kernel->p2m_root)
        st_free_root(d, root);
}

static bool overlaps(const struct st_domain *d, uint64_t vaddr)
{
    uint64_t size = d->kernel->nr_leaves << ST_PAGE_SHIFT;

    return vaddr < d->kernel->p2m_vaddr + size && d->kernel->p2m_vaddr < vaddr + size;
}

int st_pv_move_p2m(struct st_domain *d, uint64_t vaddr, bool new_root)
{
    uint64_t root = d->kernel->p2m_root, old_root = root, old = d->kernel->p2m_vaddr;
    int rc;

    if (d->kernel->config.p2m_kind == STUB_P2M_TREE)
        return st_error(EINVAL, "the guest has no linear p2m to move");
    if (vaddr & (ST_PAGE_SIZE - 1) || !st_p2m_place(d->geometry, d->kernel->nr_leaves, vaddr) || overlaps(d, vaddr))
        return st_error(EINVAL, "a p2m cannot be at %#lx", (unsigned long)vaddr);
    rc = new_root ? st_copy_root(d, &root) : 0;
    rc = rc ? rc : st_p2m_map(d, root, vaddr);
    if (rc)
        return rc;
    st_p2m_changes(d);
    d->kernel->p2m_root = root;
    d->kernel->p2m_vaddr = vaddr;
    st_arch_set(d, ST_P2M_VADDR, vaddr);
    st_arch_set(d, ST_P2M_CR3, st_cr3_of(d->geometry, d->truth[root]));
    unmap_old(d, old_root, old);
    st_p2m_drop_shared_l1(d);
    st_p2m_changes(d);
    return 0;
}
