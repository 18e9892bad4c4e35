/*
 * The guest's own p2m list, as Linux keeps it: pages of 512 or 1024 mfns, mapped in a row at p2m_vaddr
 * and, if asked for, hung into the three-level tree. Pages, and whole L1 tables of pages, that
 * would hold invalid entries only are shared.
 */
#include "stub/kernel/kernel.h"
#include "stub/kernel/pv/p2m.h"
#include "stub/kernel/pv/p2m_place.h"
#include "stub/kernel/pages.h"
#include "stub/kernel/pv/tables.h"
#include "stub/machine/domain.h"
#include "stub/machine/frames.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"
#include "stub/machine/pte.h"
#include "stub/machine/shared_info.h"

static const uint64_t leaf_flags = ST_PTE_PRESENT | ST_PTE_ACCESSED | ST_PTE_DIRTY | ST_PTE_NX;

static bool leaf_has_memory(const struct st_domain *d, uint64_t index)
{
    uint64_t per_leaf = d->geometry->per_page;

    for (uint64_t pfn = index * per_leaf; pfn < (index + 1) * per_leaf; pfn++)
        if (st_has_memory(d, pfn))
            return true;
    return false;
}

static int new_leaf(struct st_domain *d, uint64_t *pfn)
{
    int rc = st_take_data(d, ST_P2M, pfn);

    if (rc)
        return rc;
    memset(st_guest_page(d, *pfn), 0xff, ST_PAGE_SIZE);
    st_mark_dirty(d, *pfn);
    return 0;
}

static int missing_leaf(struct st_domain *d, uint64_t *pfn)
{
    int rc = 0;

    if (d->kernel->missing_leaf == ST_NONE)
        rc = new_leaf(d, &d->kernel->missing_leaf);
    *pfn = d->kernel->missing_leaf;
    return rc;
}

static int make_leaves(struct st_domain *d)
{
    for (uint64_t i = 0; i < d->kernel->nr_leaves; i++) {
        bool share = d->kernel->config.share_invalid && !leaf_has_memory(d, i);
        int rc = share ? missing_leaf(d, &d->kernel->leaf[i]) : new_leaf(d, &d->kernel->leaf[i]);

        if (rc)
            return rc;
    }
    return 0;
}

static void fill_leaves(struct st_domain *d)
{
    for (uint64_t i = 0; i < d->nr_mem; i++) {
        uint64_t pfn = d->mem[i], per_leaf = d->geometry->per_page;

        st_set_word(d, d->kernel->leaf[pfn / per_leaf], pfn % per_leaf, d->truth[pfn]);
    }
}

/* The L1 table that maps the shared page 512 times over, for stretches of 1 GiB without memory. */
static int make_missing_l1(struct st_domain *d)
{
    int rc;

    if (d->kernel->missing_l1 != ST_NONE)
        return 0;
    rc = st_new_table(d, 1, &d->kernel->missing_l1);
    if (rc)
        return rc;
    for (unsigned slot = 0; slot < ST_ENTRIES; slot++)
        st_write_word(d, d->kernel->missing_l1, slot * sizeof(uint64_t), st_pte(d, d->kernel->missing_leaf, leaf_flags));
    return 0;
}

static bool whole_table_missing(const struct st_domain *d, uint64_t vaddr, uint64_t first)
{
    if (d->kernel->missing_leaf == ST_NONE || st_slot(vaddr, 1) || first + ST_ENTRIES > d->kernel->nr_leaves)
        return false;
    for (uint64_t i = first; i < first + ST_ENTRIES; i++)
        if (d->kernel->leaf[i] != d->kernel->missing_leaf)
            return false;
    return true;
}

static int map_missing_table(struct st_domain *d, uint64_t root, uint64_t vaddr)
{
    uint64_t l2, own_l1;
    int rc = make_missing_l1(d);

    if (rc)
        return rc;
    l2 = st_find_table(d, root, vaddr, 2);
    if (l2 == ST_NONE) {
        /* Let st_map() make the upper levels, and take the L1 table it made away again. */
        rc = st_map(d, root, vaddr, 0);
        if (rc)
            return rc;
        l2 = st_find_table(d, root, vaddr, 2);
        own_l1 = st_find_table(d, root, vaddr, 1);
        st_set_level(d, own_l1, 0, false);
    }
    st_set_entry(d, l2, st_slot(vaddr, 2), st_pte(d, d->kernel->missing_l1, leaf_flags & ~ST_PTE_NX));
    return 0;
}

