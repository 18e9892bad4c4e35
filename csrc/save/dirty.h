/* Internal: what the bitmap says, as it was fetched. */
#ifndef XCSR_DIRTY_H
#define XCSR_DIRTY_H

#include "save/session.h"

static inline bool dirty_has(const xcsr_save *s, uint64_t pfn)
{
    return s->bitmap[pfn / 64] >> pfn % 64 & 1;
}

/* Marks a pfn for sending; true if it was not marked before. */
static inline bool dirty_add(xcsr_save *s, uint64_t pfn)
{
    uint64_t *word = &s->bitmap[pfn / 64], bit = 1ull << pfn % 64;
    bool is_new = !(*word & bit);
    *word |= bit;
    return is_new;
}

/* Whether the guest wrote this frame of its own between the last bitmap and the one before. The bitmap must be as Xen
 * gave it, and the m2p mapped: the bitmap goes by the pfn that the frame has now. For a frame without a pfn the answer
 * is yes. */
static inline bool dirty_has_frame(const xcsr_save *s, uint64_t mfn)
{
    uint64_t pfn = mfn < s->h->nr_mfns ? xcsr_load(&s->h->m2p[mfn]) : XCSR_INVALID;
    return pfn >= s->nr_pfns || dirty_has(s, pfn);
}

#endif
