/*
 * Page tables of a guest, kept in its own memory as on Xen: entries hold mfns, tables are
 * mapped read-only, a table's frame has the type of its level. Writes are marked dirty.
 */
#include "stub/kernel/kernel.h"
#include "stub/kernel/pages.h"
#include "stub/kernel/pv/space.h"
#include "stub/kernel/pv/tables.h"
#include "stub/machine/frames.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"
#include "stub/machine/pte.h"
#include "stub/machine/types.h"

unsigned st_slot(uint64_t vaddr, unsigned level)
{
    return (vaddr >> (ST_PAGE_SHIFT + 9 * (level - 1))) & (ST_ENTRIES - 1);
}

uint64_t st_pte(const struct st_domain *d, uint64_t pfn, uint64_t flags)
{
    return d->truth[pfn] << ST_PAGE_SHIFT | flags;
}

/* Where the kernel sees that pfn. */
static uint64_t direct_address(const struct st_domain *d, uint64_t pfn)
{
    return st_space(d->geometry)->direct + (pfn << ST_PAGE_SHIFT);
}

/* 32 bits are not enough for all. */
static bool in_direct_map(const struct st_domain *d, uint64_t pfn)
{
    return pfn < st_space(d->geometry)->direct_pfns;
}

static uint64_t pte_pfn(const struct st_domain *d, uint64_t pte)
{
    return pte & ST_PTE_PRESENT ? st_own_pfn(d, (pte & ST_PTE_FRAME) >> ST_PAGE_SHIFT) : ST_NONE;
}

uint64_t st_find_table(const struct st_domain *d, uint64_t root, uint64_t vaddr, unsigned level)
{
    uint64_t table = root;

    for (unsigned at = d->geometry->levels; at > level; at--) {
        const uint64_t *entries = st_guest_page(d, table);

        table = pte_pfn(d, entries[st_slot(vaddr, at)]);
        if (table == ST_NONE)
            return ST_NONE;
    }
    return table;
}

static void set_direct_entry(struct st_domain *d, uint64_t pfn, uint64_t pte)
{
    uint64_t address = direct_address(d, pfn);
    uint64_t l1 = in_direct_map(d, pfn) ? st_find_table(d, d->kernel->kernel_root, address, 1) : ST_NONE;

    if (l1 != ST_NONE)
        st_write_word(d, l1, st_slot(address, 1) * sizeof(uint64_t), pte);
}

/* What Xen reads as a page table or a descriptor table is mapped read-only: it would refuse more. */
static uint64_t direct_pte(const struct st_domain *d, uint64_t pfn)
{
    const struct st_frame *frame = &st.frames[d->truth[pfn]];
    uint64_t flags = ST_PTE_PRESENT | ST_PTE_ACCESSED | ST_PTE_DIRTY | ST_PTE_NX;

    return st_pte(d, pfn, frame->level || frame->kind == ST_GDT ? flags : flags | ST_PTE_RW);
}

/* Xen marks a frame dirty whenever it becomes or ceases to be a page table. */
void st_set_level(struct st_domain *d, uint64_t pfn, unsigned level, bool pinned)
{
    struct st_frame *frame = &st.frames[d->truth[pfn]];

    frame->level = level & 7;
    frame->pinned = pinned;
    frame->xens = 0;
    frame->kind = level ? ST_TABLE : ST_DATA;
    st_mark_dirty(d, pfn);
    if (d->built)
        set_direct_entry(d, pfn, direct_pte(d, pfn));
}

int st_new_table(struct st_domain *d, unsigned level, uint64_t *pfn)
{
    int rc = st_take_data(d, ST_TABLE, pfn);

    if (rc)
        return rc;
    memset(st_guest_page(d, *pfn), 0, ST_PAGE_SIZE);
    st_set_level(d, *pfn, level, false);
    return 0;
}

int st_map(struct st_domain *d, uint64_t root, uint64_t vaddr, uint64_t pte)
{
    uint64_t table = root;

    for (unsigned level = d->geometry->levels; level > 1; level--) {
        const uint64_t *entries = st_guest_page(d, table);
        uint64_t next = pte_pfn(d, entries[st_slot(vaddr, level)]);

        if (next == ST_NONE) {
            int rc = st_new_table(d, level - 1, &next);

            if (rc)
                return rc;
            st_set_entry(d, table, st_slot(vaddr, level), st_pte(d, next, ST_TABLE_PTE));
        }
        table = next;
    }
    st_write_word(d, table, st_slot(vaddr, 1) * sizeof(uint64_t), pte);
    return 0;
}

int st_direct_map(struct st_domain *d, uint64_t pfn)
{
    uint64_t pte = direct_pte(d, pfn);
    int rc;

    if (!in_direct_map(d, pfn))
        return 0;
    rc = st_map(d, d->kernel->kernel_root, direct_address(d, pfn), pte);
    if (!rc && direct_pte(d, pfn) != pte) /* that very page has become the table for it */
        set_direct_entry(d, pfn, direct_pte(d, pfn));
    return rc;
}

void st_direct_unmap(struct st_domain *d, uint64_t pfn)
{
    set_direct_entry(d, pfn, 0);
}

static int express_in_pfns(const struct st_domain *d, unsigned level, unsigned slot, uint64_t *entry)
{
    uint64_t pfn;

    if (!(*entry & ST_PTE_PRESENT))
        return 0;
    if (level > 1 && (*entry & ST_PTE_PSE))
        return st_error(E2BIG, "slot %u of an L%u table is a superpage", slot, level);
    pfn = pte_pfn(d, *entry);
    if (pfn == ST_NONE)
        return st_error(EAGAIN, "slot %u of an L%u table refers to a frame that is not the guest's",
                        slot, level);
    *entry = (*entry & ~ST_PTE_FRAME) | pfn << ST_PAGE_SHIFT;
    return 0;
}

/* The page as a correct save has it: data as it is, tables with pfns instead of mfns. */
int st_expected_page(const struct st_domain *d, uint64_t pfn, uint64_t *page)
{
    unsigned level;

    if (!st_has_memory(d, pfn))
        return st_error(ENOENT, "pfn %#lx has no memory", (unsigned long)pfn);
    memcpy(page, st_guest_page(d, pfn), ST_PAGE_SIZE);
    level = st.frames[d->truth[pfn]].level;
    if (!level)
        return 0;
    for (unsigned slot = 0; slot < ST_ENTRIES; slot++) {
        bool xens = st_is_xen_slot(d, d->truth[pfn], slot);
        int rc = xens ? 0 : express_in_pfns(d, level, slot, &page[slot]);

        if (rc)
            return rc;
        if (xens)
            page[slot] = 0;
    }
    return 0;
}