int st_p2m_map(struct st_domain *d, uint64_t root, uint64_t vaddr)
{
    uint64_t i = 0;

    while (i < d->kernel->nr_leaves) {
        uint64_t at = vaddr + (i << ST_PAGE_SHIFT);
        bool missing = whole_table_missing(d, at, i);
        int rc = missing ? map_missing_table(d, root, at) : st_map(d, root, at, st_pte(d, d->kernel->leaf[i], leaf_flags));

        if (rc)
            return rc;
        i += missing ? ST_ENTRIES : 1;
    }
    return 0;
}

static int make_tree(struct st_domain *d)
{
    int rc = new_leaf(d, &d->kernel->fll);
    uint64_t list = 0, per_list = d->geometry->per_page;

    rc = rc ? rc : new_leaf(d, &d->kernel->fll_pfns);
    for (uint64_t i = 0; !rc && i < d->kernel->nr_leaves; i++) {
        if (i % per_list == 0) {
            rc = new_leaf(d, &list);
            if (rc)
                return rc;
            st_set_word(d, d->kernel->fll, i / per_list, d->truth[list]);
            st_set_word(d, d->kernel->fll_pfns, i / per_list, list);
        }
        st_set_word(d, list, i % per_list, d->truth[d->kernel->leaf[i]]);
    }
    return rc;
}

int st_p2m_build(struct st_domain *d)
{
    int rc = make_leaves(d);

    if (!rc)
        rc = st_p2m_map(d, d->kernel->p2m_root, d->kernel->p2m_vaddr);
    if (!rc && d->kernel->config.p2m_kind != STUB_P2M_LINEAR)
        rc = make_tree(d);
    if (!rc)
        fill_leaves(d);
    return rc;
}

void st_p2m_generation(struct st_domain *d, uint64_t by)
{
    st_arch_set(d, ST_P2M_GENERATION, st_arch_get(d, ST_P2M_GENERATION) + by);
}

/* A guest with a tree only has no generation to count: it is of the list that it has not got. */
void st_p2m_changes(struct st_domain *d)
{
    if (!d->kernel->dishonest && d->kernel->config.p2m_kind != STUB_P2M_TREE)
        st_p2m_generation(d, 1);
}

/* The pfn of the list that holds that leaf's mfn; ST_NONE if the kernel's notes of it are no pfn of its own. */
static uint64_t tree_list(const struct st_domain *d, uint64_t index)
{
    uint64_t list = st_word_of(d->geometry, st_guest_page(d, d->kernel->fll_pfns), index / d->geometry->per_page);

    return st_has_memory(d, list) ? list : ST_NONE;
}

/* As Linux after it was restored: the tree holds mfns, and all of them are others now. */
static int rebuild_tree(struct st_domain *d)
{
    for (uint64_t i = 0; i < d->kernel->nr_leaves; i++) {
        uint64_t list = tree_list(d, i), per_list = d->geometry->per_page;

        if (list == ST_NONE)
            return st_error(EINVAL, "the kernel cannot find its p2m tree");
        if (i % per_list == 0)
            st_set_word(d, d->kernel->fll, i / per_list, d->truth[list]);
        st.frames[d->truth[list]].kind = ST_P2M;
        st_set_word(d, list, i % per_list, d->truth[d->kernel->leaf[i]]);
    }
    return 0;
}

int st_p2m_find(struct st_domain *d)
{
    for (uint64_t i = 0; i < d->kernel->nr_leaves; i++) {
        uint64_t vaddr = d->kernel->p2m_vaddr + (i << ST_PAGE_SHIFT), leaf = st_find_table(d, d->kernel->p2m_root, vaddr, 0);

        if (leaf == ST_NONE)
            return st_error(EINVAL, "the kernel cannot find its p2m: nothing is mapped at %#lx", (unsigned long)vaddr);
        d->kernel->leaf[i] = leaf;
        st.frames[d->truth[leaf]].kind = ST_P2M;
    }
    if (d->kernel->fll == ST_NONE)
        return 0;
    st.frames[d->truth[d->kernel->fll]].kind = st.frames[d->truth[d->kernel->fll_pfns]].kind = ST_P2M;
    return rebuild_tree(d);
}

static void set_tree_entry(struct st_domain *d, uint64_t index)
{
    uint64_t list;

    if (d->kernel->fll == ST_NONE)
        return;
    list = tree_list(d, index);
    if (list != ST_NONE)
        st_set_word(d, list, index % d->geometry->per_page, d->truth[d->kernel->leaf[index]]);
}

