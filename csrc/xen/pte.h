/* Internal: page tables and the p2m as a guest of each width has them. One row a width. */
#ifndef XCSR_PTE_H
#define XCSR_PTE_H

#include "base/base.h"

#define PTE_PRESENT 0x001ull
#define PTE_SUPERPAGE 0x080ull /* in a table above level 1 */
#define PTE_FRAME 0x000ffffffffff000ull
#define PTE_PER_TABLE 512u /* slots in the page that a table is; entries are 64 bits wide whatever the guest's width */
#define PT_MAX_LEVELS 4u

struct pt_slots { /* first to end - 1; both 0: none */
    uint16_t first, end;
};

struct pt_geometry {
    uint32_t width;    /* bytes in a word of the guest's */
    uint32_t levels;   /* the top table's level */
    uint32_t per_leaf; /* entries in a page of the p2m */
    struct pt_slots xens[PT_MAX_LEVELS + 1]; /* by level: slots that Xen fills in, and the guest may not */
};

/* 64 bits: 0xffff800000000000 to 0xffff87ffffffffff is Xen's. */
static const struct pt_geometry pt_geometries[] = {
    {.width = 8, .levels = 4, .per_leaf = 512, .xens = {[4] = {256, 272}}},
};

/* NULL: no such width. */
static inline const struct pt_geometry *pt_geometry(uint32_t width)
{
    for (size_t i = 0; i < sizeof pt_geometries / sizeof *pt_geometries; i++)
        if (pt_geometries[i].width == width)
            return &pt_geometries[i];
    return NULL;
}

static inline bool pt_is_xens(const struct pt_geometry *g, uint32_t level, uint32_t slot)
{
    return slot >= g->xens[level].first && slot < g->xens[level].end;
}

static inline uint64_t pte_frame(uint64_t entry)
{
    return (entry & PTE_FRAME) >> 12;
}

static inline uint64_t pte_with_frame(uint64_t entry, uint64_t frame)
{
    return (entry & ~PTE_FRAME) | frame << 12;
}

#endif
