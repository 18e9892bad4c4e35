/* Where a guest's p2m list can lie. */
#ifndef XCSR_STUB_KERNEL_PV_P2M_PLACE_H
#define XCSR_STUB_KERNEL_PV_P2M_PLACE_H

#include "stub/kernel/pv/space.h"

/* In the kernel's part of the address space, but neither in Xen's nor where a 32-bit kernel has its direct map. */
static inline bool st_p2m_place(const struct st_geometry *g, uint64_t nr_leaves, uint64_t vaddr)
{
    const struct st_space *space = st_space(g);
    uint64_t last = vaddr + (nr_leaves << ST_PAGE_SHIFT) - 1;

    return !(vaddr & (ST_PAGE_SIZE - 1)) && vaddr >= space->p2m_first && last >= vaddr && last <= space->p2m_last
           && (last < space->hole || vaddr > space->hole_end);
}

#endif