/* Gives this p2m_vaddr an L1 table of its own, a copy of the shared one. */
static int unshare_l1(struct st_domain *d, uint64_t vaddr)
{
    uint64_t l2, copy;
    int rc;

    if (d->kernel->missing_l1 == ST_NONE || st_find_table(d, d->kernel->p2m_root, vaddr, 1) != d->kernel->missing_l1)
        return 0;
    rc = st_new_table(d, 1, &copy);
    if (rc)
        return rc;
    memcpy(st_guest_page(d, copy), st_guest_page(d, d->kernel->missing_l1), ST_PAGE_SIZE);
    l2 = st_find_table(d, d->kernel->p2m_root, vaddr, 2);
    st_set_entry(d, l2, st_slot(vaddr, 2), st_pte(d, copy, leaf_flags & ~ST_PTE_NX));
    return 0;
}

/* The shared table is a page again once nothing refers to it. */
void st_p2m_drop_shared_l1(struct st_domain *d)
{
    uint64_t l1 = d->kernel->missing_l1;

    for (uint64_t i = 0; l1 != ST_NONE && i < d->kernel->nr_leaves; i++)
        if (st_find_table(d, d->kernel->p2m_root, d->kernel->p2m_vaddr + (i << ST_PAGE_SHIFT), 1) == l1)
            return;
    if (l1 == ST_NONE)
        return;
    d->kernel->missing_l1 = ST_NONE;
    st_set_level(d, l1, 0, false);
    st_fill_data(d, l1);
    st_mark_dirty(d, l1);
}

static int install_leaf(struct st_domain *d, uint64_t index, uint64_t leaf)
{
    uint64_t vaddr = d->kernel->p2m_vaddr + (index << ST_PAGE_SHIFT);
    int rc;

    d->kernel->leaf[index] = leaf;
    rc = unshare_l1(d, vaddr);
    if (!rc)
        rc = st_map(d, d->kernel->p2m_root, vaddr, st_pte(d, leaf, leaf_flags));
    set_tree_entry(d, index);
    st_p2m_drop_shared_l1(d);
    return rc;
}

/* A change of the p2m's structure: the generation is odd while it is made. */
int st_p2m_replace_leaf(struct st_domain *d, uint64_t index)
{
    uint64_t old, leaf;
    int rc;

    if (index >= d->kernel->nr_leaves)
        return st_error(EINVAL, "the p2m has %lu pages", (unsigned long)d->kernel->nr_leaves);
    rc = new_leaf(d, &leaf);
    if (rc)
        return rc;
    old = d->kernel->leaf[index];
    memcpy(st_guest_page(d, leaf), st_guest_page(d, old), ST_PAGE_SIZE);
    st_p2m_changes(d);
    rc = install_leaf(d, index, leaf);
    st_p2m_changes(d);
    if (old != d->kernel->missing_leaf)
        st_set_level(d, old, 0, false);
    return rc;
}

/* ---- the list and the tree grow, shrink and move ---- */

static int need_list(struct st_domain *d, uint64_t index)
{
    uint64_t list, per_list = d->geometry->per_page;
    int rc;

    if (d->kernel->fll == ST_NONE || index % per_list)
        return 0;
    rc = new_leaf(d, &list);
    if (rc)
        return rc;
    st_set_word(d, d->kernel->fll_pfns, index / per_list, list);
    st_set_word(d, d->kernel->fll, index / per_list, d->truth[list]);
    return 0;
}

static int add_leaf(struct st_domain *d, uint64_t index)
{
    uint64_t leaf;
    int rc = d->kernel->config.share_invalid ? missing_leaf(d, &leaf) : new_leaf(d, &leaf);

    rc = rc ? rc : need_list(d, index);
    return rc ? rc : install_leaf(d, index, leaf);
}

static int grow(struct st_domain *d, uint64_t nr_pfns, uint64_t nr_leaves)
{
    uint64_t *leaf = realloc(d->kernel->leaf, nr_leaves * sizeof(*leaf));
    int rc = leaf ? 0 : -ENOMEM;

    if (leaf)
        d->kernel->leaf = leaf;
    rc = rc ? rc : st_domain_reserve(d, nr_pfns);
    st_p2m_changes(d);
    while (!rc && d->kernel->nr_leaves < nr_leaves) {
        rc = add_leaf(d, d->kernel->nr_leaves);
        d->kernel->nr_leaves += !rc;
    }
    st_p2m_changes(d);
    return rc;
}

