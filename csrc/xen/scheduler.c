/* A domain's share of the processors: what its scheduler lets be asked and set. */
#include "xen/handle.h"

int xcsr_scheduler(xcsr *h, uint32_t *sched)
{
    XCSR_ENTER(h);
    int id = 0;
    *sched = 0;
    if (xc_sched_id(h->xch, &id) < 0)
        return xcsr_fail_call(h, errno, "xc_sched_id", "cannot ask which scheduler the host has");
    *sched = (uint32_t)id;
    return 0;
}

static int no_caps(xcsr *h, const char *op, uint32_t domid, uint32_t sched)
{
    return xcsr_fail_call(h, EOPNOTSUPP, op, "scheduler %u has no caps, or is not domain %u's", sched, domid);
}

/* Xen says EINVAL to whoever names another scheduler than the domain's. */
static int failed(xcsr *h, const char *op, uint32_t domid, uint32_t sched, int err)
{
    if (err == EINVAL)
        return no_caps(h, op, domid, sched);
    return xcsr_fail_call(h, err, op, "cannot ask how much of the processors domain %u may have", domid);
}

int xcsr_sched_get(xcsr *h, uint32_t domid, uint32_t sched, uint32_t *weight, uint32_t *cap)
{
    XCSR_ENTER(h);
    struct xen_domctl_sched_credit2 new = {0, 0};
    struct xen_domctl_sched_credit old = {0, 0};
    bool second = sched == XEN_SCHEDULER_CREDIT2;
    *weight = *cap = 0;
    if (!second && sched != XEN_SCHEDULER_CREDIT)
        return no_caps(h, "xc_sched_credit_domain_get", domid, sched);
    if (second && xc_sched_credit2_domain_get(h->xch, domid, &new) < 0)
        return failed(h, "xc_sched_credit2_domain_get", domid, sched, errno);
    if (!second && xc_sched_credit_domain_get(h->xch, domid, &old) < 0)
        return failed(h, "xc_sched_credit_domain_get", domid, sched, errno);
    *weight = second ? new.weight : old.weight;
    *cap = second ? new.cap : old.cap;
    return 0;
}

int xcsr_sched_set_cap(xcsr *h, uint32_t domid, uint32_t sched, uint32_t cap)
{
    XCSR_ENTER(h);
    struct xen_domctl_sched_credit2 new = {.weight = 0, .cap = (uint16_t)cap}; /* weight 0: as it is */
    struct xen_domctl_sched_credit old = {.weight = 0, .cap = (uint16_t)cap};
    bool second = sched == XEN_SCHEDULER_CREDIT2;
    const char *op = second ? "xc_sched_credit2_domain_set" : "xc_sched_credit_domain_set";
    if (!second && sched != XEN_SCHEDULER_CREDIT)
        return no_caps(h, op, domid, sched);
    if (cap >= UINT16_MAX) /* credit takes 65535 for "as it is" */
        return xcsr_fail_call(h, ERANGE, op, "a cap of %u %% is more than any domain can use", cap);
    if ((second ? xc_sched_credit2_domain_set(h->xch, domid, &new) : xc_sched_credit_domain_set(h->xch, domid, &old)) < 0)
        return xcsr_fail_call(h, errno, op, "cannot set the cap of domain %u to %u %%", domid, cap);
    return 0;
}
