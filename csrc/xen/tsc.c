/* A domain's time stamp counter: read, and set. */
#include "xen/tsc.h"

int domain_tsc(xcsr *h, uint32_t domid, xcsr_tsc *out)
{
    memset(out, 0, sizeof *out);
    if (xc_domain_get_tsc_info(h->xch, domid, &out->mode, &out->nsec, &out->khz, &out->incarnation))
        return xcsr_fail_call(h, errno, "xc_domain_get_tsc_info", "cannot ask domain %u's TSC", domid);
    return 0;
}

int xcsr_domain_tsc(xcsr *h, uint32_t domid, xcsr_tsc *out)
{
    XCSR_ENTER(h);
    return domain_tsc(h, domid, out);
}

int xcsr_set_tsc(xcsr *h, uint32_t domid, const xcsr_tsc *tsc)
{
    XCSR_ENTER(h);
    if (xc_domain_set_tsc_info(h->xch, domid, tsc->mode, tsc->nsec, tsc->khz, tsc->incarnation))
        return xcsr_fail_call(h, errno, "xc_domain_set_tsc_info", "cannot set domain %u's TSC", domid);
    return 0;
}
