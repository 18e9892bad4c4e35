/* Batches in which all is as usual: each pfn has a frame that the m2p gives to it, each frame has a type that a page can
 * have, and each page is mapped; or, in a guest without a p2m of its own, no pfn has a page. That is told by loops that
 * go through a whole batch without a branch for a page; what is unusual is left to batch.c, which looks at each pfn. */
#include "save/ordinary.h"
#include "xen/page_types.h"
#include "xen/table_row.h"

/* Bit n: a page can have type n. All others are holes, broken frames, or types that this release does not know. */
#define PAGE_KINDS 0x1e1full

/* ROW pfns from the i-th on, if they are in a row, and so are their frames. False: it is not known whether all is as usual. */
static bool look_up_row(const struct xcsr_p2m *p, const struct batch *b, uint32_t i, uint64_t *frames)
{
    uint64_t pfns[ROW];
    if (b->pfns[i + ROW - 1] - b->pfns[i] != ROW - 1)
        return false;
    row_load_p2m(frames, p->entries, p->geometry->width, b->pfns[i]);
    if (!row_ascends(frames) || !row_fits(frames[0], p->h->nr_mfns))
        return false;
    row_load(pfns, p->h->m2p + frames[0]);
    return !memcmp(pfns, b->pfns + i, sizeof pfns);
}

/* Each entry that counts is read once: the guest may be writing it. A frame beyond the machine's stands for frame 0 in the
 * look at the m2p, whose answer does not count then. */
static bool look_up(const struct xcsr_p2m *p, const struct batch *b, uint64_t *frames)
{
    const uint64_t nr_mfns = p->h->nr_mfns, *m2p = p->h->m2p;
    const uint32_t width = p->geometry->width;
    uint64_t wrong = 0;
    for (uint32_t i = 0; i < b->nr;) {
        if (row_may_begin(i, b->nr) && look_up_row(p, b, i, frames + i)) {
            i += ROW;
            continue;
        }
        uint64_t pfn = b->pfns[i], mfn = p2m_load(p->entries, width, pfn);
        uint64_t beyond = mfn >= nr_mfns;
        frames[i++] = mfn;
        wrong |= beyond | (xcsr_load(&m2p[beyond ? 0 : mfn]) ^ pfn);
    }
    return !wrong;
}

bool ordinary_frames(const xcsr_save *s, struct batch *b)
{
    const struct xcsr_p2m *p = s->p2m;
    if (s->without_ordinary || !b->nr)
        return false;
    if (!p)
        memcpy(b->frame_at, b->pfns, b->nr * sizeof *b->pfns);
    else if (b->pfns[b->nr - 1] >= p->nr_pfns || !look_up(p, b, b->frame_at))
        return false;
    memcpy(b->frames, b->frame_at, b->nr * sizeof *b->frames);
    b->nr_frames = b->nr;
    return true;
}

static bool any(const sparse_set *set, const struct batch *b)
{
    bool found = false;
    for (uint32_t i = 0; set->count && !found && i < b->nr;) {
        uint64_t word = b->pfns[i] / 64;
        found = sparse_word(set, word) & sparse_bits(b->pfns, b->nr, &i);
    }
    return found;
}

static void forget(sparse_set *set, const struct batch *b)
{
    for (uint32_t i = 0; set->count && i < b->nr;) {
        uint64_t word = b->pfns[i] / 64;
        sparse_remove_word(set, word, sparse_bits(b->pfns, b->nr, &i));
    }
}

bool ordinary_holes(const xcsr_save *s, const struct batch *b)
{
    uint64_t other = 0;
    if (s->without_ordinary || s->p2m || b->nr_frames != b->nr)
        return false;
    for (uint32_t i = 0; i < b->nr; i++)
        other |= b->types[i] ^ TYPE_XTAB;
    return b->nr && !other;
}

