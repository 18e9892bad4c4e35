/* vcpus: their contexts as the guest and Xen left them, and the calls that read them. */
#include "stub/machine/buffers.h"
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/vcpu.h"

#define MAX_MSRS_REPORTED 10            /* what Xen says may be needed, before it counts */

/* vcpus as Xen makes them: down, without a context. */
int st_vcpus_alloc(struct st_domain *d)
{
    d->vcpu = calloc(d->nr_vcpus, sizeof(*d->vcpu));
    if (!d->vcpu)
        return -ENOMEM;
    for (uint32_t v = 0; v < d->nr_vcpus; v++) {
        d->vcpu[v].ext.vcpu = v;
        d->vcpu[v].ext.size = sizeof(d->vcpu[v].ext);
        d->vcpu[v].xsave = calloc(1, ST_MAX_XSAVE);
        if (!d->vcpu[v].xsave)
            return -ENOMEM;
    }
    return 0;
}

void st_vcpus_free(struct st_domain *d)
{
    for (uint32_t v = 0; d->vcpu && v < d->nr_vcpus; v++)
        free(d->vcpu[v].xsave);
    free(d->vcpu);
}

struct st_vcpu *st_vcpu_find(uint32_t domid, uint32_t vcpu, int *error)
{
    struct st_domain *d = st_domain_get(domid, error);

    if (!d)
        return NULL;
    if (vcpu >= d->nr_vcpus) {
        *error = -ESRCH;
        return NULL;
    }
    return &d->vcpu[vcpu];
}

static void fill_vcpu_info(const struct st_domain *d, uint32_t vcpu, xc_vcpuinfo_t *info)
{
    memset(info, 0, sizeof(*info));
    info->vcpu = vcpu;
    info->online = d->vcpu[vcpu].online;
    info->blocked = !info->online;
    info->running = info->online && st_domain_running(d);
    info->cpu_time = d->ticks * 1000000;
    info->cpu = vcpu;
}

int xc_vcpu_getinfo(xc_interface *xch, uint32_t domid, uint32_t vcpu, xc_vcpuinfo_t *info)
{
    int rc = st_begin_xc(ST_FN_xc_vcpu_getinfo, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_vcpu_getinfo, xch, rc);
    if (st_vcpu_find(domid, vcpu, &rc))
        fill_vcpu_info(st_domain_find(domid), vcpu, info);
    return (int)st_end(ST_FN_xc_vcpu_getinfo, xch, rc);
}

/* What Xen tells of an HVM guest's vcpu in this form: the general registers, among others. */
static void fill_hvm_context(const struct hvm_hw_cpu *from, vcpu_guest_context_t *to)
{
    cpu_user_regs_t *r = &to->user_regs;

    to->flags = VGCF_online;
    r->rax = from->rax, r->rbx = from->rbx, r->rcx = from->rcx, r->rdx = from->rdx;
    r->rsi = from->rsi, r->rdi = from->rdi, r->rbp = from->rbp, r->rsp = from->rsp;
    r->r8 = from->r8, r->r9 = from->r9, r->r10 = from->r10, r->r11 = from->r11;
    r->r12 = from->r12, r->r13 = from->r13, r->r14 = from->r14, r->r15 = from->r15;
    r->rip = from->rip, r->rflags = from->rflags;
    to->ctrlreg[0] = from->cr0, to->ctrlreg[3] = from->cr3, to->ctrlreg[4] = from->cr4;
}

/* vm_assist is the domain's: what it was given with vcpu 0. */
static void fill_context(const struct st_domain *d, const struct st_vcpu *v, vcpu_guest_context_any_t *to)
{
    vcpu_guest_context_t c = v->context;

    c.vm_assist = d->vcpu[0].context.vm_assist;
    if (d->geometry->width == sizeof(uint64_t))
        to->c = c;
    else
        st_context_narrow(&c, &to->x32);
}

