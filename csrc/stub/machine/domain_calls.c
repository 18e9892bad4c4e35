/* What libxenctrl tells about domains and does with them. */
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/shared_info.h"
#include "stub/machine/vcpu.h"

#define MAX_PAUSE_COUNT 255

static uint32_t online_vcpus(const struct st_domain *d)
{
    uint32_t online = 0;

    for (uint32_t v = 0; v < d->nr_vcpus; v++)
        online += d->vcpu[v].online;
    return online;
}

static uint32_t info_flags(const struct st_domain *d)
{
    uint32_t flags = d->hvm ? XEN_DOMINF_hvm_guest | XEN_DOMINF_hap : 0;

    if (d->dying)
        flags |= XEN_DOMINF_dying;
    if (d->pause_count)
        flags |= XEN_DOMINF_paused;
    if (d->shutdown)
        flags |= XEN_DOMINF_shutdown | (uint32_t)d->shutdown_reason << XEN_DOMINF_shutdownshift;
    if (st_domain_running(d))
        flags |= XEN_DOMINF_running;
    return flags;
}

static void fill_info(const struct st_domain *d, xc_domaininfo_t *info)
{
    memset(info, 0, sizeof(*info));
    info->domain = (domid_t)d->id;
    info->flags = info_flags(d);
    info->tot_pages = st_domain_pages(d) + (uint64_t)d->tot_pages_bias;
    info->max_pages = d->max_pages;
    info->shared_info_frame = d->shared_info_mfn;
    info->cpu_time = d->ticks * 1000000;
    info->nr_online_vcpus = online_vcpus(d);
    info->max_vcpu_id = d->nr_vcpus - 1;
    memcpy(info->handle, d->handle, sizeof(info->handle));
    info->gpaddr_bits = 64;
}

static void fill_dom0(xc_domaininfo_t *info)
{
    memset(info, 0, sizeof(*info));
    info->flags = XEN_DOMINF_running;
    info->tot_pages = info->max_pages = sizeof(st.foreign) / sizeof(st.foreign[0]);
    info->shared_info_frame = 1;
    info->nr_online_vcpus = 1;
    info->gpaddr_bits = 64;
}

static int list_domains(uint32_t first, unsigned max, xc_domaininfo_t *info)
{
    unsigned count = 0;

    if (first == 0 && max)
        fill_dom0(&info[count++]);
    for (const struct st_domain *d = st.domains; d && count < max; d = d->next)
        if (d->id >= first)
            fill_info(d, &info[count++]);
    return (int)count;
}

int xc_domain_getinfolist(xc_interface *xch, uint32_t first_domain, unsigned int max_domains,
                          xc_domaininfo_t *info)
{
    int rc = st_begin_xc(ST_FN_xc_domain_getinfolist, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_getinfolist, xch, rc);
    return (int)st_end(ST_FN_xc_domain_getinfolist, xch, list_domains(first_domain, max_domains, info));
}

int xc_domain_get_guest_width(xc_interface *xch, uint32_t domid, unsigned int *guest_width)
{
    const struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_domain_get_guest_width, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_get_guest_width, xch, rc);
    d = st_domain_get(domid, &rc);
    if (d)
        *guest_width = d->width;
    return (int)st_end(ST_FN_xc_domain_get_guest_width, xch, rc);
}

/*
 * For a PV guest Xen has this from shared_info: it is the guest's claim. Of the others it is the highest gfn that
 * ever had an entry. Where there is neither it is 0.
 */
static uint64_t maximum_gpfn(const struct st_domain *d)
{
    uint64_t nr = d->hv ? d->nr_pfns : st_arch_get(d, ST_MAX_PFN);

    return nr ? nr - 1 : 0;
}

static int tell_gpfns(enum st_function function, xc_interface *xch, uint32_t domid, uint64_t more, xen_pfn_t *gpfns)
{
    const struct st_domain *d;
    int rc = st_begin_xc(function, xch);

    if (rc)
        return (int)st_refused(function, xch, rc);
    d = st_domain_get(domid, &rc);
    if (d)
        *gpfns = maximum_gpfn(d) + more;
    return (int)st_end(function, xch, rc);
}

int xc_domain_maximum_gpfn(xc_interface *xch, uint32_t domid, xen_pfn_t *gpfns)
{
    return tell_gpfns(ST_FN_xc_domain_maximum_gpfn, xch, domid, 0, gpfns);
}

int xc_domain_nr_gpfns(xc_interface *xch, uint32_t domid, xen_pfn_t *gpfns)
{
    return tell_gpfns(ST_FN_xc_domain_nr_gpfns, xch, domid, 1, gpfns);
}

static int domain_pause(uint32_t domid)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);

    if (!d)
        return rc;
    if (d->pause_count == MAX_PAUSE_COUNT)
        return -EOVERFLOW;
    d->pause_count++;
    return 0;
}

int xc_domain_pause(xc_interface *xch, uint32_t domid)
{
    int rc = st_begin_xc(ST_FN_xc_domain_pause, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_pause, xch, rc);
    return (int)st_end(ST_FN_xc_domain_pause, xch, domain_pause(domid));
}

static int domain_unpause(uint32_t domid)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);

    return d ? st_domain_unpause(d) : rc;
}

int xc_domain_unpause(xc_interface *xch, uint32_t domid)
{
    int rc = st_begin_xc(ST_FN_xc_domain_unpause, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_unpause, xch, rc);
    return (int)st_end(ST_FN_xc_domain_unpause, xch, domain_unpause(domid));
}

int xc_domain_resume(xc_interface *xch, uint32_t domid, int fast)
{
    struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_domain_resume, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_resume, xch, rc);
    d = st_domain_get(domid, &rc);
    if (d)
        rc = st_domain_resume(d, fast);
    return (int)st_end(ST_FN_xc_domain_resume, xch, rc);
}

int xc_domain_destroy(xc_interface *xch, uint32_t domid)
{
    struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_domain_destroy, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_destroy, xch, rc);
    d = st_domain_get(domid, &rc);
    if (d)
        st_domain_kill(d);
    return (int)st_end(ST_FN_xc_domain_destroy, xch, rc);
}

int xc_domain_shutdown(xc_interface *xch, uint32_t domid, int reason)
{
    struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_domain_shutdown, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_shutdown, xch, rc);
    d = st_domain_get(domid, &rc);
    if (d)
        rc = st_domain_shut_down(d, reason);
    return (int)st_end(ST_FN_xc_domain_shutdown, xch, rc);
}
