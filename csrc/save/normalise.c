/* Page tables, from mfns to pfns. */
#include "xen/handle.h"

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

/* Tables are often nearly empty. */
static unsigned int list_present(const uint64_t *table, uint16_t *slots)
{
    unsigned int n = 0;
    for (unsigned int i = 0; i < PTE_PER_TABLE; i += 8) {
        const uint64_t *e = table + i;
        if (!((e[0] | e[1] | e[2] | e[3] | e[4] | e[5] | e[6] | e[7]) & PTE_PRESENT))
            continue;
        for (unsigned int j = i; j < i + 8; j++) {
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

int xcsr_normalise(const xcsr_p2m *p, uint32_t level, uint64_t *table, uint32_t *slot, uint64_t *mfn)
{
    uint16_t slots[PTE_PER_TABLE];
    uint64_t pfns[PTE_PER_TABLE];
    clear_xen_slots(p, level, table);
    unsigned int n = list_present(table, slots);
    ask_m2p(p, table, slots, n, pfns);
    const void *entries = p->entries;
    const uint32_t width = p->geometry->width;
    uint64_t nr_pfns = p->nr_pfns, superpage = level > 1 ? PTE_SUPERPAGE : 0;
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
