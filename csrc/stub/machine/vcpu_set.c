/* Setting vcpus' state: what Xen checks of a context and of the domctls' blobs before it takes them. */
#include "stub/machine/buffers.h"
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/types.h"
#include "stub/machine/vcpu.h"

#define XSAVE_HEADER 16U                /* xcr0 and xcr0_accum before the area itself */
#define XSAVE_LEAST  (XSAVE_HEADER + 576U)

static bool canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

static int check_addresses(const vcpu_guest_context_t *c)
{
    const uint64_t addresses[] = {
        c->user_regs.rip, c->user_regs.rsp, c->kernel_sp, c->ldt_base, c->fs_base, c->gs_base_kernel,
        c->gs_base_user, c->event_callback_eip, c->syscall_callback_eip, c->failsafe_callback_eip,
    };

    for (unsigned i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++)
        if (!canonical(addresses[i]))
            return st_error(EINVAL, "%#lx is no address", (unsigned long)addresses[i]);
    for (unsigned i = 0; i < 256; i++)
        if (!canonical(c->trap_ctxt[i].address))
            return st_error(EINVAL, "%#lx is no address", (unsigned long)c->trap_ctxt[i].address);
    return 0;
}

#define EFLAGS_VM 0x20000UL

/* What is checked of a context of either width; of a 32-bit one any address is one. */
static int check_context(const struct st_domain *d, const vcpu_guest_context_t *c)
{
    const bool wide = d->geometry->width == sizeof(uint64_t);
    int rc = wide ? check_addresses(c) : 0;

    if (rc)
        return rc;
    if (!wide && c->user_regs.rflags & EFLAGS_VM)
        return st_error(EINVAL, "a vcpu cannot be in vm86 mode");
    if (c->ldt_base & (ST_PAGE_SIZE - 1) || c->ldt_ents > 8192)
        return st_error(EINVAL, "an LDT of %lu entries at %#lx", c->ldt_ents, c->ldt_base);
    if (c->gdt_ents > FIRST_RESERVED_GDT_ENTRY)
        return st_error(EINVAL, "a GDT has no %lu entries", c->gdt_ents);
    if (wide && !(c->flags & VGCF_in_kernel) && !c->ctrlreg[1])
        return st_error(EINVAL, "a vcpu in user mode has no user's page tables");
    return 0;
}

static uint64_t gdt_frames(const vcpu_guest_context_t *c)
{
    return (c->gdt_ents + ST_ENTRIES - 1) / ST_ENTRIES;
}

/* Tables and GDT of a vcpu that has a context stay as they are. */
static int check_unchanged(const vcpu_guest_context_t *old, const vcpu_guest_context_t *new)
{
    bool same = old->ctrlreg[3] == new->ctrlreg[3] && old->ctrlreg[1] == new->ctrlreg[1]
                && old->gdt_ents == new->gdt_ents && old->ldt_ents == new->ldt_ents
                && (!old->ldt_ents || old->ldt_base == new->ldt_base);

    for (uint64_t i = 0; same && i < gdt_frames(new); i++)
        same = old->gdt_frames[i] == new->gdt_frames[i];
    return same ? 0 : -EOPNOTSUPP;
}

static void put_gdt(struct st_domain *d, const vcpu_guest_context_t *c, uint64_t frames)
{
    for (uint64_t i = 0; i < frames; i++)
        st_gdt_put(d, c->gdt_frames[i]);
}

static int get_gdt(struct st_domain *d, const vcpu_guest_context_t *c)
{
    for (uint64_t i = 0; i < gdt_frames(c); i++) {
        int rc = st_gdt_get(d, c->gdt_frames[i]);

        if (rc) {
            put_gdt(d, c, i);
            return rc;
        }
    }
    return 0;
}

static int get_roots(struct st_domain *d, const vcpu_guest_context_t *c)
{
    int rc = st_table_get(d, xen_cr3_to_pfn(c->ctrlreg[3]), d->geometry->levels);

    if (rc || !c->ctrlreg[1] || d->geometry->levels < 4)
        return rc;
    rc = st_table_get(d, xen_cr3_to_pfn(c->ctrlreg[1]), 4);
    if (rc)
        st_table_put(d, xen_cr3_to_pfn(c->ctrlreg[3]));
    return rc;
}

/* The GDT first, then the page tables: a GDT that they map writable is refused with them. */
static int get_frames(struct st_domain *d, const vcpu_guest_context_t *c)
{
    int rc;

    st_types_ready(d);
    rc = get_gdt(d, c);
    if (rc)
        return rc;
    rc = get_roots(d, c);
    if (rc)
        put_gdt(d, c, gdt_frames(c));
    return rc;
}

