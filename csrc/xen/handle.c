/* Opening and closing; the logger; errors; who may use a handle. */
#include "xen/handle.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static void keep_message(xentoollog_logger *logger, xentoollog_level level, int errnoval,
                         const char *context, const char *format, va_list al)
    __attribute__((format(printf, 5, 0)));

static void keep_message(xentoollog_logger *logger, xentoollog_level level, int errnoval,
                         const char *context, const char *format, va_list al)
{
    struct xcsr_logger *log = (struct xcsr_logger *)logger;
    (void)context;
    (void)errnoval;
    if (level >= XTL_WARN)
        vsnprintf(log->last, sizeof log->last, format, al);
}

static void keep_nothing(xentoollog_logger *logger)
{
    (void)logger;
}

void xcsr_logger_init(struct xcsr_logger *log)
{
    log->vt.vmessage = keep_message;
    log->vt.destroy = keep_nothing;
}

int xcsr_fail_call(xcsr *h, int err, const char *op, const char *fmt, ...)
{
    char what[160];
    va_list al;
    va_start(al, fmt);
    vsnprintf(what, sizeof what, fmt, al);
    va_end(al);
    int rc = xcsr_fail(&h->error, XCSR_E_CALL, err, op, "%s%s%s", what, h->log.last[0] ? ": " : "",
                       h->log.last);
    h->log.last[0] = 0;
    return rc;
}

void xcsr_fresh(xcsr *h)
{
    memset(&h->error, 0, sizeof h->error);
    h->log.last[0] = 0;
    errno = 0; /* libxc has failures that set none: they must not be told by an older one */
}

int xcsr_enter(xcsr *h)
{
    if (h->pid != getpid())
        return -XCSR_OTHER_PROCESS;
    if (atomic_flag_test_and_set_explicit(&h->busy, memory_order_acquire))
        return -XCSR_OTHER_THREAD;
    xcsr_fresh(h);
    return 0;
}

bool xcsr_seize(xcsr *h)
{
    if (h->pid != getpid())
        return false;
    while (atomic_flag_test_and_set_explicit(&h->busy, memory_order_acquire))
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    return true;
}

void xcsr_leave(xcsr **h)
{
    atomic_flag_clear_explicit(&(*h)->busy, memory_order_release);
}

const xcsr_error *xcsr_error_of(const xcsr *h)
{
    return &h->error;
}

static int open_libraries(xcsr *h, xcsr_error *why)
{
    h->xch = xc_interface_open(&h->log.vt, &h->log.vt, 0);
    if (!h->xch)
        return xcsr_fail(why, XCSR_E_CALL, errno, "xc_interface_open", "cannot open the hypervisor: %s",
                         h->log.last);
    h->fmem = xenforeignmemory_open(&h->log.vt, 0);
    if (!h->fmem)
        return xcsr_fail(why, XCSR_E_CALL, errno, "xenforeignmemory_open",
                         "cannot open foreign memory: %s", h->log.last);
    return 0;
}

int xcsr_open(xcsr **out, xcsr_error *why)
{
    *out = NULL;
    memset(why, 0, sizeof *why);
    xcsr *h = calloc(1, sizeof *h);
    if (!h)
        return xcsr_fail(why, XCSR_E_CALL, ENOMEM, "xcsr_open", "no memory for a handle");
    h->pid = getpid();
    atomic_flag_clear(&h->busy);
    xcsr_logger_init(&h->log);
    int rc = open_libraries(h, why);
    if (rc) {
        xcsr_close(h);
        return rc;
    }
    *out = h;
    return 0;
}

void xcsr_close(xcsr *h)
{
    if (!h)
        return;
    if (xcsr_seize(h)) { /* a forked child shares the descriptors: closing is the parent's */
        if (h->m2p)
            xenforeignmemory_unmap(h->fmem, h->m2p, h->m2p_frames);
        if (h->xs)
            xs_close(h->xs);
        if (h->fmem)
            xenforeignmemory_close(h->fmem);
        if (h->xch)
            xc_interface_close(h->xch);
    }
    free(h);
}
