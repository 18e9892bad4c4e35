/* Internal: a file that will be synced is brought to the disk while it is written. */
#ifndef XCSR_DURABLE_H
#define XCSR_DURABLE_H

#include <stdint.h>

struct durable {
    int on;
    int hurry;         /* a guest is paused: nothing is waited for */
    int64_t base;      /* where in the file the stream begins */
    uint64_t started;  /* bytes of the stream on their way to the disk */
    uint64_t arrived;  /* bytes known to be there */
};

/* For a regular file; where the file system cannot, it is left to the fsync at the end. expected: at
 * least so many bytes will be written; 0: not known. */
void durable_begin(struct durable *d, int fd, uint64_t expected);
/* After each write: offset bytes have been written. 0 or an errno of the disk's. */
int durable_follow(struct durable *d, int fd, uint64_t offset);

#endif
