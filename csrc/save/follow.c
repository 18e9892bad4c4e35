/* Following a p2m that changes under a save: what was sent is compared with what the p2m says now.
 *
 * An entry of the p2m changes because the guest writes the p2m's page, which is memory of its own that log-dirty mode
 * watches, or because another page takes that page's place, which the walk finds. So, while the guest is suspended, only
 * pages of the p2m that were written or replaced are looked at. While it runs all of them are, to be safe.
 * Four things can have happened to a pfn since it was sent:
 * - its entry names another frame: it is sent again; or names none any more: it is sent as a hole;
 * - its entry vanished and came back, with a frame whose content nobody wrote: it is sent again, too;
 * - a frame that page tables refer to has another pfn now, or none, and nobody wrote the tables: all tables that were ever
 *   sent are sent again, even if the pass has sent both pfns as they are now (former.c);
 * - the p2m changed while a table was being re-expressed: the tables sent since the last sweep are sent again. */
#include "save/follow.h"
#include "save/dirty.h"
#include "save/former.h"
#include "save/leaves.h"
#include "xen/domain.h"
#include "xen/page_types.h"
#include "xen/table_row.h"

#include <stdlib.h>
#include <sys/mman.h>

#define PER_WORD 64u
#define BYTES_EVER (16u << 20) /* that leaves may own, whatever the guest has */
#define BYTES_A_PAGE 64u       /* and besides for each page that it has, or may have */

