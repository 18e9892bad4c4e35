/* Fields of shared_info, of vcpus and of what Xen tells, by name. */
#include "stub/machine/domain.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/shared_info.h"
#include "stub/machine/vcpu.h"
#include "stub/panel/guest.h"
#include "stub/panel/stub_api.h"

struct field {
    const char *name;
    size_t offset, size;
};

static const char *const arch_fields[] = {
    [ST_MAX_PFN] = "max_pfn", [ST_FRAME_LIST_LIST] = "pfn_to_mfn_frame_list_list", [ST_NMI_REASON] = "nmi_reason",
    [ST_P2M_CR3] = "p2m_cr3", [ST_P2M_VADDR] = "p2m_vaddr", [ST_P2M_GENERATION] = "p2m_generation",
};

/* Where a field of shared_info lies in the layout of the guest's width. */
static int find_shared_field(const struct st_geometry *g, const char *name, struct field *found)
{
    for (unsigned i = 0; i < sizeof(arch_fields) / sizeof(arch_fields[0]); i++)
        if (strcmp(arch_fields[i], name) == 0) {
            *found = (struct field){ name, g->shared.arch + i * g->width, g->width };
            return 0;
        }
    if (strcmp(name, "evtchn_pending") == 0)
        *found = (struct field){ name, g->shared.pending, g->width };
    else if (strcmp(name, "wc_sec") == 0)
        *found = (struct field){ name, g->shared.wc_sec, sizeof(uint32_t) };
    else
        return st_error(ENOENT, "there is no field %s", name);
    return 0;
}

#define CONTEXT_FIELD(name, member) \
    { name, offsetof(struct st_vcpu, context.member), sizeof(((struct st_vcpu *)0)->context.member) }
#define VCPU_FIELD(member) \
    { #member, offsetof(struct st_vcpu, member), sizeof(((struct st_vcpu *)0)->member) }
static const struct field vcpu_fields[] = {
    CONTEXT_FIELD("flags", flags), CONTEXT_FIELD("rax", user_regs.rax), CONTEXT_FIELD("rdx", user_regs.rdx),
    CONTEXT_FIELD("rip", user_regs.rip), CONTEXT_FIELD("cr1", ctrlreg[1]), CONTEXT_FIELD("cr3", ctrlreg[3]),
    CONTEXT_FIELD("gdt_ents", gdt_ents), CONTEXT_FIELD("gdt_frame0", gdt_frames[0]),
    CONTEXT_FIELD("gdt_frame1", gdt_frames[1]), CONTEXT_FIELD("gdt_frame2", gdt_frames[2]),
    { "ext_size", offsetof(struct st_vcpu, ext.size), sizeof(uint32_t) },
    VCPU_FIELD(online), VCPU_FIELD(xfeature_mask), VCPU_FIELD(xsave_size), VCPU_FIELD(nr_msrs),
    { NULL, 0, 0 },
};

static const struct field *find_field(const struct field *f, const char *name)
{
    while (f->name && strcmp(f->name, name) != 0)
        f++;
    if (f->name)
        return f;
    st_error(ENOENT, "there is no field %s", name);
    return NULL;
}

static uint64_t get_field(const struct field *f, const void *object)
{
    uint64_t value = 0;

    memcpy(&value, (const uint8_t *)object + f->offset, f->size);
    return value;
}

static void set_field(const struct field *f, void *object, uint64_t value)
{
    uint8_t *at = (uint8_t *)object + f->offset;

    if (f->size == sizeof(uint64_t))
        __atomic_store_n((uint64_t *)(void *)at, value, __ATOMIC_SEQ_CST);
    else
        memcpy(at, &value, f->size);
}

int stub_get_shared_info(uint32_t domid, const char *field, uint64_t *value)
{
    ST_LOCKED;
    struct field f;
    int rc;
    const struct st_domain *d = st_panel_guest(domid, &rc);

    rc = d ? find_shared_field(d->geometry, field, &f) : rc;
    if (!rc)
        *value = get_field(&f, st_shared_info(d));
    return rc;
}

int stub_set_shared_info(uint32_t domid, const char *field, uint64_t value)
{
    ST_LOCKED;
    struct field f;
    int rc;
    struct st_domain *d = st_panel_guest(domid, &rc);

    rc = d ? find_shared_field(d->geometry, field, &f) : rc;
    if (!rc)
        set_field(&f, st_shared_info(d), value);
    return rc;
}

static struct st_vcpu *vcpu_of(struct st_domain *d, uint32_t vcpu, int *rc)
{
    if (d && vcpu < d->nr_vcpus)
        return &d->vcpu[vcpu];
    if (d)
        *rc = st_error(ESRCH, "guest %u has no vcpu %u", d->id, vcpu);
    return NULL;
}

int stub_get_vcpu(uint32_t domid, uint32_t vcpu, const char *field, uint64_t *value)
{
    const struct field *f = find_field(vcpu_fields, field);
    const struct st_vcpu *v;
    int rc;

    if (!f)
        return -ENOENT;
    st_lock();
    v = vcpu_of(st_panel_guest(domid, &rc), vcpu, &rc);
    if (v)
        *value = get_field(f, v);
    st_unlock();
    return rc;
}

static int check_vcpu_value(const struct field *f, uint64_t value)
{
    if (strcmp(f->name, "xsave_size") == 0 && value > ST_MAX_XSAVE)
        return st_error(EINVAL, "at most %d bytes of XSAVE state", ST_MAX_XSAVE);
    if (strcmp(f->name, "nr_msrs") == 0 && value > ST_MAX_MSRS)
        return st_error(EINVAL, "at most %d MSRs", ST_MAX_MSRS);
    if (strcmp(f->name, "online") == 0 && value > 1)
        return st_error(EINVAL, "online is 0 or 1");
    return 0;
}

int stub_set_vcpu(uint32_t domid, uint32_t vcpu, const char *field, uint64_t value)
{
    const struct field *f = find_field(vcpu_fields, field);
    struct st_vcpu *v;
    int rc = f ? check_vcpu_value(f, value) : -ENOENT;

    if (rc)
        return rc;
    st_lock();
    v = vcpu_of(st_panel_guest(domid, &rc), vcpu, &rc);
    if (v)
        set_field(f, v, value);
    st_unlock();
    return rc;
}

static int set_domain_field(struct st_domain *d, const char *field, uint64_t value)
{
    if (strcmp(field, "max_pages") == 0)
        d->max_pages = value;
    else if (strcmp(field, "tot_pages") == 0)
        d->tot_pages_bias = (int64_t)(value - st_domain_pages(d));
    else if (strcmp(field, "dying") == 0)
        d->dying = value != 0;
    else if (strcmp(field, "hvm") == 0)
        d->hvm = value != 0;
    else if (strcmp(field, "assigned_devices") == 0 && d->hv)
        d->hv->assigned = value != 0;
    else if (strcmp(field, "scheduler") == 0)
        d->scheduler = (uint32_t)value;
    else if (strcmp(field, "width") == 0)
        d->width = (unsigned)value;
    else
        return st_error(ENOENT, "there is no field %s", field);
    return 0;
}

int stub_set_domain(uint32_t domid, const char *field, uint64_t value)
{
    ST_LOCKED;
    int rc;
    struct st_domain *d = st_panel_guest(domid, &rc);

    return d ? set_domain_field(d, field, value) : rc;
}
