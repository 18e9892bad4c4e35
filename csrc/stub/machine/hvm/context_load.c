/* A context as it is given: everything is checked before anything is taken. */
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/vcpu.h"

#define DESCRIPTOR sizeof(struct hvm_save_descriptor)

#define CR0_PE (1UL << 0)
#define CR0_ET (1UL << 4)
#define CR0_PG (1UL << 31)
#define CR0_GUESTS 0xe005003fUL
#define CR4_GUESTS 0x00f71fffUL         /* all up to PKE, without VMXE and SMXE */
#define EFER_GUESTS 0xd01UL             /* SCE, LME, LMA, NXE */
#define EFER_LME (1UL << 8)
#define EFER_LMA (1UL << 10)
#define MAX_ADDRESS_BITS 46

static bool efer_is_good(const struct hvm_hw_cpu *c)
{
    bool lme = c->msr_efer & EFER_LME, lma = c->msr_efer & EFER_LMA, paging = c->cr0 & CR0_PG;

    return !(c->msr_efer & ~EFER_GUESTS) && (!lma || lme) && (!lma || paging) && (!(lme && paging) || lma);
}

static int check_cpu(const uint8_t *data)
{
    struct hvm_hw_cpu c;

    memcpy(&c, data, sizeof(c));
    if (c.cr0 & ~CR0_GUESTS || !(c.cr0 & CR0_ET) || (c.cr0 & (CR0_PE | CR0_PG)) == CR0_PG)
        return st_error(EINVAL, "no vcpu of a guest has %#lx in cr0", (unsigned long)c.cr0);
    if (c.cr4 & ~CR4_GUESTS)
        return st_error(EINVAL, "no vcpu of a guest has %#lx in cr4", (unsigned long)c.cr4);
    if (!efer_is_good(&c))
        return st_error(EINVAL, "no vcpu of a guest has %#lx in EFER", (unsigned long)c.msr_efer);
    if (c.cr3 >> MAX_ADDRESS_BITS || c.dr6 >> 32 || c.dr7 >> 32 || c.msr_tsc_aux >> 32)
        return st_error(EINVAL, "cr3, dr6, dr7 or TSC_AUX is too large");
    if (c.flags & ~XEN_X86_FPU_INITIALISED || c.pad0)
        return st_error(EINVAL, "unknown flags of a vcpu");
    return 0;
}

static int check_msrs(const uint8_t *data, uint32_t length)
{
    struct hvm_one_msr one;
    uint32_t count;

    memcpy(&count, data, sizeof(count));
    if ((length - sizeof(struct hvm_msr)) / sizeof(one) != count
        || (length - sizeof(struct hvm_msr)) % sizeof(one))
        return st_error(EOPNOTSUPP, "%u bytes for %u MSRs", length, count);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(&one, data + sizeof(struct hvm_msr) + i * sizeof(one), sizeof(one));
        if (one._rsvd)
            return st_error(EOPNOTSUPP, "MSR %#x with reserved bits", one.index);
    }
    return 0;
}

static int check_data(uint32_t code, const uint8_t *data, uint32_t length)
{
    struct hvm_hw_cpu_xsave xsave;

    switch (code) {
    case HVM_SAVE_CODE(CPU):
        return check_cpu(data);
    case CPU_MSR_CODE:
        return check_msrs(data, length);
    case CPU_XSAVE_CODE:
        memcpy(&xsave, data, sizeof(xsave));
        if (length > sizeof(xsave) + ST_MAX_XSAVE || xsave.save_area.xsave_hdr.xcomp_bv)
            return st_error(EOPNOTSUPP, "XSAVE state of %u bytes, or compressed", length);
        return 0;
    default:
        return 0;
    }
}

static int check_entry(const struct st_domain *d, const struct hvm_save_descriptor *desc, const uint8_t *data)
{
    const struct st_hvm_kind *kind = desc->typecode <= HVM_SAVE_CODE_MAX ? &st_hvm_kinds[desc->typecode] : NULL;

    if (!kind || !kind->name)
        return st_error(EINVAL, "there is no entry of type %u", desc->typecode);
    if (kind->emulated && !d->hv->device_model)
        return st_error(ENODEV, "%s: the domain has none", kind->name);
    if (kind->instances != ST_ONE && desc->instance >= st_hvm_instances(d, desc->typecode))
        return st_error(kind->instances == ST_PAIR ? ENODEV : EINVAL, "%s: there is no instance %u", kind->name,
                        desc->instance);
    if (kind->varies ? desc->length < kind->length : desc->length != kind->length)
        return st_error(EINVAL, "%s of %u bytes, not %u", kind->name, desc->length, kind->length);
    return check_data(desc->typecode, data, desc->length);
}

static int check_header(const uint8_t *data, const struct hvm_save_descriptor *desc)
{
    struct hvm_save_header header;

    if (desc->typecode != HVM_SAVE_CODE(HEADER) || desc->length != sizeof(header))
        return st_error(ENODATA, "the context does not begin with a header");
    memcpy(&header, data, sizeof(header));
    if (header.magic != HVM_FILE_MAGIC || header.version != HVM_FILE_VERSION)
        return st_error(EINVAL, "magic %#x, version %u", header.magic, header.version);
    return 0;
}

/* One walk over all entries up to the end's; take: with what they say. */
static int walk(struct st_domain *d, const uint8_t *data, uint32_t size, bool take)
{
    struct hvm_save_descriptor desc;
    uint32_t at = 0;
    int rc = 0;

    for (bool first = true; !rc; first = false) {
        const uint8_t *body = data + at + DESCRIPTOR;

        if (size - at < DESCRIPTOR)
            return st_error(ENODATA, "the context has no end");
        memcpy(&desc, data + at, DESCRIPTOR);
        if (!first && desc.typecode == HVM_SAVE_CODE(END))
            return 0;
        if (desc.length > size - at - DESCRIPTOR)
            return st_error(ENODATA, "an entry of type %u reaches beyond the end", desc.typecode);
        if (!take)
            rc = first ? check_header(body, &desc) : check_entry(d, &desc, body);
        else if (!first)
            rc = st_hvm_put(d, desc.typecode,
                            st_hvm_kinds[desc.typecode].instances == ST_ONE ? 0 : desc.instance, body, desc.length);
        at += (uint32_t)DESCRIPTOR + desc.length;
    }
    return rc;
}

/* vcpus without registers in the context are down afterwards; what else is not in it stays as it is. */
static void bring_down(struct st_domain *d)
{
    struct st_hvm *h = d->hv;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < h->nr_entries; i++) {
        if (h->entries[i].code == HVM_SAVE_CODE(CPU))
            free(h->entries[i].data);
        else
            h->entries[kept++] = h->entries[i];
    }
    h->nr_entries = kept;
}

int st_hvm_load(struct st_domain *d, const uint8_t *data, uint32_t size)
{
    struct hvm_save_header header;
    int rc = walk(d, data, size, false);

    if (rc)
        return rc;
    bring_down(d);
    memcpy(&header, data + DESCRIPTOR, sizeof(header));
    if (header.gtsc_khz)
        d->tsc.khz = header.gtsc_khz;
    rc = walk(d, data, size, true);
    for (uint32_t v = 0; v < d->nr_vcpus; v++)
        d->vcpu[v].online = d->vcpu[v].initialised = st_hvm_cpu(d, v) != NULL;
    return rc;
}
