/* One batch: dirty pfns -> frames -> types -> (mapper.c maps them) -> tables re-expressed -> one PAGE_DATA record.
 *
 * The guest may run and change everything between two steps. While it runs, a page that cannot be sent is entered without
 * data and deferred. Once it is suspended nothing may move, and a page that cannot be sent is an error that names it. */
#include "save/batch.h"
#include "save/broken.h"
#include "save/follow.h"
#include "save/holes.h"
#include "save/ordinary.h"
#include "save/physmap.h"
#include "save/tables.h"
#include "xen/page_types.h"

#include <stdlib.h>

#define RECORD_PAGE_DATA 1u

/* -- what cannot be sent now */

/* Enters pfns[i] without data. A hole is looked at again only if something says that it was filled: the bitmap, or a
 * write to the p2m's page that it is in. */
static int enter_without_data(xcsr_save *s, struct batch *b, uint32_t i, uint32_t type, bool hole)
{
    uint64_t pfn = b->pfns[i];
    b->page[i] = NULL;
    b->entries[i] = (uint64_t)type << TYPE_SHIFT | pfn;
    if (hole)
        sparse_remove(&s->deferred, pfn);
    if (type != TYPE_BROKEN)
        sparse_remove(&s->broken, pfn);
    if (sparse_add(&s->without_data, pfn) || (!hole && sparse_add(&s->deferred, pfn)))
        return xcsr_fail_call(s->h, ENOMEM, "calloc", "no memory to defer pfn %#llx", (unsigned long long)pfn);
    return 0;
}

static int page_error(xcsr_save *s, struct batch *b, uint32_t i, uint32_t type, int err, const char *what)
{
    xcsr_error *e = &s->h->error;
    e->pfn = b->pfns[i];
    e->mfn = b->frame_at[i];
    e->type = type;
    return xcsr_fail(e, XCSR_E_PAGE, err, "page", "pfn %#llx (mfn %#llx, type %#x): %s", (unsigned long long)e->pfn,
                     (unsigned long long)e->mfn, type, what);
}

/* Not sendable now: deferred while the guest runs, an error once it is suspended. */
static int defer_or_fail(xcsr_save *s, struct batch *b, uint32_t i, int err, const char *what)
{
    if (s->suspended)
        return page_error(s, b, i, 0, err, what);
    b->result.nr_deferred++;
    return enter_without_data(s, b, i, TYPE_XTAB, false);
}

/* -- 1. frames and types */

/* A frame that is not the guest's, or not for this pfn: what was sent of the pfn is no frame then, see follow.c. */
static int not_its_frame(xcsr_save *s, struct batch *b, uint32_t i, const char *what)
{
    int rc = defer_or_fail(s, b, i, ERANGE, what);
    b->frame_at[i] = XCSR_INVALID;
    return rc;
}

static int take_frame(xcsr_save *s, struct batch *b, uint32_t i)
{
    uint64_t pfn = b->pfns[i];
    uint64_t mfn = s->p2m ? p2m_entry(s->p2m, pfn) : pfn; /* where the p2m has shrunk: no entry, so no frame */
    b->frame_at[i] = mfn;
    if (s->p2m && mfn >= s->h->nr_mfns) { /* ballooned out, or a mark of the guest's kernel */
        b->result.nr_holes++;
        return enter_without_data(s, b, i, TYPE_XTAB, true);
    }
    /* So a frame is sent for one pfn only: a guest that names a frame twice in its p2m cannot swell the stream, and no
     * pfn gets the memory of another one. */
    if (s->p2m && xcsr_load(&s->h->m2p[mfn]) != pfn)
        return not_its_frame(s, b, i, "the m2p gives this frame to another pfn");
    b->frames[b->nr_frames] = mfn;
    b->slot[b->nr_frames++] = (uint16_t)i;
    return 0;
}

static int take_frames(xcsr_save *s, struct batch *b)
{
    if (ordinary_frames(s, b))
        return 0;
    b->nr_frames = 0;
    for (uint32_t i = 0; i < b->nr; i++) {
        int rc = take_frame(s, b, i);
        if (rc)
            return rc;
    }
    return 0;
}

/* Without a p2m: a page where the stream has a hole came after that. Up to Xen 4.21 what is written to it is not in the
 * next bitmap, so it is sent once more when that has been fetched. */
static int note_if_new(xcsr_save *s, uint64_t gfn)
{
    bool is_new = !s->p2m && !s->suspended && sparse_has(&s->without_data, gfn);
    return is_new ? physmap_untracked(s, gfn) : 0;
}

