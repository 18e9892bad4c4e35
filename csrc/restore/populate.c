/* Memory for a domain being built. Xen holds it to its max_pages; we ask only for what the stream
 * names, once. */
#include "restore/session.h"

int restore_populate(xcsr_restore *r, const uint64_t *pfns, uint32_t nr)
{
    xen_pfn_t wanted[XCSR_BATCH];
    uint64_t whose[XCSR_BATCH];
    uint32_t n = 0;
    for (uint32_t i = 0; i < nr; i++) {
        if (r->mfns[pfns[i]])
            continue;
        r->mfns[pfns[i]] = XCSR_INVALID; /* being asked for: a second mention is not asked for again */
        whose[n] = pfns[i];
        wanted[n++] = pfns[i];
    }
    if (!n)
        return 0;
    int rc = xc_domain_populate_physmap_exact(r->h->xch, r->domid, n, 0, 0, wanted);
    int err = errno;
    for (uint32_t i = 0; i < n; i++)
        r->mfns[whose[i]] = rc ? 0 : wanted[i];
    if (rc) {
        r->h->error.pfn = whose[0];
        return xcsr_fail_call(r->h, err, "xc_domain_populate_physmap_exact",
                              "cannot give domain %u memory for %u pfns from %#llx on (its limit, or the host's?)", r->domid,
                              n, (unsigned long long)whose[0]);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (wanted[i] && wanted[i] < r->h->nr_mfns)
            continue;
        return xcsr_fail_call(r->h, EPROTO, "xc_domain_populate_physmap_exact", "Xen gave mfn %#llx for pfn %#llx",
                              (unsigned long long)wanted[i], (unsigned long long)whose[i]);
    }
    r->result.nr_populated += n;
    return 0;
}
