/* The end of a live save, from the suspended guest to the stream's last byte, in one call: each call, and each return to
 * Python, is time for which the guest stands still.
 *
 * What is done, and in which order, is what the saver does step by step (pyxcsr/transfer/saver.py). Where the guest is not
 * as it was when this was prepared, it stops, and says how far it has come: the saver goes on from there in the other way,
 * which knows what to do about that, or which error to raise. So nothing is decided here. */
#include "save/ending.h"
#include "save/follow.h"
#include "save/hvm_state.h"
#include "save/logdirty.h"
#include "save/pass.h"
#include "save/pv_state.h"
#include "save/trial.h"
#include "io/sink.h"
#include "xen/domain.h"
#include "xen/hvm.h"
#include "xen/p2m.h"

#include <stdlib.h>

#define STOP 2 /* of a step: somebody else goes on from here */

struct step {
    xcsr_save *s;
    xcsr_sink *sink;
    uint32_t for_us;
    xcsr_end_result *out;
    bool with_bitmap; /* of the rehearsal, as is this: */
    xcsr_trial *trial;
};

/* -- is all as it was? */

static int ask_suspended(struct step *t)
{
    xcsr_domain now;
    int rc = domain_ask(t->s->h, t->s->domid, &now);
    if (rc)
        return rc;
    return now.shutdown && now.shutdown_reason == SHUTDOWN_suspend && !now.dying ? 0 : STOP;
}

static bool words_stay(const xcsr_end_plan *p, uint32_t nr)
{
    return xcsr_words_stay(p->shared_info, nr, p->words);
}

static int look_at_p2m(struct step *t)
{
    const xcsr_end_plan *p = t->s->ending.plan;
    bool same = !logdirty_has_written(t->s, p->nr_tables, p->tables) && words_stay(p, p->nr_words) &&
                (!t->s->follow.sent || p2m_leaves_stay(t->s->p2m));
    return same ? 0 : STOP;
}

static int look_at_physmap(struct step *t)
{
    const xcsr_end_plan *p = t->s->ending.plan;
    xcsr_domain now;
    uint64_t nr_gfns = 0;
    int rc = domain_ask(t->s->h, t->s->domid, &now);
    if (!rc)
        rc = hvm_nr_gpfns(t->s->h, t->s->domid, &nr_gfns);
    if (rc)
        return rc;
    return now.tot_pages == p->tot_pages && now.max_pages == p->max_pages && nr_gfns == t->s->nr_pfns ? 0 : STOP;
}

/* -- the steps */

static int fetch(struct step *t)
{
    int64_t began = xcsr_now_us();
    int rc = logdirty_fetch(t->s, true);
    t->out->began_us = (uint64_t)began;
    if (!rc)
        t->out->reached = XCSR_END_FETCHED;
    return rc;
}

static int look(struct step *t)
{
    return t->s->p2m ? look_at_p2m(t) : look_at_physmap(t);
}

static int mark(struct step *t)
{
    xcsr_end_result *out = t->out;
    uint64_t merged;
    int rc = logdirty_merge(t->s, &merged);
    if (rc)
        return rc;
    int64_t began = xcsr_now_us();
    rc = t->s->follow.sent ? follow_sweep(t->s, true, true, &out->sweep) : 0; /* they stay: see look_at_p2m */
    out->sweep_us = (uint64_t)(xcsr_now_us() - began);
    out->fetch_us = (uint64_t)xcsr_now_us() - out->began_us;
    return rc;
}

static int begin_pages(struct step *t)
{
    const xcsr_end_plan *p = t->s->ending.plan;
    if (!words_stay(p, p->nr_kept))
        return STOP;
    pass_begin(t->s, true);
    t->out->in_pass = 1;
    t->out->pass_us = (uint64_t)xcsr_now_us(); /* until it is over: when it began */
    t->out->held_us = xcsr_sink_held_us(t->sink);
    return 0;
}