int ordinary_enter_holes(xcsr_save *s, struct batch *b)
{
    for (uint32_t i = 0; i < b->nr; i++)
        b->entries[i] = (uint64_t)TYPE_XTAB << TYPE_SHIFT | b->pfns[i];
    memset(b->page, 0, b->nr * sizeof *b->page);
    b->result.nr_holes += b->nr;
    forget(&s->counted, b);
    forget(&s->deferred, b);
    for (uint32_t i = 0; i < b->nr;) {
        uint64_t pfn = b->pfns[i];
        if (sparse_add_word(&s->without_data, pfn / 64, sparse_bits(b->pfns, b->nr, &i)))
            return xcsr_fail_call(s->h, ENOMEM, "calloc", "no memory to note pfn %#llx as a hole", (unsigned long long)pfn);
    }
    return 0;
}

/* ROW pages of one type, as most are. */
static bool enter_row(struct batch *b, uint32_t i)
{
    const uint64_t *types = b->types + i, *pfns = b->pfns + i, type = types[0];
    uint64_t *restrict entries = b->entries + i, differ = 0;
    for (uint32_t k = 0; k < ROW; k++)
        differ |= types[k] ^ type;
    if (differ)
        return false;
    for (uint32_t k = 0; k < ROW; k++)
        entries[k] = type << TYPE_SHIFT | pfns[k];
    return true;
}

/* Enters all. False: not each has a type that a page can have. */
static bool enter_types(struct batch *b)
{
    uint64_t wrong = 0;
    for (uint32_t i = 0; i < b->nr;) {
        uint64_t type = b->types[i];
        wrong |= ~(PAGE_KINDS >> type);
        if (row_may_begin(i, b->nr) && enter_row(b, i)) {
            i += ROW;
            continue;
        }
        b->entries[i] = type << TYPE_SHIFT | b->pfns[i];
        i++;
    }
    return !(wrong & 1);
}

bool ordinary_types(xcsr_save *s, struct batch *b)
{
    if (s->without_ordinary || !b->nr || b->nr_frames != b->nr || (!s->p2m && !s->suspended && any(&s->without_data, b)))
        return false;
    if (!enter_types(b))
        return false;
    memcpy(b->pages.frames, b->frames, b->nr * sizeof *b->frames);
    b->pages.nr = b->nr;
    b->is_ordinary = true;
    if (!s->p2m)
        forget(&s->counted, b);
    forget(&s->without_data, b);
    forget(&s->deferred, b);
    return true;
}

static int any_of_row(const int *errs)
{
    int any = 0;
    for (uint32_t i = 0; i < ROW; i++)
        any |= errs[i];
    return any;
}

bool ordinary_pages(struct batch *b)
{
    const struct pages *p = &b->pages;
    int failed = 0;
    if (!b->is_ordinary)
        return false;
    for (uint32_t i = 0; i < b->nr;) {
        bool is_row = row_may_begin(i, b->nr);
        failed |= is_row ? any_of_row(p->errs + i) : p->errs[i];
        i += is_row ? ROW : 1;
    }
    b->in_one_piece = !failed;
    for (uint32_t t = 0; t < b->nr_tables && !failed; t++)
        b->page[b->tables[t]] = (const char *)p->map.at + (size_t)b->tables[t] * XCSR_PAGE;
    return !failed;
}

static void add_pages(struct batch *b, const char *at, uint32_t nr)
{
    if (nr)
        b->iov[b->nr_iov++] = (struct iovec){(void *)(uintptr_t)at, (size_t)nr * XCSR_PAGE};
    b->result.nr_pages += nr;
}

bool ordinary_gather(struct batch *b)
{
    const char *at = b->pages.map.at;
    uint32_t from = 0;
    if (!b->in_one_piece)
        return false;
    for (uint32_t t = 0; t < b->nr_tables; t++) {
        uint32_t i = b->tables[t];
        add_pages(b, at + (size_t)from * XCSR_PAGE, i - from);
        add_pages(b, b->page[i], b->page[i] != NULL);
        from = i + 1;
    }
    add_pages(b, at + (size_t)from * XCSR_PAGE, b->nr - from);
    return true;
}
