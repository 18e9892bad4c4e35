/* The TSC of a domain, as Xen tells it and is told it. */
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"

#define TSC_NSEC_A_TICK 1000000UL
#define TSC_KHZ         2400000U
#define TSC_NEVER_EMULATE 2U            /* of Xen's modes 0 to 2 */

int xc_domain_get_tsc_info(xc_interface *xch, uint32_t domid, uint32_t *tsc_mode, uint64_t *elapsed_nsec,
                           uint32_t *gtsc_khz, uint32_t *incarnation)
{
    const struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_domain_get_tsc_info, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_get_tsc_info, xch, rc);
    d = st_domain_get(domid, &rc);
    if (d) {
        bool native = d->tsc.mode == TSC_NEVER_EMULATE;

        *tsc_mode = d->tsc.mode;
        *elapsed_nsec = native ? 0 : d->tsc.nsec + d->ticks * TSC_NSEC_A_TICK;
        *gtsc_khz = native ? 0 : d->tsc.khz;
        *incarnation = d->tsc.incarnation;
    }
    return (int)st_end(ST_FN_xc_domain_get_tsc_info, xch, rc);
}

/* Xen counts how often it was set, from what it is told. */
static int set_tsc(uint32_t domid, const struct st_tsc *tsc)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);

    if (!d)
        return rc;
    if (tsc->mode > TSC_NEVER_EMULATE)
        return -EINVAL;
    d->tsc = *tsc;
    d->tsc.nsec -= d->ticks * TSC_NSEC_A_TICK;
    d->tsc.incarnation++;
    if (!tsc->khz)
        d->tsc.khz = TSC_KHZ + d->id;
    return 0;
}

int xc_domain_set_tsc_info(xc_interface *xch, uint32_t domid, uint32_t tsc_mode, uint64_t elapsed_nsec,
                           uint32_t gtsc_khz, uint32_t incarnation)
{
    const struct st_tsc tsc = { true, tsc_mode, gtsc_khz, incarnation, elapsed_nsec, elapsed_nsec };
    int rc = st_begin_xc(ST_FN_xc_domain_set_tsc_info, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_set_tsc_info, xch, rc);
    return (int)st_end(ST_FN_xc_domain_set_tsc_info, xch, set_tsc(domid, &tsc));
}