/* The guest does not wait for that unless somebody has to know before the pass is over: the bitmap may be large, and the pass
 * goes through it all the same. */
static void count_marked(struct step *t)
{
    if (!t->out->marked)
        t->out->marked = xcsr_count_dirty(t->s);
}

static int send_pages(struct step *t)
{
    xcsr_end_result *out = t->out;
    xcsr_batch_result some = {.done = 1};
    int rc = pass_batches(t->s, t->sink, t->for_us, &some);
    if (!rc) {
        pass_add(&out->batches, &some);
        rc = out->batches.done ? 0 : XCSR_AGAIN;
    }
    if (rc == XCSR_AGAIN)
        count_marked(t);
    return rc;
}

static int end_pages(struct step *t)
{
    const xcsr_end_plan *p = t->s->ending.plan;
    t->out->reached = XCSR_END_SENT;
    t->out->marked = t->out->batches.nr_pfns;
    t->out->in_pass = 0;
    t->out->pass_us = (uint64_t)xcsr_now_us() - t->out->pass_us;
    t->out->held_us = xcsr_sink_held_us(t->sink) - t->out->held_us;
    return words_stay(p, p->nr_kept) ? 0 : STOP;
}

/* Once, so that the caller can tell where the save stands, and end it: afterwards the stream is complete before long. */
static int let_look(struct step *t)
{
    t->s->ending.step++;
    return XCSR_AGAIN;
}

static bool have_pages(const xcsr_save *s, const xcsr_end_plan *p)
{
    for (uint32_t i = 0; i < p->nr_gfns; i++)
        if (p->gfns[i] >= s->nr_pfns || sparse_has(&s->without_data, p->gfns[i]))
            return false;
    return true;
}

static int gather_state(struct step *t, struct records *o)
{
    xcsr_save *s = t->s;
    const xcsr_end_plan *p = s->ending.plan;
    bool as_told = true;
    int rc = s->p2m ? pv_state(s->h, s->p2m, s->domid, p->max_vcpu, p->shared_info, o)
                    : hvm_state(s->h, s->domid, p, o, &as_told);
    if (rc == -ENOBUFS) /* it has grown since it was rehearsed */
        return STOP;
    return rc ? rc : as_told && have_pages(s, p) ? 0 : STOP;
}

static int send_state(struct step *t)
{
    struct ending *e = &t->s->ending;
    const xcsr_end_plan *p = e->plan;
    struct records o = {.op = "xcsr_end", .at = e->room, .room = p->room};
    int rc = gather_state(t, &o);
    if (!rc)
        rc = ask_suspended(t);
    if (rc)
        return rc;
    e->iov[0] = (struct iovec){(void *)(uintptr_t)p->before, p->before_len};
    e->iov[1] = (struct iovec){o.at, o.len};
    e->iov[2] = (struct iovec){(void *)(uintptr_t)p->last, p->last_len};
    t->out->complete_at = xcsr_sink_offset(t->sink) + p->before_len + o.len + p->last_len;
    e->step++; /* whatever is left of it is for the next step */
    uint32_t first = p->before_len ? 0 : 1;
    return sink_writev(t->sink, e->iov + first, 3 - first);
}

static int flush(struct step *t)
{
    return xcsr_sink_flush(t->sink);
}

static int complete(struct step *t)
{
    t->out->reached = XCSR_END_COMPLETE;
    return STOP;
}

/* -- the same for a guest that still runs: what it will wait for, but nothing is sent, marked or judged */

static int rehearse_asking(struct step *t)
{
    int rc = ask_suspended(t);
    return rc < 0 ? rc : 0;
}

static int rehearse_fetch(struct step *t)
{
    uint64_t dirty;
    return t->with_bitmap ? logdirty_peek(t->s, &dirty) : 0;
}

static int rehearse_look(struct step *t)
{
    int rc = look(t);
    return rc < 0 ? rc : 0;
}

static int rehearse_pages(struct step *t)
{
    return trial_pages(t->s, t->trial);
}