/* The page tables and the tree forget the leaf; a page of its own is data again. */
static int drop_leaf(struct st_domain *d, uint64_t index)
{
    uint64_t vaddr = d->kernel->p2m_vaddr + (index << ST_PAGE_SHIFT), leaf = d->kernel->leaf[index], list;
    int rc = unshare_l1(d, vaddr);

    rc = rc ? rc : st_map(d, d->kernel->p2m_root, vaddr, 0);
    list = d->kernel->fll == ST_NONE ? ST_NONE : tree_list(d, index);
    if (list != ST_NONE)
        st_set_word(d, list, index % d->geometry->per_page, ST_NONE);
    st_p2m_drop_shared_l1(d);
    if (leaf == d->kernel->missing_leaf)
        return rc;
    st_set_level(d, leaf, 0, false);
    st_fill_data(d, leaf);
    st_mark_dirty(d, leaf);
    return rc;
}

static int shrink(struct st_domain *d, uint64_t nr_pfns, uint64_t nr_leaves)
{
    int rc = 0;

    for (uint64_t pfn = nr_pfns; pfn < d->nr_pfns; pfn++)
        if (st_has_memory(d, pfn))
            return st_error(EBUSY, "pfn %#lx has memory", (unsigned long)pfn);
    st_p2m_changes(d);
    while (!rc && d->kernel->nr_leaves > nr_leaves) {
        rc = drop_leaf(d, d->kernel->nr_leaves - 1);
        d->kernel->nr_leaves -= !rc;
    }
    d->nr_pfns = nr_pfns;
    st_p2m_changes(d);
    return rc;
}

/* As Linux it says how many pfns there are only when the structure is there, and after the generation. */
int st_p2m_resize(struct st_domain *d, uint64_t nr_pfns)
{
    uint64_t per_leaf = d->geometry->per_page, nr_leaves = (nr_pfns + per_leaf - 1) / per_leaf;
    int rc;

    if (!nr_pfns || nr_pfns > ST_MAX_SPAN || (d->kernel->fll != ST_NONE && nr_pfns > per_leaf * per_leaf * per_leaf)
        || !st_p2m_place(d->geometry, nr_leaves, d->kernel->p2m_vaddr))
        return st_error(EINVAL, "a p2m cannot have %lu pfns", (unsigned long)nr_pfns);
    rc = nr_pfns >= d->nr_pfns ? grow(d, nr_pfns, nr_leaves) : shrink(d, nr_pfns, nr_leaves);
    if (!rc)
        st_arch_set(d, ST_MAX_PFN, nr_pfns);
    return rc;
}

static void free_tree(struct st_domain *d, uint64_t fll, uint64_t fll_pfns)
{
    for (uint64_t i = 0; i * d->geometry->per_page < d->kernel->nr_leaves; i++) {
        uint64_t list = st_word_of(d->geometry, st_guest_page(d, fll_pfns), i);

        if (st_has_memory(d, list))
            st_set_level(d, list, 0, false);
    }
    st_set_level(d, fll, 0, false);
    st_set_level(d, fll_pfns, 0, false);
}

int st_p2m_move_tree(struct st_domain *d)
{
    uint64_t fll = d->kernel->fll, fll_pfns = d->kernel->fll_pfns;
    int rc;

    if (fll == ST_NONE)
        return st_error(EINVAL, "the guest has no tree to move");
    rc = make_tree(d);
    if (rc)
        return rc;
    st_arch_set(d, ST_FRAME_LIST_LIST, d->truth[d->kernel->fll]);
    free_tree(d, fll, fll_pfns);
    return 0;
}

int st_p2m_set(struct st_domain *d, uint64_t pfn, uint64_t value)
{
    uint64_t per_leaf = d->geometry->per_page, index = pfn / per_leaf;
    int rc;

    if (pfn >= d->nr_pfns)
        return st_error(EINVAL, "pfn %#lx is beyond the p2m's end %#lx", (unsigned long)pfn,
                        (unsigned long)d->nr_pfns);
    if (d->kernel->leaf[index] == d->kernel->missing_leaf) {
        rc = st_p2m_replace_leaf(d, index);
        if (rc)
            return rc;
    }
    st_set_word(d, d->kernel->leaf[index], pfn % per_leaf, value);
    return 0;
}
