/* The vcpus of a guest that is built, with arbitrary contents that Xen would accept. */
#include "stub/kernel/kernel.h"
#include "stub/kernel/pages.h"
#include "stub/kernel/pv/space.h"
#include "stub/kernel/pv/vcpus.h"
#include "stub/machine/frames.h"
#include "stub/machine/memory.h"
#include "stub/machine/rng.h"
#include "stub/machine/vcpu.h"

/* What only a 32-bit context has; Xen keeps the selectors where a 64-bit one has syscall_callback_eip. */
static void build_narrow(vcpu_guest_context_t *c, const struct st_space *space, uint32_t v)
{
    c->event_callback_eip = space->text + 0x803000 + v;
    c->failsafe_callback_eip = space->text + 0x804000 + v;
    c->syscall_callback_eip = space->cs | (uint64_t)space->cs << 32;
    c->vm_assist = 1 << 1 | 1 << 3 | 1 << 5; /* pae_extended_cr3, two others */
}

static void build_registers(struct st_domain *d, uint32_t v)
{
    vcpu_guest_context_t *c = &d->vcpu[v].context;
    const struct st_space *space = st_space(d->geometry);
    uint64_t salt = st_hash(d->kernel->config.seed, 0x76637075 + v);

    for (unsigned i = 0; i < sizeof(c->fpu_ctxt.x); i++)
        c->fpu_ctxt.x[i] = (char)st_hash(salt, i);
    c->flags = VGCF_i387_valid | VGCF_in_kernel | (d->vcpu[v].online ? VGCF_online : 0);
    c->user_regs.rax = salt & d->geometry->none;
    c->user_regs.rip = space->text + 0x1000 + v * 16;
    c->user_regs.rsp = space->stack + v * ST_PAGE_SIZE;
    c->user_regs.rflags = 0x246;
    c->user_regs.cs = space->cs;
    c->user_regs.ss = space->ss;
    c->ctrlreg[0] = 0x80050033;
    c->ctrlreg[4] = 0x2660;
    c->kernel_ss = space->ss;
    c->kernel_sp = c->user_regs.rsp;
    for (unsigned i = 0; i < 256; i++)
        c->trap_ctxt[i] = (struct trap_info){ .vector = (uint8_t)i, .cs = space->cs,
                                              .address = space->text + 0x800000 + i * 16 };
    if (d->geometry->width == sizeof(uint64_t)) {
        c->fs_base = salt >> 17;
        c->gs_base_kernel = space->stack + 0x10000;
    } else {
        build_narrow(c, space, v);
    }
}

/* One, two or three GDT frames, by vcpu, so that more than Linux's one page is exercised. */
static int build_gdt(struct st_domain *d, uint32_t v)
{
    vcpu_guest_context_t *c = &d->vcpu[v].context;

    c->gdt_ents = 16 + ST_ENTRIES * (v % 3);
    for (unsigned i = 0; i <= v % 3; i++) {
        uint64_t pfn;
        int rc = st_take_data(d, ST_GDT, &pfn);

        if (rc)
            return rc;
        memset(st_guest_page(d, pfn), (int)(0x40 + v), ST_PAGE_SIZE);
        c->gdt_frames[i] = d->truth[pfn];
    }
    return 0;
}

static void build_ext(struct st_domain *d, uint32_t v)
{
    struct xen_domctl_ext_vcpucontext *e = &d->vcpu[v].ext;
    const struct st_space *space = st_space(d->geometry);

    e->vcpu = v;
    e->size = sizeof(*e);
    e->syscall32_callback_eip = space->text + 0x801000 + v;
    e->sysenter_callback_eip = space->text + 0x802000 + v;
    e->syscall32_callback_cs = e->sysenter_callback_cs = space->cs;
    e->sysenter_disables_events = 1;
    e->vmce.caps = 0x1000000;
}

static void build_xsave(struct st_domain *d, uint32_t v)
{
    struct st_vcpu *vcpu = &d->vcpu[v];

    for (unsigned i = 0; i < ST_MAX_XSAVE; i++)
        vcpu->xsave[i] = (uint8_t)st_hash(d->kernel->config.seed + v, i);
    vcpu->xsave_size = d->kernel->config.xsave;
    vcpu->xfeature_mask = d->kernel->config.xsave ? ST_XFEATURES : 0;
}

static void build_msrs(struct st_domain *d, uint32_t v)
{
    struct st_vcpu *vcpu = &d->vcpu[v];

    vcpu->nr_msrs = d->kernel->config.msrs;
    for (uint32_t i = 0; i < d->kernel->config.msrs; i++)
        vcpu->msrs[i] = (struct xen_domctl_vcpu_msr){ .index = 0xc0011019 + i,
                                                      .value = st_hash(d->kernel->config.seed + v, i) };
}

int st_vcpus_build(struct st_domain *d)
{
    int rc = st_vcpus_alloc(d);

    if (rc)
        return rc;
    for (uint32_t v = 0; v < d->nr_vcpus; v++) {
        d->vcpu[v].online = d->vcpu[v].initialised = !(d->kernel->config.offline_vcpus >> v & 1);
        build_registers(d, v);
        build_ext(d, v);
        build_msrs(d, v);
        build_xsave(d, v);
        rc = build_gdt(d, v);
        if (rc)
            return rc;
    }
    return 0;
}
