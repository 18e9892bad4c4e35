/* The answer to control/shutdown. */
#include "stub/kernel/kernel.h"
#include "stub/kernel/run.h"
#include "stub/kernel/suspend.h"
#include "stub/machine/domain.h"
#include "stub/machine/store.h"

#include <stdio.h>

static void shutdown_path(const struct st_domain *d, char *path, size_t size)
{
    snprintf(path, size, "/local/domain/%u/control/shutdown", d->id);
}

static bool asked_to(const struct st_domain *d, const char *what)
{
    char path[64];
    const char *value;

    shutdown_path(d, path, sizeof(path));
    value = st_store_get(path);
    return value && strcmp(value, what) == 0;
}

static void acknowledge(struct st_domain *d)
{
    char path[64];

    shutdown_path(d, path, sizeof(path));
    if (st_store_set(path, "") == 0) {
        d->kernel->step = ST_STEP_ACKED;
        d->kernel->polls = 0;
    }
}

static void go_down(struct st_domain *d)
{
    d->kernel->step = ST_STEP_NONE;
    switch (d->kernel->config.suspend) {
    case STUB_SUSPEND_CRASH:
        st_domain_shut_down(d, SHUTDOWN_crash);
        break;
    case STUB_SUSPEND_POWEROFF:
        st_domain_shut_down(d, SHUTDOWN_poweroff);
        break;
    case STUB_SUSPEND_OK:
        st_guest_before_suspend(d);
        st_domain_shut_down(d, SHUTDOWN_suspend);
        break;
    case STUB_SUSPEND_IGNORE:
    case STUB_SUSPEND_ACK_ONLY:
        break;
    }
}

/* One look at control/shutdown; a request that is withdrawn before it is acknowledged is dropped. */
void st_guest_poll(struct st_domain *d)
{
    if (d->kernel->config.suspend == STUB_SUSPEND_IGNORE)
        return;
    if (d->kernel->step == ST_STEP_ACKED) {
        if (++d->kernel->polls > d->kernel->config.suspend_polls)
            go_down(d);
        return;
    }
    if (!asked_to(d, "suspend")) {
        d->kernel->step = ST_STEP_NONE;
        return;
    }
    if (d->kernel->step == ST_STEP_NONE) {
        d->kernel->step = ST_STEP_ASKED;
        d->kernel->polls = 0;
    }
    if (++d->kernel->polls > d->kernel->config.ack_polls)
        acknowledge(d);
}
