/* The stream's way out. It never blocks for long: after wait_ms at the latest it returns XCSR_AGAIN,
 * so that the caller can look at signals and cancellation even if the peer is slow or has stalled.
 *
 * How, without changing the flags of a descriptor that others share: sockets are sent to with
 * MSG_DONTWAIT; a pipe is opened again through /proc/self/fd, which makes a file description of our
 * own that can be non-blocking, or else gets no more than the PIPE_BUF bytes that poll promises;
 * regular files and devices are simply written to. */
#include "io/sink.h"
#include "io/bucket.h"
#include "io/durable.h"
#include "io/iov.h"
#include "base/base.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_IOV (IOV_MAX < 1024 ? IOV_MAX : 1024)

struct xcsr_sink {
    int fd;      /* what is written to */
    int own;     /* fd is ours to close */
    int socket;
    int pipe;
    int regular;
    int little;  /* a pipe that may block: PIPE_BUF at a time */
    int polls;   /* wait for room before each write */
    int wait_ms;
    uint64_t begin;  /* a file's position when it was opened */
    uint64_t offset; /* since */
    struct durable durable; /* a file to be synced in the end */
    xcsr_bucket bucket;
    int64_t held_us; /* waited for the bucket */
    int64_t waited_us; /* and for the output */
    struct iovec *iov; /* what is still to be written */
    uint32_t nr;
    struct iovec one; /* for xcsr_sink_write */
    xcsr_error error;
};

/* A pipe's own 64 KiB wake writer and reader for every few pages; a megabyte is what any user may ask
 * for. Refused (a user's limit), the pipe serves as it is. */
#define PIPE_BYTES (1 << 20)

/* Where the pipe is another user's it cannot be opened again: it is then written to as it is, a little
 * at a time. Fails if there is no reader (ENXIO). */
static int own_pipe(xcsr_sink *s, int flags)
{
    char path[48];
    snprintf(path, sizeof path, "/proc/self/fd/%d", s->fd);
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        s->little = !(flags & O_NONBLOCK);
        return errno == ENXIO ? -EPIPE : 0;
    }
    if (fcntl(fd, F_GETPIPE_SZ) < PIPE_BYTES)
        (void)fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
    s->fd = fd;
    s->own = 1;
    return 0;
}

static int refuse(xcsr_error *why, int err, int fd, const char *text)
{
    return xcsr_fail(why, XCSR_E_OUTPUT, err, "open", "file descriptor %d %s", fd, text);
}

static uint64_t begin_of(int fd, int flags, const struct stat *st)
{
    off_t at = flags & O_APPEND ? st->st_size : lseek(fd, 0, SEEK_CUR);
    return at > 0 ? (uint64_t)at : 0;
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
    s->pipe = S_ISFIFO(st.st_mode);
    s->polls = !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode);
    s->regular = S_ISREG(st.st_mode);
    s->begin = s->regular ? begin_of(fd, flags, &st) : 0;
    if (s->pipe && own_pipe(s, flags)) {
        free(s);
        return refuse(why, EPIPE, fd, "is a pipe that nobody reads");
    }
    *out = s;
    return 0;
}

void xcsr_sink_durable(xcsr_sink *s, uint64_t expected)
{
    if (s->regular && !s->offset)
        durable_begin(&s->durable, s->fd, expected);
}

void sink_hurry(xcsr_sink *s, int on)
{
    s->durable.hurry = on;
}

