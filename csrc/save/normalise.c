/* Page tables, from mfns to pfns. */
#include "xen/table_row.h"

/* A level 2 table of a 32-bit guest may have Xen's slots; then Xen's own m2p for such guests is in the first of them. No
 * guest can put it there, as it is none of its frames. */
static struct pt_slots xen_slots(const xcsr_p2m *p, uint32_t level, const uint64_t *table)
{
    struct pt_slots beside = p->geometry->beside_m2p[level];
    return beside.end && pte_frame(table[beside.first]) == p->compat_m2p ? beside : p->geometry->xens[level];
}

static void clear_xen_slots(const xcsr_p2m *p, uint32_t level, uint64_t *table)
{
    struct pt_slots xens = xen_slots(p, level, table);
    memset(&table[xens.first], 0, (size_t)(xens.end - xens.first) * sizeof *table);
}

/* ROW entries at once, if all are present, and name frames in a row, which are those of pfns in a row. Most entries are so where
 * a guest maps its memory in one piece. False: nothing is changed. */
static bool row_done(const xcsr_p2m *p, uint64_t *entries, uint64_t superpage)
{
    uint64_t frames[ROW], pfns[ROW], back[ROW], all = ~0ull, any = 0;
    for (uint32_t i = 0; i < ROW; i++) {
        frames[i] = pte_frame(entries[i]);
        all &= entries[i];
        any |= entries[i];
    }
    if (!(all & PTE_PRESENT) || any & superpage || !row_ascends(frames) || !row_fits(frames[0], p->h->nr_mfns))
        return false;
    row_load(pfns, p->h->m2p + frames[0]);
    if (!row_ascends(pfns) || !row_fits(pfns[0], p->nr_pfns))
        return false;
    row_load_p2m(back, p->entries, p->geometry->width, pfns[0]);
    if (memcmp(back, frames, sizeof back))
        return false;
    for (uint32_t i = 0; i < ROW; i++)
        entries[i] = pte_with_frame(entries[i], pfns[i]);
    return true;
}

/* The slots that are left to be looked at one by one. Tables are often nearly empty. */
static unsigned int list_present(const xcsr_p2m *p, uint64_t *table, uint64_t superpage, bool in_rows, uint16_t *slots)
{
    unsigned int n = 0;
    for (unsigned int i = 0; i < PTE_PER_TABLE; i += ROW) {
        if (!(row_any(table + i) & PTE_PRESENT) || (in_rows && row_done(p, table + i, superpage)))
            continue;
        for (unsigned int j = i; j < i + ROW; j++) {
            slots[n] = (uint16_t)j;
            n += table[j] & PTE_PRESENT;
        }
    }
    return n;
}

/* Lookups in both tables miss the cache. So all words of the m2p are asked for at once, none waiting for another, and
 * each of them has its word of the p2m fetched; only then are those looked at. (The pointers are held in locals, as the
 * compiler has to assume that a write to pfns[] may change what *p says.) */
static void ask_m2p(const xcsr_p2m *p, const uint64_t *table, const uint16_t *slots, unsigned int n, uint64_t *pfns)
{
    const uint64_t *m2p = p->h->m2p;
    const void *entries = p->entries;
    const uint32_t width = p->geometry->width;
    uint64_t nr_mfns = p->h->nr_mfns, nr_pfns = p->nr_pfns;
    for (unsigned int i = 0; i < n; i++) {
        uint64_t mfn = pte_frame(table[slots[i]]);
        uint64_t pfn = mfn < nr_mfns ? xcsr_load(&m2p[mfn]) : XCSR_INVALID;
        if (pfn < nr_pfns)
            __builtin_prefetch(p2m_at(entries, width, pfn));
        pfns[i] = pfn;
    }
}

static int refuse(uint64_t entry, unsigned int at, uint32_t *slot, uint64_t *mfn, int err)
{
    *slot = at;
    *mfn = pte_frame(entry);
    return -err;
}

int xcsr_normalise(const xcsr_p2m *p, uint32_t level, uint32_t one_by_one, uint64_t *table, uint32_t *slot, uint64_t *mfn)
{
    uint16_t slots[PTE_PER_TABLE];
    uint64_t pfns[PTE_PER_TABLE];
    uint64_t nr_pfns = p->nr_pfns, superpage = level > 1 ? PTE_SUPERPAGE : 0;
    clear_xen_slots(p, level, table);
    unsigned int n = list_present(p, table, superpage, !one_by_one, slots);
    ask_m2p(p, table, slots, n, pfns);
    const void *entries = p->entries;
    const uint32_t width = p->geometry->width;
    for (unsigned int i = 0; i < n; i++) {
        uint64_t entry = table[slots[i]], pfn = pfns[i];
        if (entry & superpage)
            return refuse(entry, slots[i], slot, mfn, E2BIG);
        if (pfn >= nr_pfns || p2m_load(entries, width, pfn) != pte_frame(entry))
            return refuse(entry, slots[i], slot, mfn, EAGAIN);
        table[slots[i]] = pte_with_frame(entry, pfn);
    }
    return 0;
}
