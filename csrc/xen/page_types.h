/* Internal: page types as the stream has them: bits 31-28 of XEN_DOMCTL_PFINFO, in an entry's bits 63-60. */
#ifndef XCSR_PAGE_TYPES_H
#define XCSR_PAGE_TYPES_H

#include "xen/handle.h"

#define TYPE_SHIFT 60
#define TYPE_BROKEN 0xdu
#define TYPE_XALLOC 0xeu
#define TYPE_XTAB 0xfu

/* A page table's level, or 0: types from broken on are no pages. */
static inline uint32_t table_level(uint32_t type)
{
    return type < TYPE_BROKEN ? type & 7 : 0;
}

/* Puts each frame's type in its place; at most XCSR_BATCH. XTAB: not the domain's. Caller has entered. */
int page_types(xcsr *h, uint32_t domid, uint32_t nr, xen_pfn_t *frames);

#endif