uint64_t xcsr_sink_arrived(const xcsr_sink *s)
{
    return s->durable.arrived;
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
    int nr = bucket_iovs(&s->bucket, s->iov, s->nr < MAX_IOV ? (int)s->nr : MAX_IOV);
    if (s->little)
        return write(s->fd, s->iov->iov_base, s->iov->iov_len < PIPE_BUF ? s->iov->iov_len : PIPE_BUF);
    if (!s->socket)
        return writev(s->fd, s->iov, nr);
    struct msghdr msg = {.msg_iov = s->iov, .msg_iovlen = (size_t)nr};
    return sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void advance(xcsr_sink *s, size_t n)
{
    s->offset += n;
    iov_advance(&s->iov, &s->nr, n);
}

static int failed(xcsr_sink *s, int err, const char *op)
{
    s->nr = 0;
    return xcsr_fail(&s->error, XCSR_E_OUTPUT, err, op, "after %llu bytes",
                     (unsigned long long)s->offset);
}

static int wait_for_room(xcsr_sink *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLOUT};
    int64_t began = xcsr_now_us();
    int n = poll(&p, 1, s->wait_ms);
    s->waited_us += xcsr_now_us() - began;
    if (n < 0 && errno != EINTR)
        return failed(s, errno, "writev");
    return n > 0 ? 0 : XCSR_AGAIN; /* errors show in the write itself */
}

/* Until the bucket lets something through, but not beyond until. A signal ends it, too. */
static int hold(xcsr_sink *s, int64_t until)
{
    int64_t now = xcsr_now_us(), wait = xcsr_bucket_wait(&s->bucket, now);
    if (!wait)
        return 0;
    int64_t us = wait < until - now ? wait : until - now;
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    if (us > 0)
        (void)nanosleep(&t, NULL);
    s->held_us += xcsr_now_us() - now;
    return us < wait || xcsr_bucket_wait(&s->bucket, xcsr_now_us()) ? XCSR_AGAIN : 0;
}

static int ready(xcsr_sink *s, int64_t until)
{
    if (xcsr_now_us() > until)
        return XCSR_AGAIN;
    int rc = s->bucket.rate ? hold(s, until) : 0;
    return !rc && s->polls ? wait_for_room(s) : rc;
}

static int written(xcsr_sink *s, size_t n)
{
    advance(s, n);
    xcsr_bucket_take(&s->bucket, n);
    int err = durable_follow(&s->durable, s->fd, s->offset);
    return err ? failed(s, err, "sync_file_range") : 0;
}

static int drain(xcsr_sink *s)
{
    int64_t until = xcsr_now_us() + s->wait_ms * INT64_C(1000);
    while (s->nr) {
        int rc = ready(s, until);
        if (rc)
            return rc;
        ssize_t n = put(s);
        if (n >= 0)
            rc = written(s, (size_t)n);
        else if (errno == EINTR)
            return XCSR_AGAIN;
        else if (errno != EAGAIN)
            return failed(s, errno, "writev");
        if (rc)
            return rc;
    }
    return 0;
}

/* A program may have left SIGPIPE at its default, and would be killed with the guest suspended. The
 * signal is this thread's: it is held back, and taken away again unless it was pending before. */
static int drain_pipe(xcsr_sink *s)
{
    sigset_t sigpipe, before, pending;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
    sigpending(&pending);
    int rc = drain(s);
    if (!sigismember(&pending, SIGPIPE))
        sigtimedwait(&sigpipe, NULL, &(struct timespec){0, 0});
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

int xcsr_sink_flush(xcsr_sink *s)
{
    return s->pipe ? drain_pipe(s) : drain(s);
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

void xcsr_sink_limit(xcsr_sink *s, uint64_t bytes_per_second)
{
    xcsr_bucket_set(&s->bucket, bytes_per_second, xcsr_now_us());
}

uint64_t xcsr_sink_held_us(const xcsr_sink *s)
{
    return (uint64_t)s->held_us;
}

uint64_t xcsr_sink_waited_us(const xcsr_sink *s)
{
    return (uint64_t)s->waited_us;
}

uint64_t xcsr_sink_room(const xcsr_sink *s)
{
    int bytes = 0;
    socklen_t len = sizeof bytes;
    if (s->pipe)
        bytes = fcntl(s->fd, F_GETPIPE_SZ);
    else if (s->socket && !getsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &bytes, &len))
        bytes /= 2;
    return bytes < 0 ? 0 : (uint64_t)bytes;
}

uint64_t sink_position(const xcsr_sink *s)
{
    return s->begin + s->offset;
}

const xcsr_error *xcsr_sink_error(const xcsr_sink *s)
{
    return &s->error;
}
