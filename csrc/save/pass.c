/* A pass: batches one after another. Where that is worth it (pace.h), the next one is prepared before the one in hand is
 * written, and its pages are mapped by another thread meanwhile, which also unmaps the last one's. */
#include "save/pass.h"
#include "save/batch.h"
#include "save/holes.h"
#include "save/physmap.h"
#include "io/sink.h"

static void drop(xcsr_save *s, struct batch *b)
{
    mapper_drop(&s->mapper, &b->pages);
    b->prepared = b->writing = false;
}

void pass_drop(xcsr_save *s)
{
    drop(s, s->batch);
    drop(s, s->next);
    mapper_unmap_spent(&s->mapper);
}

/* The batch in hand is over. */
static void retire(xcsr_save *s)
{
    struct batch *b = s->batch;
    mapper_retire(&s->mapper, &b->pages, s->next->prepared);
    b->prepared = b->writing = false;
}

/* -- the next batch */

static int prepare_next(xcsr_save *s)
{
    int rc = batch_prepare(s, s->next, batch_end(s->batch));
    if (!rc)
        mapper_begin(&s->mapper, &s->next->pages, s->batch->pages.nr);
    return rc;
}

/* Has the next batch's pages mapped, and then the last one's unmapped. */
static int look_ahead(xcsr_save *s)
{
    int rc = 0;
    if (s->batch->next_pfn < s->nr_pfns && mapper_looks_ahead(&s->mapper))
        rc = prepare_next(s);
    mapper_unmap_spent(&s->mapper);
    return rc;
}

/* -- the batch in hand */

static int take_next(xcsr_save *s, uint64_t position)
{
    struct batch *b = s->next;
    b->position = position; /* other records may have been written since it was prepared */
    s->next = s->batch;
    s->batch = b;
    if (!b->pages.asked)
        return 0; /* nothing in it is to be mapped */
    b->result.nr_ahead = 1;
    return mapper_take(&s->mapper, &b->pages);
}

static int take_in_hand(xcsr_save *s, uint64_t position)
{
    if (s->next->prepared)
        return take_next(s, position);
    int rc = batch_prepare(s, s->batch, position);
    return rc ? rc : mapper_map(&s->mapper, &s->batch->pages);
}

/* Where the pass stands is told by what is so now, not when the batch was prepared: there may be more pfns since then. */
static int begin(xcsr_save *s, uint64_t position)
{
    s->writing_us = 0;
    int rc = take_in_hand(s, position);
    s->batch->result.next_pfn = s->batch->next_pfn;
    s->batch->result.done = s->batch->next_pfn >= s->nr_pfns;
    if (!rc)
        rc = look_ahead(s);
    return rc ? rc : batch_build(s, s->batch);
}

static int put(xcsr_save *s, xcsr_sink *sink)
{
    int64_t began = xcsr_now_us();
    int rc = s->batch->writing ? xcsr_sink_flush(sink) : sink_writev(sink, s->batch->iov, s->batch->nr_iov);
    s->batch->writing = true;
    s->writing_us += xcsr_now_us() - began;
    return rc;
}

/* One record: built and written, or what was left of it. */
static int one_batch(xcsr_save *s, xcsr_sink *sink)
{
    struct batch *b = s->batch;
    int rc = b->writing ? 0 : begin(s, sink_position(sink));
    b = s->batch;
    if (!rc && b->nr)
        rc = put(s, sink);
    if (rc == XCSR_AGAIN)
        return rc;
    if (rc && b->writing)
        s->h->error = *xcsr_sink_error(sink);
    if (rc)
        pass_drop(s);
    else
        retire(s);
    mapper_measure(&s->mapper, b->pages.nr, s->writing_us);
    return rc;
}

void pass_add(xcsr_batch_result *sum, const xcsr_batch_result *some)
{
    sum->done = some->done;
    sum->nr_batches += some->nr_batches;
    sum->nr_pfns += some->nr_pfns;
    sum->nr_pages += some->nr_pages;
    sum->nr_holes += some->nr_holes;
    sum->nr_deferred += some->nr_deferred;
    sum->nr_tables += some->nr_tables;
    sum->nr_ahead += some->nr_ahead;
    sum->nr_bytes += some->nr_bytes;
    sum->next_pfn = some->next_pfn;
    sum->busy_us += some->busy_us;
    sum->unmapping_us += some->unmapping_us;
}

/* -- what Python calls */

int xcsr_map_ahead(xcsr_save *s, enum xcsr_ahead how)
{
    XCSR_ENTER(s->h);
    return mapper_ahead(&s->mapper, how);
}

void pass_begin(xcsr_save *s, bool suspended)
{
    pass_drop(s);
    memset(&s->sum, 0, sizeof s->sum);
    s->cursor = 0;
    s->suspended = suspended;
    s->paused = false;
    holes_begin(s);
    mapper_keep(&s->mapper, suspended);
}

int xcsr_without_ordinary(xcsr_save *s)
{
    XCSR_ENTER(s->h);
    s->without_ordinary = true;
    return 0;
}

int xcsr_without_rows(xcsr_save *s)
{
    XCSR_ENTER(s->h);
    s->without_rows = true;
    return 0;
}

int xcsr_pass_begin(xcsr_save *s, uint32_t suspended)
{
    XCSR_ENTER(s->h);
    pass_begin(s, suspended);
    return 0;
}

int xcsr_paused(xcsr_save *s)
{
    XCSR_ENTER(s->h);
    s->paused = true;
    return 0;
}

int xcsr_goes_on(xcsr_save *s)
{
    XCSR_ENTER(s->h);
    pass_drop(s);
    s->suspended = s->paused = false;
    mapper_keep(&s->mapper, false);
    return 0;
}

/* Batches, added up in s->sum. XCSR_AGAIN: the last one is not out yet. */
static int some_batches(xcsr_save *s, xcsr_sink *sink, int64_t until)
{
    int rc;
    sink_hurry(sink, s->suspended || s->paused);
    if (s->batch->writing) /* the output is slow: what it took is told as soon as this record is out */
        until = 0;
    do {
        rc = one_batch(s, sink);
        if (rc == XCSR_AGAIN)
            return rc;
        s->batch->result.nr_batches = 1;
        pass_add(&s->sum, &s->batch->result);
    } while (!rc && !s->batch->result.done && xcsr_now_us() < until && !physmap_moves(s));
    return rc;
}

int pass_batches(xcsr_save *s, xcsr_sink *sink, uint32_t for_us, xcsr_batch_result *out)
{
    int64_t began = xcsr_now_us(), unmapping_us = s->mapper.unmapping_us;
    int rc = some_batches(s, sink, began + for_us);
    unmapping_us = s->mapper.unmapping_us - unmapping_us;
    s->sum.busy_us += (uint64_t)(xcsr_now_us() - began - unmapping_us);
    s->sum.unmapping_us += (uint64_t)unmapping_us;
    if (rc == XCSR_AGAIN) /* what was added up so far is told next time */
        return rc;
    *out = s->sum;
    memset(&s->sum, 0, sizeof s->sum);
    return rc;
}

int xcsr_batches(xcsr_save *s, xcsr_sink *sink, uint32_t for_us, xcsr_batch_result *out)
{
    XCSR_ENTER(s->h);
    return pass_batches(s, sink, for_us, out);
}
