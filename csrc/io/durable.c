/* Write-behind. Left to itself the kernel keeps gigabytes of a stream in memory, and the disk idles until the fsync at
 * the end. Here the kernel is told to begin with every few megabytes, and so never lags far behind. Room for the whole
 * file is asked for once: the file stays in one piece, and no write has to look for room. */
#include "io/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define STEP (8ull << 20)
#define LAG (32ull << 20) /* what is on its way to the disk and not waited for */

static int64_t position(int fd)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && flags & O_APPEND)
        return fstat(fd, &st) ? -1 : st.st_size;
    return lseek(fd, 0, SEEK_CUR);
}

void durable_begin(struct durable *d, int fd, uint64_t expected)
{
    d->base = position(fd);
    d->on = d->base >= 0;
    if (d->on && expected) /* where the file system cannot, or has no room, the writes themselves will tell */
        (void)!fallocate(fd, FALLOC_FL_KEEP_SIZE, d->base, (off_t)expected);
}

static int sync_range(struct durable *d, int fd, uint64_t from, unsigned int how)
{
    int err = sync_file_range(fd, d->base + (off_t)from, (off_t)STEP, how) ? errno : 0;
    if (err != ENOSYS && err != EINVAL && err != EOPNOTSUPP && err != ESPIPE)
        return err;
    d->on = 0;
    return 0;
}

int durable_follow(struct durable *d, int fd, uint64_t offset)
{
    int err = 0;
    for (; !err && d->on && offset - d->started >= STEP; d->started += STEP)
        err = sync_range(d, fd, d->started, SYNC_FILE_RANGE_WRITE);
    for (; !err && d->on && !d->hurry && offset - d->arrived >= LAG + STEP; d->arrived += STEP)
        err = sync_range(d, fd, d->arrived,
                         SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    return err;
}
