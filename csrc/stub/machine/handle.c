/* libxenctrl's handle, its logger, and the version. */
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"

#include <stdarg.h>
#include <stdio.h>

#define STUB_XEN_MAJOR 4
#define STUB_XEN_MINOR 17

struct xc_interface_core {
    struct xc_interface_core *next;
    xentoollog_logger *logger;
};

static struct xc_interface_core *handles;

bool st_xch_valid(const xc_interface *xch)
{
    for (const struct xc_interface_core *h = handles; h; h = h->next)
        if (h == xch)
            return true;
    return false;
}

static void log_to(xentoollog_logger *logger, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void log_to(xentoollog_logger *logger, const char *format, ...)
{
    va_list al;

    va_start(al, format);
    logger->vmessage(logger, XTL_ERROR, -1, "xc", format, al);
    va_end(al);
}

/* Without a logger libxenctrl writes to stderr, and so does this. Called without the lock. */
void st_log_error(xc_interface *xch, const char *function, int error)
{
    char text[128];

    if (!xch)
        return;
    if (error == EACCES)
        snprintf(text, sizeof(text), "%s: operation failed -- need to rebuild the tools for this hypervisor?",
                 function);
    else
        snprintf(text, sizeof(text), "%s failed (%d = %s): Internal error", function, error, strerror(error));
    if (xch->logger && xch->logger->vmessage)
        log_to(xch->logger, "%s", text);
    else if (!xch->logger)
        fprintf(stderr, "xc: error: %s\n", text);
}

int st_begin_xc(enum st_function function, xc_interface *xch)
{
    int rc = st_begin(function);

    if (!rc && !st_xch_valid(xch)) {
        st_unlock();
        return -EBADF;
    }
    return rc;
}

/* A failed open has no handle to log through, only the logger that was passed. */
static void log_open_failure(xentoollog_logger *logger, int error)
{
    struct xc_interface_core unopened = { .logger = logger };

    st_log_error(&unopened, "xc_interface_open", error);
}

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild_logger,
                                unsigned open_flags)
{
    struct xc_interface_core *handle;
    int rc = st_begin_quiet(ST_FN_xc_interface_open);

    (void)dombuild_logger;
    (void)open_flags;
    if (rc) {
        log_open_failure(logger, -rc);
        st_refused(ST_FN_xc_interface_open, NULL, rc);
        return NULL;
    }
    handle = calloc(1, sizeof(*handle));
    if (handle) {
        handle->logger = logger;
        handle->next = handles;
        handles = handle;
        st_usage.xc_handles++;
    }
    st_end(ST_FN_xc_interface_open, NULL, handle ? 0 : -ENOMEM);
    return handle;
}

static int drop_handle(xc_interface *xch)
{
    struct xc_interface_core **link = &handles;

    while (*link && *link != xch)
        link = &(*link)->next;
    if (!*link)
        return -EBADF;
    *link = xch->next;
    free(xch);
    st_usage.xc_handles--;
    return 0;
}

/* The handle is gone even if closing it reports an error. */
int xc_interface_close(xc_interface *xch)
{
    int rc = st_begin_quiet(ST_FN_xc_interface_close);

    if (rc) {
        st_lock();
        drop_handle(xch);
        st_unlock();
        return (int)st_refused(ST_FN_xc_interface_close, NULL, rc);
    }
    return (int)st_end(ST_FN_xc_interface_close, NULL, drop_handle(xch));
}

void st_handles_abandon(void)
{
    handles = NULL;
}

static int version(int cmd, void *arg)
{
    switch (cmd) {
    case XENVER_version:
        return STUB_XEN_MAJOR << 16 | STUB_XEN_MINOR;
    case XENVER_extraversion:
        strncpy(arg, ".0-stub", sizeof(xen_extraversion_t));
        return 0;
    default:
        return -ENOSYS;
    }
}

int xc_version(xc_interface *xch, int cmd, void *arg)
{
    int rc = st_begin_xc(ST_FN_xc_version, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_version, xch, rc);
    return (int)st_end(ST_FN_xc_version, xch, version(cmd, arg));
}
