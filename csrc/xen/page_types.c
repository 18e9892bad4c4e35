/* The types that Xen gives frames. */
#include "xen/page_types.h"

int page_types(xcsr *h, uint32_t domid, uint32_t nr, xen_pfn_t *frames)
{
    if (xc_get_pfn_type_batch(h->xch, domid, nr, frames))
        return xcsr_fail_call(h, errno, "xc_get_pfn_type_batch", "cannot ask the types of %u frames of domain %u", nr, domid);
    for (uint32_t i = 0; i < nr; i++)
        frames[i] = (frames[i] & XEN_DOMCTL_PFINFO_LTAB_MASK) >> XEN_DOMCTL_PFINFO_LTAB_SHIFT;
    return 0;
}