int xc_vcpu_getcontext(xc_interface *xch, uint32_t domid, uint32_t vcpu, vcpu_guest_context_any_t *ctxt)
{
    const struct st_vcpu *v;
    int rc = st_begin_xc(ST_FN_xc_vcpu_getcontext, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_vcpu_getcontext, xch, rc);
    v = st_vcpu_find(domid, vcpu, &rc);
    if (v && (!v->online || (st_domain_find(domid)->hv && !st_hvm_cpu(st_domain_find(domid), vcpu))))
        rc = -ENODATA;
    if (v && !rc) {
        memset(ctxt, 0, sizeof(*ctxt));
        if (st_domain_find(domid)->hv)
            fill_hvm_context(st_hvm_cpu(st_domain_find(domid), vcpu), &ctxt->c);
        else
            fill_context(st_domain_find(domid), v, ctxt);
    }
    return (int)st_end(ST_FN_xc_vcpu_getcontext, xch, rc);
}

static int get_ext(struct xen_domctl *op)
{
    int rc = 0;
    const struct st_vcpu *v = st_vcpu_find(op->domain, op->u.ext_vcpucontext.vcpu, &rc);

    if (v)
        op->u.ext_vcpucontext = v->ext;
    return rc;
}

static int get_xsave(struct xen_domctl *op)
{
    struct xen_domctl_vcpuextstate *s = &op->u.vcpuextstate;
    int rc = 0;
    const struct st_vcpu *v = st_vcpu_find(op->domain, s->vcpu, &rc);

    if (!v)
        return rc;
    if ((!s->size && !s->xfeature_mask) || !s->buffer.p) {
        s->size = v->xsave_size;
        s->xfeature_mask = v->xfeature_mask;
        return 0;
    }
    if (s->size != v->xsave_size || s->xfeature_mask != v->xfeature_mask)
        return -EINVAL;
    if (!st_buffer_holds(s->buffer.p, s->size))
        return -EFAULT;
    memcpy(s->buffer.p, v->xsave, s->size);
    return 0;
}

static int get_msrs(struct xen_domctl *op)
{
    struct xen_domctl_vcpu_msrs *m = &op->u.vcpu_msrs;
    uint32_t room = m->msr_count;
    int rc = 0;
    const struct st_vcpu *v = st_vcpu_find(op->domain, m->vcpu, &rc);

    if (!v)
        return rc;
    if (!m->msrs.p) {
        m->msr_count = MAX_MSRS_REPORTED;
        return 0;
    }
    m->msr_count = v->nr_msrs;
    if (room < v->nr_msrs)
        return -ENOBUFS;
    if (!st_buffer_holds(m->msrs.p, v->nr_msrs * sizeof(v->msrs[0])))
        return -EFAULT;
    memcpy(m->msrs.p, v->msrs, v->nr_msrs * sizeof(v->msrs[0]));
    return 0;
}

static int get_address_size(struct xen_domctl *op)
{
    int rc = 0;
    const struct st_domain *d = st_domain_get(op->domain, &rc);

    if (d && d->hvm)
        return -EOPNOTSUPP;
    if (d)
        op->u.address_size.size = d->width * 8;
    return rc;
}

/* A domain becomes a 32-bit one only, and before it has memory. */
static int set_address_size(const struct xen_domctl *op)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(op->domain, &rc);

    if (!d)
        return rc;
    if (d->hvm)
        return -EOPNOTSUPP;
    if (op->u.address_size.size == d->width * 8)
        return 0;
    return op->u.address_size.size == 32 ? st_domain_narrow(d) : -EINVAL;
}

static int do_domctl(struct xen_domctl *op)
{
    switch (op->cmd) {
    case XEN_DOMCTL_get_address_size:
        return get_address_size(op);
    case XEN_DOMCTL_set_address_size:
        return set_address_size(op);
    case XEN_DOMCTL_set_ext_vcpucontext:
        return st_set_ext(op);
    case XEN_DOMCTL_setvcpuextstate:
        return st_set_xsave(op);
    case XEN_DOMCTL_set_vcpu_msrs:
        return st_set_msrs(op);
    case XEN_DOMCTL_get_ext_vcpucontext:
        return get_ext(op);
    case XEN_DOMCTL_getvcpuextstate:
        return get_xsave(op);
    case XEN_DOMCTL_get_vcpu_msrs:
        return get_msrs(op);
    default:
        return -ENOSYS;
    }
}

int xc_domctl(xc_interface *xch, struct xen_domctl *domctl)
{
    int rc = st_begin_xc(ST_FN_xc_domctl, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domctl, xch, rc);
    domctl->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    return (int)st_end(ST_FN_xc_domctl, xch, do_domctl(domctl));
}
