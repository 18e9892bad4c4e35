/* The two grants with which a toolstack begins a domain's grant table. */
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"

static int seed_grants(uint32_t domid, bool is_hvm, const stub_grant_seed *seed)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);

    if (!d)
        return rc;
    if (is_hvm != (d->hv != NULL))
        return -EINVAL;
    d->grants = *seed;
    d->granted = true;
    if (seed->console_domid == domid)
        d->grants.console_gfn = ST_NONE;
    if (seed->store_domid == domid)
        d->grants.store_gfn = ST_NONE;
    return 0;
}

/* As libxenguest's: an entry that would grant to the domain itself is not made. */
int xc_dom_gnttab_seed(xc_interface *xch, uint32_t guest_domid, bool is_hvm, xen_pfn_t console_gfn,
                       xen_pfn_t xenstore_gfn, uint32_t console_domid, uint32_t xenstore_domid)
{
    const stub_grant_seed seed = { console_gfn, xenstore_gfn, console_domid, xenstore_domid };
    int rc = st_begin_xc(ST_FN_xc_dom_gnttab_seed, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_dom_gnttab_seed, xch, rc);
    return (int)st_end(ST_FN_xc_dom_gnttab_seed, xch, seed_grants(guest_domid, is_hvm, &seed));
}
