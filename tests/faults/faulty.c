/*
 * libc's functions as the core sees them in these tests (build.py redirects them): each call is counted,
 * and the n-th of one of them fails, with an errno or by doing less than it was asked to.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define SHORT (-1) /* an error that is none: the call does one byte of its work */

#define NAMES(X) X(malloc) X(calloc) X(realloc) X(mmap) X(write) X(writev) X(sendmsg) X(readv) X(poll) X(fcntl) X(fstat) X(open) X(pthread_create)
#define ID(name) F_##name,
enum { NAMES(ID) NR };
#define NAME(name) #name,
static const char *const names[NR] = { NAMES(NAME) };

static unsigned long calls[NR], fail_at[NR];
static int fail_with[NR];

static int by_name(const char *name)
{
    for (int i = 0; i < NR; i++)
        if (!strcmp(names[i], name))
            return i;
    return -1;
}

/* The nth call from now on; nth 0: none. Counts from zero again. */
EXPORT int fault_set(const char *name, unsigned long nth, int error)
{
    int i = by_name(name);
    if (i < 0)
        return -1;
    calls[i] = 0;
    fail_at[i] = nth;
    fail_with[i] = error;
    return 0;
}

EXPORT long fault_calls(const char *name)
{
    int i = by_name(name);
    return i < 0 ? -1 : (long)calls[i];
}

static int hit(int i)
{
    if (++calls[i] != fail_at[i])
        return 0;
    if (fail_with[i] != SHORT)
        errno = fail_with[i];
    return fail_with[i];
}

void *fault_malloc(size_t n)
{
    return hit(F_malloc) ? NULL : malloc(n);
}

void *fault_calloc(size_t n, size_t size)
{
    return hit(F_calloc) ? NULL : calloc(n, size);
}

void *fault_realloc(void *p, size_t n)
{
    return hit(F_realloc) ? NULL : realloc(p, n);
}

void *fault_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    return hit(F_mmap) ? MAP_FAILED : mmap(at, n, prot, flags, fd, offset);
}

ssize_t fault_write(int fd, const void *data, size_t n)
{
    int e = hit(F_write);
    return e > 0 ? -1 : write(fd, data, e == SHORT && n ? 1 : n);
}

static size_t first(const struct iovec *iov, int nr, struct iovec *one)
{
    for (int i = 0; i < nr; i++)
        if (iov[i].iov_len) {
            *one = (struct iovec){iov[i].iov_base, 1};
            return 1;
        }
    return 0;
}

ssize_t fault_writev(int fd, const struct iovec *iov, int nr)
{
    struct iovec one;
    int e = hit(F_writev);
    if (e > 0)
        return -1;
    return e == SHORT && first(iov, nr, &one) ? writev(fd, &one, 1) : writev(fd, iov, nr);
}

ssize_t fault_readv(int fd, const struct iovec *iov, int nr)
{
    struct iovec one;
    int e = hit(F_readv);
    if (e > 0)
        return -1;
    return e == SHORT && first(iov, nr, &one) ? readv(fd, &one, 1) : readv(fd, iov, nr);
}

ssize_t fault_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct iovec one;
    struct msghdr less = *msg;
    int e = hit(F_sendmsg);
    if (e > 0)
        return -1;
    if (e == SHORT && first(msg->msg_iov, (int)msg->msg_iovlen, &one)) {
        less.msg_iov = &one;
        less.msg_iovlen = 1;
    }
    return sendmsg(fd, &less, flags);
}

int fault_poll(struct pollfd *fds, nfds_t n, int ms)
{
    return hit(F_poll) ? -1 : poll(fds, n, ms);
}

int fault_fcntl(int fd, int cmd, ...)
{
    va_list args;
    va_start(args, cmd);
    int arg = va_arg(args, int);
    va_end(args);
    return hit(F_fcntl) ? -1 : fcntl(fd, cmd, arg);
}

int fault_fstat(int fd, struct stat *st)
{
    return hit(F_fstat) ? -1 : fstat(fd, st);
}

int fault_open(const char *path, int flags, ...)
{
    return hit(F_open) ? -1 : open(path, flags);
}

int fault_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*start)(void *), void *arg)
{
    int e = hit(F_pthread_create); /* told by what it returns */
    return e ? e : pthread_create(thread, how, start, arg);
}
