/* What a guest writes, interval by interval: Xen's dirty bitmaps, and sets made of them. Nothing of the guest is mapped. */
#include "xen/tracking.h"

#include <stdlib.h>

struct xcsr_meter {
    xcsr *h;
    uint32_t domid;
    bool on;
    uint64_t nr_pfns, nr_words;
    xc_hypercall_buffer_t buffer;
    int buffer_pages;
    uint64_t *sets[XCSR_METER_SETS]; /* nr_words each; 0: in buffer; the others are made when they are needed */
};

static void free_sets(xcsr_meter *m)
{
    for (uint32_t i = 1; i < XCSR_METER_SETS; i++)
        free(m->sets[i]);
}

int xcsr_meter_new(xcsr *h, uint32_t domid, uint64_t nr_pfns, xcsr_meter **out)
{
    XCSR_ENTER(h);
    *out = NULL;
    if (!nr_pfns)
        return xcsr_fail_call(h, EINVAL, "xcsr_meter_new", "domain %u has no pfns to measure", domid);
    xcsr_meter *m = calloc(1, sizeof *m);
    if (!m)
        return xcsr_fail_call(h, ENOMEM, "calloc", "no memory for measuring");
    m->h = h;
    m->domid = domid;
    m->nr_pfns = nr_pfns;
    m->nr_words = nr_pfns / 64 + !!(nr_pfns % 64);
    m->sets[0] = tracking_alloc(h, m->nr_words, &m->buffer, &m->buffer_pages);
    if (!m->sets[0]) {
        free(m);
        return xcsr_fail_call(h, ENOMEM, "xcsr_meter_new", "no memory to track %llu pfns", (unsigned long long)nr_pfns);
    }
    memset(m->sets[0], 0, m->nr_words * sizeof(uint64_t));
    *out = m;
    return 0;
}

static int end(xcsr_meter *m)
{
    int rc = m->on ? tracking_end(m->h, m->domid) : 0;
    if (!rc)
        m->on = false;
    return rc;
}

void xcsr_meter_free(xcsr_meter *m)
{
    if (!m)
        return;
    xcsr *h = m->h;
    free_sets(m);
    if (xcsr_seize(h)) { /* else this is a child of the process that measures, and log-dirty mode is the parent's */
        end(m);
        tracking_free(h, m->sets[0], &m->buffer, m->buffer_pages);
        free(m);
        xcsr_leave(&h);
    } else {
        free(m);
    }
}

int xcsr_meter_begin(xcsr_meter *m)
{
    XCSR_ENTER(m->h);
    uint32_t retried;
    int rc = tracking_begin(m->h, m->domid, false, &retried);
    if (!rc)
        m->on = true;
    return rc;
}

int xcsr_meter_end(xcsr_meter *m)
{
    XCSR_ENTER(m->h);
    return end(m);
}

void xcsr_meter_leave(xcsr_meter *m)
{
    m->on = false;
}

/* What a call of Xen's that returned rc has left in set 0. */
static int fetched(xcsr_meter *m, int rc, uint64_t *dirty)
{
    *dirty = 0;
    if (rc)
        return rc;
    if (m->nr_pfns % 64)
        m->sets[0][m->nr_words - 1] &= (1ull << m->nr_pfns % 64) - 1;
    *dirty = xcsr_bitmap_count(m->sets[0], m->nr_words);
    return 0;
}

int xcsr_meter_fetch(xcsr_meter *m, uint64_t *dirty)
{
    XCSR_ENTER(m->h);
    return fetched(m, tracking_fetch(m->h, m->domid, &m->buffer, m->nr_pfns, 0), dirty);
}

int xcsr_meter_peek(xcsr_meter *m, uint64_t *dirty)
{
    XCSR_ENTER(m->h);
    return fetched(m, tracking_peek(m->h, m->domid, &m->buffer, m->nr_pfns), dirty);
}

static int need(xcsr_meter *m, uint32_t set)
{
    if (set >= XCSR_METER_SETS)
        return xcsr_fail_call(m->h, EINVAL, "xcsr_meter", "there is no set %u", set);
    if (!m->sets[set])
        m->sets[set] = calloc(m->nr_words, sizeof(uint64_t));
    return m->sets[set] ? 0 : xcsr_fail_call(m->h, ENOMEM, "calloc", "no memory for a set of %llu pfns",
                                             (unsigned long long)m->nr_pfns);
}

/* A word is written only where it changes: memory that was never written takes no room. */
static void join(uint64_t nr_words, const uint64_t *from, uint64_t *into, enum xcsr_meter_how how)
{
    for (uint64_t w = 0; w < nr_words; w++) {
        uint64_t other = from[w], was = into[w];
        uint64_t word = how == XCSR_METER_COPY ? other : how == XCSR_METER_ADD ? was | other : was & other;
        if (word != was)
            into[w] = word;
    }
}

int xcsr_meter_join(xcsr_meter *m, uint32_t from, uint32_t into, enum xcsr_meter_how how, uint64_t *count)
{
    XCSR_ENTER(m->h);
    *count = 0;
    int rc = need(m, from);
    if (!rc)
        rc = need(m, into);
    if (rc)
        return rc;
    join(m->nr_words, m->sets[from], m->sets[into], how);
    *count = xcsr_bitmap_count(m->sets[into], m->nr_words);
    return 0;
}

int xcsr_meter_clear(xcsr_meter *m, uint32_t set)
{
    XCSR_ENTER(m->h);
    int rc = need(m, set);
    for (uint64_t w = 0; !rc && w < m->nr_words; w++)
        if (m->sets[set][w])
            m->sets[set][w] = 0;
    return rc;
}

int xcsr_meter_spread(xcsr_meter *m, uint32_t set, uint64_t per_range, uint32_t nr_ranges, uint64_t *counts)
{
    XCSR_ENTER(m->h);
    int rc = need(m, set);
    if (rc)
        return rc;
    if (!per_range || per_range % 64 || m->nr_pfns / per_range + !!(m->nr_pfns % per_range) != nr_ranges)
        return xcsr_fail_call(m->h, EINVAL, "xcsr_meter_spread", "%u ranges of %llu pfns are not %llu pfns", nr_ranges,
                              (unsigned long long)per_range, (unsigned long long)m->nr_pfns);
    for (uint32_t i = 0; i < nr_ranges; i++) {
        uint64_t first = i * (per_range / 64), left = m->nr_words - first;
        counts[i] = xcsr_bitmap_count(m->sets[set] + first, left < per_range / 64 ? left : per_range / 64);
    }
    return 0;
}
