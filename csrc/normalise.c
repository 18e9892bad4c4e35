/* Page tables, from mfns to pfns. */
#include "xcsr.h"

#define PTE_PRESENT 0x001ull
#define PTE_SUPERPAGE 0x080ull
#define PTE_FRAME 0x000ffffffffff000ull
#define ENTRIES 512u

/* Xen's own slots in a 64-bit guest's top table: 0xffff800000000000 .. 0xffff87ffffffffff. */
#define XEN_FIRST_SLOT 256u
#define XEN_LAST_SLOT 271u

static void clear_xen_slots(uint64_t *table)
{
    memset(&table[XEN_FIRST_SLOT], 0, (XEN_LAST_SLOT - XEN_FIRST_SLOT + 1) * sizeof *table);
}

/* Tables are often nearly empty, and lookups in the m2p miss the cache: first every present entry's
 * m2p word is asked for, then its p2m word, and only then are they used. */
static unsigned int list_present(const uint64_t *table, uint16_t *slots)
{
    unsigned int n = 0;
    for (unsigned int i = 0; i < ENTRIES; i += 8) {
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

static uint64_t frame_of(uint64_t entry)
{
    return (entry & PTE_FRAME) >> 12;
}

static void prefetch_m2p(const xcsr_p2m *p, const uint64_t *table, const uint16_t *slots, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        uint64_t mfn = frame_of(table[slots[i]]);
        if (mfn < p->h->nr_mfns)
            __builtin_prefetch(&p->h->m2p[mfn]);
    }
}

static void prefetch_p2m(const xcsr_p2m *p, const uint64_t *table, const uint16_t *slots, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        uint64_t mfn = frame_of(table[slots[i]]);
        uint64_t pfn = mfn < p->h->nr_mfns ? xcsr_load(&p->h->m2p[mfn]) : XCSR_INVALID;
        if (pfn < p->nr_pfns)
            __builtin_prefetch(&p->entries[pfn]);
    }
}

int xcsr_normalise(const xcsr_p2m *p, uint32_t level, uint64_t *table, uint32_t *slot, uint64_t *mfn)
{
    uint16_t slots[ENTRIES];
    if (level == 4)
        clear_xen_slots(table);
    unsigned int n = list_present(table, slots);
    prefetch_m2p(p, table, slots, n);
    prefetch_p2m(p, table, slots, n);
    for (unsigned int i = 0; i < n; i++) {
        uint64_t entry = table[slots[i]];
        *slot = slots[i];
        *mfn = frame_of(entry);
        if (level > 1 && (entry & PTE_SUPERPAGE))
            return -E2BIG;
        uint64_t pfn = xcsr_lookup_pfn(p, *mfn);
        if (pfn == XCSR_INVALID)
            return -EAGAIN;
        table[slots[i]] = (entry & ~PTE_FRAME) | pfn << 12;
    }
    return 0;
}
