/* What Xen keeps of vcpus and emulated devices: entries by kind and instance, and how they are handed out. */
#include "stub/machine/entry.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/vcpu.h"

#define DESCRIPTOR sizeof(struct hvm_save_descriptor)
#define CPUID_EAX  0x000906eaU          /* what processor this machine has */

#define FIXED(code, instances, emulated) \
    [HVM_SAVE_CODE(code)] = { #code, HVM_SAVE_LENGTH(code), false, emulated, instances }
const struct st_hvm_kind st_hvm_kinds[HVM_SAVE_CODE_MAX + 1] = {
    FIXED(CPU, ST_PER_VCPU, false), FIXED(PIC, ST_PAIR, true), FIXED(IOAPIC, ST_ONE, true),
    FIXED(LAPIC, ST_PER_VCPU, false), FIXED(LAPIC_REGS, ST_PER_VCPU, false), FIXED(PCI_IRQ, ST_ONE, false),
    FIXED(ISA_IRQ, ST_ONE, false), FIXED(PCI_LINK, ST_ONE, false), FIXED(PIT, ST_ONE, true),
    FIXED(RTC, ST_ONE, true), FIXED(HPET, ST_ONE, true), FIXED(PMTIMER, ST_ONE, true),
    FIXED(MTRR, ST_PER_VCPU, false), FIXED(VIRIDIAN_DOMAIN, ST_ONE, false),
    FIXED(VIRIDIAN_VCPU, ST_PER_VCPU, false), FIXED(VMCE_VCPU, ST_PER_VCPU, false),
    FIXED(TSC_ADJUST, ST_PER_VCPU, false),
    [CPU_XSAVE_CODE] = { "CPU_XSAVE", sizeof(struct hvm_hw_cpu_xsave), true, false, ST_PER_VCPU },
    [CPU_MSR_CODE] = { "CPU_MSR", sizeof(struct hvm_msr) + sizeof(struct hvm_one_msr), true, false, ST_PER_VCPU },
};

uint32_t st_hvm_instances(const struct st_domain *d, uint32_t code)
{
    switch (st_hvm_kinds[code].instances) {
    case ST_PER_VCPU:
        return d->nr_vcpus;
    case ST_PAIR:
        return 2;
    default:
        return 1;
    }
}

struct st_hvm_entry *st_hvm_find(const struct st_domain *d, uint32_t code, uint32_t instance)
{
    for (uint32_t i = 0; i < d->hv->nr_entries; i++)
        if (d->hv->entries[i].code == code && d->hv->entries[i].instance == instance)
            return &d->hv->entries[i];
    return NULL;
}

static struct st_hvm_entry *add(struct st_domain *d, uint32_t code, uint32_t instance)
{
    struct st_hvm *h = d->hv;
    struct st_hvm_entry *grown = realloc(h->entries, (h->nr_entries + 1UL) * sizeof(*grown));

    if (!grown)
        return NULL;
    h->entries = grown;
    grown[h->nr_entries] = (struct st_hvm_entry){ (uint16_t)code, (uint16_t)instance, 0, NULL };
    return &grown[h->nr_entries++];
}

int st_hvm_put(struct st_domain *d, uint32_t code, uint32_t instance, const void *data, uint32_t length)
{
    struct st_hvm_entry *e = st_hvm_find(d, code, instance);
    uint8_t *copy = calloc(1, length ? length : 1);

    if (!copy)
        return -ENOMEM;
    if (!e)
        e = add(d, code, instance);
    if (!e) {
        free(copy);
        return -ENOMEM;
    }
    if (data)
        memcpy(copy, data, length);
    free(e->data);
    e->data = copy;
    e->length = length;
    return 0;
}

void st_hvm_drop_context(struct st_domain *d)
{
    while (d->hv->nr_entries)
        free(d->hv->entries[--d->hv->nr_entries].data);
}

struct hvm_hw_cpu *st_hvm_cpu(const struct st_domain *d, uint32_t vcpu)
{
    const struct st_hvm_entry *e = st_hvm_find(d, HVM_SAVE_CODE(CPU), vcpu);

    return e ? (struct hvm_hw_cpu *)(void *)e->data : NULL;
}

/* ---- libxenctrl ---- */

/* As Xen has it the size that is enough is that of all there could be. */
static uint32_t enough(const struct st_domain *d)
{
    uint64_t bytes = 2 * DESCRIPTOR + HVM_SAVE_LENGTH(HEADER);

    for (uint32_t code = 0; code <= HVM_SAVE_CODE_MAX; code++) {
        uint64_t each = DESCRIPTOR + st_hvm_kinds[code].length;

        if (st_hvm_kinds[code].varies)
            each += code == CPU_XSAVE_CODE ? ST_MAX_XSAVE : 16 * sizeof(struct hvm_one_msr);
        if (st_hvm_kinds[code].name)
            bytes += each * st_hvm_instances(d, code);
    }
    return (uint32_t)bytes;
}

static uint8_t *put(uint8_t *at, uint32_t code, uint32_t instance, const void *data, uint32_t length)
{
    const struct hvm_save_descriptor desc = { (uint16_t)code, (uint16_t)instance, length };

    memcpy(at, &desc, DESCRIPTOR);
    if (length)
        memcpy(at + DESCRIPTOR, data, length);
    return at + DESCRIPTOR + length;
}

/* By kind, then by instance; of a vcpu that is down there are no registers. */
static uint32_t write_context(const struct st_domain *d, uint8_t *buffer)
{
    const struct hvm_save_header header = { HVM_FILE_MAGIC, HVM_FILE_VERSION, ~0UL, CPUID_EAX, d->tsc.khz };
    uint8_t *at = put(buffer, HVM_SAVE_CODE(HEADER), 0, &header, sizeof(header));

    for (uint32_t code = 0; code <= HVM_SAVE_CODE_MAX; code++) {
        for (uint32_t i = 0; st_hvm_kinds[code].name && i < st_hvm_instances(d, code); i++) {
            const struct st_hvm_entry *e = st_hvm_find(d, code, i);

            if (e)
                at = put(at, code, i, e->data, e->length);
        }
    }
    at = put(at, HVM_SAVE_CODE(END), 0, NULL, 0);
    return (uint32_t)(at - buffer);
}

static int get_context(uint32_t domid, uint8_t *buffer, uint32_t size)
{
    int rc = 0;
    const struct st_domain *d = st_domain_get(domid, &rc);

    if (!d)
        return rc;
    if (!d->hv)
        return -EINVAL;
    if (!buffer)
        return (int)enough(d);
    if (size < enough(d))
        return -ENOSPC;
    return d->dying ? -EINVAL : (int)write_context(d, buffer);
}

int xc_domain_hvm_getcontext(xc_interface *xch, uint32_t domid, uint8_t *ctxt_buf, uint32_t size)
{
    int rc = st_begin_xc(ST_FN_xc_domain_hvm_getcontext, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_hvm_getcontext, xch, rc);
    return (int)st_end(ST_FN_xc_domain_hvm_getcontext, xch, get_context(domid, ctxt_buf, size));
}

static int set_context(uint32_t domid, const uint8_t *data, uint32_t size)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);

    if (!d)
        return rc;
    if (!d->hv || d->dying)
        return -EINVAL;
    return st_hvm_load(d, data, size);
}

int xc_domain_hvm_setcontext(xc_interface *xch, uint32_t domid, uint8_t *hvm_ctxt, uint32_t size)
{
    int rc = st_begin_xc(ST_FN_xc_domain_hvm_setcontext, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_hvm_setcontext, xch, rc);
    return (int)st_end(ST_FN_xc_domain_hvm_setcontext, xch, set_context(domid, hvm_ctxt, size));
}
