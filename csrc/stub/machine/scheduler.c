/* The scheduler, as far as a toolstack can ask and set: weights and caps of domains. */
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"

#define AS_IT_IS UINT16_MAX /* credit's word for a cap that is not to be changed; a weight of 0 is that for both */

uint32_t st_domain_share(const struct st_domain *d)
{
    uint32_t whole = 100 * d->nr_vcpus;

    return !d->sched_cap || d->sched_cap >= whole ? ST_WHOLE : ST_WHOLE * d->sched_cap / whole;
}

int xc_sched_id(xc_interface *xch, int *sched_id)
{
    int rc = st_begin_xc(ST_FN_xc_sched_id, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_sched_id, xch, rc);
    *sched_id = (int)st.scheduler;
    return (int)st_end(ST_FN_xc_sched_id, xch, 0);
}

/* Xen compares the scheduler that the caller names with the domain's. */
static struct st_domain *scheduled_by(uint32_t domid, uint32_t scheduler, int *rc)
{
    struct st_domain *d = st_domain_get(domid, rc);

    if (d && d->scheduler == scheduler)
        return d;
    if (d)
        *rc = -EINVAL;
    return NULL;
}

static int set_weight_and_cap(struct st_domain *d, uint16_t weight, uint16_t cap)
{
    if (weight)
        d->sched_weight = weight;
    d->sched_cap = cap;
    return 0;
}

static int set_credit2(struct st_domain *d, uint16_t weight, uint16_t cap)
{
    return cap > 100 * d->nr_vcpus ? -EINVAL : set_weight_and_cap(d, weight, cap);
}

int xc_sched_credit2_domain_set(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit2 *sdom)
{
    struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_sched_credit2_domain_set, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_sched_credit2_domain_set, xch, rc);
    d = scheduled_by(domid, XEN_SCHEDULER_CREDIT2, &rc);
    if (d)
        rc = set_credit2(d, sdom->weight, sdom->cap);
    return (int)st_end(ST_FN_xc_sched_credit2_domain_set, xch, rc);
}

int xc_sched_credit2_domain_get(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit2 *sdom)
{
    const struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_sched_credit2_domain_get, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_sched_credit2_domain_get, xch, rc);
    d = scheduled_by(domid, XEN_SCHEDULER_CREDIT2, &rc);
    if (d)
        *sdom = (struct xen_domctl_sched_credit2){ .weight = d->sched_weight, .cap = d->sched_cap };
    return (int)st_end(ST_FN_xc_sched_credit2_domain_get, xch, rc);
}

int xc_sched_credit_domain_set(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit *sdom)
{
    struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_sched_credit_domain_set, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_sched_credit_domain_set, xch, rc);
    d = scheduled_by(domid, XEN_SCHEDULER_CREDIT, &rc);
    if (d)
        rc = set_weight_and_cap(d, sdom->weight, sdom->cap == AS_IT_IS ? d->sched_cap : sdom->cap);
    return (int)st_end(ST_FN_xc_sched_credit_domain_set, xch, rc);
}

int xc_sched_credit_domain_get(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit *sdom)
{
    const struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_sched_credit_domain_get, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_sched_credit_domain_get, xch, rc);
    d = scheduled_by(domid, XEN_SCHEDULER_CREDIT, &rc);
    if (d)
        *sdom = (struct xen_domctl_sched_credit){ .weight = d->sched_weight, .cap = d->sched_cap };
    return (int)st_end(ST_FN_xc_sched_credit_domain_get, xch, rc);
}
