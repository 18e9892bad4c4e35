/* Calls that libxenguest 4.17 makes and the stub has in another form only. */
#include "standin.h"

static void from_info(const xc_domaininfo_t *from, xc_dominfo_t *to)
{
    memset(to, 0, sizeof(*to));
    to->domid = from->domain;
    to->ssidref = from->ssidref;
    to->dying = !!(from->flags & XEN_DOMINF_dying);
    to->shutdown = !!(from->flags & XEN_DOMINF_shutdown);
    to->paused = !!(from->flags & XEN_DOMINF_paused);
    to->blocked = !!(from->flags & XEN_DOMINF_blocked);
    to->running = !!(from->flags & XEN_DOMINF_running);
    to->hvm = !!(from->flags & XEN_DOMINF_hvm_guest);
    to->hap = !!(from->flags & XEN_DOMINF_hap);
    to->shutdown_reason = from->flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask;
    to->crashed = to->shutdown && to->shutdown_reason == SHUTDOWN_crash;
    to->nr_pages = from->tot_pages;
    to->shared_info_frame = from->shared_info_frame;
    to->max_memkb = from->max_pages << (ST_PAGE_SHIFT - 10);
    to->cpu_time = from->cpu_time;
    to->nr_online_vcpus = from->nr_online_vcpus;
    to->max_vcpu_id = from->max_vcpu_id;
    to->gpaddr_bits = from->gpaddr_bits;
    memcpy(to->handle, from->handle, sizeof(to->handle));
}

/* How many domains from first_domid on were found; -1 if none. */
int xc_domain_getinfo(xc_interface *xch, uint32_t first_domid, unsigned int max_doms, xc_dominfo_t *info)
{
    unsigned count = 0;

    while (count < max_doms) {
        xc_domaininfo_t one;
        int rc = xc_domain_getinfolist(xch, first_domid, 1, &one);

        if (rc != 1) {
            if (rc == 0)
                errno = ESRCH;
            return count ? (int)count : -1;
        }
        from_info(&one, &info[count++]);
        first_domid = one.domain + 1U;
    }
    return (int)count;
}

/* ---- hypercall buffers ---- */

/* dir, ubuf and sz are set only in a buffer that bounces: one that does not was passed by mistake. */
static void refuse_unbounced(const xc_hypercall_buffer_t *b)
{
    if (b->ubuf != (void *)-1)
        return;
    fprintf(stderr, "stand-in: a hypercall buffer that does not bounce was bounced\n");
    abort();
}

int xc__hypercall_bounce_pre(xc_interface *xch, xc_hypercall_buffer_t *b)
{
    refuse_unbounced(b);
    b->hbuf = NULL;
    if (!b->ubuf)
        return 0;
    if (!xc__hypercall_buffer_alloc(xch, b, b->sz))
        return -1;
    if (b->dir & STANDIN_BOUNCE_IN)
        memcpy(b->hbuf, b->ubuf, b->sz);
    return 0;
}

void xc__hypercall_bounce_post(xc_interface *xch, xc_hypercall_buffer_t *b)
{
    refuse_unbounced(b);
    if (!b->hbuf)
        return;
    if (b->dir & STANDIN_BOUNCE_OUT)
        memcpy(b->ubuf, b->hbuf, b->sz);
    xc__hypercall_buffer_free(xch, b);
}

/* ---- hypercalls made past libxenctrl: CPU policies, the width of a domain ---- */

static int refuse(int error)
{
    errno = error;
    return -1;
}

static bool buffers_fit(const struct xen_domctl_cpu_policy *p)
{
    bool fit;

    st_lock();
    fit = st_buffer_holds(p->leaves.p, p->nr_leaves * sizeof(xen_cpuid_leaf_t))
          && st_buffer_holds(p->msrs.p, p->nr_msrs * sizeof(xen_msr_entry_t));
    st_unlock();
    return fit;
}

static int get_policy(xc_interface *xch, uint32_t domid, struct xen_domctl_cpu_policy *p)
{
    xc_cpu_policy_t *policy;
    int rc;

    if (!buffers_fit(p))
        return refuse(EFAULT);
    policy = xc_cpu_policy_init();
    if (!policy)
        return -1;
    rc = xc_cpu_policy_get_domain(xch, domid, policy);
    rc = rc ? rc : xc_cpu_policy_serialise(xch, policy, p->leaves.p, &p->nr_leaves, p->msrs.p, &p->nr_msrs);
    xc_cpu_policy_destroy(policy);
    return rc;
}

static int policy_size(xc_interface *xch, struct xen_sysctl_cpu_policy *p)
{
    if (p->leaves.p || p->msrs.p)
        return refuse(EOPNOTSUPP);
    return xc_cpu_policy_get_size(xch, &p->nr_leaves, &p->nr_msrs);
}

static int set_policy(xc_interface *xch, uint32_t domid, const struct xen_domctl_cpu_policy *p)
{
    if (!p->nr_leaves && !p->nr_msrs)
        return 0;
    return xc_set_domain_cpu_policy(xch, domid, p->nr_leaves, p->leaves.p, p->nr_msrs, p->msrs.p, NULL, NULL,
                                    NULL);
}

static int domctl(xc_interface *xch, struct xen_domctl *op)
{
    switch (op->cmd) {
    case XEN_DOMCTL_get_cpu_policy:
        return get_policy(xch, op->domain, &op->u.cpu_policy);
    case XEN_DOMCTL_set_cpu_policy:
        return set_policy(xch, op->domain, &op->u.cpu_policy);
    case XEN_DOMCTL_set_address_size:
        return xc_domctl(xch, op);
    default:
        return refuse(ENOSYS);
    }
}

int xencall1(struct standin_handle *xcall, unsigned op, uint64_t argument)
{
    xc_interface *xch = (xc_interface *)(void *)xcall;
    struct xen_sysctl *sysctl = (struct xen_sysctl *)(uintptr_t)argument;

    if (!standin_handle(xch))
        return refuse(EBADF);
    if (op == __HYPERVISOR_domctl)
        return domctl(xch, (struct xen_domctl *)(uintptr_t)argument);
    if (op == __HYPERVISOR_sysctl && sysctl->cmd == XEN_SYSCTL_get_cpu_policy)
        return policy_size(xch, &sysctl->u.cpu_policy);
    return refuse(ENOSYS);
}
