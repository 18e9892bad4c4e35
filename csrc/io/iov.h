/* Internal: gathers and scatters that the kernel takes piece by piece. */
#ifndef XCSR_IOV_H
#define XCSR_IOV_H

#include <stdint.h>
#include <sys/uio.h>

/* Goes n bytes further in *nr pieces from *iov on, changing the piece in which that ends. */
static inline void iov_advance(struct iovec **iov, uint32_t *nr, size_t n)
{
    while (*nr && n >= (*iov)->iov_len) {
        n -= (*iov)->iov_len;
        ++*iov;
        --*nr;
    }
    if (!*nr)
        return;
    (*iov)->iov_base = (char *)(*iov)->iov_base + n;
    (*iov)->iov_len -= n;
}

#endif
