/* Page tables, from pfns to mfns: the mirror of normalise.c, but on untrusted input. */
#include "restore/session.h"

#define PTE_PRESENT 0x001ull
#define PTE_SUPERPAGE 0x080ull
#define PTE_FRAME 0x000ffffffffff000ull
#define ENTRIES 512u
#define XEN_FIRST_SLOT 256u
#define XEN_LAST_SLOT 271u

static uint64_t frame_of(uint64_t entry)
{
    return (entry & PTE_FRAME) >> 12;
}

static bool is_xens(uint32_t level, unsigned int slot)
{
    return level == 4 && slot >= XEN_FIRST_SLOT && slot <= XEN_LAST_SLOT;
}

int restore_stream_error(xcsr_restore *r, uint64_t pfn, uint64_t mfn, uint32_t level, uint32_t index, const char *text)
{
    xcsr_error *e = &r->h->error;
    e->pfn = pfn;
    e->mfn = mfn;
    e->level = level;
    e->index = index;
    if (level)
        return xcsr_fail(e, XCSR_E_STREAM, ERANGE, "PAGE_DATA", "entry %u of the level %u page table at pfn %#llx %s pfn %#llx",
                         index, level, (unsigned long long)pfn, text, (unsigned long long)mfn);
    return xcsr_fail(e, XCSR_E_STREAM, ERANGE, "PAGE_DATA", "pfn %#llx %s", (unsigned long long)pfn, text);
}

/* First all entries are checked and their targets given memory, then they are rewritten: a refused
 * table is left as it was received. */
int restore_localise(xcsr_restore *r, uint64_t pfn, uint32_t level, uint64_t *table)
{
    uint64_t targets[ENTRIES];
    uint32_t n = 0;
    for (unsigned int i = 0; i < ENTRIES; i++) {
        if (!(table[i] & PTE_PRESENT) || is_xens(level, i))
            continue;
        uint64_t target = frame_of(table[i]);
        if (target >= r->nr_pfns)
            return restore_stream_error(r, pfn, target, level, i, "refers beyond the p2m, to");
        if (level > 1 && (table[i] & PTE_SUPERPAGE))
            return restore_stream_error(r, pfn, target, level, i, "maps a superpage at");
        targets[n++] = target;
    }
    int rc = restore_populate(r, targets, n);
    if (rc)
        return rc;
    for (unsigned int i = 0; i < ENTRIES; i++) {
        if (is_xens(level, i))
            table[i] = 0;
        else if (table[i] & PTE_PRESENT)
            table[i] = (table[i] & ~PTE_FRAME) | r->mfns[frame_of(table[i])] << 12;
    }
    return 0;
}