static int rehearse_state(struct step *t)
{
    struct ending *e = &t->s->ending;
    struct records o = {.op = "xcsr_end", .at = e->room, .room = e->plan->room, .thrown_away = true};
    int rc = gather_state(t, &o);
    return rc < 0 ? rc : 0;
}

static int rehearsed(struct step *t)
{
    (void)t;
    return STOP;
}

typedef int one_step(struct step *t);
static one_step *const rehearsal[] = {rehearse_asking, rehearse_fetch, rehearse_look,   rehearse_pages,
                                      let_look,        rehearse_state, rehearse_asking, rehearsed};
static one_step *const steps[] = {ask_suspended, fetch, look, mark, begin_pages, send_pages, end_pages, let_look, send_state, flush, complete};

static bool is_writing_state(const struct ending *e)
{
    return steps[e->step] == flush;
}

/* -- what Python calls */

static int refuse(xcsr_save *s, const char *op, const char *why)
{
    return xcsr_fail_call(s->h, EINVAL, op, "domain %u: %s", s->domid, why);
}

static bool words_are_in_page(const xcsr_end_plan *p)
{
    for (uint32_t i = 0; i < p->nr_words; i++) {
        const xcsr_word *w = &p->words[i];
        if ((w->size != 4 && w->size != 8) || w->offset % w->size || w->offset > XCSR_PAGE - w->size)
            return false;
    }
    return p->nr_kept <= p->nr_words;
}

int xcsr_prepare_end(xcsr_save *s, const xcsr_end_plan *plan)
{
    XCSR_ENTER(s->h);
    ending_free(&s->ending);
    if (!plan)
        return 0;
    if (!s->p2m != !plan->shared_info || (plan->nr_words && !plan->shared_info) || !words_are_in_page(plan))
        return refuse(s, "xcsr_prepare_end", "the plan is another kind of guest's, or names words that are not in shared_info");
    char *room = malloc(plan->room);
    if (!room)
        return xcsr_fail_call(s->h, ENOMEM, "malloc", "no memory for %zu bytes of state", plan->room);
    memset(room, 0, plan->room); /* so that it is there before the guest waits for it */
    s->ending = (struct ending){.plan = plan, .room = room};
    return 0;
}

void ending_free(struct ending *e)
{
    free(e->room);
    *e = (struct ending){0};
}

static int run(struct step *t, one_step *const *which)
{
    struct ending *e = &t->s->ending;
    int rc = 0;
    if (!e->plan)
        return refuse(t->s, "xcsr_end", "it was not prepared");
    if (e->steps != which) { /* a rehearsal that its caller has given up half-way has done nothing of the end */
        e->steps = which;
        e->step = 0;
    }
    while (!rc) {
        xcsr_fresh(t->s->h);
        rc = which[e->step](t);
        if (!rc)
            e->step++;
    }
    return rc;
}

int xcsr_rehearse_end(xcsr_save *s, uint32_t with_bitmap, xcsr_trial *trial)
{
    XCSR_ENTER(s->h);
    struct step t = {.s = s, .with_bitmap = with_bitmap, .trial = trial};
    int rc = run(&t, rehearsal);
    if (rc == XCSR_AGAIN)
        return rc;
    s->ending.step = 0;
    return rc == STOP ? 0 : rc;
}

int xcsr_end(xcsr_save *s, xcsr_sink *sink, uint32_t for_us, xcsr_end_result *out)
{
    XCSR_ENTER(s->h);
    struct ending *e = &s->ending;
    struct step t = {.s = s, .sink = sink, .for_us = for_us, .out = out};
    int rc = run(&t, steps);
    if (rc == STOP) {
        e->plan = NULL;
        if (out->reached == XCSR_END_FETCHED)
            count_marked(&t);
        return 0;
    }
    if (rc != XCSR_AGAIN && is_writing_state(e))
        s->h->error = *xcsr_sink_error(sink);
    return rc;
}
