/* The control panel's side of a guest's p2m: it moves, grows, shrinks, and what is in it comes and goes. */
#include "stub/internal.h"

/* A second kernel L4 table that says the same as the first. */
static int copy_root(struct st_domain *d, uint64_t *l4)
{
    int rc = st_new_table(d, 4, l4);

    if (rc)
        return rc;
    memcpy(st_guest_page(d, *l4), st_guest_page(d, d->kernel_l4), ST_PAGE_SIZE);
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
    const uint64_t roots[] = { l4, d->kernel_l4, d->p2m_l4 };

    for (unsigned level = 1; level < 4; level++) {
        uint64_t table = st_find_table(d, l4, vaddr, level);

        if (table == ST_NONE)
            continue;
        if (table == d->missing_l1 || !is_empty(d, table))
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

    if (l1 != ST_NONE && l1 == d->missing_l1)
        st_write_word(d, l2, st_slot(vaddr, 2) * sizeof(uint64_t), 0);
    else if (l1 != ST_NONE)
        st_write_word(d, l1, st_slot(vaddr, 1) * sizeof(uint64_t), 0);
}

/* The list is at its new place: nothing of the old one may go on referring to its pages. */
static void unmap_old(struct st_domain *d, uint64_t l4, uint64_t vaddr)
{
    for (uint64_t i = 0; i < d->nr_leaves; i++)
        unmap_one(d, l4, vaddr + (i << ST_PAGE_SHIFT));
    for (uint64_t i = 0; i < d->nr_leaves; i++)
        prune(d, l4, vaddr + (i << ST_PAGE_SHIFT));
    if (l4 != d->kernel_l4 && l4 != d->p2m_l4)
        free_table(d, l4);
}

static bool overlaps(const struct st_domain *d, uint64_t vaddr)
{
    uint64_t size = d->nr_leaves << ST_PAGE_SHIFT;

    return vaddr < d->p2m_vaddr + size && d->p2m_vaddr < vaddr + size;
}

static int move_p2m(struct st_domain *d, uint64_t vaddr, bool new_root)
{
    struct arch_shared_info *arch = &st_shared_info(d)->arch;
    uint64_t l4 = d->p2m_l4, old_l4 = l4, old = d->p2m_vaddr;
    int rc;

    if (d->config.p2m_kind == STUB_P2M_TREE)
        return st_error(EINVAL, "the guest has no linear p2m to move");
    if (vaddr & (ST_PAGE_SIZE - 1) || vaddr < HYPERVISOR_VIRT_END || overlaps(d, vaddr))
        return st_error(EINVAL, "a p2m cannot be at %#lx", (unsigned long)vaddr);
    rc = new_root ? copy_root(d, &l4) : 0;
    rc = rc ? rc : st_p2m_map(d, l4, vaddr);
    if (rc)
        return rc;
    st_p2m_changes(d);
    d->p2m_l4 = l4;
    d->p2m_vaddr = vaddr;
    arch->p2m_vaddr = vaddr;
    arch->p2m_cr3 = xen_pfn_to_cr3(d->truth[l4]);
    unmap_old(d, old_l4, old);
    st_p2m_drop_shared_l1(d);
    st_p2m_changes(d);
    return 0;
}

int stub_move_p2m(uint32_t domid, uint64_t vaddr, bool new_root)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = st_domain_booted(domid, &rc);
    if (d)
        rc = move_p2m(d, vaddr, new_root);
    st_unlock();
    return rc;
}

int stub_replace_leaf(uint32_t domid, uint64_t index)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = st_domain_booted(domid, &rc);
    if (d)
        rc = st_p2m_replace_leaf(d, index);
    st_unlock();
    return rc;
}

int stub_move_tree(uint32_t domid)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = st_domain_booted(domid, &rc);
    if (d)
        rc = st_p2m_move_tree(d);
    st_unlock();
    return rc;
}

int stub_resize_p2m(uint32_t domid, uint64_t nr_pfns)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = st_domain_booted(domid, &rc);
    if (d)
        rc = st_p2m_resize(d, nr_pfns);
    st_unlock();
    return rc;
}