static void *lazy(uint64_t nr_bytes)
{
    void *at = mmap(NULL, nr_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static uint64_t room_for(const xcsr_save *s, uint64_t nr_pfns) /* whole pages of the p2m: the sweep goes by these */
{
    uint64_t per_leaf = s->p2m->geometry->per_leaf;
    return (nr_pfns + per_leaf - 1) / per_leaf * per_leaf;
}

static uint64_t size_of(uint64_t nr_room)
{
    return nr_room / SENT_PER_LEAF * sizeof(struct sent_leaf);
}

int xcsr_follow(xcsr_save *s)
{
    XCSR_ENTER(s->h);
    struct follow *f = &s->follow;
    if (!s->p2m)
        return xcsr_fail_call(s->h, EOPNOTSUPP, "xcsr_follow", "domain %u has no p2m of its own that could be followed: Xen keeps it",
                              s->domid);
    if (s->h->nr_mfns > SENT_MAX_MFNS)
        return xcsr_fail_call(s->h, EOPNOTSUPP, "xcsr_follow", "a machine of %#llx frames is too large to follow a p2m in",
                              (unsigned long long)s->h->nr_mfns);
    f->nr_room = room_for(s, s->nr_pfns);
    f->most_bytes = BYTES_EVER;
    f->sent = lazy(size_of(f->nr_room));
    if (!f->sent || sparse_init(&f->tables, f->nr_room) || sparse_init(&f->recent, f->nr_room) ||
        sparse_init(&f->former, s->h->nr_mfns))
        return xcsr_fail_call(s->h, ENOMEM, "xcsr_follow", "no memory to follow a p2m of %llu pfns", (unsigned long long)s->nr_pfns);
    return 0;
}

void follow_free(struct follow *f)
{
    for (uint64_t leaf = 0; f->sent && leaf < f->nr_room / SENT_PER_LEAF; leaf++)
        sent_clear(&f->sent[leaf]);
    if (f->sent)
        munmap(f->sent, size_of(f->nr_room));
    f->sent = NULL;
    sparse_free(&f->tables);
    sparse_free(&f->recent);
    sparse_free(&f->former);
}

int follow_grow(xcsr_save *s, uint64_t nr_pfns)
{
    struct follow *f = &s->follow;
    uint64_t room = f->sent ? room_for(s, nr_pfns) : 0;
    if (room <= f->nr_room)
        return 0;
    if (sparse_grow(&f->tables, room) || sparse_grow(&f->recent, room))
        return -ENOMEM;
    void *at = mremap(f->sent, size_of(f->nr_room), size_of(room), MREMAP_MAYMOVE);
    if (at == MAP_FAILED)
        return -ENOMEM;
    f->sent = at;
    f->nr_room = room;
    return 0;
}

/* -- while pages are sent */

static inline uint32_t mark_of(const struct follow *f, uint64_t pfn)
{
    return sent_mark(&f->sent[pfn / SENT_PER_LEAF], pfn % SENT_PER_LEAF);
}

static int note_table(struct follow *f, uint64_t pfn)
{
    int rc = sparse_add(&f->tables, pfn);
    return rc ? rc : sparse_add(&f->recent, pfn);
}

/* Of a deferred pfn it is the frame, too, if the guest has it for this pfn: that there was no data yet, s->deferred knows,
 * and tables may name the frame. Any other frame counts as a hole (batch.c): a guest may write into its p2m what it likes,
 * and what is remembered must not grow with it. The sweep of a running guest then finds each time that something has
 * appeared, and has the tables sent since the last one sent again, should one have named the frame for a moment. */
static inline uint32_t mark_of_slot(const xcsr_save *s, const struct batch *b, uint32_t i)
{
    return b->frame_at[i] < s->h->nr_mfns ? (uint32_t)b->frame_at[i] + SENT_BIAS : SENT_HOLE;
}

/* What nr slots of the batch, from one on, say of pfns of one leaf, put over what was said before. */
static void mark_slots(const xcsr_save *s, const struct batch *b, uint32_t from, uint32_t nr, uint32_t *marks)
{
    const uint64_t *pfns = b->pfns + from;
    if (b->result.nr_pages == b->nr && pfns[nr - 1] - pfns[0] == nr - 1) { /* as in most: in a row, all with data */
        marks += pfns[0] % SENT_PER_LEAF;
        for (uint32_t i = 0; i < nr; i++)
            marks[i] = (uint32_t)b->frame_at[from + i] + SENT_BIAS;
        return;
    }
    for (uint32_t i = 0; i < nr; i++)
        marks[pfns[i] % SENT_PER_LEAF] = mark_of_slot(s, b, from + i);
}

#define FEW 32u

/* Later passes send few pfns of a leaf, and most of these still have the frame that they were sent with. */
static bool is_said(const xcsr_save *s, const struct batch *b, uint32_t from, uint32_t nr)
{
    uint32_t differ = 0;
    for (uint32_t i = from; i < from + nr; i++)
        differ |= mark_of_slot(s, b, i) ^ mark_of(&s->follow, b->pfns[i]);
    return !differ;
}

/* Whether each frame is step more than the one before. */
static bool is_run(const uint64_t *frames, uint32_t nr, uint64_t step)
{
    bool goes_on = true;
    for (uint32_t i = 0; i + 1 < nr && goes_on;) {
        bool is_row = nr - i > ROW;
        goes_on = is_row ? row_steps(frames + i, step) : frames[i + 1] - frames[i] == step;
        i += is_row ? ROW : 1;
    }
    return goes_on;
}

/* The same for pfns in a row whose frames are in a row, too, which are most of a first pass: without unfolding the leaf. */
static bool note_row(xcsr_save *s, const struct batch *b, uint32_t from, uint32_t nr)
{
    const uint64_t *pfns = b->pfns + from, *frames = b->frame_at + from;
    if (s->without_rows || nr < FEW || b->result.nr_pages != b->nr || pfns[nr - 1] - pfns[0] != nr - 1)
        return false;
    const uint64_t step = frames[1] - frames[0]; /* -1 as the largest number */
    return (step == 1 || step + 1 == 0) && is_run(frames, nr, step) &&
           sent_add_run(&s->follow.sent[pfns[0] / SENT_PER_LEAF], pfns[0] % SENT_PER_LEAF, nr, (uint32_t)frames[0] + SENT_BIAS,
                        (int8_t)step);
}

/* A frame is noted for the pfn that the m2p gives it, so that there are no more of them than the guest has, and twice as
 * many while it moves them; and in no leaf one of them takes more than 32 bytes. Only a guest that gives its frames to one
 * pfn after the other, just ahead of the save, has more noted than that. -E2BIG */
static int check_room(xcsr_save *s)
{
    struct follow *f = &s->follow;
    xcsr_domain now;
    int rc = f->nr_bytes <= f->most_bytes ? 0 : domain_ask(s->h, s->domid, &now);
    if (rc || f->nr_bytes <= f->most_bytes)
        return rc;
    f->most_bytes = BYTES_EVER + BYTES_A_PAGE * (now.max_pages > now.tot_pages ? now.max_pages : now.tot_pages);
    if (f->nr_bytes <= f->most_bytes)
        return 0;
    return xcsr_fail(&s->h->error, XCSR_E_P2M, E2BIG, "xcsr_follow",
                     "to follow the guest's p2m, more than %llu bytes would be needed, which its memory does not account for: it "
                     "gives its frames to one pfn after the other while it is saved", (unsigned long long)f->most_bytes);
}

static int set_leaf(xcsr_save *s, struct sent_leaf *t, const uint32_t *marks)
{
    uint64_t was = sent_bytes(t);
    int rc = sent_set(t, marks);
    s->follow.nr_bytes += sent_bytes(t) - was;
    return rc ? rc : check_room(s);
}

static int note_leaf(xcsr_save *s, const struct batch *b, uint32_t from, uint32_t nr)
{
    if (note_row(s, b, from, nr))
        return 0;
    if (nr < FEW && is_said(s, b, from, nr))
        return 0;
    struct sent_leaf *t = &s->follow.sent[b->pfns[from] / SENT_PER_LEAF];
    uint32_t was[SENT_PER_LEAF], now[SENT_PER_LEAF];
    sent_marks(t, was);
    memcpy(now, was, sizeof now);
    mark_slots(s, b, from, nr, now);
    if (!memcmp(now, was, sizeof now))
        return 0;
    int rc = s->suspended ? 0 : former_note(&s->follow, was, now); /* if it is, the sweep has seen to each such frame */
    return rc ? rc : set_leaf(s, t, now);
}

static int note_tables(xcsr_save *s, const struct batch *b)
{
    int rc = 0;
    for (uint32_t t = 0; t < b->nr_tables && !rc; t++)
        if (b->page[b->tables[t]])
            rc = note_table(&s->follow, b->pfns[b->tables[t]]);
    return rc;
}

static int no_memory(xcsr_save *s)
{
    return xcsr_fail_call(s->h, ENOMEM, "malloc", "no memory to remember what was sent");
}

int follow_note(xcsr_save *s, const struct batch *b)
{
    int rc = note_tables(s, b);
    for (uint32_t from = 0, to; from < b->nr && !rc; from = to) {
        uint32_t rest = SENT_PER_LEAF - (uint32_t)(b->pfns[from] % SENT_PER_LEAF); /* of the leaf, from this pfn on */
        uint64_t end = b->pfns[from] + rest;
        bool whole = b->nr - from >= rest && b->pfns[from + rest - 1] == end - 1;
        for (to = from + (whole ? rest : 1); to < b->nr && b->pfns[to] < end; to++)
            ;
        rc = note_leaf(s, b, from, to - from);
    }
    return rc == -ENOMEM ? no_memory(s) : rc;
}

/* -- the sweep */

struct sweep {
    xcsr_save *s;
    xcsr_sweep_result *out;
    bool frames_moved;
    int rc;
};

static void mark(struct sweep *w, uint64_t pfn)
{
    w->out->marked += dirty_add(w->s, pfn);
}

/* Has the frame that a pfn was sent with become another pfn's? Then tables may mean that one. If it is none's, former.c
 * finds out whether the guest has kept it. */
static void look_after_frame(struct sweep *w, uint64_t pfn, uint32_t was)
{
    uint64_t now = xcsr_lookup_pfn(w->s->p2m, was - SENT_BIAS);
    w->frames_moved |= now != XCSR_INVALID && now != pfn;
    if (now == XCSR_INVALID && !w->rc)
        w->rc = sparse_add(&w->s->follow.former, was - SENT_BIAS);
}

static void sweep_hole(struct sweep *w, uint64_t pfn, uint32_t was)
{
    if (was == SENT_HOLE)
        return;
    mark(w, pfn);
    if (was == SENT_NEVER)
        return;
    w->out->vanished++;
    look_after_frame(w, pfn, was);
}

static void sweep_frame(struct sweep *w, uint64_t pfn, uint32_t was, uint64_t now)
{
    if (was == now + SENT_BIAS) {
        w->out->returned += !dirty_has(w->s, pfn);
        mark(w, pfn);
        return;
    }
    mark(w, pfn);
    if (was == SENT_HOLE || was == SENT_NEVER) {
        w->out->appeared++;
    } else {
        w->out->moved++;
        look_after_frame(w, pfn, was);
    }
}

static void sweep_one(struct sweep *w, uint64_t pfn)
{
    uint32_t was = mark_of(&w->s->follow, pfn);
    uint64_t now = p2m_entry(w->s->p2m, pfn);
    if (now >= w->s->h->nr_mfns)
        sweep_hole(w, pfn, was);
    else
        sweep_frame(w, pfn, was, now);
    w->out->pfns++;
}

static void sweep_leaf(struct sweep *w, uint64_t leaf)
{
    const xcsr_p2m *p = w->s->p2m;
    p->fresh[leaf] = 0;
    w->out->pages_written++;
    const uint64_t per_leaf = p->geometry->per_leaf;
    for (uint64_t pfn = leaf * per_leaf; pfn < (leaf + 1) * per_leaf && pfn < p->nr_pfns; pfn++)
        sweep_one(w, pfn);
}

/* The entries of PER_WORD pfns: as they stand in the p2m if its words are 64 bits wide, else widened into room. */
static const uint64_t *entries_of(const xcsr_p2m *p, uint64_t pfn, uint64_t *room)
{
    const uint32_t width = p->geometry->width;
    if (width == sizeof *room)
        return p2m_at(p->entries, width, pfn);
    for (uint32_t i = 0; i < PER_WORD; i++)
        room[i] = p2m_load(p->entries, width, pfn + i);
    return room;
}

/* True if the p2m says of 64 pfns what was sent. The guest may be writing: a difference is looked at again. */
static bool all_agree(const uint64_t *entries, const struct sent_leaf *t, uint32_t from)
{
    uint64_t differ = 0;
    uint32_t first = sent_mark(t, from), step = (uint32_t)t->step[from >= t->at];
    uint32_t room[PER_WORD];
    const uint32_t *marks = t->few ? room : t->marks + from;
    if (t->few)
        sent_some(t, from, PER_WORD, room);
    if (t->single || t->few)
        for (uint32_t i = 0; i < PER_WORD; i++)
            differ |= (entries[i] + SENT_BIAS) ^ marks[i];
    else if (from < t->at && t->at < from + PER_WORD)
        for (uint32_t i = 0; i < PER_WORD; i++)
            differ |= (entries[i] + SENT_BIAS) ^ sent_in_run(t, from + i);
    else
        for (uint32_t i = 0; i < PER_WORD; i++)
            differ |= (entries[i] + SENT_BIAS) ^ (first + i * step);
    return !differ;
}

/* A page of the p2m that, as far as the bitmap tells, nobody has written. */
static void look_at_leaf(struct sweep *w, uint64_t leaf)
{
    const xcsr_p2m *p = w->s->p2m;
    const uint64_t per_leaf = p->geometry->per_leaf;
    uint64_t room[PER_WORD];
    w->out->pfns += per_leaf;
    for (uint64_t begin = leaf * per_leaf; begin < (leaf + 1) * per_leaf; begin += PER_WORD) {
        if (all_agree(entries_of(p, begin, room), &w->s->follow.sent[begin / SENT_PER_LEAF], begin % SENT_PER_LEAF))
            continue;
        for (uint64_t pfn = begin; pfn < begin + PER_WORD && pfn < p->nr_pfns; pfn++)
            if (p2m_entry(p, pfn) + SENT_BIAS != mark_of(&w->s->follow, pfn))
                sweep_one(w, pfn);
    }
}

static void sweep_leaves(struct sweep *w, bool final)
{
    const xcsr_p2m *p = w->s->p2m;
    const uint8_t *next = p->fresh, *end = p->fresh + p->nr_leaves;
    for (uint64_t leaf = 0; !final && leaf < p->nr_leaves; leaf++)
        if (!p->fresh[leaf])
            look_at_leaf(w, leaf);
    while ((next = memchr(next, 1, (size_t)(end - next)))) /* sweep_leaf clears it: each is found once */
        sweep_leaf(w, (uint64_t)(next - p->fresh));
    for (uint64_t pfn = p->nr_pfns; pfn < w->s->nr_pfns; pfn++) /* the p2m was larger once */
        sweep_one(w, pfn);
}

static int mark_table(void *sweep, uint64_t pfn)
{
    struct sweep *w = sweep;
    if (dirty_has(w->s, pfn))
        return 0;
    mark(w, pfn);
    w->out->tables++;
    return 0;
}

int follow_sweep(xcsr_save *s, bool final, bool stay, xcsr_sweep_result *out)
{
    struct sweep w = {.s = s, .out = out};
    memset(out, 0, sizeof *out);
    if (!s->follow.sent)
        return xcsr_fail_call(s->h, EINVAL, "xcsr_sweep", "nothing is followed");
    int rc = leaves_written(s, stay);
    if (rc)
        return rc;
    sweep_leaves(&w, final);
    if (w.rc)
        return no_memory(s);
    rc = former_in_use(s, final, &w.frames_moved);
    if (rc)
        return rc;
    if (w.frames_moved)
        sparse_each(&s->follow.tables, mark_table, &w);
    else if (out->pages_written || out->appeared || out->vanished || out->moved)
        sparse_each(&s->follow.recent, mark_table, &w);
    sparse_clear(&s->follow.recent);
    return 0;
}

int xcsr_sweep(xcsr_save *s, uint32_t final, xcsr_sweep_result *out)
{
    XCSR_ENTER(s->h);
    return follow_sweep(s, final, false, out);
}