static int take_type(xcsr_save *s, struct batch *b, uint32_t k)
{
    uint32_t i = slot_of(b, k);
    uint32_t type = (uint32_t)b->types[k];
    if (!s->p2m)
        sparse_remove(&s->counted, b->pfns[i]);
    /* The m2p is that of the whole machine: a pfn may name the frame that another domain has for the same pfn. */
    if (s->p2m && type == TYPE_XTAB)
        return not_its_frame(s, b, i, "Xen says that this frame is not the guest's");
    if (type == TYPE_XTAB || type == TYPE_BROKEN) {
        bool hole = !s->p2m; /* the p2m is Xen's own: there is no page there, and nothing is deferred */
        b->result.nr_holes += hole;
        int rc = type == TYPE_BROKEN ? broken_note(s, b->pfns[i]) : 0;
        return rc ? rc : enter_without_data(s, b, i, type, hole);
    }
    if ((type & 7) > 4 || type == 8 || type > TYPE_BROKEN)
        return page_error(s, b, i, type, EINVAL, "Xen reports a page type that this release does not know");
    b->entries[i] = (uint64_t)type << TYPE_SHIFT | b->pfns[i];
    b->pages.frames[b->pages.nr] = b->frames[k];
    b->mapped_slot[b->pages.nr++] = (uint16_t)i;
    int rc = note_if_new(s, b->pfns[i]);
    sparse_remove(&s->without_data, b->pfns[i]);
    sparse_remove(&s->deferred, b->pfns[i]);
    return rc;
}

static int ask_types(xcsr_save *s, struct batch *b)
{
    memcpy(b->types, b->frames, b->nr_frames * sizeof *b->types);
    return page_types(s->h, s->domid, b->nr_frames, b->types);
}

static int query_types(xcsr_save *s, struct batch *b)
{
    int asked = b->nr_frames ? ask_types(s, b) : 0;
    if (asked)
        return asked;
    tables_fit(s, b);
    if (ordinary_types(s, b))
        return 0;
    if (ordinary_holes(s, b))
        return ordinary_enter_holes(s, b);
    for (uint32_t k = 0; k < b->nr_frames; k++) {
        int rc = take_type(s, b, k);
        if (rc)
            return rc;
    }
    return 0;
}

/* A record of many pages gets as many pfns as let its first page begin where a page of the file begins. Then all of
 * this record's pages do, and so do those of the next record, which has two pfns less than a batch. The kernel fills the
 * pages of a file, a pipe or a socket one by one: each is then copied from one page, and not from the end of one and the
 * beginning of the next. */
static void cut_to_pages(struct batch *b, uint64_t *cursor)
{
    _Static_assert(XCSR_BATCH * sizeof b->entries[0] % XCSR_PAGE == 0, "a batch's entries fill pages");
    uint32_t nr = XCSR_BATCH - (uint32_t)((b->position + sizeof b->head) % XCSR_PAGE / sizeof b->entries[0]);
    if (b->nr < XCSR_BATCH || nr == XCSR_BATCH)
        return;
    *cursor = b->pfns[nr];
    b->nr = nr;
}

uint64_t batch_end(const struct batch *b)
{
    return b->position + sizeof b->head + b->nr * sizeof b->entries[0];
}

int batch_prepare(xcsr_save *s, struct batch *b, uint64_t position)
{
    errno = 0; /* as in xcsr_enter */
    memset(&b->result, 0, sizeof b->result);
    b->is_ordinary = b->in_one_piece = false;
    b->pages.nr = 0;
    b->position = position;
    b->nr = xcsr_bitmap_scan(s->bitmap, s->nr_pfns, &s->cursor, b->pfns, XCSR_BATCH);
    if (s->p2m) /* without one, a receiver makes 2 MiB pages of whole and aligned runs, which a cut would break */
        cut_to_pages(b, &s->cursor);
    b->next_pfn = s->cursor;
    b->result.nr_pfns += b->nr;
    b->prepared = true;
    int rc = take_frames(s, b);
    if (!rc)
        rc = query_types(s, b);
    if (!rc)
        holes_leave_out(s, b);
    return rc;
}

/* -- 2. the pages, mapped by now */

