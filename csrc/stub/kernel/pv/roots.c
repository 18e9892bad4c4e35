/*
 * A guest's roots. With 64 bits roots share the tables below them. With 32 bits each has an L2 table of its own for the
 * fourth GiB, because Xen has slots in it; so what these say of the kernel is written into all of them.
 */
#include "stub/kernel/kernel.h"
#include "stub/kernel/pages.h"
#include "stub/kernel/pv/tables.h"
#include "stub/machine/frames.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"
#include "stub/machine/pte.h"
#include "stub/machine/types.h"

#define LAST_GIB 0xc0000000UL

static uint64_t xen_l2(const struct st_domain *d, uint64_t root)
{
    return root == ST_NONE ? ST_NONE : st_find_table(d, root, LAST_GIB, 2);
}

void st_set_entry(struct st_domain *d, uint64_t table, unsigned slot, uint64_t pte)
{
    const uint64_t roots[] = { d->kernel->kernel_root, d->kernel->user_root, d->kernel->p2m_root };
    bool all = st.frames[d->truth[table]].xens;

    st_write_word(d, table, slot * sizeof(uint64_t), pte);
    for (unsigned i = 0; all && i < sizeof(roots) / sizeof(roots[0]); i++) {
        uint64_t other = xen_l2(d, roots[i]);

        if (other != ST_NONE && other != table)
            st_write_word(d, other, slot * sizeof(uint64_t), pte);
    }
}

static int hang_xen_l2(struct st_domain *d, uint64_t root)
{
    uint64_t l2;
    int rc = st_new_table(d, 2, &l2);

    if (rc)
        return rc;
    st_set_xen_slots(d, l2);
    st_write_word(d, root, ST_PAE_XEN_L2 * sizeof(uint64_t), st_pte(d, l2, ST_TABLE_PTE));
    return 0;
}

int st_new_root(struct st_domain *d, uint64_t *root)
{
    unsigned levels = d->geometry->levels;
    int rc = st_new_table(d, levels, root);

    if (!rc && levels == 3)
        rc = hang_xen_l2(d, *root);
    if (rc)
        return rc;
    st_set_level(d, *root, levels, true);
    st_set_xen_slots(d, *root);
    return 0;
}

static void copy_entries(struct st_domain *d, uint64_t to, uint64_t from, unsigned nr)
{
    memcpy(st_guest_page(d, to), st_guest_page(d, from), nr * sizeof(uint64_t));
    st_mark_dirty(d, to);
}

int st_copy_root(struct st_domain *d, uint64_t *root)
{
    uint64_t kernel = d->kernel->kernel_root;
    int rc = st_new_root(d, root);

    if (rc)
        return rc;
    if (d->geometry->levels == 4) {
        copy_entries(d, *root, kernel, ST_ENTRIES);
        return 0;
    }
    copy_entries(d, *root, kernel, ST_PAE_XEN_L2);
    copy_entries(d, xen_l2(d, *root), xen_l2(d, kernel), ST_ENTRIES);
    return 0;
}

void st_free_table(struct st_domain *d, uint64_t table)
{
    st_set_level(d, table, 0, false);
    st_fill_data(d, table);
    st_mark_dirty(d, table);
}

void st_free_root(struct st_domain *d, uint64_t root)
{
    uint64_t l2 = d->geometry->levels == 3 ? xen_l2(d, root) : ST_NONE;

    st_free_table(d, root);
    if (l2 != ST_NONE)
        st_free_table(d, l2);
}
