/* The types that Xen gives frames: page table or not. */
#include "xcsr.h"

int xcsr_frame_types(xcsr *h, uint32_t domid, uint64_t nr, const uint64_t *mfns, uint32_t *types)
{
    xen_pfn_t some[XCSR_BATCH]; /* what Xen answers in one call; it does so in place */
    XCSR_ENTER(h);
    for (uint64_t done = 0; done < nr;) {
        uint32_t n = nr - done < XCSR_BATCH ? (uint32_t)(nr - done) : XCSR_BATCH;
        memcpy(some, mfns + done, n * sizeof *some);
        if (xc_get_pfn_type_batch(h->xch, domid, n, some))
            return xcsr_fail_call(h, errno, "xc_get_pfn_type_batch", "cannot ask the types of %u frames of domain %u", n, domid);
        for (uint32_t i = 0; i < n; i++)
            types[done + i] = (uint32_t)((some[i] & XEN_DOMCTL_PFINFO_LTAB_MASK) >> XEN_DOMCTL_PFINFO_LTAB_SHIFT);
        done += n;
    }
    return 0;
}