/* Takes each page that Xen let be mapped, and defers the others. */
static int take_pages(xcsr_save *s, struct batch *b)
{
    const struct pages *p = &b->pages;
    if (ordinary_pages(b))
        return 0;
    for (uint32_t k = 0; k < p->nr; k++) {
        uint32_t i = mapped_slot_of(b, k);
        int rc = 0;
        if (p->errs[k])
            rc = defer_or_fail(s, b, i, abs(p->errs[k]), "Xen does not let it be mapped");
        else
            b->page[i] = (const char *)p->map.at + (size_t)k * XCSR_PAGE;
        if (rc)
            return rc;
    }
    return 0;
}

/* -- 3. the record */

static int table_error(xcsr_save *s, struct batch *b, uint32_t i, uint32_t level, uint32_t slot, uint64_t mfn, int rc)
{
    xcsr_error *e = &s->h->error;
    e->pfn = b->pfns[i];
    e->mfn = mfn;
    e->level = level;
    e->index = slot;
    return xcsr_fail(e, XCSR_E_PTE, rc == -E2BIG ? E2BIG : ERANGE, "normalise_page",
                     "entry %u of the level %u page table at pfn %#llx %s mfn %#llx", slot, level,
                     (unsigned long long)e->pfn, rc == -E2BIG ? "maps a superpage at" : "names a frame that is not the guest's:",
                     (unsigned long long)mfn);
}

/* While the guest runs, a page that was a table when its type was asked may hold data now. */
static bool is_still_table(xcsr_save *s, struct batch *b, uint32_t i, uint32_t level)
{
    xen_pfn_t type = b->frame_at[i];
    return page_types(s->h, s->domid, 1, &type) || table_level((uint32_t)type) == level;
}

/* The guest may write its table at any time, so it is copied first: what is checked is what is sent. */
static int normalise_page(xcsr_save *s, struct batch *b, uint32_t i, char *copy)
{
    uint32_t level = (uint32_t)(b->entries[i] >> TYPE_SHIFT) & 7, slot = 0;
    uint64_t mfn = 0;
    memcpy(copy, b->page[i], XCSR_PAGE);
    int rc = xcsr_normalise(s->p2m, level, s->without_rows, (uint64_t *)(void *)copy, &slot, &mfn);
    if (rc && (s->suspended || (rc == -E2BIG && is_still_table(s, b, i, level))))
        return table_error(s, b, i, level, slot, mfn, rc);
    if (rc)
        return defer_or_fail(s, b, i, ERANGE, "");
    b->page[i] = copy;
    b->result.nr_tables++;
    return broken_look(s, level, (const uint64_t *)(const void *)copy);
}

static int normalise_pages(xcsr_save *s, struct batch *b)
{
    char *copy = s->arena;
    for (uint32_t t = 0; t < b->nr_tables; t++) {
        uint32_t i = b->tables[t];
        if (!b->page[i]) /* it could not be mapped */
            continue;
        int rc = normalise_page(s, b, i, copy);
        if (rc)
            return rc;
        copy += XCSR_PAGE;
    }
    return 0;
}

static void gather_page(struct batch *b, const char *page)
{
    struct iovec *last = &b->iov[b->nr_iov - 1];
    if (b->nr_iov > 2 && (char *)last->iov_base + last->iov_len == page) {
        last->iov_len += XCSR_PAGE;
        return;
    }
    b->iov[b->nr_iov].iov_base = (void *)(uintptr_t)page;
    b->iov[b->nr_iov++].iov_len = XCSR_PAGE;
}

static void gather(struct batch *b)
{
    b->iov[0] = (struct iovec){&b->head, sizeof b->head};
    b->iov[1] = (struct iovec){b->entries, b->nr * sizeof *b->entries};
    b->nr_iov = 2;
    for (uint32_t i = ordinary_gather(b) ? b->nr : 0; i < b->nr; i++) {
        if (!b->page[i])
            continue;
        gather_page(b, b->page[i]);
        b->result.nr_pages++;
    }
    b->head.type = RECORD_PAGE_DATA;
    b->head.length = 8 + b->nr * 8 + (uint32_t)b->result.nr_pages * XCSR_PAGE;
    b->head.count = b->nr;
    b->head.reserved = 0;
    b->result.nr_bytes = 8ull + b->head.length;
}

int batch_build(xcsr_save *s, struct batch *b)
{
    if (!b->nr)
        return 0;
    int rc = take_pages(s, b);
    if (!rc)
        rc = normalise_pages(s, b);
    if (!rc)
        gather(b);
    if (!rc && s->follow.sent)
        rc = follow_note(s, b);
    return rc;
}
