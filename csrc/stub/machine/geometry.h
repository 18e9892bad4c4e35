/* What differs between PV guests of 64 and of 32 bits: words, levels, layouts. One row a width. */
#ifndef XCSR_STUB_MACHINE_GEOMETRY_H
#define XCSR_STUB_MACHINE_GEOMETRY_H

#include "stub/machine/base.h"

/* Fields of arch_shared_info, in their order; each is a word. */
enum st_arch_field { ST_MAX_PFN, ST_FRAME_LIST_LIST, ST_NMI_REASON, ST_P2M_CR3, ST_P2M_VADDR, ST_P2M_GENERATION };

struct st_geometry {
    unsigned width;                     /* bytes of a word of the guest's */
    unsigned levels;                    /* of its roots */
    uint64_t per_page;                  /* words in a page: entries of a p2m page */
    uint64_t none;                      /* a word that is no frame */
    uint64_t vm_assist;                 /* bits that Xen takes */
    struct {                            /* of shared_info: bytes to its parts, and of the event channels' */
        size_t pending, mask, nr_events, wc_version, wc_sec, arch;
    } shared;
};

/* NULL: there is no such width. */
const struct st_geometry *st_geometry(unsigned width);

/* Word number i of a page of the guest's. */
static inline uint64_t st_word_of(const struct st_geometry *g, const void *page, uint64_t i)
{
    return g->width == sizeof(uint64_t) ? ((const uint64_t *)page)[i] : ((const uint32_t *)page)[i];
}

/* The same for a number that stands for no frame in either width. */
static inline uint64_t st_frame_in(const struct st_geometry *g, const void *page, uint64_t i)
{
    uint64_t word = st_word_of(g, page, i);

    return word == g->none ? ST_NONE : word;
}

static inline uint64_t st_cr3_of(const struct st_geometry *g, uint64_t mfn)
{
    return g->width == sizeof(uint64_t) ? xen_pfn_to_cr3(mfn) : xen_pfn_to_cr3_x86_32(mfn);
}

static inline uint64_t st_cr3_frame(const struct st_geometry *g, uint64_t cr3)
{
    return g->width == sizeof(uint64_t) ? xen_cr3_to_pfn(cr3) : xen_cr3_to_pfn_x86_32(cr3);
}

#endif
