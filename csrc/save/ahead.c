/* Mapping ahead: see ahead.h. */
#include "save/ahead.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#define NR_JOBS 64u

struct job { /* at NULL: the mapping asked for; else what is to be unmapped */
    void *at;
    uint32_t nr;
};

struct ahead {
    xenforeignmemory_handle *fmem; /* with log the worker's, while there is one */
    struct xcsr_logger log;
    pthread_t thread;
    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t more;  /* to the worker: there is a job, or it is to end */
    pthread_cond_t less;  /* from it: a job is done */
    struct job jobs[NR_JOBS]; /* a ring; the one being done stays in it until it is done */
    uint32_t first, count;
    bool ending;
    bool asked; /* for a mapping that was not taken yet; then: */
    bool done;
    uint32_t domid, nr;
    const xen_pfn_t *frames;
    int *errs;
    void *at;
    int err;
    char why[sizeof((struct xcsr_logger *)0)->last]; /* what the library said to that */
    int64_t busy_us;
};

/* -- the worker's */

static void map(struct ahead *a)
{
    errno = 0; /* as in xcsr_enter */
    a->log.last[0] = 0;
    a->at = xenforeignmemory_map(a->fmem, a->domid, PROT_READ, a->nr, a->frames, a->errs);
    a->err = a->at ? 0 : errno ? errno : EIO;
    memcpy(a->why, a->log.last, sizeof a->why);
}

/* Called without the lock: until the job is done, nobody else looks at its arguments or at its result. */
static void do_job(struct ahead *a, const struct job *job)
{
    if (job->at)
        xenforeignmemory_unmap(a->fmem, job->at, job->nr);
    else
        map(a);
}

static void *work(void *arg)
{
    struct ahead *a = arg;
    pthread_mutex_lock(&a->lock);
    for (;;) {
        while (!a->count && !a->ending)
            pthread_cond_wait(&a->more, &a->lock);
        if (!a->count)
            break;
        struct job job = a->jobs[a->first];
        pthread_mutex_unlock(&a->lock);
        int64_t began = xcsr_now_us();
        do_job(a, &job);
        int64_t took = xcsr_now_us() - began;
        pthread_mutex_lock(&a->lock);
        a->busy_us += took;
        a->done |= !job.at;
        a->first = (a->first + 1) % NR_JOBS;
        a->count--;
        pthread_cond_signal(&a->less);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

/* -- everybody else's */

/* The worker takes no signals: a program's handlers run in the threads in which they ran before. */
static int start_thread(struct ahead *a)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&a->thread, NULL, work, a);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

static void release(struct ahead *a)
{
    if (a->fmem)
        xenforeignmemory_close(a->fmem);
    pthread_cond_destroy(&a->less);
    pthread_cond_destroy(&a->more);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static int cannot(xcsr *h, struct ahead *a, int err, const char *op, const char *what)
{
    memcpy(h->log.last, a->log.last, sizeof h->log.last);
    release(a);
    return xcsr_fail_call(h, err, op, "cannot %s to map pages ahead", what);
}

int ahead_start(xcsr *h, struct ahead **out)
{
    *out = NULL;
    struct ahead *a = calloc(1, sizeof *a);
    if (!a)
        return xcsr_fail_call(h, ENOMEM, "calloc", "no memory to map pages ahead");
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->more, NULL);
    pthread_cond_init(&a->less, NULL);
    xcsr_logger_init(&a->log);
    a->fmem = xenforeignmemory_open(&a->log.vt, 0);
    if (!a->fmem)
        return cannot(h, a, errno, "xenforeignmemory_open", "open foreign memory");
    int err = start_thread(a);
    if (err)
        return cannot(h, a, err, "pthread_create", "start a thread");
    *out = a;
    return 0;
}

/* Caller has the lock. */
static void put(struct ahead *a, struct job job)
{
    while (a->count == NR_JOBS)
        pthread_cond_wait(&a->less, &a->lock);
    a->jobs[(a->first + a->count++) % NR_JOBS] = job;
    pthread_cond_signal(&a->more);
}

void ahead_map(struct ahead *a, uint32_t domid, uint32_t nr, const xen_pfn_t *frames, int *errs)
{
    pthread_mutex_lock(&a->lock);
    a->asked = true;
    a->done = false;
    a->domid = domid;
    a->nr = nr;
    a->frames = frames;
    a->errs = errs;
    put(a, (struct job){NULL, nr});
    pthread_mutex_unlock(&a->lock);
}

int ahead_take(struct ahead *a, xcsr *h, struct mapping *out)
{
    pthread_mutex_lock(&a->lock);
    while (a->asked && !a->done)
        pthread_cond_wait(&a->less, &a->lock);
    a->asked = false;
    *out = (struct mapping){a->at, a->nr, a};
    int err = a->err;
    if (err)
        memcpy(h->log.last, a->why, sizeof h->log.last);
    pthread_mutex_unlock(&a->lock);
    return err;
}

void ahead_unmap(struct ahead *a, void *at, uint32_t nr)
{
    pthread_mutex_lock(&a->lock);
    put(a, (struct job){at, nr});
    pthread_mutex_unlock(&a->lock);
}

void ahead_settle(struct ahead *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    while (a->count)
        pthread_cond_wait(&a->less, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

int64_t ahead_busy_us(struct ahead *a)
{
    pthread_mutex_lock(&a->lock);
    int64_t busy = a->busy_us;
    pthread_mutex_unlock(&a->lock);
    return busy;
}

void ahead_stop(struct ahead *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->ending = true;
    pthread_cond_signal(&a->more);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    if (a->asked && a->at)
        xenforeignmemory_unmap(a->fmem, a->at, a->nr);
    release(a);
}

void ahead_forget(struct ahead *a)
{
    free(a);
}
