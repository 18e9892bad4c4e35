/* Where a stream comes from. Like the sink it never blocks for long: after wait_ms without anything
 * to read it returns XCSR_AGAIN, and so it does if something comes all the time, but not all of it
 * within wait_ms. poll() says when a read will not block, so the descriptor's flags are left as they
 * are. */
#include "io/source.h"
#include "io/iov.h"
#include "base/base.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_IOV 1024

struct xcsr_source {
    int fd, polls, wait_ms;
    uint64_t offset;
    struct iovec *iov; /* what is still to be filled */
    uint32_t nr;
    struct iovec one; /* for xcsr_source_read */
    void *buf;        /* of a read under way */
    xcsr_error error;
};

int xcsr_source_open(int fd, int wait_ms, xcsr_source **out, xcsr_error *why)
{
    struct stat st;
    *out = NULL;
    memset(why, 0, sizeof *why);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &st))
        return xcsr_fail(why, XCSR_E_INPUT, errno, "open", "file descriptor %d is not open", fd);
    if ((flags & O_ACCMODE) == O_WRONLY)
        return xcsr_fail(why, XCSR_E_INPUT, EBADF, "open", "file descriptor %d is open for writing only", fd);
    if (S_ISDIR(st.st_mode))
        return xcsr_fail(why, XCSR_E_INPUT, EISDIR, "open", "file descriptor %d is a directory", fd);
    xcsr_source *s = calloc(1, sizeof *s);
    if (!s)
        return xcsr_fail(why, XCSR_E_INPUT, ENOMEM, "open", "no memory for an input");
    s->fd = fd;
    s->wait_ms = wait_ms;
    s->polls = !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode);
    *out = s;
    return 0;
}

void xcsr_source_close(xcsr_source *s)
{
    free(s);
}

static void advance(xcsr_source *s, size_t n)
{
    s->offset += n;
    iov_advance(&s->iov, &s->nr, n);
}

static int failed(xcsr_source *s, int err, const char *text)
{
    s->nr = 0;
    s->buf = NULL;
    return xcsr_fail(&s->error, XCSR_E_INPUT, err, "readv", "%s after %llu bytes", text,
                     (unsigned long long)s->offset);
}

static int wait_for_data(xcsr_source *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    int n = poll(&p, 1, s->wait_ms);
    if (n < 0 && errno != EINTR)
        return failed(s, errno, "cannot wait for the stream");
    return n > 0 ? 0 : XCSR_AGAIN; /* hang-ups and errors show in the read itself */
}

/* A call takes in what there is before it looks at the time: however short wait_ms is, each one goes on. */
int source_go_on(xcsr_source *s)
{
    int64_t until = xcsr_now_us() + s->wait_ms * INT64_C(1000);
    while (s->nr) {
        int rc = s->polls ? wait_for_data(s) : 0;
        if (rc)
            return rc;
        ssize_t n = readv(s->fd, s->iov, s->nr < MAX_IOV ? (int)s->nr : MAX_IOV);
        if (n > 0)
            advance(s, (size_t)n);
        else if (n == 0)
            return failed(s, ENODATA, "the stream ends");
        else if (errno == EINTR)
            return XCSR_AGAIN;
        else if (errno != EAGAIN)
            return failed(s, errno, "cannot read the stream");
        if (s->nr && xcsr_now_us() > until)
            return XCSR_AGAIN;
    }
    return 0;
}

int source_readv(xcsr_source *s, struct iovec *iov, uint32_t nr)
{
    s->iov = iov;
    s->nr = nr;
    return source_go_on(s);
}

int xcsr_source_read(xcsr_source *s, void *buf, size_t len)
{
    int rc;
    if (s->buf == buf && s->nr) {
        rc = source_go_on(s);
    } else {
        s->one.iov_base = buf;
        s->one.iov_len = len;
        s->buf = buf;
        rc = source_readv(s, &s->one, len ? 1 : 0);
    }
    if (rc != XCSR_AGAIN)
        s->buf = NULL;
    return rc;
}

uint64_t xcsr_source_offset(const xcsr_source *s)
{
    return s->offset;
}

const xcsr_error *xcsr_source_error(const xcsr_source *s)
{
    return &s->error;
}
