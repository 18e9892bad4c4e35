/* Where a PV guest's kernel has what, by its width. */
#ifndef XCSR_STUB_KERNEL_PV_SPACE_H
#define XCSR_STUB_KERNEL_PV_SPACE_H

#include "stub/machine/domain.h"

#define ST_USER_BASE 0x400000UL         /* where the one process begins */
#define ST_USER_END  0x40000000UL       /* what lies below is the process's */

struct st_space {
    uint64_t direct, direct_pfns;       /* where it sees pfn 0, and how many more at most */
    uint64_t fixmap;                    /* where it sees shared_info; behind that its own page */
    uint64_t text, stack;               /* its registers point there */
    uint64_t p2m_first, p2m_last;       /* between these the p2m list may lie */
    uint64_t hole, hole_end;            /* between these nothing of its own may lie */
    uint16_t cs, ss;
    const char *magic;                  /* of start_info */
};

static inline const struct st_space *st_space(const struct st_geometry *g)
{
    static const struct st_space wide = {
        0xffff888000000000UL, ~0UL, 0xffffffffff5fd000UL, 0xffffffff81000000UL, 0xffff888000010000UL,
        HYPERVISOR_VIRT_START, ~0UL, HYPERVISOR_VIRT_START, HYPERVISOR_VIRT_END - 1, 0xe033, 0xe02b, "xen-3.0-x86_64",
    };
    /* Xen has 0xf5800000 and what lies above. */
    static const struct st_space narrow = {
        0xc0000000UL, 0x28000, 0xf57fd000UL, 0xc1000000UL, 0xc0010000UL,
        ST_USER_END, 0xf55fffffUL, 0xc0000000UL, 0xe7ffffffUL, 0xe019, 0xe021, "xen-3.0-x86_32p",
    };

    return g->width == sizeof(uint64_t) ? &wide : &narrow;
}

static inline uint64_t st_kernel_page_address(const struct st_domain *d)
{
    return st_space(d->geometry)->fixmap + ST_PAGE_SIZE;
}

/* The register in which vcpu 0 has that address. */
static inline uint64_t st_kernel_page_register(const struct st_domain *d, const vcpu_guest_context_t *c)
{
    return d->geometry->width == sizeof(uint64_t) ? c->gs_base_kernel : c->kernel_sp;
}

#endif
