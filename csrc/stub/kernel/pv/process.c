/* The guest's one process: its page tables, and how they change. */
#include "stub/kernel/kernel.h"
#include "stub/kernel/pages.h"
#include "stub/kernel/pv/process.h"
#include "stub/kernel/pv/space.h"
#include "stub/kernel/pv/tables.h"
#include "stub/machine/frames.h"
#include "stub/machine/memory.h"
#include "stub/machine/pte.h"
#include "stub/machine/rng.h"

#define USER_SLOTS    16U               /* of the process's L2 table that may hold an L1 table */
#define ANY_INDEX     ST_ENTRIES

static bool has_transient(const struct st_domain *d, uint64_t table, unsigned index)
{
    for (unsigned i = 0; i < d->kernel->nr_transient; i++)
        if (d->kernel->transient[i].table_pfn == table && (index == ANY_INDEX || d->kernel->transient[i].index == index))
            return true;
    return false;
}

static void revert_transient(struct st_domain *d, unsigned i)
{
    struct st_transient t = d->kernel->transient[i];

    d->kernel->transient[i] = d->kernel->transient[--d->kernel->nr_transient];
    st_write_word(d, t.table_pfn, t.index * sizeof(uint64_t), t.old);
}

void st_process_settle(struct st_domain *d)
{
    while (d->kernel->nr_transient)
        revert_transient(d, d->kernel->nr_transient - 1);
}

static uint64_t l1_in_slot(const struct st_domain *d, unsigned slot)
{
    return st_find_table(d, d->kernel->user_root, (uint64_t)slot << 21, 1);
}

static unsigned random_slot(struct st_domain *d)
{
    return st_slot(ST_USER_BASE, 2) + (unsigned)st_below(&d->kernel->rng, USER_SLOTS);
}

static uint64_t random_l1(struct st_domain *d, unsigned *slot)
{
    for (unsigned attempt = 0; attempt < 4 * USER_SLOTS; attempt++) {
        uint64_t l1;

        *slot = random_slot(d);
        l1 = l1_in_slot(d, *slot);
        if (l1 != ST_NONE)
            return l1;
    }
    return ST_NONE;
}

static void swap_entries(struct st_domain *d)
{
    unsigned slot, a = (unsigned)st_below(&d->kernel->rng, ST_ENTRIES), b = (unsigned)st_below(&d->kernel->rng, ST_ENTRIES);
    uint64_t l1 = random_l1(d, &slot), first, second;
    const uint64_t *table;

    if (l1 == ST_NONE || has_transient(d, l1, ANY_INDEX))
        return;
    table = st_guest_page(d, l1);
    first = table[a];
    second = table[b];
    st_write_word(d, l1, a * sizeof(uint64_t), second);
    st_write_word(d, l1, b * sizeof(uint64_t), first);
}

static void map_another_page(struct st_domain *d)
{
    unsigned slot;
    uint64_t l1 = random_l1(d, &slot), pfn;

    if (l1 == ST_NONE || has_transient(d, l1, ANY_INDEX) || st_pick_data(d, &pfn))
        return;
    st_write_word(d, l1, st_below(&d->kernel->rng, ST_ENTRIES) * sizeof(uint64_t), st_pte(d, pfn, ST_USER_PTE));
}

/* For a while an entry refers to another domain's frame, or to none of the machine's. */
static void make_transient(struct st_domain *d)
{
    unsigned slot, index = (unsigned)st_below(&d->kernel->rng, ST_ENTRIES);
    uint64_t l1 = random_l1(d, &slot), mfn;
    const uint64_t *table;

    if (l1 == ST_NONE || d->kernel->nr_transient == sizeof(d->kernel->transient) / sizeof(d->kernel->transient[0]) || has_transient(d, l1, index))
        return;
    table = st_guest_page(d, l1);
    mfn = st_below(&d->kernel->rng, 2) ? st.foreign[st_below(&d->kernel->rng, 16)] : st.nr_frames + index;
    d->kernel->transient[d->kernel->nr_transient++] = (struct st_transient){ l1, index, table[index] };
    st_write_word(d, l1, index * sizeof(uint64_t), mfn << ST_PAGE_SHIFT | ST_USER_PTE);
}

static unsigned count_l1(const struct st_domain *d)
{
    unsigned count = 0;

    for (unsigned i = 0; i < USER_SLOTS; i++)
        count += l1_in_slot(d, st_slot(ST_USER_BASE, 2) + i) != ST_NONE;
    return count;
}

/* A table is unhooked, becomes a data page again and is overwritten. */
static void free_l1(struct st_domain *d)
{
    unsigned slot;
    uint64_t l1 = random_l1(d, &slot);

    if (l1 == ST_NONE || has_transient(d, l1, ANY_INDEX) || count_l1(d) < 2)
        return;
    st_write_word(d, d->kernel->user_l2, slot * sizeof(uint64_t), 0);
    st_set_level(d, l1, 0, false);
    st_fill_data(d, l1);
}

static void fill_l1(struct st_domain *d, uint64_t l1)
{
    for (unsigned index = (unsigned)st_below(&d->kernel->rng, 4); index < ST_ENTRIES; index += 4) {
        uint64_t pfn;

        if (!st_pick_data(d, &pfn))
            st_write_word(d, l1, index * sizeof(uint64_t), st_pte(d, pfn, ST_USER_PTE));
    }
}

static void make_l1(struct st_domain *d)
{
    unsigned slot = random_slot(d);
    uint64_t l1;

    if (l1_in_slot(d, slot) != ST_NONE || st_new_table(d, 1, &l1))
        return;
    fill_l1(d, l1);
    st_set_level(d, l1, 1, true);
    st_write_word(d, d->kernel->user_l2, slot * sizeof(uint64_t), st_pte(d, l1, ST_USER_PTE | ST_PTE_DIRTY));
}

void st_process_update(struct st_domain *d)
{
    static void (*const updates[])(struct st_domain *) = {
        swap_entries, swap_entries, map_another_page, make_transient, free_l1, make_l1,
    };

    if (d->kernel->nr_transient && st_below(&d->kernel->rng, 3) == 0)
        revert_transient(d, (unsigned)st_below(&d->kernel->rng, d->kernel->nr_transient));
    updates[st_below(&d->kernel->rng, sizeof(updates) / sizeof(updates[0]))](d);
    d->kernel->pt_updates++;
}

static void unmap_from(struct st_domain *d, uint64_t l1, uint64_t mfn)
{
    const uint64_t *table = st_guest_page(d, l1);

    for (unsigned index = 0; index < ST_ENTRIES; index++)
        if (table[index] & ST_PTE_PRESENT && (table[index] & ST_PTE_FRAME) >> ST_PAGE_SHIFT == mfn)
            st_write_word(d, l1, index * sizeof(uint64_t), 0);
}

void st_user_unmap(struct st_domain *d, uint64_t pfn)
{
    uint64_t mfn = d->truth[pfn];

    for (unsigned i = 0; i < USER_SLOTS; i++) {
        uint64_t l1 = l1_in_slot(d, st_slot(ST_USER_BASE, 2) + i);

        if (l1 != ST_NONE)
            unmap_from(d, l1, mfn);
    }
    for (unsigned i = 0; i < d->kernel->nr_transient; i++)
        if ((d->kernel->transient[i].old & ST_PTE_FRAME) >> ST_PAGE_SHIFT == mfn)
            d->kernel->transient[i].old = 0;
}
