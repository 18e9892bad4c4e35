/* A token bucket: so many bytes a second on average, and no more than its depth at once. What was not used lately is
 * forgotten beyond that depth, so that a stalled output is not followed by a burst. */
#include "io/bucket.h"

#define DEPTH_US 50000         /* the bucket holds what may be written in this time */
#define LEAST_DEPTH 4096       /* but not less than a page */
#define SECOND_US 1000000

static int64_t depth_of(uint64_t rate)
{
    int64_t depth = (int64_t)(rate / (SECOND_US / DEPTH_US));
    return depth < LEAST_DEPTH ? LEAST_DEPTH : depth;
}

/* Microseconds until so many more bytes have come in. The product fits: no rate, and no write, is above 2^42 bytes. */
static int64_t time_for(const xcsr_bucket *b, int64_t bytes)
{
    return (int64_t)(((uint64_t)bytes * SECOND_US + b->rate - 1) / b->rate);
}

void xcsr_bucket_set(xcsr_bucket *b, uint64_t rate, int64_t now_us)
{
    b->rate = rate < XCSR_BUCKET_MAX ? rate : XCSR_BUCKET_MAX;
    b->level = 0;
    b->at_us = now_us;
}

static void refill(xcsr_bucket *b, int64_t now_us)
{
    int64_t us = now_us - b->at_us, depth = depth_of(b->rate);
    if (us <= 0)
        return;
    if (us >= time_for(b, depth - b->level)) {
        b->level = depth;
    } else { /* less than one filling: the product fits here, too */
        int64_t due = (int64_t)(b->rate * (uint64_t)us / SECOND_US);
        if (!due)
            return; /* too little time for a byte: it counts the next time */
        b->level += due;
    }
    b->at_us = now_us;
}

int64_t xcsr_bucket_wait(xcsr_bucket *b, int64_t now_us)
{
    if (!b->rate)
        return 0;
    refill(b, now_us);
    return b->level > 0 ? 0 : time_for(b, depth_of(b->rate) / 2 - b->level);
}

void xcsr_bucket_take(xcsr_bucket *b, uint64_t nr_bytes)
{
    if (b->rate)
        b->level -= (int64_t)nr_bytes;
}

int bucket_iovs(const xcsr_bucket *b, const struct iovec *iov, int nr)
{
    int64_t bytes = 0;
    int n = 0;
    if (!b->rate)
        return nr;
    while (n < nr && bytes < b->level)
        bytes += (int64_t)iov[n++].iov_len;
    return n ? n : 1;
}
