/* Memory for a domain being built. Xen holds it to its max_pages; we ask only for what the stream
 * names, once, and give back what it took away again. */
#include "restore.h"

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

/* Sent once, and then said to be gone: ballooned out in mid-save. */
static bool is_gone(const xcsr_restore *r, uint64_t pfn)
{
    uint32_t type = xcsr_restore_type(r, pfn);
    return r->mfns[pfn] && (type == TYPE_XTAB || type == TYPE_BROKEN);
}

static int give_back(xcsr_restore *r, const uint64_t *pfns, uint32_t nr)
{
    xen_pfn_t mfns[XCSR_BATCH];
    for (uint32_t i = 0; i < nr; i++)
        mfns[i] = r->mfns[pfns[i]];
    if (xc_domain_decrease_reservation_exact(r->h->xch, r->domid, nr, 0, mfns)) {
        r->h->error.pfn = pfns[0];
        return xcsr_fail_call(r->h, errno, "xc_domain_decrease_reservation_exact",
                              "cannot take %u pages from domain %u, from pfn %#llx on", nr, r->domid,
                              (unsigned long long)pfns[0]);
    }
    for (uint32_t i = 0; i < nr; i++)
        r->mfns[pfns[i]] = 0;
    return 0;
}

int xcsr_restore_give_back(xcsr_restore *r, uint64_t *given)
{
    uint64_t pfns[XCSR_BATCH];
    uint32_t nr = 0;
    XCSR_ENTER(r->h);
    *given = 0;
    for (uint64_t pfn = 0; pfn < r->nr_pfns; pfn++) {
        if (is_gone(r, pfn))
            pfns[nr++] = pfn;
        if (!nr || (nr < XCSR_BATCH && pfn + 1 < r->nr_pfns))
            continue;
        int rc = give_back(r, pfns, nr);
        if (rc)
            return rc;
        *given += nr;
        nr = 0;
    }
    return 0;
}
