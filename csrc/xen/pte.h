/* Internal: page tables, the p2m and a vcpu's context as a guest of each width has them. One row a width. */
#ifndef XCSR_PTE_H
#define XCSR_PTE_H

#include "base/base.h"

#define PTE_PRESENT 0x001ull
#define PTE_SUPERPAGE 0x080ull /* in a table above level 1 */
#define PTE_FRAME 0x000ffffffffff000ull
#define PTE_PER_TABLE 512u /* slots in the page that a table is; entries are 64 bits wide whatever the guest's width */
#define PT_MAX_LEVELS 4u

#define PT_GDT_FRAMES 14u /* of gdt_frames, those that can be a guest's own */

struct pt_slots { /* first to end - 1; both 0: none */
    uint16_t first, end;
};

struct vcpu_layout { /* of vcpu_guest_context: its size, and where words stand in it, in bytes */
    uint16_t size, flags, start_info, gdt_frames, gdt_ents, cr3;
    uint16_t cr1; /* where the user's page table is; 0: there is none of its own */
};

struct pt_geometry {
    uint32_t width;    /* bytes in a word of the guest's */
    uint32_t levels;   /* the top table's level */
    uint32_t per_leaf; /* entries in a page of the p2m */
    uint64_t end_mfn;  /* frames from this one on have no name in the guest's words */
    bool folds_cr3;    /* a frame's bits from 20 on stand in the low twelve bits of cr3 */
    struct pt_slots xens[PT_MAX_LEVELS + 1]; /* by level: slots that Xen fills in, and the guest may not */
    /* The same, but only in a table whose first of these slots names Xen's m2p for 32-bit guests. */
    struct pt_slots beside_m2p[PT_MAX_LEVELS + 1];
    struct vcpu_layout vcpu;
};

/* 64 bits: 0xffff800000000000 to 0xffff87ffffffffff is Xen's. 32 bits: there are four entries of level 3, and from
 * 0xf5800000 on all is Xen's; the level 2 table for that is known by what stands in it. */
static const struct pt_geometry pt_geometries[] = {
    {.width = 8,
     .levels = 4,
     .per_leaf = 512,
     .end_mfn = 1ull << 40,
     .xens = {[4] = {256, 272}},
     .vcpu = {.size = 5168, .flags = 512, .start_info = 616, .gdt_frames = 4832, .gdt_ents = 4960, .cr3 = 5008, .cr1 = 4992}},
    {.width = 4,
     .levels = 3,
     .per_leaf = 1024,
     .end_mfn = UINT32_MAX,
     .folds_cr3 = true,
     .xens = {[3] = {4, 512}},
     .beside_m2p = {[2] = {428, 512}},
     .vcpu = {.size = 2800, .flags = 512, .start_info = 524, .gdt_frames = 2640, .gdt_ents = 2704, .cr3 = 2728}},
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

static inline bool pt_sees_compat_m2p(const struct pt_geometry *g)
{
    return g->beside_m2p[2].end;
}

/* A word of the guest's; *at may be anywhere. */
static inline uint64_t pt_get(const struct pt_geometry *g, const void *at)
{
    uint64_t value = 0;
    memcpy(&value, at, g->width); /* the lower bytes come first */
    return value;
}

static inline void pt_put(const struct pt_geometry *g, void *at, uint64_t value)
{
    memcpy(at, &value, g->width);
}

static inline uint64_t pt_frame_of_cr3(const struct pt_geometry *g, uint64_t cr3)
{
    return cr3 >> 12 | (g->folds_cr3 ? (cr3 & 0xfff) << 20 : 0);
}

static inline uint64_t pt_cr3_of_frame(const struct pt_geometry *g, uint64_t frame)
{
    return frame << 12 | (g->folds_cr3 ? frame >> 20 : 0); /* pt_put drops what is above the word */
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
