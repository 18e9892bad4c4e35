/* Facts about a domain, and its life: pause, shutdown, destroy. */
#include "xen/domain.h"

#include <xen/version.h>

static void fill(xcsr_domain *out, const xc_domaininfo_t *in)
{
    out->domid = in->domain;
    out->hvm = !!(in->flags & XEN_DOMINF_hvm_guest);
    out->paused = !!(in->flags & XEN_DOMINF_paused);
    out->dying = !!(in->flags & XEN_DOMINF_dying);
    out->shutdown = !!(in->flags & XEN_DOMINF_shutdown);
    out->shutdown_reason = (in->flags >> XEN_DOMINF_shutdownshift) & XEN_DOMINF_shutdownmask;
    out->max_vcpu_id = in->max_vcpu_id;
    out->nr_online_vcpus = in->nr_online_vcpus;
    out->tot_pages = in->tot_pages;
    out->max_pages = in->max_pages;
    out->shared_info_mfn = in->shared_info_frame;
}

int xcsr_xen_version(xcsr *h, uint32_t *major, uint32_t *minor)
{
    XCSR_ENTER(h);
    int version = xc_version(h->xch, XENVER_version, NULL);
    if (version < 0)
        return xcsr_fail_call(h, errno, "xc_version", "cannot ask Xen's version");
    *major = (uint32_t)version >> 16;
    *minor = (uint32_t)version & 0xffff;
    return 0;
}

int domain_ask(xcsr *h, uint32_t domid, xcsr_domain *out)
{
    xc_domaininfo_t info;
    int nr = xc_domain_getinfolist(h->xch, domid, 1, &info);
    if (nr < 0)
        return xcsr_fail_call(h, errno, "xc_domain_getinfolist", "cannot ask about domain %u", domid);
    if (nr == 0 || info.domain != domid) /* it answers with the next one */
        return xcsr_fail_call(h, ESRCH, "xc_domain_getinfolist", "there is no domain %u", domid);
    fill(out, &info);
    return 0;
}

int xcsr_domain_info(xcsr *h, uint32_t domid, xcsr_domain *out)
{
    XCSR_ENTER(h);
    return domain_ask(h, domid, out);
}

int xcsr_domain_list(xcsr *h, uint32_t first, uint32_t max, xcsr_domain *out, uint32_t *nr)
{
    XCSR_ENTER(h);
    xc_domaininfo_t infos[64];
    if (max > 64)
        max = 64;
    int got = xc_domain_getinfolist(h->xch, first, max, infos);
    if (got < 0)
        return xcsr_fail_call(h, errno, "xc_domain_getinfolist", "cannot list domains from %u on", first);
    for (int i = 0; i < got; i++)
        fill(&out[i], &infos[i]);
    *nr = (uint32_t)got;
    return 0;
}

int xcsr_domain_width(xcsr *h, uint32_t domid, uint32_t *nr_bytes)
{
    XCSR_ENTER(h);
    unsigned int width = 0;
    if (xc_domain_get_guest_width(h->xch, domid, &width))
        return xcsr_fail_call(h, errno, "xc_domain_get_guest_width", "cannot ask domain %u's width", domid);
    *nr_bytes = width;
    return 0;
}

int xcsr_domain_pause(xcsr *h, uint32_t domid)
{
    XCSR_ENTER(h);
    return xc_domain_pause(h->xch, domid)
               ? xcsr_fail_call(h, errno, "xc_domain_pause", "cannot pause domain %u", domid)
               : 0;
}

int xcsr_domain_unpause(xcsr *h, uint32_t domid)
{
    XCSR_ENTER(h);
    return xc_domain_unpause(h->xch, domid)
               ? xcsr_fail_call(h, errno, "xc_domain_unpause", "cannot unpause domain %u", domid)
               : 0;
}

int xcsr_domain_destroy(xcsr *h, uint32_t domid)
{
    XCSR_ENTER(h);
    return xc_domain_destroy(h->xch, domid)
               ? xcsr_fail_call(h, errno, "xc_domain_destroy", "cannot destroy domain %u", domid)
               : 0;
}

int xcsr_domain_shutdown(xcsr *h, uint32_t domid, uint32_t reason)
{
    XCSR_ENTER(h);
    return xc_domain_shutdown(h->xch, domid, (int)reason)
               ? xcsr_fail_call(h, errno, "xc_domain_shutdown", "cannot shut domain %u down with reason %u", domid, reason)
               : 0;
}

int xcsr_set_width(xcsr *h, uint32_t domid, uint32_t nr_bytes)
{
    XCSR_ENTER(h);
    struct xen_domctl op;
    memset(&op, 0, sizeof op);
    op.cmd = XEN_DOMCTL_set_address_size;
    op.domain = (domid_t)domid;
    op.u.address_size.size = nr_bytes * 8;
    if (xc_domctl(h->xch, &op))
        return xcsr_fail_call(h, errno, "XEN_DOMCTL_set_address_size", "cannot make domain %u a %u-bit one", domid, nr_bytes * 8);
    return 0;
}

int xcsr_seed_grants(xcsr *h, uint32_t domid, uint64_t console_mfn, uint64_t store_mfn, uint32_t console_domid,
                     uint32_t store_domid, uint32_t hvm)
{
    XCSR_ENTER(h);
    if (xc_dom_gnttab_seed(h->xch, domid, hvm, console_mfn, store_mfn, console_domid, store_domid))
        return xcsr_fail_call(h, errno, "xc_dom_gnttab_seed", "cannot grant domain %u's console and store rings", domid);
    return 0;
}
