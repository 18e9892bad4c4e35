/* A small pass that sends nothing, while the guest runs. What a pass with a handful of pages costs cannot be told from the
 * large ones, in which all is warm after the first pages, nor from the one over all of memory. Pages are taken from all over
 * the memory, since it is long ago that anybody has touched most of these, and since few dirty pages are neighbours.
 * Each is looked up, asked for, mapped and read as a pass does it. Nothing is marked, noted or judged. */
#include "save/trial.h"
#include "save/pass.h"
#include "xen/page_types.h"

#include <fcntl.h>
#include <unistd.h>

struct ends { /* of a pipe; -1: there is none */
    int reads, writes;
};

/* It has room for all that a trial writes, unless a user's limit is in the way. */
static int open_pipe(xcsr_save *s, struct ends *e)
{
    int fds[2];
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC))
        return xcsr_fail_call(s->h, errno, "pipe2", "no pipe can be made to try what a pass takes");
    (void)fcntl(fds[1], F_SETPIPE_SZ, XCSR_TRIAL * XCSR_PAGE);
    *e = (struct ends){fds[0], fds[1]};
    return 0;
}

static void close_pipe(const struct ends *e)
{
    if (e->writes < 0)
        return;
    close(e->reads);
    close(e->writes);
}

/* The first pfn from here on that went out with data last; end: none did. */
static uint64_t with_data(const xcsr_save *s, uint64_t pfn, uint64_t end)
{
    while (pfn < end && sparse_has(&s->without_data, pfn)) {
        uint64_t others = ~sparse_word(&s->without_data, pfn / 64) >> pfn % 64;
        pfn = others ? pfn + (uint64_t)__builtin_ctzll(others) : (pfn / 64 + 1) * 64;
    }
    return pfn < end ? pfn : end;
}

/* nr pfns of those that have a page, and not the same as in the last trial. What has none is mostly at the end. */
static uint32_t choose(const xcsr_save *s, uint32_t nr, uint64_t *pfns)
{
    uint64_t have = s->nr_pfns - s->without_data.count, apart = have / nr, first = 0;
    uint32_t chosen = 0;
    if (apart)
        first = (uint64_t)xcsr_now_us() % apart;
    for (uint32_t i = 0; apart && i < nr; i++) {
        uint64_t from = first + apart * i, end = from + apart < s->nr_pfns ? from + apart : s->nr_pfns;
        uint64_t pfn = with_data(s, from, end);
        if (pfn < end)
            pfns[chosen++] = pfn;
    }
    return chosen;
}

/* A page is there for certain if the p2m still says what the m2p does. */
static void look_up(const xcsr_save *s, struct batch *b)
{
    for (uint32_t i = 0; i < b->nr; i++) {
        uint64_t frame = s->p2m ? p2m_entry(s->p2m, b->pfns[i]) : b->pfns[i];
        if (!s->p2m || (frame < s->h->nr_mfns && xcsr_load(&s->h->m2p[frame]) == b->pfns[i]))
            b->pages.frames[b->pages.nr++] = frame;
    }
}

/* A pass goes through the bitmap, which is as large as the guest. */
static void go_through_bitmap(const xcsr_save *s, struct batch *b)
{
    uint64_t cursor = 0;
    (void)xcsr_bitmap_scan(s->bitmap, s->nr_pfns, &cursor, b->entries, XCSR_BATCH);
}

static int ask(xcsr_save *s, struct batch *b)
{
    memcpy(b->types, b->pages.frames, b->pages.nr * sizeof *b->types);
    return page_types(s->h, s->domid, b->pages.nr, b->types);
}

/* A page that has gone meanwhile is no page of the trial's. */
static void gather(struct batch *b)
{
    b->nr_iov = 0;
    for (uint32_t k = 0; k < b->pages.nr; k++)
        if (!b->pages.errs[k])
            b->iov[b->nr_iov++] = (struct iovec){(char *)b->pages.map.at + (size_t)k * XCSR_PAGE, XCSR_PAGE};
}

/* What no pipe takes is read. */
static void write_pages(xcsr_save *s, const struct batch *b, const struct ends *e)
{
    ssize_t taken = e->writes < 0 || !b->nr_iov ? 0 : writev(e->writes, b->iov, (int)b->nr_iov);
    for (uint32_t i = taken > 0 ? (uint32_t)(taken / XCSR_PAGE) : 0; i < b->nr_iov; i++)
        memcpy(s->arena, b->iov[i].iov_base, XCSR_PAGE);
}

static int try_pages(xcsr_save *s, struct batch *b, const struct ends *e, xcsr_trial *out)
{
    int64_t began = xcsr_now_us();
    go_through_bitmap(s, b);
    look_up(s, b);
    int rc = b->pages.nr ? ask(s, b) : 0;
    if (!rc)
        rc = mapper_map(&s->mapper, &b->pages);
    if (rc)
        return rc;
    gather(b);
    write_pages(s, b, e);
    out->nr_pages = b->nr_iov;
    out->us = (uint64_t)(xcsr_now_us() - began);
    return 0;
}

/* No batch is in hand. */
static int one_trial(xcsr_save *s, uint32_t nr, xcsr_trial *out)
{
    struct ends e = {-1, -1};
    int rc = out->to_pipe ? open_pipe(s, &e) : 0;
    if (rc)
        return rc;
    s->batch->pages.nr = 0;
    s->batch->nr = choose(s, nr, s->batch->pfns);
    rc = try_pages(s, s->batch, &e, out);
    close_pipe(&e);
    pass_drop(s);
    mapper_measure(&s->mapper, 0, 0); /* so that the next batch's mapping is not taken to be longer by this one */
    return rc;
}

int trial_pages(xcsr_save *s, xcsr_trial *trial)
{
    int64_t began = xcsr_now_us();
    uint32_t nr = trial->nr_pages < XCSR_TRIAL ? trial->nr_pages : XCSR_TRIAL;
    bool in_hand = s->batch->prepared || s->batch->writing || s->next->prepared;
    trial->nr_pages = 0;
    int rc = nr && !in_hand ? one_trial(s, nr, trial) : 0;
    trial->all_us = (uint64_t)(xcsr_now_us() - began);
    return rc;
}
