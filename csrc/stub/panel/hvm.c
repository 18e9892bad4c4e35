/* What belongs to HVM and PVH guests only: params, populate on demand, the device model. */
#include "stub/kernel/kernel.h"
#include "stub/machine/domain.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/panel/guest.h"
#include "stub/panel/stub_api.h"

static struct st_domain *hvm_guest(uint32_t domid, int *rc)
{
    struct st_domain *d = st_panel_guest(domid, rc);

    if (!d || d->hv)
        return d;
    *rc = st_error(EINVAL, "guest %u is a PV guest", domid);
    return NULL;
}

int stub_get_param(uint32_t domid, uint32_t index, uint64_t *value)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = hvm_guest(domid, &rc);
    if (d)
        rc = st_hvm_param_get(d, index, value);
    if (d && rc)
        st_error(-rc, "there is no param %u", index);
    st_unlock();
    return rc;
}

/* Of ALTP2M, too, which nobody may set. */
static int set_param(struct st_domain *d, uint32_t index, uint64_t value)
{
    if (index >= HVM_NR_PARAMS)
        return st_error(EINVAL, "there is no param %u", index);
    if (index == HVM_PARAM_ACPI_S_STATE)
        d->hv->s3 = value != 0;
    else if (index == HVM_PARAM_X87_FIP_WIDTH)
        d->hv->x87_fip_width = value;
    else
        d->hv->params[index] = value;
    return 0;
}

int stub_set_param(uint32_t domid, uint32_t index, uint64_t value)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = hvm_guest(domid, &rc);
    if (d)
        rc = set_param(d, index, value);
    st_unlock();
    return rc;
}

static struct st_domain *with_device_model(uint32_t domid, int *rc)
{
    struct st_domain *d = hvm_guest(domid, rc);

    if (!d || d->hv->device_model)
        return d;
    *rc = st_error(ENOENT, "guest %u has no device model", domid);
    return NULL;
}

int stub_devmodel_logdirty(uint32_t domid, bool on)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = with_device_model(domid, &rc);
    if (d && !on && !d->hv->dm_logdirty && !d->shutdown) { /* an assertion of QEMU's fails, from 6.2 on */
        d->hv->device_model = false;
        rc = st_error(EPIPE, "guest %u's device model has ended: it was told to stop what it had not begun", domid);
    } else if (d) {
        d->hv->dm_logdirty = on;
    }
    st_unlock();
    return rc;
}

int stub_devmodel_run(uint32_t domid, bool on)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = with_device_model(domid, &rc);
    if (d)
        d->kernel->dm_stopped = !on;
    st_unlock();
    return rc;
}

int stub_devmodel_tick(uint32_t domid, uint32_t times)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = with_device_model(domid, &rc);
    for (uint32_t i = 0; d && i < times; i++)
        d->kernel->kind->devices(d);
    st_unlock();
    return rc;
}
