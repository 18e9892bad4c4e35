/*
 * The handle, laid out as libxenguest expects it, around the stub's own. The stub's functions get ours
 * and pass it on unseen; the three that look into it are linked with --wrap and translated here. What
 * is in the file with those three calls them directly, so it is renamed and wrapped by hand.
 * Handles are opened and closed by one thread at a time, as tests do.
 */
#include "standin.h"

_Static_assert(offsetof(struct standin_handle, xcall) == 0x440, "libxenguest 4.17 reads xcall there");
_Static_assert(offsetof(struct standin_handle, fmem) == 0x448, "libxenguest 4.17 reads fmem there");

int __real_st_begin_xc(enum st_function function, xc_interface *xch);
bool __real_st_xch_valid(const xc_interface *xch);
void __real_st_log_error(xc_interface *xch, const char *function, int error);
int __wrap_st_begin_xc(enum st_function function, xc_interface *xch);
bool __wrap_st_xch_valid(const xc_interface *xch);
void __wrap_st_log_error(xc_interface *xch, const char *function, int error);

static struct standin_handle *handles;

struct standin_handle *standin_handle(xc_interface *xch)
{
    struct standin_handle *h = handles;

    while (h && (xc_interface *)(void *)h != xch)
        h = h->next;
    return h;
}

struct standin_handle *standin_handle_with(const xenforeignmemory_handle *fmem)
{
    struct standin_handle *h = handles;

    while (h && h->fmem != fmem)
        h = h->next;
    return h;
}

xc_interface *standin_stub_handle(const xc_interface *xch)
{
    for (const struct standin_handle *h = handles; h; h = h->next)
        if ((const void *)h == (const void *)xch || h->stub == xch)
            return h->stub;
    return NULL;
}

int __wrap_st_begin_xc(enum st_function function, xc_interface *xch)
{
    return __real_st_begin_xc(function, standin_stub_handle(xch));
}

bool __wrap_st_xch_valid(const xc_interface *xch)
{
    return __real_st_xch_valid(standin_stub_handle(xch));
}

void __wrap_st_log_error(xc_interface *xch, const char *function, int error)
{
    __real_st_log_error(standin_stub_handle(xch), function, error);
}

int xc_version(xc_interface *xch, int cmd, void *arg)
{
    return stub_xc_version(standin_stub_handle(xch), cmd, arg);
}

static void fill(struct standin_handle *h, xentoollog_logger *logger, xentoollog_logger *dombuild_logger,
                 unsigned open_flags)
{
    h->flags = (int)open_flags;
    h->error_handler = logger;
    if (!h->error_handler)
        h->error_handler = h->error_handler_tofree =
            (xentoollog_logger *)xtl_createlogger_stdiostream(stderr, XTL_PROGRESS, 0);
    h->dombuild_logger = dombuild_logger ? dombuild_logger : h->error_handler;
    h->xcall = h;
}

/* With error_handler NULL libxenguest's messages go to standard error. */
xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild_logger,
                                unsigned open_flags)
{
    struct standin_handle *h = calloc(1, sizeof(*h));

    if (!h)
        return NULL;
    h->stub = stub_xc_interface_open(logger, dombuild_logger, open_flags);
    h->fmem = h->stub ? xenforeignmemory_open(logger, 0) : NULL;
    if (!h->fmem) {
        int saved = errno;

        if (h->stub)
            stub_xc_interface_close(h->stub);
        free(h);
        errno = saved;
        return NULL;
    }
    fill(h, logger, dombuild_logger, open_flags);
    h->next = handles;
    handles = h;
    return (xc_interface *)(void *)h;
}

int xc_interface_close(xc_interface *xch)
{
    struct standin_handle *h = standin_handle(xch), **link = &handles;
    int rc;

    if (!h) {
        errno = EBADF;
        return -1;
    }
    while (*link != h)
        link = &(*link)->next;
    *link = h->next;
    xenforeignmemory_close(h->fmem);
    rc = stub_xc_interface_close(h->stub);
    xtl_logger_destroy(h->error_handler_tofree);
    free(h);
    return rc;
}
