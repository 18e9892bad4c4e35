/* The params of an HVM or PVH domain, by Xen's rules for a domain in control. */
#include "stub/machine/entry.h"
#include "stub/machine/hvm/hvm.h"

#define TSS_BYTES      104UL            /* of a 32-bit TSS */
#define TSS_MOST       (TSS_BYTES + 0x100 / 8 + 0x10000 / 8 + 1)
#define TSS_OLD_BYTES  128UL            /* what the param without a size stands for */
#define TSS_UPDATED    (1UL << 63)      /* Xen's own note */
#define MOST_IOREQ_SERVER_PAGES 64UL

static bool is_deprecated(uint32_t index)
{
    switch (index) {
    case HVM_PARAM_PAE_ENABLED:
    case HVM_PARAM_DM_DOMAIN:
    case HVM_PARAM_MEMORY_EVENT_CR0:
    case HVM_PARAM_MEMORY_EVENT_CR3:
    case HVM_PARAM_MEMORY_EVENT_CR4:
    case HVM_PARAM_MEMORY_EVENT_INT3:
    case HVM_PARAM_NESTEDHVM:
    case HVM_PARAM_MEMORY_EVENT_SINGLE_STEP:
    case HVM_PARAM_BUFIOREQ_EVTCHN:
    case HVM_PARAM_MEMORY_EVENT_MSR:
        return true;
    default:
        return false;
    }
}

static bool is_set_once(uint32_t index)
{
    return index == HVM_PARAM_VIRIDIAN || index == HVM_PARAM_IOREQ_PFN || index == HVM_PARAM_BUFIOREQ_PFN
           || index == HVM_PARAM_IOREQ_SERVER_PFN || index == HVM_PARAM_NR_IOREQ_SERVER_PAGES
           || index == HVM_PARAM_MCA_CAP;
}

static int may_set(const struct st_domain *d, uint32_t index, uint64_t value)
{
    uint64_t old;

    if (index >= HVM_NR_PARAMS || is_deprecated(index))
        return -EINVAL;
    if (index == HVM_PARAM_ALTP2M)
        return -EEXIST;
    old = d->hv->params[index];
    return is_set_once(index) && old && old != value ? -EEXIST : 0;
}

static int set_tss(struct st_domain *d, uint64_t value)
{
    if (value >> 32 < TSS_BYTES)
        return -EINVAL;
    if (value >> 32 > TSS_MOST)
        value = (uint32_t)value | TSS_MOST << 32;
    d->hv->params[HVM_PARAM_VM86_TSS_SIZED] = value | TSS_UPDATED;
    return 0;
}

static int set_old_tss(struct st_domain *d, uint64_t value)
{
    if (value >> 32)
        return -EINVAL;
    d->hv->params[HVM_PARAM_VM86_TSS_SIZED] = value ? value | TSS_OLD_BYTES << 32 | TSS_UPDATED : 0;
    return 0;
}

static int set_acpi_ports(struct st_domain *d, uint64_t version)
{
    if (!d->hv->device_model)
        return -ENODEV;
    if (version > 1)
        return -EINVAL;
    d->hv->params[HVM_PARAM_ACPI_IOPORTS_LOCATION] = version;
    return 0;
}

static int set_sleep(struct st_domain *d, uint64_t state)
{
    if (state && state != 3)
        return -EINVAL;
    d->hv->s3 = state == 3;
    return 0;
}

static int set_fip_width(struct st_domain *d, uint64_t width)
{
    if (width && width != 4 && width != 8)
        return -EINVAL;
    d->hv->x87_fip_width = width;
    return 0;
}

/* Whether a value that is only kept is one that Xen would keep. */
static bool is_value(uint32_t index, uint64_t value)
{
    switch (index) {
    case HVM_PARAM_TIMER_MODE:
        return value <= HVMPTM_one_missed_tick_pending;
    case HVM_PARAM_VIRIDIAN:
        return !(value & ~(uint64_t)HVMPV_feature_mask) && value & HVMPV_base_freq;
    case HVM_PARAM_TRIPLE_FAULT_REASON:
        return value <= SHUTDOWN_MAX;
    case HVM_PARAM_NR_IOREQ_SERVER_PAGES:
        return value && value <= MOST_IOREQ_SERVER_PAGES;
    case HVM_PARAM_MCA_CAP:
        return !(value & ~XEN_HVM_MCA_CAP_MASK);
    default:
        return true;
    }
}

int st_hvm_param_set(struct st_domain *d, uint32_t index, uint64_t value)
{
    int rc = may_set(d, index, value);

    if (rc)
        return rc;
    switch (index) {
    case HVM_PARAM_ACPI_S_STATE:
        return set_sleep(d, value);
    case HVM_PARAM_ACPI_IOPORTS_LOCATION:
        return set_acpi_ports(d, value);
    case HVM_PARAM_X87_FIP_WIDTH:
        return set_fip_width(d, value);
    case HVM_PARAM_VM86_TSS:
        return set_old_tss(d, value);
    case HVM_PARAM_VM86_TSS_SIZED:
        return set_tss(d, value);
    default:
        if (!is_value(index, value))
            return -EINVAL;
        d->hv->params[index] = value;
        return 0;
    }
}

int st_hvm_param_get(const struct st_domain *d, uint32_t index, uint64_t *value)
{
    if (index >= HVM_NR_PARAMS || is_deprecated(index))
        return -EINVAL;
    switch (index) {
    case HVM_PARAM_ACPI_S_STATE:
        *value = d->hv->s3 ? 3 : 0;
        return 0;
    case HVM_PARAM_VM86_TSS:
        *value = (uint32_t)d->hv->params[HVM_PARAM_VM86_TSS_SIZED];
        return 0;
    case HVM_PARAM_VM86_TSS_SIZED:
        *value = d->hv->params[index] & ~TSS_UPDATED;
        return 0;
    case HVM_PARAM_X87_FIP_WIDTH:
        *value = d->hv->x87_fip_width;
        return 0;
    default:
        *value = d->hv->params[index];
        return 0;
    }
}

/* ---- libxenctrl ---- */

/* Any domain may be asked for, domain 0, too: it is none of these. */
static struct st_domain *hvm_domain(uint32_t domid, int *rc)
{
    struct st_domain *d = st_domain_get(domid, rc);

    if (d && !d->hv)
        *rc = -EINVAL;
    return d && d->hv ? d : NULL;
}

int xc_hvm_param_set(xc_interface *handle, uint32_t dom, uint32_t param, uint64_t value)
{
    struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_hvm_param_set, handle);

    if (rc)
        return (int)st_refused(ST_FN_xc_hvm_param_set, handle, rc);
    d = hvm_domain(dom, &rc);
    if (d)
        rc = st_hvm_param_set(d, param, value);
    return (int)st_end(ST_FN_xc_hvm_param_set, handle, rc);
}

int xc_hvm_param_get(xc_interface *handle, uint32_t dom, uint32_t param, uint64_t *value)
{
    const struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_hvm_param_get, handle);

    if (rc)
        return (int)st_refused(ST_FN_xc_hvm_param_get, handle, rc);
    d = hvm_domain(dom, &rc);
    if (d)
        rc = st_hvm_param_get(d, param, value);
    return (int)st_end(ST_FN_xc_hvm_param_get, handle, rc);
}
