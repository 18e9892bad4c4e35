/* The stream's way out. It never blocks for long: after wait_ms without progress it returns
 * XCSR_AGAIN, so that the caller can look at signals and cancellation even if the peer has stalled.
 *
 * How, without changing the flags of a descriptor that others share: sockets are sent to with
 * MSG_DONTWAIT; a pipe is opened again through /proc/self/fd, which makes a file description of our
 * own that can be non-blocking; regular files and devices are simply written to. */
#include "sink.h"
#include "xcsr.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_IOV (IOV_MAX < 1024 ? IOV_MAX : 1024)

struct xcsr_sink {
    int fd;      /* what is written to */
    int own;     /* fd is ours to close */
    int socket;
    int polls;   /* wait for room before each write */
    int wait_ms;
    uint64_t offset;
    struct iovec *iov; /* what is still to be written */
    uint32_t nr;
    struct iovec one; /* for xcsr_sink_write */
    xcsr_error error;
};

/* Where the pipe is another user's it cannot be opened again: it is then written to as it is, and a
 * stalled reader is noticed only when a signal comes. Fails if there is no reader (ENXIO). */
static int own_pipe(xcsr_sink *s)
{
    char path[48];
    snprintf(path, sizeof path, "/proc/self/fd/%d", s->fd);
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENXIO ? -EPIPE : 0;
    s->fd = fd;
    s->own = 1;
    return 0;
}

static int refuse(xcsr_error *why, int err, int fd, const char *text)
{
    return xcsr_fail(why, XCSR_E_OUTPUT, err, "open", "file descriptor %d %s", fd, text);
}

int xcsr_sink_open(int fd, int wait_ms, xcsr_sink **out, xcsr_error *why)
{
    struct stat st;
    *out = NULL;
    memset(why, 0, sizeof *why);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &st))
        return refuse(why, errno, fd, "is not open");
    if ((flags & O_ACCMODE) == O_RDONLY)
        return refuse(why, EBADF, fd, "is open for reading only");
    xcsr_sink *s = calloc(1, sizeof *s);
    if (!s)
        return refuse(why, ENOMEM, fd, "cannot be given a buffer");
    s->fd = fd;
    s->wait_ms = wait_ms;
    s->socket = S_ISSOCK(st.st_mode);
    s->polls = !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode);
    if (S_ISFIFO(st.st_mode) && own_pipe(s)) {
        free(s);
        return refuse(why, EPIPE, fd, "is a pipe that nobody reads");
    }
    *out = s;
    return 0;
}

void xcsr_sink_close(xcsr_sink *s)
{
    if (!s)
        return;
    if (s->own)
        close(s->fd);
    free(s);
}

static ssize_t put(xcsr_sink *s)
{
    int nr = s->nr < MAX_IOV ? (int)s->nr : MAX_IOV;
    if (!s->socket)
        return writev(s->fd, s->iov, nr);
    struct msghdr msg = {.msg_iov = s->iov, .msg_iovlen = (size_t)nr};
    return sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void advance(xcsr_sink *s, size_t n)
{
    s->offset += n;
    while (s->nr && n >= s->iov->iov_len) {
        n -= s->iov->iov_len;
        s->iov++;
        s->nr--;
    }
    if (s->nr) {
        s->iov->iov_base = (char *)s->iov->iov_base + n;
        s->iov->iov_len -= n;
    }
}

static int failed(xcsr_sink *s, int err)
{
    s->nr = 0;
    return xcsr_fail(&s->error, XCSR_E_OUTPUT, err, "writev", "after %llu octets",
                     (unsigned long long)s->offset);
}

static int wait_for_room(xcsr_sink *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLOUT};
    int n = poll(&p, 1, s->wait_ms);
    if (n < 0 && errno != EINTR)
        return failed(s, errno);
    return n > 0 ? 0 : XCSR_AGAIN; /* errors show in the write itself */
}

int xcsr_sink_flush(xcsr_sink *s)
{
    while (s->nr) {
        int rc = s->polls ? wait_for_room(s) : 0;
        if (rc)
            return rc;
        ssize_t n = put(s);
        if (n >= 0)
            advance(s, (size_t)n);
        else if (errno == EINTR)
            return XCSR_AGAIN;
        else if (errno != EAGAIN)
            return failed(s, errno);
    }
    return 0;
}

int sink_writev(xcsr_sink *s, struct iovec *iov, uint32_t nr)
{
    s->iov = iov;
    s->nr = nr;
    return xcsr_sink_flush(s);
}

int xcsr_sink_write(xcsr_sink *s, const void *data, size_t len)
{
    s->one.iov_base = (void *)(uintptr_t)data;
    s->one.iov_len = len;
    return sink_writev(s, &s->one, len ? 1 : 0);
}

uint64_t xcsr_sink_offset(const xcsr_sink *s)
{
    return s->offset;
}

const xcsr_error *xcsr_sink_error(const xcsr_sink *s)
{
    return &s->error;
}
