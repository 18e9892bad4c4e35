/* The vcpus and emulated devices of a guest that is built: made up, but such that Xen would take them. */
#include "stub/kernel/hvm/guest.h"
#include "stub/kernel/kernel.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/rng.h"
#include "stub/machine/vcpu.h"

#define DIRECT_MAP   0xffff888000000000UL       /* where the guest sees gfn 0 */
#define MOST_MSRS    ST_MAX_MSRS

static void make_segments(struct hvm_hw_cpu *c)
{
    c->cs_sel = 0x10;
    c->ss_sel = c->ds_sel = c->es_sel = 0x18;
    c->tr_sel = 0x40;
    c->cs_limit = c->ss_limit = c->ds_limit = c->es_limit = c->fs_limit = c->gs_limit = ~0U;
    c->tr_limit = 0x206f;
    c->idtr_limit = 0xfff;
    c->gdtr_limit = 0x7f;
    c->cs_arbytes = 0xa9b;
    c->ss_arbytes = c->ds_arbytes = c->es_arbytes = c->fs_arbytes = c->gs_arbytes = 0xc93;
    c->tr_arbytes = 0x8b;
    c->ldtr_arbytes = 0x10082;
}

static void make_control(struct hvm_hw_cpu *c)
{
    c->cr0 = 0x80050033;
    c->cr4 = 0x006f0;
    c->msr_efer = 0xd01;
    c->dr6 = 0xffff0ff0;
    c->dr7 = 0x400;
    c->rflags = 0x246;
    c->flags = XEN_X86_FPU_INITIALISED;
}

/* gs_base leads to the kernel's page, as a per-cpu area does; the numbers' state is in r12 of vcpu 0. */
static void make_cpu(const struct st_domain *d, uint32_t v, struct hvm_hw_cpu *c)
{
    uint64_t salt = st_hash(d->seed, 0x68766d76 + v);

    memset(c, 0, sizeof(*c));
    for (unsigned i = 0; i < sizeof(c->fpu_regs); i++)
        c->fpu_regs[i] = (uint8_t)st_hash(salt, i);
    make_segments(c);
    make_control(c);
    c->rax = salt;
    c->rip = 0xffffffff81001000UL + v * 16;
    c->rsp = DIRECT_MAP + 0x10000 + v * ST_PAGE_SIZE;
    c->cr3 = (uint64_t)(0x100 + v) << ST_PAGE_SHIFT;
    c->gs_base = DIRECT_MAP + (d->kernel->page_pfn << ST_PAGE_SHIFT);
    c->shadow_gs = salt >> 17;
    c->msr_lstar = 0xffffffff81800000UL;
    c->msr_tsc_aux = v;
    c->tsc = salt >> 20;
}

static int put_xsave(struct st_domain *d, uint32_t v)
{
    uint32_t length = (uint32_t)offsetof(struct hvm_hw_cpu_xsave, save_area) + d->kernel->config.xsave;
    uint8_t data[sizeof(struct hvm_hw_cpu_xsave) + ST_MAX_XSAVE] = { 0 };
    struct hvm_hw_cpu_xsave *x = (void *)data;

    for (uint32_t i = 0; i < length; i++)
        data[i] = (uint8_t)st_hash(d->seed + v, i);
    x->xfeature_mask = x->xcr0 = x->xcr0_accum = ST_XFEATURES;
    memset(&x->save_area.xsave_hdr, 0, sizeof(x->save_area.xsave_hdr));
    x->save_area.xsave_hdr.xstate_bv = ST_XFEATURES;
    return st_hvm_put(d, CPU_XSAVE_CODE, v, data, length);
}

static int put_msrs(struct st_domain *d, uint32_t v)
{
    uint64_t room[(sizeof(struct hvm_msr) + MOST_MSRS * sizeof(struct hvm_one_msr)) / sizeof(uint64_t) + 1] = { 0 };
    struct hvm_msr *m = (void *)room;

    m->count = d->kernel->config.msrs;
    for (uint32_t i = 0; i < m->count; i++)
        m->msr[i] = (struct hvm_one_msr){ 0xc0011019 + i, 0, st_hash(d->seed + v, i) };
    return st_hvm_put(d, CPU_MSR_CODE, v, m,
                      (uint32_t)(sizeof(*m) + m->count * sizeof(struct hvm_one_msr)));
}

/* Any bytes: Xen keeps them and looks into none of them here. */
static int put_any(struct st_domain *d, uint32_t code, uint32_t instance)
{
    uint8_t data[2048];
    uint32_t length = st_hvm_kinds[code].length;

    for (uint32_t i = 0; i < length; i++)
        data[i] = (uint8_t)st_hash(d->seed ^ (uint64_t)code << 32 ^ instance, i);
    return st_hvm_put(d, code, instance, data, length);
}

static int put_cpu(struct st_domain *d, uint32_t v)
{
    struct hvm_hw_cpu cpu;

    if (d->kernel->config.offline_vcpus >> v & 1)
        return 0;
    make_cpu(d, v, &cpu);
    d->vcpu[v].online = d->vcpu[v].initialised = true;
    return st_hvm_put(d, HVM_SAVE_CODE(CPU), v, &cpu, sizeof(cpu));
}

static int put_one(struct st_domain *d, uint32_t code, uint32_t instance)
{
    bool viridian = code == HVM_SAVE_CODE(VIRIDIAN_DOMAIN) || code == HVM_SAVE_CODE(VIRIDIAN_VCPU);

    if (viridian && !d->kernel->hvm.viridian)
        return 0;
    switch (code) {
    case HVM_SAVE_CODE(CPU):
        return put_cpu(d, instance);
    case CPU_XSAVE_CODE:
        return d->kernel->config.xsave ? put_xsave(d, instance) : 0;
    case CPU_MSR_CODE:
        return d->kernel->config.msrs ? put_msrs(d, instance) : 0;
    default:
        return put_any(d, code, instance);
    }
}

int st_hvm_state_build(struct st_domain *d)
{
    int rc = 0;

    for (uint32_t code = 0; code <= HVM_SAVE_CODE_MAX; code++) {
        const struct st_hvm_kind *kind = &st_hvm_kinds[code];
        bool present = kind->name && (d->hv->device_model || !kind->emulated);

        for (uint32_t i = 0; !rc && present && i < st_hvm_instances(d, code); i++)
            rc = put_one(d, code, i);
    }
    return rc;
}
