/* A pass: batches one after another. Where that is worth it (pace.h), the next one is prepared before the one in hand is
 * written, and its pages are mapped by another thread meanwhile, which also unmaps the last one's. */
#include "save/session.h"

/* -- what is mapped */

static void unmap(xcsr_save *s, struct mapping *m)
{
    int64_t began = xcsr_now_us();
    mapping_drop(s->h, m);
    s->pace.mapping_us += xcsr_now_us() - began;
}

static void drop(xcsr_save *s, struct batch *b)
{
    if (b->asked)
        ahead_take(s->ahead, s->h, &b->map);
    if (b->map.at && s->suspended) /* unmapping is put off */
        window_keep(s->h, &s->window, &b->map);
    else
        unmap(s, &b->map);
    b->map.at = NULL;
    b->prepared = b->asked = b->writing = false;
}

/* The batch in hand is over. The worker has better things to do than to unmap it, if there is a next one. */
static void retire(xcsr_save *s)
{
    struct batch *b = s->batch;
    if (s->next->prepared && b->map.by && !s->suspended) {
        s->written = b->map;
        b->map.at = NULL;
    }
    drop(s, b);
}

void pass_drop(xcsr_save *s)
{
    drop(s, s->batch);
    drop(s, s->next);
    mapping_drop(s->h, &s->written);
}

/* -- the next batch */

static bool have_worker(xcsr_save *s)
{
    if (!s->ahead && !s->pace.impossible)
        s->pace.impossible = ahead_start(s->h, &s->ahead);
    return s->ahead;
}

static bool is_wanted(xcsr_save *s)
{
    return s->pace.how == XCSR_AHEAD_ALWAYS || (s->pace.how == XCSR_AHEAD_MEASURED && s->pace.pays);
}

static int prepare_next(xcsr_save *s)
{
    int rc = batch_prepare(s, s->next, batch_end(s->batch));
    if (rc)
        return rc;
    window_make_room(s->h, &s->window, s->batch->nr_mapped + s->next->nr_mapped);
    batch_map_ahead(s, s->next);
    return 0;
}

/* Has the next batch's pages mapped, and then the last one's unmapped. */
static int look_ahead(xcsr_save *s)
{
    int rc = 0;
    if (s->batch->next_pfn < s->nr_pfns && is_wanted(s) && have_worker(s))
        rc = prepare_next(s);
    mapping_drop(s->h, &s->written);
    return rc;
}

/* -- the batch in hand */

static int map_now(xcsr_save *s)
{
    int64_t began = xcsr_now_us();
    int rc = batch_map(s, s->batch);
    s->pace.mapping_us += xcsr_now_us() - began;
    return rc;
}

static int take_next(xcsr_save *s, uint64_t position)
{
    struct batch *b = s->next;
    b->position = position; /* other records may have been written since it was prepared */
    s->next = s->batch;
    s->batch = b;
    if (!b->asked)
        return 0; /* nothing in it is to be mapped */
    b->result.nr_ahead = 1;
    return batch_take(s, b);
}

static int take_in_hand(xcsr_save *s, uint64_t position)
{
    if (s->next->prepared)
        return take_next(s, position);
    int rc = batch_prepare(s, s->batch, position);
    return rc ? rc : map_now(s);
}

/* Where the pass stands is told by now, not by when it was prepared: there may be more pfns since then. */
static int begin(xcsr_save *s, uint64_t position)
{
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
    s->pace.writing_us += xcsr_now_us() - began;
    return rc;
}

/* What the batch just written has taken; the last one's unmapping may be counted with it, or the next one's mapping. */
static void measure(xcsr_save *s, uint32_t nr_mapped)
{
    struct pace *p = &s->pace;
    int64_t mapping = p->mapping_us + (s->ahead ? ahead_busy_us(s->ahead) : 0);
    if (nr_mapped >= XCSR_BATCH / 2) /* of a smaller one nothing can be told */
        pace_note(p, mapping - p->mapped_us, p->writing_us - p->written_us);
    p->mapped_us = mapping;
    p->written_us = p->writing_us;
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
    measure(s, b->nr_mapped);
    return rc;
}

static void add_up(xcsr_batch_result *sum, const xcsr_batch_result *one)
{
    sum->done = one->done;
    sum->nr_batches++;
    sum->nr_pfns += one->nr_pfns;
    sum->nr_pages += one->nr_pages;
    sum->nr_holes += one->nr_holes;
    sum->nr_deferred += one->nr_deferred;
    sum->nr_tables += one->nr_tables;
    sum->nr_ahead += one->nr_ahead;
    sum->nr_bytes += one->nr_bytes;
    sum->next_pfn = one->next_pfn;
}

/* -- what Python calls */

int xcsr_map_ahead(xcsr_save *s, enum xcsr_ahead how)
{
    XCSR_ENTER(s->h);
    s->pace.how = how;
    if (how != XCSR_AHEAD_ALWAYS || s->ahead)
        return 0;
    int rc = ahead_start(s->h, &s->ahead);
    s->pace.impossible = rc;
    return rc;
}

int xcsr_pass_begin(xcsr_save *s, uint32_t suspended)
{
    XCSR_ENTER(s->h);
    pass_drop(s);
    memset(&s->sum, 0, sizeof s->sum);
    s->cursor = 0;
    s->suspended = suspended;
    return 0;
}

int xcsr_batches(xcsr_save *s, xcsr_sink *sink, uint32_t for_us, xcsr_batch_result *out)
{
    int64_t until = xcsr_now_us() + for_us;
    int rc;
    XCSR_ENTER(s->h);
    sink_hurry(sink, s->suspended);
    do {
        rc = one_batch(s, sink);
        if (rc == XCSR_AGAIN) /* what was added up so far is told next time */
            return rc;
        add_up(&s->sum, &s->batch->result);
    } while (!rc && !s->batch->result.done && xcsr_now_us() < until);
    *out = s->sum;
    memset(&s->sum, 0, sizeof s->sum);
    return rc;
}
