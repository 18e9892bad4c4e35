/* libxenctrl's reports, progress, and whole reads and writes. */
#include "standin.h"

#include <limits.h>
#include <stdarg.h>
#include <unistd.h>

#define TEXT 2048

static const char *describe(int code)
{
    switch (code) {
    case XC_ERROR_NONE:
        return "";
    case XC_INTERNAL_ERROR:
        return "Internal error: ";
    case XC_INVALID_PARAM:
        return "Invalid parameter: ";
    case XC_OUT_OF_MEMORY:
        return "Out of memory: ";
    default:
        return "Error: ";
    }
}

static void say(xentoollog_logger *lg, xentoollog_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void say(xentoollog_logger *lg, xentoollog_level level, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    xtl_logv(lg, level, -1, "xc", format, args);
    va_end(args);
}

void xc_reportv(xc_interface *xch, xentoollog_logger *lg, xentoollog_level level, int code,
                const char *format, va_list args)
{
    int saved = errno;
    char text[TEXT];

    (void)xch;
    vsnprintf(text, sizeof(text), format, args);
    say(lg, level, "%s%s", describe(code), text);
    errno = saved;
}

void xc_report(xc_interface *xch, xentoollog_logger *lg, xentoollog_level level, int code,
               const char *format, ...)
{
    va_list args;

    va_start(args, format);
    xc_reportv(xch, lg, level, code, format, args);
    va_end(args);
}

void xc_report_error(xc_interface *xch, int code, const char *format, ...)
{
    struct standin_handle *h = standin_handle(xch);
    va_list args;

    va_start(args, format);
    xc_reportv(xch, h->error_handler, XTL_ERROR, code, format, args);
    va_end(args);
}

const char *xc_strerror(xc_interface *xch, int errcode)
{
    (void)xch;
    return strerror(errcode);
}

const char *xc_set_progress_prefix(xc_interface *xch, const char *doing)
{
    struct standin_handle *h = standin_handle(xch);
    const char *before = h->currently_progress_reporting;

    h->currently_progress_reporting = doing;
    return before;
}

void xc_report_progress_single(xc_interface *xch, const char *doing)
{
    xtl_progress(standin_handle(xch)->error_handler, "xc", doing, 0, 0);
}

void xc_report_progress_step(xc_interface *xch, unsigned long done, unsigned long total)
{
    struct standin_handle *h = standin_handle(xch);

    xtl_progress(h->error_handler, "xc", h->currently_progress_reporting, done, total);
}

/* At the end of the file: -1 with errno 0. */
int read_exact(int fd, void *data, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = read(fd, (char *)data + done, size - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n ? errno : 0;
            return -1;
        }
        done += (size_t)n;
    }
    return 0;
}

int write_exact(int fd, const void *data, size_t size)
{
    const struct iovec whole = { (void *)(uintptr_t)data, size };

    return writev_exact(fd, &whole, 1);
}

/* Steps over n bytes: whole vectors first, then what is left of one. */
static void step_over(struct iovec **at, int *left, size_t n)
{
    while (*left && n >= (*at)->iov_len) {
        n -= (*at)->iov_len;
        (*at)++;
        (*left)--;
    }
    if (*left) {
        (*at)->iov_base = (char *)(*at)->iov_base + n;
        (*at)->iov_len -= n;
    }
}

static int write_vectors(int fd, struct iovec *at, int left)
{
    step_over(&at, &left, 0);
    while (left) {
        ssize_t n = writev(fd, at, left < IOV_MAX ? left : IOV_MAX);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n ? errno : 0;
            return -1;
        }
        step_over(&at, &left, (size_t)n);
    }
    return 0;
}

int writev_exact(int fd, const struct iovec *iov, int count)
{
    struct iovec *own = malloc((size_t)count * sizeof(*own));
    int rc;

    if (!own)
        return -1;
    memcpy(own, iov, (size_t)count * sizeof(*own));
    rc = write_vectors(fd, own, count);
    free(own);
    return rc;
}

/* Only a hint to the system's cache, and streams in tests are small. */
void discard_file_cache(xc_interface *xch, int fd, int flush)
{
    (void)xch;
    (void)fd;
    (void)flush;
}
