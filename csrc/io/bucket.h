/* Internal face of the token bucket (xcsr_api.h). */
#ifndef XCSR_BUCKET_H
#define XCSR_BUCKET_H

#include "xcsr_api.h"

#include <sys/uio.h>

/* How many of the nr pieces may be written now: at least one, and none that begins beyond what the bucket holds. */
int bucket_iovs(const xcsr_bucket *b, const struct iovec *iov, int nr);

#endif