static int set_context(struct st_domain *d, struct st_vcpu *v, const vcpu_guest_context_t *c)
{
    int rc = check_context(d, c);

    if (rc)
        return rc;
    rc = v->initialised ? check_unchanged(&v->context, c) : get_frames(d, c);
    if (rc)
        return rc;
    v->context = *c;
    v->context.user_regs.rflags = (c->user_regs.rflags & ~0x3000UL) | 0x200; /* no IOPL, interrupts on */
    v->initialised = true;
    v->online = (c->flags & VGCF_online) != 0;
    return 0;
}

/* The context is one of the domain's width. */
static int set_vcpu(uint32_t domid, uint32_t vcpu, const vcpu_guest_context_any_t *given)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);
    vcpu_guest_context_t c;

    if (!d)
        return rc;
    if (vcpu >= d->nr_vcpus || d->hvm)
        return -EINVAL;
    if (d->geometry->width == sizeof(uint64_t))
        c = given->c;
    else
        st_context_widen(&given->x32, &c);
    if (!vcpu && c.vm_assist & ~d->geometry->vm_assist)
        return st_error(EINVAL, "vm_assist %#lx has bits that are none", c.vm_assist);
    return set_context(d, &d->vcpu[vcpu], &c);
}

int xc_vcpu_setcontext(xc_interface *xch, uint32_t domid, uint32_t vcpu, vcpu_guest_context_any_t *ctxt)
{
    int rc = st_begin_xc(ST_FN_xc_vcpu_setcontext, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_vcpu_setcontext, xch, rc);
    return (int)st_end(ST_FN_xc_vcpu_setcontext, xch, set_vcpu(domid, vcpu, ctxt));
}

/* ---- domctls ---- */

int st_set_ext(struct xen_domctl *op)
{
    const struct xen_domctl_ext_vcpucontext *e = &op->u.ext_vcpucontext;
    int rc = 0;
    struct st_vcpu *v = st_vcpu_find(op->domain, e->vcpu, &rc);

    if (!v)
        return rc;
    if (e->size < offsetof(struct xen_domctl_ext_vcpucontext, vmce))
        return -EINVAL;
    if (!canonical(e->syscall32_callback_eip) || !canonical(e->sysenter_callback_eip))
        return -EINVAL;
    memcpy(&v->ext, e, e->size < sizeof(*e) ? e->size : sizeof(*e));
    v->ext.size = sizeof(*e);
    return 0;
}

/* Only the size is checked: what the stub's guests have in this state is arbitrary. */
int st_set_xsave(struct xen_domctl *op)
{
    const struct xen_domctl_vcpuextstate *s = &op->u.vcpuextstate;
    int rc = 0;
    struct st_vcpu *v = st_vcpu_find(op->domain, s->vcpu, &rc);

    if (!v)
        return rc;
    if (s->size < XSAVE_HEADER || s->size > ST_MAX_XSAVE)
        return -EINVAL;
    if (s->size > XSAVE_HEADER && s->size < XSAVE_LEAST)
        return -EINVAL;
    if (!st_buffer_holds(s->buffer.p, s->size))
        return -EFAULT;
    if (s->size == XSAVE_HEADER)
        return 0;
    memcpy(v->xsave, s->buffer.p, s->size);
    v->xsave_size = (uint32_t)s->size;
    v->xfeature_mask = ST_XFEATURES;
    return 0;
}

/* Xen's list: SPEC_CTRL, MISC_FEATURES_ENABLES, TSC_AUX, and address masks (here eight from the second on). */
static bool known_msr(uint32_t index)
{
    return index == 0x48 || index == 0x140 || index == 0xc0000103 || index == 0xc0011027
           || (index >= 0xc0011019 && index < 0xc0011019 + ST_MAX_MSRS);
}

static int set_msr(struct st_vcpu *v, const struct xen_domctl_vcpu_msr *given)
{
    uint32_t i = 0;

    while (i < v->nr_msrs && v->msrs[i].index != given->index)
        i++;
    if (given->reserved || !known_msr(given->index) || i == ST_MAX_MSRS)
        return -EINVAL;
    v->msrs[i] = *given;
    v->nr_msrs += i == v->nr_msrs;
    return 0;
}

/* msr_count says at its return which one was refused. */
int st_set_msrs(struct xen_domctl *op)
{
    struct xen_domctl_vcpu_msrs *m = &op->u.vcpu_msrs;
    uint32_t count = m->msr_count;
    int rc = 0;
    struct st_vcpu *v = st_vcpu_find(op->domain, m->vcpu, &rc);

    if (!v)
        return rc;
    if (count > ST_MAX_MSRS)
        return -EINVAL;
    if (!st_buffer_holds(m->msrs.p, count * sizeof(v->msrs[0])))
        return -EFAULT;
    for (uint32_t i = 0; i < count && !rc; i++) {
        rc = set_msr(v, &m->msrs.p[i]);
        if (rc)
            m->msr_count = i;
    }
    return rc;
}
