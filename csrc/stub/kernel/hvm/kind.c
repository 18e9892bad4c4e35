/* HVM and PVH guests as a kind. */
#include "stub/kernel/hvm/guest.h"
#include "stub/kernel/kernel.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/rng.h"
#include "stub/machine/store.h"
#include "stub/machine/vcpu.h"

#include <stdio.h>

#define CALLBACK_VECTOR ((uint64_t)HVM_PARAM_CALLBACK_TYPE_VECTOR << 56 | 0xf3)

/* The state of the random numbers goes where the kernel finds it again, wherever it is interrupted. */
static void keep_numbers(struct st_domain *d)
{
    struct hvm_hw_cpu *c = st_hvm_cpu(d, 0);

    if (c)
        c->r12 = d->kernel->rng.state;
}

static void change_registers(struct st_domain *d)
{
    for (uint32_t v = 0; v < d->nr_vcpus; v++) {
        struct hvm_hw_cpu *c = st_hvm_cpu(d, v);

        if (!c)
            continue;
        c->rax = st_random(&d->kernel->rng);
        c->rdx = st_random(&d->kernel->rng);
        c->rip += 2;
        c->tsc += 1000;
    }
    keep_numbers(d);
}

static void before_suspend(struct st_domain *d)
{
    d->kernel->prepared = true;
    st_hvm_remember(d);
    if (st_hvm_cpu(d, 0))
        st_hvm_cpu(d, 0)->rax = 0;      /* what the suspend call returns, if it is not cancelled */
}

/* A PV driver says where it wants its events, and that it can suspend. */
static void after_resume(struct st_domain *d)
{
    char path[64];

    d->kernel->prepared = false;
    st_hvm_remember(d);
    if (!d->kernel->hvm.pv_drivers)
        return;
    d->hv->params[HVM_PARAM_CALLBACK_IRQ] = CALLBACK_VECTOR;
    snprintf(path, sizeof(path), "/local/domain/%u/control/feature-suspend", d->id);
    st_store_set(path, "1");
}

const struct st_guest_kind st_hvm_guest_kind = {
    .start = st_hvm_start, .registers = change_registers, .update = st_hvm_balloon_some, .worked = keep_numbers,
    .before_suspend = before_suspend, .after_resume = after_resume, .devices = st_hvm_devices,
    .balloon_out = st_hvm_balloon_out, .balloon_in = st_hvm_balloon_in,
};