int stub_set_honest(uint32_t domid, bool honest)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = st_domain_booted(domid, &rc);
    if (d)
        d->dishonest = !honest;
    st_unlock();
    return rc;
}

/* ---- what is in it ---- */

static int check_data(const struct st_domain *d, uint64_t pfn)
{
    if (!st_has_memory(d, pfn))
        return st_error(ENOENT, "pfn %#lx of guest %u has no memory", (unsigned long)pfn, d->id);
    if (st.frames[d->truth[pfn]].kind != ST_DATA)
        return st_error(EBUSY, "pfn %#lx is in use by the guest's kernel", (unsigned long)pfn);
    return 0;
}

static int check_hole(const struct st_domain *d, uint64_t pfn)
{
    if (pfn < d->nr_pfns && !d->truth[pfn])
        return 0;
    return st_error(EINVAL, "pfn %#lx has memory already, or is beyond the p2m's end", (unsigned long)pfn);
}

static int balloon_out(struct st_domain *d, uint64_t pfn)
{
    int rc = check_data(d, pfn);

    if (rc)
        return rc;
    st_user_unmap(d, pfn);
    st_direct_unmap(d, pfn);
    rc = st_p2m_set(d, pfn, ST_NONE);
    return rc ? rc : st_remove_memory(d, pfn);
}

int stub_balloon_out(uint32_t domid, uint64_t pfn)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = st_domain_booted(domid, &rc);
    if (d)
        rc = balloon_out(d, pfn);
    st_unlock();
    return rc;
}

/* What another owner left there. Like Xen's scrubbing it is nobody's write: it is in no dirty bitmap. */
static void fill_anew(struct st_domain *d, uint64_t pfn)
{
    uint64_t *page = st_guest_page(d, pfn);
    uint64_t mark = st_hash(d->config.seed ^ ((uint64_t)d->id << 48), pfn ^ ++d->ballooned << 40);

    for (unsigned i = 0; i < ST_ENTRIES; i++)
        page[i] = mark + i;
}

static int balloon_in(struct st_domain *d, uint64_t pfn, uint64_t mfn)
{
    int rc = check_hole(d, pfn);

    if (rc)
        return rc;
    if (d->nr_mem >= d->max_pages)
        return st_error(ENOMEM, "guest %u owns as many pages as it may (%lu)", d->id,
                        (unsigned long)d->max_pages);
    rc = mfn == ST_NONE ? st_add_memory(d, pfn) : st_add_frame(d, pfn, mfn);
    if (rc)
        return rc;
    fill_anew(d, pfn);
    rc = st_p2m_set(d, pfn, d->truth[pfn]);
    return rc ? rc : st_direct_map(d, pfn);
}

int stub_balloon_in(uint32_t domid, uint64_t pfn, uint64_t mfn)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = st_domain_booted(domid, &rc);
    if (d)
        rc = balloon_in(d, pfn, mfn);
    st_unlock();
    return rc;
}

/* The frame stays where the process sees it: only its pfn is another. Xen marks the new one (MMU_MACHPHYS_UPDATE). */
static int move_page(struct st_domain *d, uint64_t from, uint64_t to)
{
    int rc = check_data(d, from);

    rc = rc ? rc : check_hole(d, to);
    rc = rc ? rc : st_p2m_set(d, to, d->truth[from]);
    if (rc)
        return rc;
    rc = check_data(d, from);
    if (rc) { /* it was taken for a page of the p2m itself */
        st_p2m_set(d, to, ST_NONE);
        return rc;
    }
    st_direct_unmap(d, from);
    st_p2m_set(d, from, ST_NONE);
    st_move_memory(d, from, to);
    st_mark_dirty(d, to);
    return st_direct_map(d, to);
}

int stub_move_page(uint32_t domid, uint64_t from, uint64_t to)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = st_domain_booted(domid, &rc);
    if (d)
        rc = move_page(d, from, to);
    st_unlock();
    return rc;
}
