/* Page tables, from mfns to pfns. */
#include "xen/handle.h"

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

/* Tables are often nearly empty. */
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

/* Lookups in both tables miss the cache: all of the m2p's are on their way at once, none waits for
 * another, and each asks for its word of the p2m. Only then are these looked at. (Locals: what is
 * written here might, for all the compiler knows, be what is pointed to.) */
static void ask_m2p(const xcsr_p2m *p, const uint64_t *table, const uint16_t *slots, unsigned int n, uint64_t *pfns)
{
    const uint64_t *m2p = p->h->m2p, *entries = p->entries;
    uint64_t nr_mfns = p->h->nr_mfns, nr_pfns = p->nr_pfns;
    for (unsigned int i = 0; i < n; i++) {
        uint64_t mfn = frame_of(table[slots[i]]);
        uint64_t pfn = mfn < nr_mfns ? xcsr_load(&m2p[mfn]) : XCSR_INVALID;
        if (pfn < nr_pfns)
            __builtin_prefetch(&entries[pfn]);
        pfns[i] = pfn;
    }
}

static int refuse(uint64_t entry, unsigned int at, uint32_t *slot, uint64_t *mfn, int err)
{
    *slot = at;
    *mfn = frame_of(entry);
    return -err;
}

int xcsr_normalise(const xcsr_p2m *p, uint32_t level, uint64_t *table, uint32_t *slot, uint64_t *mfn)
{
    uint16_t slots[ENTRIES];
    uint64_t pfns[ENTRIES];
    if (level == 4)
        clear_xen_slots(table);
    unsigned int n = list_present(table, slots);
    ask_m2p(p, table, slots, n, pfns);
    const uint64_t *entries = p->entries;
    uint64_t nr_pfns = p->nr_pfns, superpage = level > 1 ? PTE_SUPERPAGE : 0;
    for (unsigned int i = 0; i < n; i++) {
        uint64_t entry = table[slots[i]], pfn = pfns[i];
        if (entry & superpage)
            return refuse(entry, slots[i], slot, mfn, E2BIG);
        if (pfn >= nr_pfns || xcsr_load(&entries[pfn]) != frame_of(entry))
            return refuse(entry, slots[i], slot, mfn, EAGAIN);
        table[slots[i]] = (entry & ~PTE_FRAME) | pfn << 12;
    }
    return 0;
}
