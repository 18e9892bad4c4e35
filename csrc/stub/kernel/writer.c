/* A thread in which the guest writes all the time. */
#include "stub/kernel/kernel.h"
#include "stub/kernel/run.h"
#include "stub/kernel/writer.h"
#include "stub/machine/domain.h"

#include <time.h>

#define WRITER_PAUSE  1000000L          /* nanoseconds between two turns of the writer thread */
#define WRITER_BURST  256U              /* writes at one go, with the machine's lock held */

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000UL + (uint64_t)t.tv_nsec;
}

/* A turn of at most WRITER_BURST writes; false if the thread shall end. */
static bool writer_turn(struct st_domain *d, uint64_t *owed)
{
    uint32_t writes = *owed < WRITER_BURST ? (uint32_t)*owed : WRITER_BURST;
    bool go_on;

    st_lock();
    go_on = !d->kernel->stop_writer;
    if (go_on && st_domain_running(d))
        st_guest_work(d, writes, d->kernel->config.pt_updates);
    if (go_on && d->kernel->kind->devices)
        d->kernel->kind->devices(d);
    st_unlock();
    *owed -= writes;
    return go_on;
}

/* A domain with a cap gets less done. */
static uint64_t rate_now(const struct st_domain *d)
{
    uint64_t share;

    st_lock();
    share = st_domain_share(d);
    st_unlock();
    return d->kernel->config.rate * share / ST_WHOLE;
}

static void *writer(void *argument)
{
    struct st_domain *d = argument;
    const struct timespec pause = { 0, WRITER_PAUSE };
    uint64_t since = now(), owed = 0;

    for (;;) {
        uint64_t at = now(), rate = rate_now(d), due = (at - since) * rate / 1000000000UL;

        if (due) {
            since = at;
            owed = due < rate ? due : rate;
        }
        do {
            if (!writer_turn(d, &owed))
                return NULL;
        } while (owed);
        nanosleep(&pause, NULL);
    }
}

int st_writer_start(struct st_domain *d)
{
    int error;

    if (!d->kernel->config.rate)
        return 0;
    error = pthread_create(&d->kernel->writer, NULL, writer, d);
    if (error)
        return st_error(error, "cannot start the guest's writer thread");
    d->kernel->has_writer = d->busy = true;
    return 0;
}

void st_writer_stop(struct st_domain *d)
{
    if (!d->kernel->has_writer || d->kernel->stop_writer)
        return;
    d->kernel->stop_writer = true;
    st_unlock();
    pthread_join(d->kernel->writer, NULL);
    st_lock();
    d->kernel->has_writer = d->busy = false;
}
